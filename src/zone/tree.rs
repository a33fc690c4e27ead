//! The record tree of D: names derived from services and levels, not stored one by one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::Settings;
use super::internal::InternalZone;
use super::levels::{Beside, Level, Levels};
use super::service::{Service, ServiceEntry};
use super::statics::{StaticNode, Statics};
use super::tails::Tails;
use super::terms::{Common, NamedPort};
use crate::model::{
    Buckets, ClusterId, DomainName, Keyed, Label, Report, ShardEntry, Topology, bucket_of, fetch,
    key_hash, labels,
};
use crate::wire::QuestionName;

/// The zone D at one moment: immutable but for the builder, cheap to clone, its buckets shared
/// between generations. Beside each service stands what its owner keeps there, an `L`.
#[derive(Clone, Debug)]
pub struct Zone<L> {
    settings: Arc<Settings>,
    apex_labels: usize,
    levels: Arc<Levels>,
    tails: Arc<Tails>,
    /// Clusters by the first label of their shard names.
    clusters: Arc<HashMap<Label, ClusterId, FixedState>>,
    statics: Arc<Statics>,
    /// Whether any of them stands below a label beside D that is the federation's.
    statics_among: bool,
    internal: Option<Arc<InternalZone>>,
    services: Buckets<ServiceEntry<L>>,
    namespaces: Buckets<Namespace>,
}

/// A namespace that has federated services, and how many.
#[derive(Clone, Debug)]
struct Namespace {
    hash: u64,
    /// Length octet and label.
    wire: Box<[u8]>,
    services: u32,
}

impl Keyed for Namespace {
    fn hash(&self) -> u64 {
        self.hash
    }
}

/// Where a service stands in the zone's buckets, so that what is kept beside it can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Index of the bucket.
    pub bucket: usize,
    /// Index in the bucket.
    pub slot: usize,
}

/// What stands at a name.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'z> {
    /// A name of a service.
    Service(ServiceName<'z>),
    /// A name with static records; the apex.
    Static(&'z StaticNode),
    /// Something below it exists, nothing at it (RFC 8020).
    EmptyNonTerminal,
    /// Nothing.
    Nothing,
}

/// A name of a service: which, at which level, and for which of its ports.
#[derive(Clone, Copy, Debug)]
pub struct ServiceName<'z> {
    /// The service.
    pub service: &'z Service,
    /// Its place in the buckets.
    pub position: Position,
    /// The level.
    pub level: Level,
    /// The named port of an SRV name; `None` for the name of the level itself.
    pub port: Option<&'z NamedPort>,
}

