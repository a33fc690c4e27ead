//! How much of an order an answer depends on.
//!
//! *Owns*: [`Shape`], and [`trim`], which cuts orders to it, so that tables merge the networks whose
//! answers are the same although what lies beyond them is not. *Does not*: order anything.

use std::num::NonZeroU16;

use super::order::{Ranked, Site};
use crate::model::{ClusterId, Policy};

/// The part of an order that answers hold, where every cluster of the order is eligible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// All of it.
    Whole,
    /// The first so many clusters, and all that are as near as the last of these.
    First(u16),
    /// The nearest clusters, and the nearest of those in their regions, cut as `First` is.
    Region(u16),
}

impl Shape {
    /// What answers under a policy hold, of at most `most` addresses over `members` clusters;
    /// `None` where geography has no say.
    #[must_use]
    #[inline]
    pub fn of(policy: &Policy, most: NonZeroU16, members: usize) -> Option<Self> {
        // Every cluster in an answer has one address at least.
        let within = |limit: u16| limit.min(most.get());
        let first = |limit| match within(limit) {
            limit if usize::from(limit) < members => Self::First(limit),
            _ => Self::Whole,
        };
        match policy {
            Policy::All => Some(first(u16::MAX)),
            Policy::Nearest(count) => Some(first(count.get())),
            Policy::Region => Some(Self::Region(within(u16::MAX))),
            Policy::Weighted(_) | Policy::Failover(_) => None,
        }
    }

    /// The same for fewer clusters.
    #[must_use]
    pub fn over(self, members: usize) -> Self {
        match self {
            Self::First(limit) if usize::from(limit) >= members => Self::Whole,
            shape => shape,
        }
    }

    /// Cuts an order.
    pub(super) fn trim(self, order: Vec<Ranked>, sites: &[Site]) -> Vec<Ranked> {
        match self {
            Self::Whole => order,
            Self::First(limit) => first(order, limit),
            Self::Region(limit) => first(region(&order, sites), limit),
        }
    }
}

fn first(mut order: Vec<Ranked>, limit: u16) -> Vec<Ranked> {
    let beyond = order.iter().enumerate().skip(usize::from(limit));
    if let Some((end, _)) = beyond.into_iter().find(|(_, ranked)| ranked.starts_group()) {
        order.truncate(end);
    }
    order
}

/// The first group, and in their order those in a region of any of it.
fn region(order: &[Ranked], sites: &[Site]) -> Vec<Ranked> {
    let mut groups = order.chunk_by(|_, next| !next.starts_group());
    let Some(leaders) = groups.next() else { return Vec::new() };
    let follows = |ranked: &&Ranked| {
        leaders.iter().any(|leader| share_region(sites, leader.cluster(), ranked.cluster()))
    };
    let followers = groups.flat_map(|group| {
        let members = group.iter().filter(follows).enumerate();
        members.map(|(at, ranked)| Ranked::new(ranked.cluster(), at == 0))
    });
    leaders.iter().copied().chain(followers).collect()
}

/// Whether two clusters have a region in common.
pub(super) fn share_region(sites: &[Site], one: ClusterId, other: ClusterId) -> bool {
    let regions = |id: ClusterId| sites[id.index()].topologies.iter().map(|t| &t.region);
    one == other || regions(one).any(|region| regions(other).any(|theirs| theirs == region))
}

#[cfg(test)]
mod tests {
    use super::{Ranked, Shape};
    use crate::geo::testing::site;
    use crate::model::ClusterId;

    #[test]
    fn cuts_behind_whole_groups_and_keeps_to_regions() {
        let sites: Vec<_> = ["eu", "eu", "us", "eu", "us"]
            .iter()
            .enumerate()
            .map(|(at, region)| site(&format!("c{at}"), &[(region, None)], None))
            .collect();
        let order = |text: &str| -> Vec<Ranked> {
            let groups = text.split(' ').map(|group| group.bytes().enumerate());
            groups
                .flatten()
                .map(|(at, c)| Ranked::new(ClusterId::new(usize::from(c - b'0')), at == 0))
                .collect()
        };
        for (shape, from, to) in [
            (Shape::Whole, "0 12 34", "0 12 34"),
            (Shape::First(1), "0 12 34", "0"),
            (Shape::First(2), "0 12 34", "0 12"),
            (Shape::First(4), "0 12 34", "0 12 34"),
            (Shape::Region(9), "0 12 34", "0 1 3"),
            (Shape::Region(2), "0 12 34", "0 1"),
            (Shape::Region(9), "2 03 14", "2 4"),
            (Shape::Region(9), "12 03 4", "12 03 4"),
        ] {
            assert_eq!(shape.trim(order(from), &sites), order(to), "{shape:?} of {from}");
        }
    }
}
