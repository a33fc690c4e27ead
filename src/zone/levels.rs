//! Regions and availability zones as labels of names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::FixedState;

use super::Settings;
use crate::model::{ClusterId, ClusterSet, Label, Report, Topology};

/// The index of a region in [`Levels::region`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionId(u16);

/// The index of an availability zone in [`Levels::availability_zone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneId(u16);

/// How much of the federation a name of a service speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `S.N.F.svc.D`
    Global,
    /// `S.N.F.svc.r.D`
    Region(RegionId),
    /// `S.N.F.svc.z.r.D`
    Zone(ZoneId),
    /// `c.S.N.F.svc.D`
    Shard(ClusterId),
}

/// What a label right beside D may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// `svc`
    Svc,
    /// The federation's name.
    Federation,
    /// A region.
    Region(RegionId),
    /// An availability zone whose name is in one region only.
    Zone(ZoneId),
}

/// A region and the clusters in it.
#[derive(Debug, PartialEq)]
pub struct Region {
    /// Its label.
    pub label: Label,
    /// Clusters with a node there.
    pub clusters: ClusterSet,
    /// Its availability zones by label.
    zones: Vec<(Label, ZoneId)>,
    /// `F.svc.r` in wire form, what stands between N and D.
    tail: Box<[u8]>,
}

/// An availability zone and the clusters in it.
#[derive(Debug, PartialEq)]
pub struct AvailabilityZone {
    /// Its label.
    pub label: Label,
    /// Its region.
    pub region: RegionId,
    /// Clusters with a node there.
    pub clusters: ClusterSet,
    /// `F.svc.z.r` in wire form.
    tail: Box<[u8]>,
}

/// Every location of every registered cluster, compiled for look-up by label.
#[derive(Debug, PartialEq)]
pub struct Levels {
    federation: Label,
    beside: HashMap<Box<[u8]>, Beside, FixedState>,
    regions: Vec<Region>,
    zones: Vec<AvailabilityZone>,
    global_tail: Box<[u8]>,
}