impl<L> Zone<L> {
    /// A zone without services, for clusters with these names in these places. Gives beside it
    /// what cannot have names.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        clusters: &[(Label, BTreeSet<Topology>)],
    ) -> (Self, Vec<Report>) {
        let (levels, mut reports) = Levels::compile(&settings, clusters.iter().map(|(_, p)| p));
        let statics = Statics::compile(&settings);
        let statics_among = statics.any(|relative| {
            labels(relative).last().is_some_and(|beside| levels.beside(beside).is_some())
        });
        let internal = settings.internal.as_ref().map(|internal| {
            let (zone, report) = InternalZone::compile(&settings, internal, &levels, clusters);
            reports.extend(report);
            Arc::new(zone)
        });
        let ids = clusters.iter().enumerate();
        let clusters = ids.map(|(i, (name, _))| (name.clone(), ClusterId::new(i))).collect();
        let zone = Self {
            apex_labels: settings.domain.labels().count(),
            tails: Arc::new(Tails::compile(&levels, settings.domain.wire())),
            levels: Arc::new(levels),
            clusters: Arc::new(clusters),
            statics: Arc::new(statics),
            statics_among,
            internal,
            services: Buckets::default(),
            namespaces: Buckets::default(),
            settings,
        };
        (zone, reports)
    }

    /// "A name that would exceed 255 octets, or a port label over 63, does not exist, is reported
    /// once".
    fn too_long(&self, service: &Service) -> impl Iterator<Item = Report> + use<L> {
        let report = |reason: String| Report {
            subject: format!("Service {}", service.key).into(),
            reason: reason.into(),
        };
        let own = service.key.wire().len() + self.apex().wire().len();
        let longest = own + self.levels.longest_tail();
        let name = (longest > DomainName::MAX_LEN).then(|| {
            report(format!(
                "has names of up to {longest} octets; those above {} do not exist: shorten its \
                 name or its namespace's",
                DomainName::MAX_LEN
            ))
        });
        let port = service.overlong_port().map(|port| {
            report(format!(
                "its port '{port}' has no SRV names: behind the underscore {} octets are left",
                NamedPort::MAX_LEN
            ))
        });
        name.into_iter().chain(port)
    }

    /// Whether the name of a service, or of one of its ports, at a level is short enough to exist.
    #[must_use]
    pub fn fits(&self, service: &Service, port: Option<&NamedPort>, level: Level) -> bool {
        self.name_len(service, port, level) <= DomainName::MAX_LEN
    }

    /// Whether it is with `prefix` octets of port labels in front.
    pub(super) fn fits_behind(&self, service: &Service, level: Level, prefix: usize) -> bool {
        prefix + self.name_len(service, None, level) <= DomainName::MAX_LEN
    }

    fn name_len(&self, service: &Service, port: Option<&NamedPort>, level: Level) -> usize {
        let labels = service.key.wire().len() + self.levels.tail(level).len();
        port.map_or(0, NamedPort::prefix_len) + labels + self.apex().wire().len()
    }

    /// The settings that the zone was compiled with.
    #[must_use]
    #[inline]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The apex D.
    #[must_use]
    #[inline]
    pub fn apex(&self) -> &DomainName {
        &self.settings.domain
    }

    /// Labels of D.
    #[must_use]
    pub fn apex_labels(&self) -> usize {
        self.apex_labels
    }

    /// Regions and availability zones.
    #[must_use]
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// Static records.
    #[must_use]
    pub fn statics(&self) -> &Statics {
        &self.statics
    }

    /// The zone of cluster-internal names, if it is served.
    #[must_use]
    pub fn internal(&self) -> Option<&InternalZone> {
        self.internal.as_deref()
    }

    /// All services.
    #[must_use]
    pub fn services(&self) -> &Buckets<ServiceEntry<L>> {
        &self.services
    }

    /// Namespaces that have services, for those who look for collisions.
    pub fn has_namespace(&self, namespace: &Label) -> bool {
        let mut wire = vec![namespace.as_bytes().len() as u8];
        wire.extend_from_slice(namespace.as_bytes());
        self.namespace(&wire).is_some()
    }

    fn namespace(&self, wire: &[u8]) -> Option<&Namespace> {
        self.namespaces.find(key_hash(wire)).find(|n| *n.wire == *wire)
    }

    /// How many labels of `name` stand in front of D; `None` outside of the zone.
    #[must_use]
    #[inline]
    pub fn contains(&self, name: &QuestionName) -> Option<usize> {
        name.within(self.settings.domain.wire(), self.apex_labels)
    }

    /// For names that are `S.N` and `end`, root included: those of the first 64 clusters that they
    /// speak for. `None` where no name of a level ends so; [`Self::lookup`] tells of all names.
    #[must_use]
    #[inline]
    pub fn speaks_for(&self, end: &[u8]) -> Option<u64> {
        self.tails.clusters(end)
    }

    /// For names that are a label, `S.N` and `end`, root included: the cluster whose shards have such
    /// names. [`Self::lookup`] tells of all names.
    #[must_use]
    pub fn shard_of(&self, label: &[u8], end: &[u8]) -> Option<ClusterId> {
        let label = std::str::from_utf8(label).ok().filter(|_| self.tails.is_global(end))?;
        self.clusters.get(label).copied()
    }

    /// Whether static records stand among the names of services, where no service has its own.
    #[must_use]
    #[inline]
    pub fn has_statics_among(&self) -> bool {
        self.statics_among
    }

    /// What stands at `name`, of whose labels `above` stand in front of D.
    #[must_use]
    #[inline]
    pub fn lookup(&self, name: &QuestionName, above: usize) -> Lookup<'_> {
        match self.derived(name, above) {
            // Static records stand wherever no name of a service does.
            found @ (Lookup::Nothing | Lookup::EmptyNonTerminal) if self.statics_among => {
                match self.fixed(name, above) {
                    Lookup::Nothing => found,
                    fixed => fixed,
                }
            }
            found => found,
        }
    }

    /// What stands at `name` but for static records among the federation's names.
    #[inline]
    fn derived(&self, name: &QuestionName, above: usize) -> Lookup<'_> {
        // The label beside D tells the level; `svc` ends the part that belongs to it.
        let beside = above.checked_sub(1).and_then(|at| self.levels.beside(name.label(at)));
        match beside {
            Some(Beside::Svc) => self.global(name, above - 1),
            Some(Beside::Region(region)) => {
                let Some(at) = above.checked_sub(2) else { return Lookup::EmptyNonTerminal };
                let label = name.label(at);
                if label == b"svc" {
                    return self.below_svc(name, at, Level::Region(region));
                }
                match self.levels.zone_in(region, label) {
                    Some(zone) => self.expect_svc(name, at, Level::Zone(zone)),
                    None => Lookup::Nothing,
                }
            }
            Some(Beside::Zone(zone)) => self.expect_svc(name, above - 1, Level::Zone(zone)),
            Some(Beside::Federation) => self.below_federation(name, above - 1, Level::Global),
            None => self.fixed(name, above),
        }
    }

    /// The static records at `name`.
    fn fixed(&self, name: &QuestionName, above: usize) -> Lookup<'_> {
        match self.statics.get(name.span(0, above)) {
            Some(node) if above > 0 && node.rrsets().is_empty() => Lookup::EmptyNonTerminal,
            Some(node) => Lookup::Static(node),
            None => Lookup::Nothing,
        }
    }

    /// `above` labels stand in front of `svc.D`, the one place with shard names.
    #[inline]
    fn global(&self, name: &QuestionName, above: usize) -> Lookup<'_> {
        match self.below_svc(name, above, Level::Global) {
            // c.S.N.F stands in front.
            Lookup::Nothing if above == 4 => self.shard(name),
            found => found,
        }
    }

    /// The shard that the first label names, of the service that the rest names.
    fn shard(&self, name: &QuestionName) -> Lookup<'_> {
        let cluster = std::str::from_utf8(name.label(0)).ok().and_then(|l| self.clusters.get(l));
        match (cluster, self.service(name.span(1, 3))) {
            (Some(&cluster), Some((service, position)))
                if name.label(3) == self.settings.federation.as_bytes()
                    && service.clusters.contains(cluster) =>
            {
                let level = Level::Shard(cluster);
                Lookup::Service(ServiceName { service, position, level, port: None })
            }
            _ => Lookup::Nothing,
        }
    }

    /// `above` labels stand in front of a location that only `svc` may follow.
    fn expect_svc(&self, name: &QuestionName, above: usize, level: Level) -> Lookup<'_> {
        match above.checked_sub(1) {
            None => Lookup::EmptyNonTerminal,
            Some(at) if name.label(at) == b"svc" => self.below_svc(name, at, level),
            Some(_) => Lookup::Nothing,
        }
    }

    /// `above` labels stand in front of `svc`; F is the only one beside it.
    fn below_svc(&self, name: &QuestionName, above: usize, level: Level) -> Lookup<'_> {
        match above.checked_sub(1) {
            None => Lookup::EmptyNonTerminal,
            Some(at) if name.label(at) == self.settings.federation.as_bytes() => {
                self.below_federation(name, at, level)
            }
            Some(_) => Lookup::Nothing,
        }
    }

    /// `above` labels stand in front of F: nothing, N, S.N, or a prefix of S.N.
    #[inline]
    pub(super) fn below_federation(
        &self,
        name: &QuestionName,
        above: usize,
        level: Level,
    ) -> Lookup<'_> {
        let Some(service_at) = above.checked_sub(2) else {
            let known = above == 0 || self.namespace(name.span(0, 1)).is_some();
            return if known { Lookup::EmptyNonTerminal } else { Lookup::Nothing };
        };
        let Some((service, position)) = self.service(name.span(service_at, above)) else {
            return Lookup::Nothing;
        };
        let hit = |port| Lookup::Service(ServiceName { service, position, level, port });
        match service_at {
            0 => hit(None),
            // `_proto` alone is an empty non-terminal below which the ports stand.
            1 if service.has_proto(name.label(0)) => Lookup::EmptyNonTerminal,
            2 => match service.srv_port(name.label(0), name.label(1)) {
                Some(port) => hit(Some(port)),
                None => Lookup::Nothing,
            },
            _ => Lookup::Nothing,
        }
    }
}

