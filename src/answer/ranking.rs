//! Which clusters may be in an answer, and in which order.

use std::net::IpAddr;

use crate::geo::{Geography, Ranking};
use crate::model::{ClusterId, ClusterSet, Policy};
use crate::snapshot::{Live, Snapshot};
use crate::zone::Level;

/// The clusters that are in every one of some sets, without the intersection being made.
#[derive(Clone, Copy, Debug)]
pub struct Eligible<'s> {
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
        Self { base, others: [Some(&live.served), Some(&snapshot.up), level], only }
    }

    /// All clusters of a set, whatever their health.
    #[must_use]
    pub fn all(base: &'s ClusterSet) -> Self {
        Self { base, others: [None; 3], only: None }
    }

    #[inline]
    fn word(&self, index: usize) -> u64 {
        let others = self.others.iter().flatten();
        let word = others.fold(self.base.word(index), |word, set| word & set.word(index));
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
        (0..self.base.width()).all(|index| self.word(index) == 0)
    }

    /// Whether a cluster is among them.
    #[must_use]
    #[inline]
    pub fn contains(&self, id: ClusterId) -> bool {
        self.word(id.index() / 64) & 1 << (id.index() % 64) != 0
    }

    /// Their ids, ascending.
    pub fn iter(&self) -> impl Iterator<Item = ClusterId> + '_ {
        (0..self.base.width()).flat_map(|index| {
            let mut rest = self.word(index);
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(ClusterId::new(index * 64 + bit))
            })
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
        return Ranking::EQUAL;
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
    let mut number = 0;
    for group in order.groups() {
        let members = || group.iter().map(|r| r.cluster()).filter(|id| eligible.contains(*id));
        let before = left;
        let done = rotate(members, turn, &mut left, |id| each(id, number));
        if done.is_some() || left == 0 {
            return done;
        }
        number += u16::from(left != before);
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
