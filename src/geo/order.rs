//! The order of clusters as seen from a place.
//!
//! *Owns*: [`Site`], [`Ranked`], [`Order`], and [`Ranker`], which makes orders. *Guarantees*: an
//! order holds every cluster of its set once; equal inputs give equal orders. *Does not*: know
//! address space or health.
//!
//! The order is: the client's own cluster, then its zone, then its region, then by great-circle
//! distance; clusters without coordinates come last. Clusters that nothing tells apart form a
//! group, which the answer rotates. A client that is known by its zone (or region) only is as
//! near to one cluster in it as to the next, so these are a group, wherever they stand. Where
//! nothing is known of the client, clusters come in the order of the registry, those at one point
//! together.

use std::collections::BTreeSet;

use super::sphere::{Direction, Remoteness};
use super::{Target, regions};
use crate::model::{ClusterId, ClusterSet, Coordinates, Label, Topology};

/// Where a cluster is. Its index among the sites is its [`ClusterId`].
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The cluster's name.
    pub name: Label,
    /// The regions and availability zones that it stands in.
    pub topologies: BTreeSet<Topology>,
    /// Its coordinates, where they are known.
    pub coordinates: Option<Coordinates>,
}

impl Site {
    fn is_in_region(&self, region: &Label) -> bool {
        self.topologies.iter().any(|topology| topology.region == *region)
    }

    fn is_in_zone(&self, region: Option<&Label>, zone: &Label) -> bool {
        self.topologies.iter().any(|topology| {
            topology.zone.as_ref() == Some(zone) && region.is_none_or(|r| topology.region == *r)
        })
    }
}

/// A cluster in an order: fifteen bits of id, and whether a group of equals begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ranked(u16);

impl Ranked {
    const FIRST: u16 = ClusterId::MAX_CLUSTERS as u16;

    pub(super) fn new(cluster: ClusterId, first_of_group: bool) -> Self {
        // Cluster ids are below the bit that marks the first of a group.
        Self(cluster.index() as u16 | if first_of_group { Self::FIRST } else { 0 })
    }

    /// The cluster.
    #[must_use]
    #[inline]
    pub fn cluster(self) -> ClusterId {
        ClusterId::new(usize::from(self.0 & !Self::FIRST))
    }

    /// Whether this cluster is further away than the one before it.
    #[must_use]
    #[inline]
    pub fn starts_group(self) -> bool {
        self.0 & Self::FIRST != 0
    }
}

/// Clusters, nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order<'a>(pub(super) &'a [Ranked]);

impl<'a> Order<'a> {
    /// The clusters, nearest first; within a group of equals by id.
    #[must_use]
    #[inline]
    pub fn ranked(self) -> &'a [Ranked] {
        self.0
    }

    /// The groups of equals, nearest first; none is empty.
    pub fn groups(self) -> impl Iterator<Item = &'a [Ranked]> {
        self.0.chunk_by(|_, next| !next.starts_group())
    }
}

/// How near a cluster is to a client beside distance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Relation {
    Own,
    Zone,
    Region,
    Elsewhere,
}

/// Where a client is, as far as it matters for the order of clusters.
struct Standpoint<'a> {
    own: Option<ClusterId>,
    zones: Vec<(Option<&'a Label>, &'a Label)>,
    regions: Vec<&'a Label>,
    point: Option<Coordinates>,
    /// The relation within which the client is as near to each cluster as to the next.
    vague: Option<Relation>,
}

/// Up to so many spots insertion sort is the quickest way to put a few back in their places; its
/// steps grow with the square.
const FEW: usize = 64;

/// The spots of a ranker in the order of their distance from a point that moves. From one point to
/// another nearby few of them change places, so that bringing them into order takes little.
pub(super) struct Walk {
    spots: Vec<(Remoteness, u16)>,
}

impl Walk {
    /// A walk that has been nowhere yet.
    pub(super) fn new(ranker: &Ranker<'_>) -> Self {
        // There are no more spots than clusters, whose ids fit 15 bits.
        let nowhere = (0..ranker.spots.len()).map(|at| (Remoteness::default(), at as u16));
        Self { spots: nowhere.collect() }
    }