impl<L> Zone<L> {
    /// The service whose key has this wire form, and its place.
    #[must_use]
    #[inline]
    pub fn service(&self, key: &[u8]) -> Option<(&Service, Position)> {
        let (entry, position) = self.entry_with(key_hash(key), key)?;
        Some((entry.service(), position))
    }

    /// What stands beside the service at a place.
    ///
    /// # Panics
    /// Where none stands: the place is another zone's.
    #[must_use]
    #[inline]
    pub fn beside(&self, at: Position) -> &L {
        self.services.bucket(at.bucket)[at.slot].beside()
    }

    /// Has fetched where services with this hash of their key are likely to stand.
    #[inline]
    pub fn fetch_near(&self, hash: u64) {
        // Between two of them there is no line of the processor's cache.
        self.services.near(hash, |entry| fetch(&entry.hash));
    }

    /// The first service with this hash of its key.
    #[must_use]
    #[inline]
    pub fn first_with(&self, hash: u64) -> Option<&ServiceEntry<L>> {
        let (entries, slot) = self.services.place(hash);
        entries.get(slot).filter(|entry| entry.hash == hash)
    }

    /// The service whose key has this hash ([`key_hash`]) and this wire form, and its place.
    #[must_use]
    #[inline]
    pub fn entry_with(&self, hash: u64, key: &[u8]) -> Option<(&ServiceEntry<L>, Position)> {
        let (entries, mut slot) = self.services.place(hash);
        while let Some(entry) = entries.get(slot)
            && entry.hash == hash
        {
            if entry.service().has_key(key) {
                return Some((entry, Position { bucket: bucket_of(hash), slot }));
            }
            slot += 1;
        }
        None
    }
}

