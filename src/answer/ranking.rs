//! Which clusters may be in an answer, and in which order.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::FixedState;

use crate::geo::{GeoTable, Geography, Ranked, Ranking, Shape};
use crate::model::{ClusterId, ClusterSet, Clusters, Policy, Ties};
use crate::snapshot::{Live, Snapshot};
use crate::zone::{Level, Service};

/// The clusters that are in every one of some sets. Those with ids below 64, which are all of
/// them in most federations, are worked out once; of others the intersection is never made.
#[derive(Clone, Copy, Debug)]
pub struct Eligible<'s> {
    low: u64,
    base: &'s ClusterSet,
    others: [Option<Clusters<'s>>; 3],
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
        let level = snapshot.zone.levels().clusters(level).map(ClusterSet::view);
        let [served, up] = live.eligible(&snapshot.up);
        Self { low: 0, base, others: [Some(served), Some(up), level], only }.with_low()
    }

    /// The clusters of a set at the end of a chain, whatever their health: all, or the one whose
    /// shard is asked for; but for those that operators force out.
    #[must_use]
    pub fn all(base: &'s ClusterSet, snapshot: &'s Snapshot, live: &'s Live, end: Level) -> Self {
        let only = if let Level::Shard(cluster) = end { Some(cluster) } else { None };
        let unbarred = live.exception().map(|exception| exception.unbarred.view());
        let others = [Some(snapshot.unbarred.view()), unbarred, None];
        Self { low: 0, base, others, only }.with_low()
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

    /// All of them as bits, where none can have an id of 64 or more.
    #[inline]
    fn only_low(&self) -> Option<u64> {
        (self.base.width() <= 1).then_some(self.low)
    }

    /// Whether they are exactly the clusters of a set.
    #[inline]
    fn are(&self, set: &ClusterSet) -> bool {
        let width = self.base.width().max(set.width());
        self.low == set.word(0) && (1..width).all(|index| self.word(index) == set.word(index))
    }

    /// How many there are.
    #[inline]
    fn len(&self) -> usize {
        let above: u32 = (1..self.base.width()).map(|index| self.word(index).count_ones()).sum();
        (self.low.count_ones() + above) as usize
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

/// The order of the eligible clusters of a service for a client. Geography has no say, and the
/// scope is 0, where all of them are equally near to everyone.
#[must_use]
#[inline]
pub fn ranking<'s>(
    snapshot: &'s Snapshot,
    service: &Service,
    eligible: &Eligible<'_>,
    client: (Option<IpAddr>, IpAddr),
) -> Ranking<'s> {
    let geography = &snapshot.geography;
    let (subnet, source) = client;
    match *service.policy() {
        // The order is the same for everyone.
        Policy::Failover(_) => return Ranking::EQUAL,
        Policy::Weighted(taken) => {
            let weighty = eligible.iter().filter(|id| service.weight(*id) > 0).count();
            // One choice, or one place to go.
            let alone = eligible.iter().nth(1).is_none() || (weighty == 1 && taken.get() == 1);
            return match alone {
                true => Ranking::EQUAL,
                false => Ranking::EQUAL.with_unit(geography.unit(subnet, source)),
            };
        }
        Policy::All | Policy::Nearest(_) | Policy::Region => {}
    }
    let whole = geography.compiled.whole();
    let alike = are_alike(whole, eligible);
    let exact = || exact(snapshot, service, eligible);
    let ranking = by_distance(geography, alike, exact, client);
    if service.ties == Ties::Sticky && has_ties(&ranking, eligible, service, snapshot) {
        return ranking.with_unit(geography.unit(subnet, source));
    }
    ranking
}

/// The order by nearness: by the table of exactly the clusters in question, where there is one,
/// else by that of all; none where they are all `alike`.
#[inline]
pub(super) fn by_distance<'s>(
    geography: &'s Geography,
    alike: bool,
    exact: impl FnOnce() -> Option<&'s GeoTable>,
    (subnet, source): (Option<IpAddr>, IpAddr),
) -> Ranking<'s> {
    let whole = geography.compiled.whole();
    if !alike {
        return geography.rank(exact().unwrap_or(whole), subnet, source);
    }
    // Of clusters in one place a pod's own comes first where that needs no scope: with a subnet
    // told it would narrow the scope of every client beside every node.
    match subnet {
        None => geography.rank_pod(whole, source).unwrap_or(Ranking::EQUAL),
        Some(_) => Ranking::EQUAL,
    }
}

