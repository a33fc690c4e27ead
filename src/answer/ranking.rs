//! Which clusters may be in an answer, and in which order.

use std::net::IpAddr;

use crate::geo::{Geography, Ranking};
use crate::model::{ClusterId, ClusterSet, Policy};
use crate::snapshot::{Live, Snapshot};
use crate::zone::Level;

/// The clusters that are in every one of some sets. Those with ids below 64, which are all of
/// them in most federations, are worked out once; of others the intersection is never made.
#[derive(Clone, Copy, Debug)]
pub struct Eligible<'s> {
    low: u64,
    base: &'s ClusterSet,
    others: [Option<&'s ClusterSet>; 3],
    only: Option<ClusterId>,
}

impl<'s> Eligible<'s> {
    /// The clusters of `base` whose shard is healthy, which are up, and for which the level
    /// speaks.
    #[must_use]
    #[inline]
    pub fn served(
        base: &'s ClusterSet,
        snapshot: &'s Snapshot,
        live: &'s Live,
        level: Level,
    ) -> Self {
        let only = if let Level::Shard(cluster) = level { Some(cluster) } else { None };
        let level = snapshot.zone.levels().clusters(level);
        Self { low: 0, base, others: [Some(&live.served), Some(&snapshot.up), level], only }
            .with_low()
    }

    /// All clusters of a set, whatever their health.
    #[must_use]
    pub fn all(base: &'s ClusterSet) -> Self {
        Self { low: 0, base, others: [None; 3], only: None }.with_low()
    }

    #[inline]
    fn with_low(self) -> Self {
        Self { low: self.word(0), ..self }
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        let mut word = self.base.word(index);
        for set in self.others.into_iter().flatten() {
            word &= set.word(index);
        }
        match self.only {
            None => word,
            Some(id) if id.index() / 64 == index => word & 1 << (id.index() % 64),
            Some(_) => 0,
        }
    }

    /// Whether there is none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.low == 0 && (1..self.base.width()).all(|index| self.word(index) == 0)
    }

    /// Whether a cluster is among them.
    #[must_use]
    #[inline]
    pub fn contains(&self, id: ClusterId) -> bool {
        let bit = 1 << (id.index() % 64);
        match id.index() / 64 {
            0 => self.low & bit != 0,
            index => self.word(index) & bit != 0,
        }
    }

    /// Their ids, ascending.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = ClusterId> + '_ {
        let (mut index, mut rest) = (0, self.low);
        std::iter::from_fn(move || {
            while rest == 0 {
                index += 1;
                if index >= self.base.width() {
                    return None;
                }
                rest = self.word(index);
            }
            let bit = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            Some(ClusterId::new(index * 64 + bit))
        })
    }
}

/// The order of the eligible clusters for a client. Geography has no say, and the scope is 0,
/// where all of them are equally near to everyone.
#[must_use]
#[inline]
pub fn ranking<'s>(
    geography: &'s Geography,
    live: &'s Live,
    eligible: &Eligible<'_>,
    subnet: Option<IpAddr>,
    source: IpAddr,
) -> Ranking<'s> {
    let mut classes = eligible.iter().map(|id| live.table.class(id));
    let first = classes.next();
    if classes.all(|class| Some(class) == first) {
        // Of clusters in one place a pod's own comes first where that needs no scope: with a
        // subnet told it would narrow the scope of every client beside every node.
        return match subnet {
            None => geography.rank_pod(&live.table, source).unwrap_or(Ranking::EQUAL),
            Some(_) => Ranking::EQUAL,
        };
    }
    geography.rank(&live.table, subnet, source)
}

/// Calls `each` with the eligible clusters in order, as many as the policy allows, and the number
/// of their group: equals share it and take turns at its head. Ends early where `each` gives
/// `Some`.
#[inline]
pub fn visit<R>(
    ranking: &Ranking<'_>,
    eligible: &Eligible<'_>,
    policy: Policy,
    turn: u32,
    mut each: impl FnMut(ClusterId, u16) -> Option<R>,
) -> Option<R> {
    let mut left = match policy {
        Policy::All => usize::MAX,
        Policy::Nearest(clusters) => usize::from(clusters.get()),
    };
    let Some(order) = ranking.order else {
        return rotate(|| eligible.iter(), turn, &mut left, |id| each(id, 0));
    };
    let ranked = order.ranked();
    let (mut start, mut number) = (0, 0);
    while let Some(first) = ranked.get(start) {
        let rest = &ranked[start + 1..];
        let equals = rest.iter().position(|r| r.starts_group()).unwrap_or(rest.len());
        let before = left;
        let done = if equals == 0 {
            // Nearly always: nobody else is as near.
            let id = first.cluster();
            if eligible.contains(id) {
                left -= 1;
                each(id, number)
            } else {
                None
            }
        } else {
            let group = &ranked[start..=start + equals];
            let members = || group.iter().map(|r| r.cluster()).filter(|id| eligible.contains(*id));
            rotate(members, turn, &mut left, |id| each(id, number))
        };
        if done.is_some() || left == 0 {
            return done;
        }
        number += u16::from(left != before);
        start += equals + 1;
    }
    None
}

/// Visits a group of equals from the member whose turn it is, once around, while `left` lasts.
#[inline]
fn rotate<R, I: Iterator<Item = ClusterId>>(
    members: impl Fn() -> I,
    turn: u32,
    left: &mut usize,
    mut each: impl FnMut(ClusterId) -> Option<R>,
) -> Option<R> {
    let count = members().count();
    if count == 0 {
        return None;
    }
    let first = turn as usize % count;
    for id in members().skip(first).chain(members().take(first)).take(*left) {
        *left -= 1;
        let done = each(id);
        if done.is_some() {
            return done;
        }
    }
    None
}
