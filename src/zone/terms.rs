//! What most services have alike.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState as FastState;

use super::Settings;
use crate::model::{ClusterId, ClusterSet, Label, Policy, Port, Protocol, Shard, WhenNoneHealthy};

/// By what a service is answered beside its addresses. Most services of a federation have the same
/// policy and ports in the same clusters, and hold it together.
#[derive(Debug, PartialEq)]
pub(super) struct Terms {
    pub(super) policy: Policy,
    /// Under the policy `failover`, the clusters in its order, those that it does not name last.
    pub(super) failover: Box<[ClusterId]>,
    /// What the global name holds while no shard is served.
    pub(super) when_none_healthy: WhenNoneHealthy,
    /// The ports of each shard, in the order of clusters; one item where all have the same.
    pub(super) port_lists: Box<[Arc<[Port]>]>,
    /// Under the policy `weighted`, the weight of each shard, in the order of clusters; else none,
    /// lest counts of endpoints change what is the same.
    pub(super) weights: Box<[u32]>,
    /// Named ports of any shard, sorted; each has SRV names.
    pub(super) ports: Box<[NamedPort]>,
}

/// A named port that at least one shard has.
#[derive(Debug, PartialEq)]
pub struct NamedPort {
    /// Its name, the label behind `_`.
    pub name: Label,
    /// Its transport.
    pub protocol: Protocol,
    /// Clusters whose shard has it and an address, without which it is no target.
    pub clusters: ClusterSet,
}

impl NamedPort {
    /// The longest name of a port with SRV names, octets: its label begins with an underscore.
    pub const MAX_LEN: usize = Label::MAX_LEN - 1;

    pub(super) fn has_label(name: &Label) -> bool {
        name.as_bytes().len() <= Self::MAX_LEN
    }

    /// Octets of `_port._proto` in wire form.
    pub(super) fn prefix_len(&self) -> usize {
        // Two length octets and the underscore in front of the port's name.
        3 + self.name.as_bytes().len() + self.protocol.label().len()
    }
}

impl Terms {
    /// Those of a service with these shards, sorted by cluster; gives beside them what its policy
    /// cannot have.
    pub(super) fn merge(
        shards: &[(ClusterId, &Shard)],
        settings: &Settings,
        clusters: &HashMap<Label, ClusterId, FastState>,
    ) -> (Self, Option<String>) {
        let options = || shards.iter().filter_map(|(_, shard)| shard.options());
        let policy = options().find_map(|o| o.policy.as_ref()).unwrap_or(&settings.policy);
        let when = options().find_map(|o| o.when_none_healthy.as_ref());
        let (failover, fault) = stand_in_line(policy, shards, clusters);
        let terms = Self {
            policy: policy.clone(),
            failover,
            when_none_healthy: when.unwrap_or(&settings.when_none_healthy).clone(),
            port_lists: port_lists(shards),
            weights: weights(policy, shards),
            ports: named_ports(shards),
        };
        (terms, fault)
    }
}

/// Turns the names of a failover into clusters; tells of those that no cluster has.
fn stand_in_line(
    policy: &Policy,
    shards: &[(ClusterId, &Shard)],
    clusters: &HashMap<Label, ClusterId, FastState>,
) -> (Box<[ClusterId]>, Option<String>) {
    let Policy::Failover(names) = policy else { return Default::default() };
    let known = |name: &Label| clusters.get(name).copied();
    let mut line: Vec<ClusterId> = names.iter().filter_map(known).collect();
    let own = shards.iter().map(|(id, _)| *id);
    let rest: Vec<_> = own.filter(|id| !line.contains(id)).collect();
    line.extend(rest);
    let unknown = names.iter().filter(|name| known(name).is_none());
    let unknown: Vec<&str> = unknown.map(Label::as_str).collect();
    let fault = (!unknown.is_empty()).then(|| {
        format!(
            "its policy names clusters that there are not: {}; they are passed over",
            unknown.join(", ")
        )
    });
    (line.into(), fault)
}

fn port_lists(shards: &[(ClusterId, &Shard)]) -> Box<[Arc<[Port]>]> {
    let lists = || shards.iter().map(|(_, shard)| shard.ports.named());
    let same = lists().all(|list| Some(list) == lists().next());
    lists().take(if same { 1 } else { usize::MAX }).cloned().collect()
}

fn weights(policy: &Policy, shards: &[(ClusterId, &Shard)]) -> Box<[u32]> {
    let Policy::Weighted(_) = policy else { return Box::default() };
    let told = |shard: &Shard| shard.options().and_then(|options| options.weight);
    let weight = |shard: &Shard| told(shard).unwrap_or(shard.endpoints.ready);
    shards.iter().map(|(_, shard)| weight(shard)).collect()
}

