//! Operators' overrides: what they force shards and clusters to be, whatever the signals say.
//!
//! *Owns*: the rules of the overrides file ([`Overrides`]), their text (`file`), and keeping up with
//! the file (`watch`, which does the I/O). *Does not*: know annotations, which say the same of one
//! Service or cluster by [`crate::model::Force`].

mod file;
mod pattern;
pub mod watch;

use std::sync::Arc;

pub use file::{Fault, FileError, parse};
pub use pattern::Pattern;

use crate::model::{Force, Forced, Label, Member, Report, ServiceKey};

/// What one entry of the file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The clusters that it is about.
    pub cluster: Pattern,
    /// The services whose shards in these clusters it is about; `None`: it is about the clusters as
    /// wholes.
    pub service: Option<ServicePattern>,
    /// What it says.
    pub force: Arc<Force>,
    /// Where it stands in the file, from 1.
    pub line: u64,
}

/// `NAMESPACE/NAME`, with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePattern {
    /// Of the namespace.
    pub namespace: Pattern,
    /// Of the service in it.
    pub name: Pattern,
}

impl std::fmt::Display for ServicePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ServicePattern {
    fn matches(&self, key: &ServiceKey) -> bool {
        self.namespace.matches(key.namespace()) && self.name.matches(key.name())
    }
}

/// The rules of the overrides file. Of those about a shard, and of those about a cluster, the first
/// that matches and has not ended counts; what is said of a shard beats what is said of its cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// The rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// Why what the file holds now is not in force, where it is not: then the rules are those that it
    /// held before.
    pub fault: Option<Report>,
}

impl Overrides {
    /// What is said at `now`, Unix time in seconds, of the shard of a service in a cluster.
    #[must_use]
    pub fn of_shard(&self, key: &ServiceKey, cluster: &Label, now: u64) -> Option<&Arc<Force>> {
        let about = |rule: &&Rule| {
            rule.force.in_force(now)
                && rule.cluster.matches(cluster.as_str())
                && rule.service.as_ref().is_some_and(|service| service.matches(key))
        };
        self.rules.iter().find(about).map(|rule| &rule.force)
    }

    /// What is said at `now` of a cluster as a whole.
    #[must_use]
    pub fn of_cluster(&self, cluster: &Label, now: u64) -> Option<&Arc<Force>> {
        let about = |rule: &&Rule| {
            rule.service.is_none()
                && rule.force.in_force(now)
                && rule.cluster.matches(cluster.as_str())
        };
        self.rules.iter().find(about).map(|rule| &rule.force)
    }

    /// Whether these rules take a cluster as a whole out at `now`.
    #[must_use]
    pub fn takes_out(&self, cluster: &Label, now: u64) -> bool {
        self.of_cluster(cluster, now).is_some_and(|force| force.to != Forced::Up)
    }

    /// What counts at `now` for the shard of a service in a cluster, of which its own annotation
    /// says `own`. These rules go first, also where they take the whole cluster out and the
    /// annotation says `up`: who may annotate a Service does not undo what the operators did.
    #[must_use]
    pub fn in_force<'a>(
        &'a self,
        key: &ServiceKey,
        cluster: &Label,
        own: Option<&'a Arc<Force>>,
        now: u64,
    ) -> Option<&'a Arc<Force>> {
        self.of_shard(key, cluster, now).or_else(|| {
            own.filter(|own| own.in_force(now))
                .filter(|own| own.to != Forced::Up || !self.takes_out(cluster, now))
        })
    }

    /// The rules about shards that differ between two files: all that changed, came, went or moved.
    #[must_use]
    pub fn changed<'a>(&'a self, other: &'a Self) -> Vec<&'a Rule> {
        let about_shards = |overrides: &'a Self| {
            overrides.rules.iter().filter(|rule| rule.service.is_some()).collect::<Vec<_>>()
        };
        let (mut old, mut new) = (about_shards(self), about_shards(other));
        let same = |(a, b): &(&&Rule, &&Rule)| a.says_the_same(b);
        let head = old.iter().zip(&new).take_while(same).count();
        let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(same).count();
        old.truncate(old.len() - tail);
        new.truncate(new.len() - tail);
        old.drain(..head).for_each(drop);
        new.drain(..head).for_each(drop);
        old.extend(new);
        old
    }

    /// When the next rule ends by itself after `now`.
    #[must_use]
    pub fn deadline(&self, now: u64) -> Option<u64> {
        self.rules.iter().filter_map(|rule| rule.force.end()).filter(|end| *end > now).min()
    }

    /// Rules about clusters that there are not: most likely misspelt.
    pub fn strays<'a>(&'a self, members: &'a [Member]) -> impl Iterator<Item = Report> + 'a {
        let known =
            |rule: &&Rule| members.iter().any(|member| rule.cluster.matches(member.name.as_str()));
        self.rules.iter().filter(move |rule| !known(rule)).map(|rule| Report {
            subject: format!("override in line {}", rule.line).into(),
            reason: format!("no cluster is called '{}', so that it has no effect", rule.cluster)
                .into(),
        })
    }
}

impl Rule {
    /// Whether it is about the shards of a service, in whichever cluster.
    #[must_use]
    pub fn is_about(&self, key: &ServiceKey) -> bool {
        self.service.as_ref().is_some_and(|service| service.matches(key))
    }

    /// Wherever they stand in their files.
    fn says_the_same(&self, other: &Self) -> bool {
        self.cluster == other.cluster && self.service == other.service && self.force == other.force
    }
}

#[cfg(test)]
mod tests;
