//! Figures of a snapshot for the metrics.

use super::Reload;
use crate::health::{Exclusion, judge_cluster};
use crate::snapshot::Snapshot;
use crate::telemetry::{ClusterStats, HomeStats, SnapshotStats, ZoneStats};

/// The figures of `snapshot`, whose clusters are read as `config` says.
pub(super) fn of(snapshot: &Snapshot, config: &Reload) -> SnapshotStats {
    let Reload { feeds, home, .. } = config;
    let inputs = &snapshot.inputs;
    let clusters = inputs.federation.members.iter().zip(&inputs.standings).zip(&snapshot.tallies);
    let clusters = clusters.zip(&inputs.views).zip(feeds);
    let clusters = clusters.map(|((((member, standing), tally), view), feed)| {
        let all =
            tally.served + tally.no_address + tally.not_ready + tally.drained + tally.checks_fail;
        let (mut down, mut cluster_drained) = (0, 0);
        let mut by_shard = *tally;
        match judge_cluster(member, standing.state) {
            Ok(()) => {}
            Err(exclusion) => {
                by_shard = Default::default();
                *(if exclusion == Exclusion::ClusterDown {
                    &mut down
                } else {
                    &mut cluster_drained
                }) = all;
            }
        }
        ClusterStats {
            name: member.name.as_str().to_owned(),
            state: standing.state,
            withheld: view.as_ref().map_or(0, |view| view.withheld),
            clock: feed.clock.clone(),
            shards: vec![
                ("served", by_shard.served),
                ("no_address", by_shard.no_address),
                ("not_ready", by_shard.not_ready),
                ("drained", by_shard.drained),
                ("checks_fail", by_shard.checks_fail),
                ("cluster_drained", cluster_drained),
                ("cluster_down", down),
            ],
        }
    });
    SnapshotStats {
        generation: snapshot.generation,
        zones: vec![ZoneStats {
            apex: snapshot.zone.apex().to_string(),
            serial: snapshot.serial,
            digest: snapshot.digest,
        }],
        internal: snapshot.zone.internal().map(|zone| zone.apex().to_string()),
        clusters: clusters.collect(),
        home: home
            .as_ref()
            .map(|home| HomeStats { clock: home.clock.clone(), events: home.events().clone() }),
    }
}
