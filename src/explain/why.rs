//! Why a cluster is in an answer or not, in words.

use super::Family;
use crate::answer::Path;
use crate::health::{ClusterState, Exclusion, Verdict};
use crate::model::{ClusterId, Drain, Forced, ShardEntry};
use crate::snapshot::Snapshot;
use crate::zone::{Level, ServiceName};

/// Why a cluster is not in the answer, the first reason that holds, and since when, Unix time in
/// seconds.
pub(super) fn exclusion(
    snapshot: &Snapshot,
    name: &ServiceName<'_>,
    path: &Path<'_>,
    family: Option<Family>,
    id: ClusterId,
) -> (String, Option<u64>) {
    let reason = |text: &str| (text.to_owned(), None);
    let inputs = &snapshot.inputs;
    if inputs.views[id.index()].is_none() {
        return reason("its source has not been read yet");
    }
    let Some(entry) = inputs.shard(id, &name.service.key) else {
        return reason("does not export the service");
    };
    if let Some(told) = unhealthy(snapshot, name, entry, id) {
        return told;
    }
    let levels = snapshot.zone.levels();
    let outside = match path.level {
        Level::Shard(only) => only != id,
        level => levels.clusters(level).is_some_and(|clusters| !clusters.contains(id)),
    };
    if outside {
        reason("is not in the place asked for")
    } else if family.is_some_and(|family| !name.service.addressed(family).contains(id)) {
        reason("has no address of the family asked for")
    } else {
        reason("is beyond what the policy takes")
    }
}

/// Why a shard is not served anywhere.
fn unhealthy(
    snapshot: &Snapshot,
    name: &ServiceName<'_>,
    entry: &ShardEntry,
    id: ClusterId,
) -> Option<(String, Option<u64>)> {
    let live = snapshot.live(name.position);
    let [served, up] = live.eligible(&snapshot.up);
    if served.contains(id) && up.contains(id) {
        return None;
    }
    let standing = &snapshot.inputs.standings[id.index()];
    match &snapshot.wholes[id.index()].verdict {
        Err(Exclusion::ClusterDown) => {
            let text = format!("{}: {}", Exclusion::ClusterDown, standing.reason);
            return Some((text, Some(standing.since)));
        }
        Err(why) => return Some((why.to_string(), None)),
        Ok(()) => {}
    }
    let verdict = snapshot.inputs.assess(id, entry).verdict;
    let why = verdict.exclusion()?;
    Some((why.to_string(), live.unserved_since(id)))
}

/// What else there is to say of a service's shard in a cluster: overrides in force, drains under
/// way, doubts that lower the TTL.
pub(super) fn remark(snapshot: &Snapshot, name: &ServiceName<'_>, id: ClusterId) -> Option<String> {
    let inputs = &snapshot.inputs;
    let entry = inputs.shard(id, &name.service.key)?;
    let (shard, whole) = (inputs.evidence(id, entry), inputs.cluster_evidence(id));
    let assessment = inputs.assess(id, entry);
    let mut remarks = Vec::new();
    let up = |force: &crate::model::Force| force.to == Forced::Up;
    remarks.extend(shard.force.filter(|force| up(force)).map(ToString::to_string));
    let of_cluster = whole.force.filter(|force| up(force));
    remarks.extend(of_cluster.map(|force| format!("its cluster is {force}")));
    let drained = entry.shard.options().is_some_and(|o| o.drain == Drain::Planned);
    let forced = |force: Option<&std::sync::Arc<crate::model::Force>>| {
        force.is_some_and(|force| force.to == Forced::Drained)
    };
    let ends = [
        (drained || forced(shard.force), shard.phase.and_then(|phase| phase.leaving), "it"),
        (whole.member.drain == Drain::Planned || forced(whole.force), whole.leaving, "its cluster"),
    ];
    for (drained, end, what) in ends {
        if let Some(end) = end.filter(|end| drained && *end > inputs.now) {
            remarks.push(format!("{what} is being drained, and served until {}", time(end)));
        }
    }
    if let Verdict::Spare(why) = &assessment.verdict
        && snapshot.live(name.position).eligible(&snapshot.up)[0].contains(id)
    {
        remarks.push(format!("{why}, but no other shard is served"));
    }
    let suspicion = shard.opinion.and_then(|opinion| opinion.suspicion.as_deref());
    remarks.extend(suspicion.map(ToString::to_string));
    if shard.opinion.is_some_and(|opinion| opinion.unsettled) {
        remarks.push("its checks are not settled, so that the TTL is lower".to_owned());
    }
    if snapshot.wholes[id.index()].unsettled && whole.state != ClusterState::Up {
        remarks.push(format!("its cluster is {}, so that the TTL is lower", whole.state.label()));
    }
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

/// Unix time in seconds as RFC 3339 writes it.
fn time(at: u64) -> String {
    crate::model::Until::At(at).to_string()
}
