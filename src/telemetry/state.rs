//! `/state`: everything that is known, for people and scripts.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::geo;
use crate::health::overrides::Overrides;
use crate::health::{
    Checked, ClusterState, Failure, Load, Reason, Standing, Suspicion, Verdict, votes,
};
use crate::model::{
    self, CheckMode, ClusterId, Coordinates, Endpoints, Force, Label, Refusal, Report, ShardEntry,
    Until,
};
use crate::snapshot::{Live, Snapshot, Tally};

/// The state of the federation as it is answered from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'s> {
    version: &'static str,
    generation: u64,
    serial: u32,
    /// Equal on replicas that know the same.
    digest: String,
    federation: &'s str,
    domain: String,
    /// Whether every source has been read.
    complete: bool,
    clusters: Vec<Cluster<'s>>,
    services: BTreeMap<String, Service<'s>>,
    overrides: OverridesFile<'s>,
    reports: Vec<&'s Report>,
    geography: &'s geo::watch::Status,
    /// How active checks and votes stand.
    checks: &'s votes::Status,
}

/// The overrides file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OverridesFile<'s> {
    /// Those that have not ended.
    in_force: Vec<Override<'s>>,
    /// Why what the file holds now is not in force, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'s Report>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Override<'s> {
    cluster: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(flatten)]
    force: &'s Force,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cluster<'s> {
    name: &'s str,
    state: ClusterState,
    /// Unix time, seconds.
    since: u64,
    reason: &'s Reason,
    #[serde(skip_serializing_if = "Option::is_none")]
    excluded: Option<String>,
    /// The override that is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#override: Option<&'s Force>,
    /// Until when a planned drain lets it be served.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaving_until: Option<Until>,
    /// Whether the TTLs of services with a shard there are lowered.
    unsettled: bool,
    locations: Vec<String>,
    coordinates: Option<Coordinates>,
    shards: Shards,
    /// Which of its shards are checked.
    checks: CheckMode,
    /// Shards that vanished at one stroke with most others and are kept until that is confirmed.
    #[serde(skip_serializing_if = "is_zero")]
    withheld: usize,
    reports: Vec<&'s Report>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shards {
    served: u64,
    no_address: u64,
    not_ready: u64,
    drained: u64,
    checks_fail: u64,
    overloaded: u64,
    forced_up: u64,
    forced_out: u64,
}

impl From<&Tally> for Shards {
    fn from(tally: &Tally) -> Self {
        let Tally { served, forced_up, no_address, not_ready, .. } = *tally;
        let Tally { drained, checks_fail, overloaded, forced_out, .. } = *tally;
        Self {
            served,
            no_address,
            not_ready,
            drained,
            checks_fail,
            overloaded,
            forced_up,
            forced_out,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Service<'s> {
    /// Of its records now: lower than it is set to while it is unsettled.
    ttl: u32,
    unsettled: bool,
    policy: String,
    ties: crate::model::Ties,
    when_none_healthy: &'s crate::model::WhenNoneHealthy,
    shards: BTreeMap<&'s str, Shard<'s>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shard<'s> {
    served: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    excluded: Option<String>,
    /// Since when it is not healthy by itself, Unix time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    unserved_since: Option<u64>,
    /// The override that is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#override: Option<&'s Force>,
    /// Until when a planned drain lets it be served.
    #[serde(skip_serializing_if = "Option::is_none")]
    leaving_until: Option<Until>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<Check<'s>>,
    /// Who sees it failing, where it is not out for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspicion: Option<&'s Suspicion>,
    /// The loads that its Service and its checks tell.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    loads: Vec<Load>,
    /// Whether it may change soon.
    unsettled: bool,
    addresses: &'s [std::net::IpAddr],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    hostnames: &'s [Box<str>],
    endpoints: Endpoints,
    /// How its addresses are checked, where they may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked_by: Option<&'s model::Check>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    refused: &'s [Refusal],
}

/// What the active checks of a shard say.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Check<'s> {
    Passing,
    Failing(&'s Failure),
}

impl<'s> Check<'s> {
    fn of(checked: &'s Checked) -> Option<Self> {
        match checked {
            Checked::NotChecked => None,
            Checked::Passing => Some(Self::Passing),
            Checked::Failing(failure) => Some(Self::Failing(failure)),
        }
    }
}

/// The state that a snapshot was built from, with the reason for each exclusion; what became of the
/// databases; the clusters' `standings` of this moment, whose reasons may be newer; and how checks
/// and votes stand.
#[must_use]
pub fn of(
    snapshot: &Snapshot,
    standings: &[(Label, Standing)],
    databases: &geo::watch::Status,
    checks: &votes::Status,
) -> Value {
    let inputs = &snapshot.inputs;
    let state = State {
        version: env!("CARGO_PKG_VERSION"),
        generation: snapshot.generation,
        serial: snapshot.serial,
        digest: format!("{:016x}", snapshot.digest),
        federation: inputs.federation.zone.federation.as_str(),
        domain: snapshot.zone.apex().to_string(),
        complete: snapshot.complete,
        clusters: (0..inputs.federation.members.len())
            .map(|index| cluster(snapshot, standings, ClusterId::new(index)))
            .collect(),
        services: snapshot
            .zone
            .services()
            .iter()
            .map(|entry| (entry.service().key.to_string(), service(snapshot, entry.service())))
            .collect(),
        overrides: overrides(&inputs.overrides, inputs.now),
        reports: snapshot.reports.iter().chain(&inputs.federation.reports).collect(),
        geography: databases,
        checks,
    };
    // Only strings, numbers and maps with string keys: nothing that JSON cannot hold.
    serde_json::to_value(state).unwrap_or_default()
}

fn overrides(overrides: &Overrides, now: u64) -> OverridesFile<'_> {
    let in_force = overrides.rules.iter().filter(|rule| rule.force.in_force(now));
    let shown = in_force.map(|rule| Override {
        cluster: rule.cluster.to_string(),
        service: rule.service.as_ref().map(ToString::to_string),
        force: &rule.force,
    });
    OverridesFile { in_force: shown.collect(), fault: overrides.fault.as_ref() }
}

fn cluster<'s>(
    snapshot: &'s Snapshot,
    standings: &'s [(Label, Standing)],
    id: ClusterId,
) -> Cluster<'s> {
    let inputs = &snapshot.inputs;
    let member = &inputs.federation.members[id.index()];
    let newest = standings.iter().find(|(name, _)| *name == member.name);
    let Standing { state, since, reason } =
        newest.map_or(&inputs.standings[id.index()], |(_, standing)| standing);
    let site = snapshot.site(id);
    let (whole, evidence) = (&snapshot.wholes[id.index()], inputs.cluster_evidence(id));
    let reports = inputs.views[id.index()].iter().flat_map(|view| view.reports.iter());
    Cluster {
        name: member.name.as_str(),
        state: *state,
        since: *since,
        reason,
        excluded: whole.verdict.as_ref().err().map(ToString::to_string),
        r#override: evidence.force.map(|force| &**force),
        leaving_until: leaving(evidence.leaving, inputs.now),
        unsettled: whole.unsettled,
        locations: site.topologies.iter().map(ToString::to_string).collect(),
        coordinates: site.coordinates,
        shards: Shards::from(&snapshot.tallies[id.index()]),
        checks: inputs.federation.health.checks.mode(member),
        withheld: inputs.views[id.index()].as_ref().map_or(0, |view| view.withheld),
        reports: reports.collect(),
    }
}

