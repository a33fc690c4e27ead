//! Who sees something failing, and what is not taken out for that, or not yet. Pure.

use std::fmt;
use std::sync::Arc;

use crate::model::{Label, Until};

/// A cluster that sees something failing, and by which of its instances.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Witness {
    /// The cluster: one vote, however many instances see it.
    pub cluster: Label,
    /// The first [`Self::MOST`] instances in the order of their names.
    pub instances: Box<[Box<str>]>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub more: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Witness {
    /// Instances that are named: one is enough to look into its log, and a second and third show
    /// whether they have a node or a network in common.
    pub const MOST: usize = 3;

    /// These instances of `cluster`, in any order.
    pub fn new<'n>(cluster: Label, instances: impl IntoIterator<Item = &'n str>) -> Self {
        let mut names: Vec<&str> = instances.into_iter().collect();
        names.sort_unstable();
        let more = names.len().saturating_sub(Self::MOST);
        let instances = names.into_iter().take(Self::MOST).map(Box::from).collect();
        Self { cluster, instances, more }
    }
}

/// For people: `eu: meridian-0, meridian-1 and 4 more`.
impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, instances, more } = self;
        write!(f, "{cluster}: {}", instances.join(", "))?;
        if *more > 0 {
            write!(f, " and {more} more")?;
        }
        Ok(())
    }
}

/// Tells in brackets who sees something, where anyone is named.
pub(super) fn write_witnesses(f: &mut fmt::Formatter<'_>, seen_by: &[Witness]) -> fmt::Result {
    let [first, rest @ ..] = seen_by else { return Ok(()) };
    write!(f, " (seen by {first}")?;
    rest.iter().try_for_each(|witness| write!(f, "; {witness}"))?;
    f.write_str(")")
}

/// Something that is seen failing and yet not out for it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspicion {
    /// Unix time, seconds, of the first failure that anyone tells of.
    pub since: u64,
    /// How it fails.
    pub why: Arc<str>,
    /// Who sees it; empty where this instance decides for itself.
    pub seen_by: Arc<[Witness]>,
    /// What is lacking for it to be out.
    pub lacking: Lacking,
}

/// Why something that is seen failing is not out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Lacking {
    /// A target counts as failing after so many failures in a row.
    Failures {
        /// The threshold.
        needed: u32,
    },
    /// Another address of the shard answers, or may do so yet.
    OtherTargets,
    /// Too few voters see it.
    Votes {
        /// How many do.
        counted: usize,
        /// How many it takes.
        needed: usize,
    },
    /// Another instance of the same cluster sees it well, so that the cluster does not vote.
    Accord,
    /// The cluster of this instance is none of those that vote.
    Vote,
    /// It has just come back, and stays for the least time.
    LeastTime,
    /// Too few voters are heard to decide anything.
    Hearing,
    /// Every cluster fails, so the fault is taken for ours.
    Fault,
}

impl fmt::Display for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { needed } => write!(f, "it counts after {needed} failures in a row"),
            Self::OtherTargets => f.write_str("not all of its addresses fail"),
            Self::Votes { counted, needed } => {
                write!(f, "of {needed} votes that it takes there are {counted}")
            }
            Self::Accord => f.write_str("another instance of the same cluster sees it well"),
            Self::Vote => f.write_str("this cluster is none of those that vote"),
            Self::LeastTime => f.write_str("it has just come back and stays for a while"),
            Self::Hearing => f.write_str("too few voters are heard to decide"),
            Self::Fault => f.write_str("every cluster fails, so the fault is taken for ours"),
        }
    }
}

/// For people, without a subject.
impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seen failing since {}: {}", Until::At(self.since), self.why)?;
        write_witnesses(f, &self.seen_by)?;
        write!(f, ", but {}", self.lacking)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(cluster: &str, instances: &[&str]) -> Witness {
        Witness::new(Label::parse(cluster).expect("a label"), instances.iter().copied())
    }

    #[test]
    fn few_instances_are_named_and_the_rest_counted() {
        assert_eq!(witness("eu", &["m-1", "m-0"]).to_string(), "eu: m-0, m-1");
        let many = witness("eu", &["e", "d", "c", "b", "a"]);
        assert_eq!(many.to_string(), "eu: a, b, c and 2 more");
        let json = serde_json::to_string(&many).expect("plain values");
        assert_eq!(json, r#"{"cluster":"eu","instances":["a","b","c"],"more":2}"#);
    }

    #[test]
    fn a_suspicion_tells_who_sees_what_and_what_is_lacking() {
        let seen_by = [witness("eu", &["m-0"]), witness("us", &["m-7"])].into();
        let lacking = Lacking::Votes { counted: 2, needed: 3 };
        let suspicion = Suspicion { since: 1_700_000_000, why: "refused".into(), seen_by, lacking };
        let told = "seen failing since 2023-11-14T22:13:20Z: refused (seen by eu: m-0; us: m-7), \
                    but of 3 votes that it takes there are 2";
        assert_eq!(suspicion.to_string(), told);
        let own = Suspicion { seen_by: Arc::default(), lacking: Lacking::Accord, ..suspicion };
        assert!(own.to_string().contains("refused, but another instance"), "{own}");
    }
}
