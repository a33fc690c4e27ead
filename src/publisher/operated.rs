//! What operators do to whole clusters, from one snapshot to the next. Pure.

use std::fmt;
use std::sync::Arc;

use crate::health::Exclusion;
use crate::model::{ClusterId, Force, Forced, Label, Until};
use crate::snapshot::Snapshot;

/// What operators make of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operated {
    /// Nothing: its signals tell.
    Left,
    /// It is drained, and served until then.
    Leaving(u64),
    /// It is drained, and out.
    Drained,
    /// It is forced up, down or, when that is over, drained.
    Forced(Arc<Force>),
}

impl Operated {
    /// Every case as one word.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Left => "signals",
            Self::Leaving(_) => "leaving",
            Self::Drained => "drained",
            Self::Forced(force) if force.to == Forced::Up => "forced_up",
            Self::Forced(_) => "forced_out",
        }
    }

    fn of(snapshot: &Snapshot, id: ClusterId) -> Self {
        let evidence = snapshot.inputs.cluster_evidence(id);
        match (&snapshot.wholes[id.index()].verdict, evidence.force, evidence.leaving) {
            (Err(Exclusion::ClusterForced(force)), ..) => Self::Forced(force.clone()),
            (Err(Exclusion::ClusterDrained), ..) => Self::Drained,
            (_, Some(force), _) if force.to == Forced::Up => Self::Forced(force.clone()),
            (_, _, Some(end)) => Self::Leaving(end),
            _ => Self::Left,
        }
    }
}

/// For people.
impl fmt::Display for Operated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left => f.write_str("no drain and no override is in force"),
            Self::Leaving(end) => write!(f, "it is drained, and served until {}", Until::At(*end)),
            Self::Drained => f.write_str("it is drained"),
            Self::Forced(force) => force.fmt(f),
        }
    }
}

/// What operators make of a cluster now that they did not before.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Operation {
    pub(super) cluster: Label,
    pub(super) from: Operated,
    pub(super) to: Operated,
}

/// The clusters of both snapshots of which operators make something else.
pub(super) fn operations(before: &Snapshot, after: &Snapshot) -> Vec<Operation> {
    let old = &before.inputs.federation.members;
    let members = after.inputs.federation.members.iter().enumerate();
    let changes = members.filter_map(|(index, member)| {
        let place = old.iter().position(|m| m.name == member.name)?;
        let from = Operated::of(before, ClusterId::new(place));
        let to = Operated::of(after, ClusterId::new(index));
        (from != to).then(|| Operation { cluster: member.name.clone(), from, to })
    });
    changes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::overrides::{Overrides, parse};
    use crate::model::Drain;
    use crate::snapshot::testing::Fixture;
    use crate::snapshot::{Inputs, build};

    fn told(before: &Snapshot, after: &Snapshot) -> Vec<String> {
        let line =
            |o: Operation| format!("{} {}>{}: {}", o.cluster, o.from.label(), o.to.label(), o.to);
        operations(before, after).into_iter().map(line).collect()
    }

    #[test]
    fn drains_and_overrides_of_clusters_are_told_once() {
        let fixture = Fixture::new().cluster("a", "eu", &[], None).cluster("b", "us", &[], None);
        let plain = fixture.build();
        assert!(told(&plain, &fixture.build()).is_empty());
        let mut drained = fixture.clone();
        drained.members[1].drain = Drain::AtOnce;
        assert_eq!(told(&plain, &drained.build()), ["b signals>drained: it is drained"]);
        let rules = parse("- {cluster: a, state: down, author: x, reason: y, until: never}");
        let overrides = Overrides { rules: rules.expect("valid"), fault: None };
        let inputs = Inputs { overrides: Arc::new(overrides), ..plain.inputs.clone() };
        let forced = build(Some(&plain), inputs);
        let down = "a signals>forced_out: forced down by x (y) without end";
        assert_eq!(told(&plain, &forced), [down]);
        let back = "a forced_out>signals: no drain and no override is in force";
        assert_eq!(told(&forced, &plain), [back]);
        drained.members[1].drain = Drain::Planned;
        let mut inputs = drained.inputs();
        inputs.phases.clusters =
            Arc::new([(plain.inputs.federation.members[1].name.clone(), inputs.now + 7)].into());
        let leaving = build(None, inputs);
        let line = "b signals>leaving: it is drained, and served until 2023-11-14T22:13:27Z";
        assert_eq!(told(&plain, &leaving), [line]);
    }
}