impl<L: Clone> Zone<L> {
    /// Compiles services of bucket `index` anew, from their `shards` in all clusters: those for whose
    /// hash `touched` holds, which all of `shards` have; the others stay. What stands beside each is what
    /// `beside` makes of it. Gives what they cannot have as they ask, with the hash of each.
    pub fn rebuild_bucket<'v>(
        &mut self,
        index: usize,
        touched: impl Fn(u64) -> bool,
        shards: impl Iterator<Item = (ClusterId, &'v ShardEntry)>,
        mut beside: impl FnMut(&Service) -> L,
    ) -> Vec<(u64, Report)> {
        let mut found: Vec<(ClusterId, &ShardEntry)> = shards.collect();
        found.sort_by(|(a_id, a), (b_id, b)| (a.hash, &a.key, a_id).cmp(&(b.hash, &b.key, b_id)));
        let mut reports = Vec::new();
        let mut common = Common::default();
        let others = self.services.bucket(index).iter().filter(|entry| !touched(entry.hash));
        others.for_each(|entry| common.know(entry.service().terms()));
        let made: Vec<ServiceEntry<L>> = found
            .chunk_by(|(_, a), (_, b)| a.key == b.key)
            .map(|group| {
                let first = group[0].1;
                let shards: Vec<_> = group.iter().map(|(id, e)| (*id, &e.shard)).collect();
                let (settings, clusters) = (&self.settings, &self.clusters);
                let (service, faults) =
                    Service::merge(&first.key, &shards, settings, clusters, &mut common);
                let faults = faults.into_iter().chain(self.too_long(&service));
                reports.extend(faults.map(|report| (first.hash, report)));
                let beside = beside(&service);
                ServiceEntry::new(first.hash, service, beside)
            })
            .collect();
        let before = self.services.bucket(index).iter();
        let (replaced, mut entries): (Vec<_>, Vec<_>) =
            before.cloned().partition(|entry| touched(entry.hash));
        self.recount_namespaces(&replaced, &made);
        entries.extend(made);
        // Stable: services with one hash, of which all are touched or none, keep their order.
        entries.sort_by_key(|entry| entry.hash);
        self.services.replace(index, entries);
        reports
    }

    /// Brings the namespaces up to `new` services in the place of `old` ones, both sorted by hash.
    fn recount_namespaces(&mut self, old: &[ServiceEntry<L>], new: &[ServiceEntry<L>]) {
        let missing = |from: &[ServiceEntry<L>], in_: &[ServiceEntry<L>]| -> Vec<Box<[u8]>> {
            let is_in = |entry: &ServiceEntry<L>| {
                let start = in_.partition_point(|other| other.hash < entry.hash);
                let mut alike = in_[start..].iter().take_while(|other| other.hash == entry.hash);
                alike.any(|other| other.service().key == entry.service().key)
            };
            from.iter().filter(|e| !is_in(e)).map(|e| namespace_wire(e.service()).into()).collect()
        };
        let (gone, come) = (missing(old, new), missing(new, old));
        for (wires, step) in [(come, 1i64), (gone, -1)] {
            for wire in wires {
                let hash = key_hash(&wire);
                let count = self.namespace(&wire).map_or(0, |n| i64::from(n.services)) + step;
                if count > 0 {
                    let same = wire.clone();
                    let entry = Namespace { hash, wire, services: count as u32 };
                    self.namespaces.upsert(entry, |n| n.wire == same);
                } else {
                    self.namespaces.remove(hash, |n| n.wire == wire);
                }
            }
        }
    }
}

/// The namespace of a service as length octet and label.
fn namespace_wire(service: &Service) -> &[u8] {
    let wire = service.key.wire();
    &wire[usize::from(wire[0]) + 1..]
}