    /// Goes to a point; says whether the order there is another than it was before.
    pub(super) fn go(&mut self, ranker: &Ranker<'_>, point: Coordinates) -> bool {
        let here = Direction::of(point);
        for (remoteness, at) in &mut self.spots {
            *remoteness = here.remoteness(ranker.spots[usize::from(*at)].0);
        }
        if self.spots.is_sorted() {
            return false;
        }
        if self.spots.len() > FEW {
            self.spots.sort_unstable();
            return true;
        }
        for end in 1..self.spots.len() {
            let moved = self.spots[end];
            let mut at = end;
            while at > 0 && self.spots[at - 1] > moved {
                self.spots[at] = self.spots[at - 1];
                at -= 1;
            }
            self.spots[at] = moved;
        }
        true
    }
}

/// Makes orders of one set of clusters.
pub(super) struct Ranker<'a> {
    sites: &'a [Site],
    members: Vec<ClusterId>,
    /// Distinct coordinates of members, in the order of the first cluster at each.
    spots: Vec<(Direction, Vec<ClusterId>)>,
    unplaced: Vec<ClusterId>,
}

impl<'a> Ranker<'a> {
    /// A ranker of those of `sites` that are `members`.
    pub(super) fn new(sites: &'a [Site], members: &ClusterSet) -> Self {
        let members: Vec<ClusterId> = members.iter().filter(|m| m.index() < sites.len()).collect();
        let mut points: Vec<Coordinates> = Vec::new();
        let mut spots: Vec<(Direction, Vec<ClusterId>)> = Vec::new();
        let mut unplaced = Vec::new();
        for &member in &members {
            let Some(point) = sites[member.index()].coordinates else {
                unplaced.push(member);
                continue;
            };
            if let Some(at) = points.iter().position(|other| *other == point) {
                spots[at].1.push(member);
            } else {
                points.push(point);
                spots.push((Direction::of(point), vec![member]));
            }
        }
        Self { sites, members, spots, unplaced }
    }

    /// The order for clients of whom nothing is known.
    pub(super) fn unknown(&self) -> Vec<Ranked> {
        self.emit(0..self.spots.len())
    }

    /// The order for clients at a point.
    pub(super) fn near(&self, point: Coordinates) -> Vec<Ranked> {
        self.emit(self.spots_by_distance(point))
    }

    /// The order for clients where a walk has come to.
    pub(super) fn at(&self, walk: &Walk) -> Vec<Ranked> {
        self.emit(walk.spots.iter().map(|(_, at)| usize::from(*at)))
    }

    /// The order for clients at a target.
    pub(super) fn toward(&self, target: &Target) -> Vec<Ranked> {
        match target {
            Target::Coordinates(point) => self.near(*point),
            target => self.from(&self.standpoint(target)),
        }
    }

    /// The order for clients inside the cluster of this name.
    pub(super) fn inside(&self, cluster: &Label) -> Vec<Ranked> {
        self.toward(&Target::Cluster(cluster.clone()))
    }

    fn spots_by_distance(&self, point: Coordinates) -> impl Iterator<Item = usize> + use<> {
        let mut walk = Walk::new(self);
        walk.go(self, point);
        walk.spots.into_iter().map(|(_, at)| usize::from(at))
    }

    /// The clusters at each of `spots` as groups, then those without coordinates as one.
    fn emit(&self, spots: impl Iterator<Item = usize>) -> Vec<Ranked> {
        let mut order = Vec::with_capacity(self.members.len());
        let groups = spots.map(|at| &self.spots[at].1).chain([&self.unplaced]);
        for group in groups {
            order.extend(group.iter().enumerate().map(|(at, &id)| Ranked::new(id, at == 0)));
        }
        order
    }

