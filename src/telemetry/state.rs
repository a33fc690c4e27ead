//! `/state`: everything that is known, for people and scripts.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::geo;
use crate::health::{self, ClusterState, Reason, Standing, votes};
use crate::model::{ClusterId, Coordinates, Endpoints, Label, Refusal, Report};
use crate::snapshot::{Snapshot, Tally};

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
    reports: Vec<&'s Report>,
    geography: &'s geo::watch::Status,
    /// How active checks and votes stand.
    checks: &'s votes::Status,
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
    locations: Vec<String>,
    coordinates: Option<Coordinates>,
    shards: Shards,
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
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Service<'s> {
    ttl: u32,
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
    addresses: &'s [std::net::IpAddr],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    hostnames: &'s [Box<str>],
    endpoints: Endpoints,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    refused: &'s [Refusal],
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
            .map(|entry| (entry.service.key.to_string(), service(snapshot, &entry.service)))
            .collect(),
        reports: snapshot.reports.iter().chain(&inputs.federation.reports).collect(),
        geography: databases,
        checks,
    };
    // Only strings, numbers and maps with string keys: nothing that JSON cannot hold.
    serde_json::to_value(state).unwrap_or_default()
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
    let site = &snapshot.geography.compiled.sites[id.index()];
    let Tally { served, no_address, not_ready, drained, checks_fail } =
        snapshot.tallies[id.index()];
    let reports = inputs.views[id.index()].iter().flat_map(|view| view.reports.iter());
    Cluster {
        name: member.name.as_str(),
        state: *state,
        since: *since,
        reason,
        excluded: health::judge_cluster(member, *state).err().map(|e| e.to_string()),
        locations: site.topologies.iter().map(ToString::to_string).collect(),
        coordinates: site.coordinates,
        shards: Shards { served, no_address, not_ready, drained, checks_fail },
        withheld: inputs.views[id.index()].as_ref().map_or(0, |view| view.withheld),
        reports: reports.collect(),
    }
}

fn service<'s>(snapshot: &'s Snapshot, service: &'s crate::zone::Service) -> Service<'s> {
    let inputs = &snapshot.inputs;
    let position = snapshot.zone.service(service.key.wire()).map(|(_, position)| position);
    let live = position.map(|position| snapshot.live(position));
    let shards = service.clusters.iter().filter_map(|id| {
        let view = inputs.views[id.index()].as_ref()?;
        let entry = view.shards.find(service.key.hash()).find(|e| e.key == service.key)?;
        let member = &inputs.federation.members[id.index()];
        let excluded = health::judge_cluster(member, inputs.standings[id.index()].state)
            .and_then(|()| inputs.assess(id, entry))
            .err();
        let shard = Shard {
            served: excluded.is_none(),
            excluded: excluded.map(|e| e.to_string()),
            unserved_since: live.and_then(|live| live.unserved_since(id)),
            addresses: &entry.shard.addresses,
            hostnames: &entry.shard.hostnames,
            endpoints: entry.shard.endpoints,
            refused: &entry.shard.refused,
        };
        Some((member.name.as_str(), shard))
    });
    Service {
        ttl: service.ttl,
        policy: service.policy.to_string(),
        ties: service.ties,
        when_none_healthy: &service.when_none_healthy,
        shards: shards.collect(),
    }
}