/// The table of exactly the eligible clusters, cut to what answers hold, whose scopes are the
/// widest; `None` until it is compiled.
#[inline]
fn exact<'s>(
    snapshot: &'s Snapshot,
    service: &Service,
    eligible: &Eligible<'_>,
) -> Option<&'s GeoTable> {
    let most = service.most_clusters(snapshot.zone.settings().max_addresses);
    let shape = Shape::of(service.policy(), most, eligible.len())?;
    snapshot.geography.compiled.exact(eligible.low, |set| eligible.are(set), shape)
}

/// Whether all are equally near to every client outside of clusters.
#[inline]
fn are_alike(table: &GeoTable, eligible: &Eligible<'_>) -> bool {
    if let Some(low) = eligible.only_low() {
        return table.are_alike(low);
    }
    let mut classes = eligible.iter().map(|id| table.class(id));
    let first = classes.next();
    classes.all(|class| Some(class) == first)
}

/// Whether clusters that are equally near stand among those that the policy takes.
fn has_ties(
    ranking: &Ranking<'_>,
    eligible: &Eligible<'_>,
    service: &Service,
    snapshot: &Snapshot,
) -> bool {
    let Some(order) = ranking.order else { return eligible.iter().nth(1).is_some() };
    let most = service.most_clusters(snapshot.zone.settings().max_addresses);
    let choice = Choice { service, beside: snapshot.geography.compiled.beside() };
    let (mut taken, mut last) = (0, None);
    let tie = visit(ranking, eligible, choice, 0, |id, group| {
        taken += 1;
        match last.replace((id, group)) {
            Some((_, before)) if before == group => Some(true),
            // No answer holds more.
            _ => (taken == most.get()).then_some(false),
        }
    });
    // A tie may also stand at the end of what is taken, so that only one of it is.
    let split = |(id, _)| {
        let its = |group: &&[Ranked]| group.iter().any(|ranked| ranked.cluster() == id);
        let group = order.groups().find(its).unwrap_or_default();
        group.iter().filter(|ranked| eligible.contains(ranked.cluster())).count() > 1
    };
    let cut = tie == Some(false) || matches!(service.policy(), Policy::Nearest(_));
    tie == Some(true) || cut && last.is_some_and(split)
}

/// A service's way to choose among its clusters.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'s> {
    /// The service.
    pub service: &'s Service,
    /// For each cluster those that have a region in common with it, itself among them.
    pub beside: &'s [ClusterSet],
}

/// Calls `each` with the eligible clusters in order, as many as the policy allows, and the number
/// of their group: equals share it and take turns at its head. Ends early where `each` gives
/// `Some`.
#[inline]
pub fn visit<R>(
    ranking: &Ranking<'_>,
    eligible: &Eligible<'_>,
    choice: Choice<'_>,
    turn: u32,
    mut each: impl FnMut(ClusterId, u16) -> Option<R>,
) -> Option<R> {
    let service = choice.service;
    let mut left = match service.policy() {
        Policy::All | Policy::Region => usize::MAX,
        Policy::Nearest(clusters) => usize::from(clusters.get()),
        Policy::Weighted(clusters) => {
            let ids = || eligible.iter().map(|id| (id, service.weight(id)));
            return hashed(ids, ranking.unit, (clusters.get()).into(), &mut each);
        }
        Policy::Failover(_) => {
            let first = service.failover().iter().find(|id| eligible.contains(**id));
            return each(*first?, 0);
        }
    };
    let unit = ranking.unit.filter(|_| service.ties == Ties::Sticky);
    let Some(order) = ranking.order else {
        return equals(|| eligible.iter(), (turn, unit), &mut left, |id| each(id, 0));
    };
    let ranked = order.ranked();
    let (mut start, mut number) = (0, 0);
    // Under `region` the first group that has an eligible cluster; others must share a region.
    let mut leaders: Option<&[Ranked]> = None;
    while let Some(first) = ranked.get(start) {
        let rest = &ranked[start + 1..];
        let more = rest.iter().position(|r| r.starts_group()).unwrap_or(rest.len());
        let group = &ranked[start..=start + more];
        let takes = |id: ClusterId| {
            eligible.contains(id)
                && leaders.is_none_or(|leaders| {
                    let ids = leaders.iter().map(|r| r.cluster());
                    let mut ids = ids.filter(|leader| eligible.contains(*leader));
                    ids.any(|leader| choice.beside[leader.index()].contains(id))
                })
        };
        let before = left;
        let done = if more == 0 {
            // Nearly always: nobody else is as near.
            let id = first.cluster();
            if takes(id) {
                left -= 1;
                each(id, number)
            } else {
                None
            }
        } else {
            let members = || group.iter().map(|r| r.cluster()).filter(|id| takes(*id));
            equals(members, (turn, unit), &mut left, |id| each(id, number))
        };
        if done.is_some() || left == 0 {
            return done;
        }
        if left != before {
            number += 1;
            if *service.policy() == Policy::Region && leaders.is_none() {
                leaders = Some(group);
            }
        }
        start += more + 1;
    }
    None
}

