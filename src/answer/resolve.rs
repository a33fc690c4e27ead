//! From a name to where its data is: the chain up the levels.

use super::ranking::Eligible;
use crate::model::WhenNoneHealthy;
use crate::snapshot::{Live, Snapshot};
use crate::zone::{Level, ServiceName};

/// The levels that a name leads over, and what stands at the last.
#[derive(Clone, Copy, Debug)]
pub struct Path<'s> {
    /// Levels without a served shard, each a CNAME to the next, the last to where the end is.
    skipped: [Level; 2],
    cnames: u8,
    /// The level at which the chain ends.
    pub level: Level,
    /// What stands there.
    pub end: End<'s>,
}

/// What stands at the end of a chain.
#[derive(Clone, Copy, Debug)]
pub enum End<'s> {
    /// Served shards.
    Served,
    /// No served shard: nothing.
    Nothing,
    /// No served shard, and `whenNoneHealthy` says what stands in.
    StandIn(&'s WhenNoneHealthy),
}

impl Path<'_> {
    /// The levels that are CNAMEs, from the one asked for upwards.
    #[must_use]
    pub fn cnames(&self) -> &[Level] {
        &self.skipped[..usize::from(self.cnames)]
    }

    /// The level that the CNAME at `level` leads to.
    #[must_use]
    pub fn after(&self, level: Level) -> Level {
        let next = self.cnames().iter().skip_while(|skipped| **skipped != level).nth(1);
        next.copied().unwrap_or(self.level)
    }
}

/// Follows a service's name up to the first level with a served shard, or to the global one.
#[must_use]
#[inline]
pub fn resolve<'s>(snapshot: &'s Snapshot, live: &'s Live, name: &ServiceName<'s>) -> Path<'s> {
    let service = name.service;
    let mut path =
        Path { skipped: [Level::Global; 2], cnames: 0, level: name.level, end: End::Served };
    while Eligible::served(&service.clusters, snapshot, live, path.level).is_empty() {
        let Some(up) = above(snapshot, name, path.level) else {
            let all = |level| Eligible::served(&service.clusters, snapshot, live, level);
            path.end = match (service.when_none_healthy(), path.level) {
                (WhenNoneHealthy::Nothing, _) => End::Nothing,
                // SRV records of the stand-in lead to the names of its shards.
                (all_shards @ WhenNoneHealthy::All, Level::Shard(_))
                    if all(Level::Global).is_empty() =>
                {
                    End::StandIn(all_shards)
                }
                (_, Level::Shard(_)) => End::Nothing,
                (stand_in, _) => End::StandIn(stand_in),
            };
            break;
        };
        path.skipped[usize::from(path.cnames)] = path.level;
        path.cnames += 1;
        path.level = up;
    }
    path
}

/// The next level up whose name is short enough to exist: a chain skips the others.
fn above(snapshot: &Snapshot, name: &ServiceName<'_>, level: Level) -> Option<Level> {
    let mut up = snapshot.zone.levels().up(level)?;
    while !snapshot.zone.fits(name.service, name.port, up) {
        up = snapshot.zone.levels().up(up)?;
    }
    Some(up)
}