impl Levels {
    /// Compiles the locations of the clusters, the `i`th item those of cluster `i`. Gives beside
    /// it what cannot have names: reserved labels, and zone names that a region or a second
    /// region takes.
    #[must_use]
    pub fn compile<'p>(
        settings: &Settings,
        places: impl IntoIterator<Item = &'p BTreeSet<Topology>>,
    ) -> (Self, Vec<Report>) {
        let mut levels = Self {
            federation: settings.federation.clone(),
            beside: HashMap::default(),
            regions: Vec::new(),
            zones: Vec::new(),
            global_tail: tail(&[&settings.federation], &[]),
        };
        let mut reports = Vec::new();
        let mut all: BTreeMap<&Topology, ClusterSet> = BTreeMap::new();
        for (index, topologies) in places.into_iter().enumerate() {
            for topology in topologies {
                all.entry(topology).or_default().insert(ClusterId::new(index));
            }
        }
        for (topology, clusters) in &all {
            let taken = [Some(&topology.region), topology.zone.as_ref()]
                .into_iter()
                .flatten()
                .find(|label| levels.is_reserved(label));
            match taken {
                Some(label) => reports.push(reserved_report(topology, label)),
                None => levels.add(topology, clusters),
            }
            if taken.is_some() && !levels.is_reserved(&topology.region) {
                // A zone without a name is still in its region.
                levels.add(&Topology { region: topology.region.clone(), zone: None }, clusters);
            }
        }
        levels.index(&mut reports);
        (levels, reports)
    }

    fn is_reserved(&self, label: &Label) -> bool {
        label.is_reserved() || *label == self.federation
    }

    fn add(&mut self, topology: &Topology, clusters: &ClusterSet) {
        let region = self.region_id(&topology.region);
        self.regions[usize::from(region.0)].clusters.extend_from(clusters);
        if let Some(label) = &topology.zone {
            let id = ZoneId(self.zones.len() as u16);
            self.zones.push(AvailabilityZone {
                label: label.clone(),
                region,
                clusters: clusters.clone(),
                tail: tail(&[&self.federation], &[label, &topology.region]),
            });
            self.regions[usize::from(region.0)].zones.push((label.clone(), id));
        }
    }

    /// The id of a region, made on first sight; topologies come sorted by region.
    fn region_id(&mut self, label: &Label) -> RegionId {
        if self.regions.last().is_none_or(|last| last.label != *label) {
            self.regions.push(Region {
                label: label.clone(),
                clusters: ClusterSet::default(),
                zones: Vec::new(),
                tail: tail(&[&self.federation], &[label]),
            });
        }
        RegionId((self.regions.len() - 1) as u16)
    }

    /// Fills the table of labels beside D: `svc`, F, regions, then zones that are unambiguous.
    fn index(&mut self, reports: &mut Vec<Report>) {
        let mut put = |label: &[u8], beside| self.beside.insert(label.into(), beside);
        put(b"svc", Beside::Svc);
        put(self.federation.as_bytes(), Beside::Federation);
        for (index, region) in self.regions.iter().enumerate() {
            put(region.label.as_bytes(), Beside::Region(RegionId(index as u16)));
        }
        let mut by_label: BTreeMap<&Label, Vec<ZoneId>> = BTreeMap::new();
        for (index, zone) in self.zones.iter().enumerate() {
            by_label.entry(&zone.label).or_default().push(ZoneId(index as u16));
        }
        for (label, ids) in by_label {
            // "A region wins over an availability zone of the same name; a zone name found in
            // two regions has no S.N.F.svc.z.D".
            let fault = if self.beside.contains_key(label.as_bytes()) {
                "a region has the same name"
            } else if let [only] = ids[..] {
                self.beside.insert(label.as_bytes().into(), Beside::Zone(only));
                continue;
            } else {
                "it stands in several regions"
            };
            reports.push(Report {
                subject: format!("availability zone {label}").into(),
                reason: format!("has no name without its region, as {fault}").into(),
            });
        }
    }

    pub(super) fn beside(&self, label: &[u8]) -> Option<Beside> {
        self.beside.get(label).copied()
    }

    /// The availability zone `label` of a region.
    pub(super) fn zone_in(&self, region: RegionId, label: &[u8]) -> Option<ZoneId> {
        let zones = &self.region(region).zones;
        zones.iter().find(|(l, _)| l.as_bytes() == label).map(|(_, id)| *id)
    }

    /// A region.
    #[must_use]
    pub fn region(&self, id: RegionId) -> &Region {
        &self.regions[usize::from(id.0)]
    }

    /// An availability zone.
    #[must_use]
    pub fn availability_zone(&self, id: ZoneId) -> &AvailabilityZone {
        &self.zones[usize::from(id.0)]
    }

    /// Every region level, then every zone level.
    pub fn all(&self) -> impl Iterator<Item = Level> + '_ {
        let regions = (0..self.regions.len()).map(|i| Level::Region(RegionId(i as u16)));
        let zones = (0..self.zones.len()).map(|i| Level::Zone(ZoneId(i as u16)));
        regions.chain(zones)
    }

    /// Whether an availability zone has a name without its region too.
    #[must_use]
    pub fn is_short(&self, id: ZoneId) -> bool {
        self.beside(self.availability_zone(id).label.as_bytes()) == Some(Beside::Zone(id))
    }

    /// The level one up; the global level and shards have none.
    #[must_use]
    pub fn up(&self, level: Level) -> Option<Level> {
        match level {
            Level::Zone(id) => Some(Level::Region(self.availability_zone(id).region)),
            Level::Region(_) => Some(Level::Global),
            Level::Global | Level::Shard(_) => None,
        }
    }

    /// The clusters that a level speaks for; `None`: all.
    #[must_use]
    pub fn clusters(&self, level: Level) -> Option<&ClusterSet> {
        match level {
            Level::Region(id) => Some(&self.region(id).clusters),
            Level::Zone(id) => Some(&self.availability_zone(id).clusters),
            Level::Global | Level::Shard(_) => None,
        }
    }

    /// What stands there in the other name of a level that has one, in wire form: `F` at the
    /// global level, `F.svc.z` at that of an availability zone.
    pub(super) fn synonym(&self, level: Level) -> Option<Vec<u8>> {
        match level {
            Level::Global => {
                let label = self.federation.as_bytes();
                Some([&[label.len() as u8], label].concat())
            }
            Level::Zone(id) if self.is_short(id) => {
                let zone = &self.availability_zone(id).label;
                Some(tail(&[&self.federation], &[zone]).into_vec())
            }
            Level::Zone(_) | Level::Region(_) | Level::Shard(_) => None,
        }
    }

    /// What stands between the namespace and D in the level's owner name, in wire form.
    #[must_use]
    pub fn tail(&self, level: Level) -> &[u8] {
        match level {
            Level::Region(id) => &self.region(id).tail,
            Level::Zone(id) => &self.availability_zone(id).tail,
            Level::Global | Level::Shard(_) => &self.global_tail,
        }
    }
}

/// `before.svc.after` in wire form without a root.
fn tail(before: &[&Label], after: &[&Label]) -> Box<[u8]> {
    let mut wire = Vec::new();
    let svc: [&[u8]; 1] = [b"svc"];
    let before = before.iter().map(|l| l.as_bytes());
    for label in before.chain(svc).chain(after.iter().map(|l| l.as_bytes())) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
    }
    wire.into()
}

fn reserved_report(topology: &Topology, label: &Label) -> Report {
    Report {
        subject: format!("location {topology}").into(),
        reason: format!(
            "has no names, as '{label}' is reserved; set another region or zone for its clusters \
             in the configuration"
        )
        .into(),
    }
}