/// Visits a group of equals while `left` lasts: from the member whose turn it is once around, or in
/// the order that a hash gives the client's network.
#[inline]
fn equals<R, I: Iterator<Item = ClusterId>>(
    members: impl Fn() -> I,
    (turn, unit): (u32, Option<u64>),
    left: &mut usize,
    mut each: impl FnMut(ClusterId) -> Option<R>,
) -> Option<R> {
    let count = members().count();
    if count == 0 {
        return None;
    }
    if unit.is_some() {
        let most = *left;
        return hashed(
            || members().map(|id| (id, 1)),
            unit,
            most,
            |id, _| {
                *left -= 1;
                each(id)
            },
        );
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

/// Visits at most `most` clusters in the order of weighted rendezvous hashing: each draws a number
/// from the client's network and its own id that is the greater the more it weighs, and a cluster
/// that comes or goes moves only the clients that it gains or had. Those without weight come last.
fn hashed<R, I: Iterator<Item = (ClusterId, u32)>>(
    members: impl Fn() -> I,
    unit: Option<u64>,
    most: usize,
    mut each: impl FnMut(ClusterId, u16) -> Option<R>,
) -> Option<R> {
    let unit = unit.unwrap_or_default();
    let mut last: Option<Draw> = None;
    for at in 0..u16::try_from(most).unwrap_or(u16::MAX) {
        let draws = members().map(|(id, weight)| draw(unit, id, weight));
        let next = draws.filter(|draw| last.is_none_or(|last| *draw < last)).max()?;
        last = Some(next);
        let done = each(next.2.0, at);
        if done.is_some() {
            return done;
        }
    }
    None
}

/// What a cluster draws: weighty ones before others, then by score, then the lower id first.
type Draw = (bool, u64, std::cmp::Reverse<ClusterId>);

fn draw(unit: u64, id: ClusterId, weight: u32) -> Draw {
    // A fixed seed: all replicas agree.
    let hash = FixedState::with_seed(0).hash_one((unit, id));
    // From 0 to 1, both left out: 53 bits are what a floating-point number holds.
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    // The chance of the smallest -ln(u)/w is as the weight (Schindelhauer and Schomaker, 2005);
    // libm gives the same bits on every machine, and bits of positive numbers ascend with them.
    let score = -libm::log(uniform) / f64::from(weight.max(1));
    (weight > 0, u64::MAX - score.to_bits(), std::cmp::Reverse(id))
}

#[cfg(test)]
mod tests {
    use super::hashed;
    use crate::model::ClusterId;

    /// The clusters that the client network `unit` gets of those with these weights, in order.
    fn chosen(weights: &[(usize, u32)], unit: u64, most: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let members = || weights.iter().map(|(id, weight)| (ClusterId::new(*id), *weight));
        let _ = hashed(members, Some(unit), most, |id, _| {
            found.push(id.index());
            None::<()>
        });
        found
    }

    #[test]
    fn weights_share_networks_in_proportion() {
        let weights = [(0, 100), (1, 300), (2, 0)];
        let units = 40_000_u64;
        let mut counts = [0_u32; 3];
        for unit in 0..units {
            counts[chosen(&weights, unit, 1)[0]] += 1;
        }
        // A quarter, give or take five times the standard deviation of 87.
        assert!(counts[0].abs_diff(10_000) < 435, "{counts:?}");
        assert_eq!(counts[2], 0, "no weight, no clients");
        assert_eq!(chosen(&weights, 7, 9).last(), Some(&2), "but better than nothing");
    }

    #[test]
    fn only_those_move_who_must() {
        let before = [(0, 2), (1, 3), (2, 5)];
        let more = [(0, 2), (1, 3), (2, 9)];
        for unit in 0..2_000 {
            let order = chosen(&before, unit, 3);
            // One that goes leaves the order of the others; all are there once.
            let without: Vec<usize> = order.iter().copied().filter(|id| *id != 2).collect();
            assert_eq!(chosen(&before[..2], unit, 3), without);
            assert_eq!(without.len(), 2);
            // One that gains weight only gains clients.
            let after = chosen(&more, unit, 1)[0];
            assert!(after == order[0] || after == 2, "{unit}: {order:?}, {after}");
        }
    }
}