fn service<'s>(snapshot: &'s Snapshot, service: &'s crate::zone::Service) -> Service<'s> {
    let inputs = &snapshot.inputs;
    let position = snapshot.zone.service(service.key.wire()).map(|(_, position)| position);
    let live = position.map(|position| snapshot.live(position));
    let shards = service.clusters.iter().filter_map(|id| {
        let entry = inputs.shard(id, &service.key)?;
        let member = &inputs.federation.members[id.index()];
        Some((member.name.as_str(), shard(snapshot, id, entry, live)))
    });
    let ttl = live.map_or(service.ttl, |live| snapshot.ttl(service, live));
    Service {
        ttl,
        unsettled: live.is_some_and(|live| snapshot.is_unsettled(service, live)),
        policy: service.policy().to_string(),
        ties: service.ties,
        when_none_healthy: service.when_none_healthy(),
        shards: shards.collect(),
    }
}

fn shard<'s>(
    snapshot: &'s Snapshot,
    id: ClusterId,
    entry: &'s ShardEntry,
    live: Option<&Live>,
) -> Shard<'s> {
    let inputs = &snapshot.inputs;
    let (evidence, assessment) = (inputs.evidence(id, entry), inputs.assess(id, entry));
    let whole = snapshot.wholes[id.index()].verdict.as_ref().err();
    let excluded = match &assessment.verdict {
        Verdict::Forced(_) => None,
        verdict => whole.or(verdict.exclusion()),
    };
    let served = live.is_some_and(|live| {
        let [one, other] = live.eligible(&snapshot.up);
        one.contains(id) && other.contains(id)
    });
    let member = &inputs.federation.members[id.index()];
    let settings = &inputs.federation.health.checks;
    let loads = [evidence.phase.and_then(|p| p.load), evidence.opinion.and_then(|o| o.load)];
    Shard {
        served,
        excluded: excluded.map(ToString::to_string),
        unserved_since: live.and_then(|live| live.unserved_since(id)),
        r#override: evidence.force.map(|force| &**force),
        leaving_until: leaving(evidence.phase.and_then(|phase| phase.leaving), inputs.now),
        check: evidence.opinion.and_then(|opinion| Check::of(&opinion.check)),
        suspicion: evidence.opinion.and_then(|opinion| opinion.suspicion.as_deref()),
        loads: loads.into_iter().flatten().collect(),
        unsettled: assessment.unsettled,
        addresses: &entry.shard.addresses,
        hostnames: entry.shard.hostnames(),
        endpoints: entry.shard.endpoints,
        checked_by: settings.check_of(&entry.shard, member).map(|(check, _)| check),
        refused: entry.shard.refused(),
    }
}

/// The end of a drain that is under way.
fn leaving(end: Option<u64>, now: u64) -> Option<Until> {
    end.filter(|end| now < *end).map(Until::At)
}