fn named_ports(shards: &[(ClusterId, &Shard)]) -> Box<[NamedPort]> {
    let mut ports: BTreeMap<(Label, Protocol), ClusterSet> = BTreeMap::new();
    for &(cluster, shard) in shards {
        for port in shard.ports.named().iter().filter(|port| NamedPort::has_label(&port.name)) {
            let clusters = ports.entry((port.name.clone(), port.protocol)).or_default();
            if !shard.addresses.is_empty() {
                clusters.insert(cluster);
            }
        }
    }
    let port = |((name, protocol), clusters)| NamedPort { name, protocol, clusters };
    ports.into_iter().map(port).collect()
}

/// Terms that services of one bucket have, to be held once.
#[derive(Debug, Default)]
pub(super) struct Common(Vec<Arc<Terms>>);

impl Common {
    /// So many are looked through for equal ones: nearly all services share a few, and where each
    /// has its own the search must not cost more than making them.
    const MOST: usize = 4;

    /// Notes terms that some service has.
    pub(super) fn know(&mut self, terms: &Arc<Terms>) {
        if self.0.len() < Self::MOST && !self.0.iter().any(|known| Arc::ptr_eq(known, terms)) {
            self.0.push(terms.clone());
        }
    }

    /// The known ones that are equal, where there are any.
    pub(super) fn one(&mut self, terms: Terms) -> Arc<Terms> {
        if let Some(known) = self.0.iter().find(|known| ***known == terms) {
            return known.clone();
        }
        let terms = Arc::new(terms);
        self.know(&terms);
        terms
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ports, ServiceKey, ShardEntry, ShardParts};
    use crate::zone::Zone;
    use crate::zone::testing::settings;

    fn terms(weight: u32) -> Terms {
        Terms {
            policy: Policy::All,
            failover: [].into(),
            when_none_healthy: WhenNoneHealthy::Nothing,
            port_lists: [].into(),
            weights: [weight].into(),
            ports: [].into(),
        }
    }

    #[test]
    fn what_is_alike_is_held_once() {
        let mut common = Common::default();
        let before = Arc::new(terms(0));
        common.know(&before);
        common.know(&before);
        assert!(Arc::ptr_eq(&common.one(terms(0)), &before));
        let other = common.one(terms(1));
        assert_eq!(*other, terms(1));
        assert!(Arc::ptr_eq(&common.one(terms(1)), &other));
        // No more are looked through than that.
        (2..10).for_each(|weight| assert_eq!(*common.one(terms(weight)), terms(weight)));
        assert_eq!(common.0.len(), Common::MOST);
    }

    #[test]
    fn services_of_a_bucket_hold_together_what_they_have_alike() {
        let label = |text: &str| Label::parse(text).expect("a label");
        let shard = |name: &str, number| {
            let port = Port { name: label("http"), protocol: Protocol::Tcp, number };
            let ports = Ports::new([port].into(), Some(number));
            let parts = ShardParts { ports, ..ShardParts::default() };
            ShardEntry::new(ServiceKey::new(&label("n"), &label(name)), parts)
        };
        let shards = [shard("a", 80), shard("b", 80), shard("c", 81)];
        let (mut zone, _) = Zone::new(settings().into(), &[(label("k"), Default::default())]);
        let with_id = |shard| (ClusterId::new(0), shard);
        zone.rebuild_bucket(0, |_| true, shards.iter().map(with_id), |_| ());
        let terms = |zone: &Zone<()>, which: &ShardEntry| {
            let all = zone.services().bucket(0);
            let entry = all.iter().find(|entry| entry.service().key == which.key);
            entry.expect("it is there").service().terms().clone()
        };
        let [a, b, c] = &shards;
        assert!(Arc::ptr_eq(&terms(&zone, a), &terms(&zone, b)));
        assert_eq!(terms(&zone, c).port_lists[0][0].number, 81);
        // One that is made anew alone finds what the others have.
        zone.rebuild_bucket(0, |hash| hash == a.hash, [with_id(a)].into_iter(), |_| ());
        assert!(Arc::ptr_eq(&terms(&zone, a), &terms(&zone, b)));
        let other = shard("a", 81);
        zone.rebuild_bucket(0, |hash| hash == a.hash, [with_id(&other)].into_iter(), |_| ());
        assert!(Arc::ptr_eq(&terms(&zone, a), &terms(&zone, c)));
        assert_eq!(terms(&zone, b).port_lists[0][0].number, 80);
    }
}
