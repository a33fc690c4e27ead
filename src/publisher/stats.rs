//! Figures of a snapshot for the metrics.

use super::Reload;
use crate::health::Exclusion;
use crate::model::Forced;
use crate::snapshot::{Snapshot, Tally};
use crate::telemetry::{ClusterStats, HomeStats, SnapshotStats, ZoneStats};

/// The figures of `snapshot`, whose clusters are read as `config` says.
pub(super) fn of(snapshot: &Snapshot, config: &Reload) -> SnapshotStats {
    let Reload { feeds, home, .. } = config;
    let inputs = &snapshot.inputs;
    let clusters = inputs.federation.members.iter().zip(&inputs.standings).zip(&snapshot.tallies);
    let clusters = clusters.zip(&snapshot.wholes).zip(&inputs.views).zip(feeds);
    let clusters = clusters.map(|(((((member, standing), tally), whole), view), feed)| {
        let (mut down, mut cluster_drained, mut cluster_forced_out) = (0, 0, 0);
        let mut by_shard = *tally;
        if let Err(why) = &whole.verdict {
            // What is forced up is served all the same.
            by_shard = Tally { forced_up: tally.forced_up, ..Tally::default() };
            let all = match why {
                Exclusion::ClusterDown => &mut down,
                Exclusion::ClusterForced(_) => &mut cluster_forced_out,
                _ => &mut cluster_drained,
            };
            *all = tally.total() - tally.forced_up;
        }
        ClusterStats {
            name: member.name.as_str().to_owned(),
            state: standing.state,
            withheld: view.as_ref().map_or(0, |view| view.withheld),
            clock: feed.clock.clone(),
            shards: vec![
                ("served", by_shard.served + by_shard.forced_up),
                ("no_address", by_shard.no_address),
                ("not_ready", by_shard.not_ready),
                ("drained", by_shard.drained),
                ("checks_fail", by_shard.checks_fail),
                ("overloaded", by_shard.overloaded),
                ("forced_out", by_shard.forced_out),
                ("cluster_forced_out", cluster_forced_out),
                ("cluster_drained", cluster_drained),
                ("cluster_down", down),
            ],
        }
    });
    let count = |forced| {
        let rules = inputs.overrides.rules.iter();
        rules.filter(|r| r.force.to == forced && r.force.in_force(inputs.now)).count() as u64
    };
    SnapshotStats {
        generation: snapshot.generation,
        zones: vec![ZoneStats {
            apex: snapshot.zone.apex().to_string(),
            serial: snapshot.serial,
            digest: snapshot.digest,
        }],
        internal: snapshot.zone.internal().map(|zone| zone.apex().to_string()),
        clusters: clusters.collect(),
        overrides: Forced::ALL.map(|forced| (forced.word(), count(forced))).into(),
        home: home
            .as_ref()
            .map(|home| HomeStats { clock: home.clock.clone(), events: home.events().clone() }),
    }
}