    /// The order by relation first, then by distance from the standpoint.
    fn from(&self, standpoint: &Standpoint<'_>) -> Vec<Ranked> {
        let spots: Vec<usize> = match standpoint.point {
            Some(point) => self.spots_by_distance(point).collect(),
            None => (0..self.spots.len()).collect(),
        };
        let placed = spots
            .iter()
            .enumerate()
            .flat_map(|(rank, &spot)| self.spots[spot].1.iter().map(move |&id| (rank, id)));
        let all = placed.chain(self.unplaced.iter().map(|&id| (usize::MAX, id)));
        let mut ranked: Vec<_> = all
            .map(|(rank, id)| {
                let relation = standpoint.relation(id, &self.sites[id.index()]);
                (relation, if standpoint.vague == Some(relation) { 0 } else { rank }, id)
            })
            .collect();
        ranked.sort_unstable();
        let groups = ranked.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1));
        groups
            .flat_map(|group| group.iter().enumerate())
            .map(|(at, &(.., id))| Ranked::new(id, at == 0))
            .collect()
    }

    fn standpoint<'t>(&self, target: &'t Target) -> Standpoint<'t>
    where
        'a: 't,
    {
        let sites = self.sites;
        let mut place = Standpoint {
            own: None,
            zones: Vec::new(),
            regions: Vec::new(),
            point: None,
            vague: None,
        };
        match target {
            Target::Cluster(name) => {
                let own = sites.iter().enumerate().find(|(_, site)| site.name == *name);
                if let Some((at, site)) = own {
                    place.own = Some(ClusterId::new(at));
                    place.point = site.coordinates;
                    place.regions = site.topologies.iter().map(|t| &t.region).collect();
                    let zones = site.topologies.iter();
                    place.zones =
                        zones.filter_map(|t| Some((Some(&t.region), t.zone.as_ref()?))).collect();
                }
            }
            Target::Zone { region, zone } => {
                let inside = |site: &&Site| site.is_in_zone(region.as_ref(), zone);
                place.point = middle(sites.iter().filter(inside));
                place.zones.push((region.as_ref(), zone));
                place.vague = Some(Relation::Zone);
                let topologies = sites.iter().flat_map(|site| &site.topologies);
                let around = topologies.filter(|t| t.zone.as_ref() == Some(zone));
                place.regions = match region {
                    Some(region) => vec![region],
                    None => around.map(|t| &t.region).collect(),
                };
                place.point = place.point.or_else(|| regions::coordinates_of(zone.as_str()));
                if let (None, Some(region)) = (place.point, region) {
                    place.point = self.region_point(region);
                }
            }
            Target::Region(region) => {
                place.point = self.region_point(region);
                place.regions.push(region);
                place.vague = Some(Relation::Region);
            }
            Target::Coordinates(point) => place.point = Some(*point),
        }
        place
    }

    fn region_point(&self, region: &Label) -> Option<Coordinates> {
        middle(self.sites.iter().filter(|site| site.is_in_region(region)))
            .or_else(|| regions::coordinates_of(region.as_str()))
    }
}

impl Standpoint<'_> {
    fn relation(&self, id: ClusterId, site: &Site) -> Relation {
        if self.own == Some(id) {
            Relation::Own
        } else if self.zones.iter().any(|(region, zone)| site.is_in_zone(*region, zone)) {
            Relation::Zone
        } else if self.regions.iter().any(|region| site.is_in_region(region)) {
            Relation::Region
        } else {
            Relation::Elsewhere
        }
    }
}

/// The point that stands for a target when distances are told.
pub(super) fn point_of(sites: &[Site], target: &Target) -> Option<Coordinates> {
    Ranker::new(sites, &ClusterSet::default()).standpoint(target).point
}

/// A point for a zone or region: the most common coordinates of its clusters, of equals the first.
/// No mean, as a mean of points around the globe can lie anywhere.
fn middle<'a>(sites: impl Iterator<Item = &'a Site>) -> Option<Coordinates> {
    let mut counts: Vec<(Coordinates, usize)> = Vec::new();
    for point in sites.filter_map(|site| site.coordinates) {
        match counts.iter_mut().find(|(other, _)| *other == point) {
            Some((_, count)) => *count += 1,
            None => counts.push((point, 1)),
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(point, _)| point)
}

#[cfg(test)]
mod tests;
