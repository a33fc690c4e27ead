//! A federated service, compiled from the shards of all clusters.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::mem::offset_of;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use foldhash::fast::FixedState as FastState;
use foldhash::quality::FixedState;

use super::Settings;
use super::addresses::Addresses;
use super::terms::{Common, NamedPort, Terms};
use crate::model::{
    ClusterId, ClusterSet, Keyed, Label, Policy, Port, Report, ServiceKey, Shard, Ties,
    WhenNoneHealthy, fetch,
};

/// An address family, for which one RRset of addresses exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// The shards of one service over all clusters, with their RDATA ready to be sent.
///
/// In the order of its fields, so that what nearly every answer reads stands in front: see [`Kept`].
#[derive(Debug, PartialEq)]
#[repr(C)]
pub struct Service {
    /// TTL of its records, seconds.
    pub ttl: u32,
    plain: Option<Plain>,
    v4: Addresses<4>,
    near: NearKey,
    /// The service.
    pub key: ServiceKey,
    /// Most services have none.
    v6: Option<Box<Addresses<16>>>,
    /// Clusters with a shard.
    pub clusters: ClusterSet,
    terms: Arc<Terms>,
    /// What becomes of clusters that are equally near.
    pub ties: Ties,
    /// Whether shards of two clusters have an address in common.
    repeats: bool,
    /// A hash of all of the above.
    digest: u64,
}

/// Octets of a key that are held beside the service's data: as many as a line has for them.
const NEAR: usize = 47;

/// A service's key in wire form, so that the one that it shares with the shards, far away in memory,
/// need not be read for every answer. Empty where it is longer than fits, which few are.
#[derive(Debug, PartialEq)]
struct NearKey {
    len: u8,
    octets: [u8; NEAR],
}

impl NearKey {
    fn new(key: &ServiceKey) -> Self {
        let (wire, mut octets) = (key.wire(), [0; NEAR]);
        let len = match octets.get_mut(..wire.len()) {
            Some(place) => {
                place.copy_from_slice(wire);
                wire.len() as u8
            }
            None => 0,
        };
        Self { len, octets }
    }
}

/// How a service is answered whose clusters are taken as near as they are, equals in turn, all of
/// whose clusters have ids below 64, no two with an address in common: as nearly all services are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plain {
    /// The most clusters that its policy takes.
    pub nearest: NonZeroU16,
    /// The most clusters that an answer holds, where it has more.
    pub within: Option<NonZeroU16>,
}

/// A service in the zone's buckets.
#[derive(Clone, Debug)]
pub struct ServiceEntry<L> {
    pub(super) hash: u64,
    kept: Arc<Kept<L>>,
}

/// A service and what the zone's owner keeps beside it, in the order of its fields.
///
/// Behind the counts of the pointer that shares it, and sixteen octets that its owner keeps, what nearly
/// every answer reads stands in two lines of the processor's cache, the first of which ends with IPv4
/// addresses and the second with the key. What others read, as those with IPv6 addresses, stands in a
/// third.
#[derive(Debug)]
#[repr(C)]
struct Kept<L> {
    beside: L,
    service: Service,
}

const _: () = {
    const SERVICE: usize = 2 * size_of::<usize>() + offset_of!(Kept<[u64; 2]>, service);
    assert!(SERVICE + offset_of!(Service, v4) + Addresses::<4>::HELD == 64);
    assert!(SERVICE + offset_of!(Service, key) == 128 && size_of::<Option<Plain>>() == 4);
};

impl<L> ServiceEntry<L> {
    pub(super) fn new(hash: u64, service: Service, beside: L) -> Self {
        Self { hash, kept: Arc::new(Kept { beside, service }) }
    }

    /// The service.
    #[must_use]
    #[inline]
    pub fn service(&self) -> &Service {
        &self.kept.service
    }

    /// What the zone's owner keeps beside it.
    #[must_use]
    #[inline]
    pub fn beside(&self) -> &L {
        &self.kept.beside
    }

    /// Whether it is the very same as in an earlier zone, not made anew since.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.kept, &other.kept)
    }

    /// Has fetched what an answer with IPv4 addresses reads: two lines of the processor's cache, as
    /// allocators begin what takes three of them with one.
    #[inline]
    pub fn fetch(&self) {
        let service = self.service();
        fetch(&service.ttl);
        fetch(&service.near.len);
    }
}

impl<L> Keyed for ServiceEntry<L> {
    fn hash(&self) -> u64 {
        self.hash
    }
}

impl Service {
    /// Merges the shards of a service, sorted by cluster. Where clusters ask for different TTLs
    /// and policies, the first cluster in the order of the configuration wins. What it has alike
    /// with others is held in `common`. Gives beside it what cannot be had as asked.
    pub(super) fn merge(
        key: &ServiceKey,
        shards: &[(ClusterId, &Shard)],
        settings: &Settings,
        clusters: &HashMap<Label, ClusterId, FastState>,
        common: &mut Common,
    ) -> (Self, Vec<Report>) {
        let (terms, unknown) = Terms::merge(shards, settings, clusters);
        let mut service = Self {
            near: NearKey::new(key),
            key: key.clone(),
            ttl: settings.ttl,
            ties: settings.ties,
            clusters: shards.iter().map(|(cluster, _)| *cluster).collect(),
            v4: Addresses::default(),
            v6: None,
            plain: None,
            terms: common.one(terms),
            repeats: false,
            digest: 0,
        };
        service.choose_options(shards);
        let faults = [disagreement(shards), unknown, service.lay_out(shards)];
        service.plain = service.is_plain(settings.max_addresses);
        service.digest = service.content_digest();
        let subject = || format!("Service {key}").into();
        let faults = faults.into_iter().flatten();
        let reports = faults.map(|fault| Report { subject: subject(), reason: fault.into() });
        (service, reports.collect())
    }

    fn choose_options(&mut self, shards: &[(ClusterId, &Shard)]) {
        let options = || shards.iter().filter_map(|(_, shard)| shard.options());
        if let Some(ttl) = options().find_map(|o| o.ttl) {
            self.ttl = ttl;
        }
        if let Some(ties) = options().find_map(|o| o.ties) {
            self.ties = ties;
        }
        // Addresses that a host name resolved to are true for its TTL only; the RRset has one.
        if let Some(cap) = shards.iter().filter_map(|(_, shard)| shard.ttl_cap()).min() {
            self.ttl = self.ttl.min(cap);
        }
    }

    /// Lays out addresses; tells of those that find no room.
    fn lay_out(&mut self, shards: &[(ClusterId, &Shard)]) -> Option<String> {
        let addresses = || {
            shards
                .iter()
                .flat_map(|(id, shard)| shard.addresses.iter().map(|address| (*id, *address)))
        };
        self.v4 = Addresses::new(addresses().filter_map(|(id, address)| match address {
            IpAddr::V4(a) => Some((id, a.octets())),
            IpAddr::V6(_) => None,
        }));
        let v6 = Addresses::new(addresses().filter_map(|(id, address)| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(a) => Some((id, a.octets())),
        }));
        self.repeats = self.v4.repeat() || v6.repeat();
        let left_out = addresses().count() - self.v4.len() - v6.len();
        self.v6 = (v6.len() > 0).then(|| Box::new(v6));
        (left_out > 0).then(|| {
            let most = Addresses::<4>::MAX;
            format!("has more than {most} addresses of one family; {left_out} are left out")
        })
    }

    fn is_plain(&self, most: NonZeroU16) -> Option<Plain> {
        let nearest = match self.terms.policy {
            Policy::All => NonZeroU16::MAX,
            Policy::Nearest(clusters) => clusters,
            Policy::Region | Policy::Weighted(_) | Policy::Failover(_) => return None,
        };
        // Every cluster in an answer has one address at least.
        let within = Some(nearest.min(most));
        let within = within.filter(|within| usize::from(within.get()) < self.clusters.len());
        let plain = self.ties == Ties::Rotate && !self.repeats && self.clusters.width() == 1;
        plain.then_some(Plain { nearest, within })
    }

    fn content_digest(&self) -> u64 {
        let mut hasher = FixedState::with_seed(0).build_hasher();
        self.key.wire().hash(&mut hasher);
        let Terms { policy, failover, when_none_healthy, port_lists, weights, .. } = &*self.terms;
        (self.ttl, policy, self.ties, failover).hash(&mut hasher);
        format!("{when_none_healthy:?}").hash(&mut hasher);
        (&self.clusters, &self.v4, self.v6()).hash(&mut hasher);
        (port_lists, weights).hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// Which served shards an answer holds.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.terms.policy
    }

    /// What its global name holds while no shard is served.
    #[must_use]
    pub fn when_none_healthy(&self) -> &WhenNoneHealthy {
        &self.terms.when_none_healthy
    }

    /// A hash of all that the service answers with but health.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Clusters whose shard has an address of the family.
    #[must_use]
    pub fn addressed(&self, family: Family) -> &ClusterSet {
        match family {
            Family::V4 => self.v4.clusters(),
            Family::V6 => self.v6().clusters(),
        }
    }

    /// IPv4 addresses of its shards.
    #[must_use]
    #[inline]
    pub fn v4(&self) -> &Addresses<4> {
        &self.v4
    }

    /// IPv6 addresses of its shards.
    #[must_use]
    #[inline]
    pub fn v6(&self) -> &Addresses<16> {
        static NONE: Addresses<16> = Addresses::NONE;
        self.v6.as_deref().unwrap_or(&NONE)
    }

    /// How it is answered, if there is nothing special about it.
    #[must_use]
    #[inline]
    pub fn plain(&self) -> Option<Plain> {
        self.plain
    }

    /// Whether its key has this wire form.
    #[must_use]
    #[inline]
    pub fn has_key(&self, wire: &[u8]) -> bool {
        let NearKey { len, octets } = &self.near;
        match octets.get(..usize::from(*len)) {
            Some(near @ [_, ..]) => near == wire,
            _ => self.key.wire() == wire,
        }
    }

    /// Has fetched what that leads to.
    #[inline]
    pub fn fetch_behind(&self) {
        self.v4.fetch_behind();
    }

    /// Whether a shard of it is in one of these clusters.
    #[must_use]
    #[inline]
    pub fn meets(&self, clusters: &ClusterSet) -> bool {
        // Nearly all have an IPv4 address in each, and those an answer has read already, while the set
        // of all stands in another line of memory.
        !clusters.is_empty()
            && (self.v4.clusters().meets(clusters) || self.clusters.meets(clusters))
    }

    /// The number of a named port of the shard in `cluster`.
    #[must_use]
    pub fn port(&self, cluster: ClusterId, port: &NamedPort) -> Option<u16> {
        let at = self.clusters.rank(cluster)?;
        // All have the same where there is one list.
        let ports = self.terms.port_lists.get(at).or(self.terms.port_lists.first())?;
        let same = |p: &&Port| p.name == port.name && p.protocol == port.protocol;
        ports.iter().find(same).map(|p| p.number)
    }

    /// Under the policy `failover`, the clusters in its order, those that it does not name last.
    #[must_use]
    pub fn failover(&self) -> &[ClusterId] {
        &self.terms.failover
    }

    /// Under the policy `weighted`, the weight of the shard in `cluster`: its annotation's, else
    /// its ready endpoints.
    #[must_use]
    pub fn weight(&self, cluster: ClusterId) -> u32 {
        let at = self.clusters.rank(cluster);
        at.and_then(|at| self.terms.weights.get(at)).copied().unwrap_or(0)
    }

    /// The most clusters that an answer of so many addresses can depend on.
    #[must_use]
    pub fn most_clusters(&self, addresses: NonZeroU16) -> NonZeroU16 {
        // Each cluster has one that no other has, unless they share some.
        if self.repeats { NonZeroU16::MAX } else { addresses }
    }

    /// Whether shards of two clusters have an address in common, so that an RRset must be kept
    /// from holding it twice.
    #[must_use]
    pub fn repeats_addresses(&self) -> bool {
        self.repeats
    }

    /// Named ports of any shard.
    #[must_use]
    pub fn ports(&self) -> &[NamedPort] {
        &self.terms.ports
    }

    /// A port of some shard whose name is too long for a label of an SRV name.
    pub(super) fn overlong_port(&self) -> Option<&Label> {
        let mut names =
            self.terms.port_lists.iter().flat_map(|ports| ports.iter().map(|p| &p.name));
        names.find(|name| !NamedPort::has_label(name))
    }

    /// The named port that the labels `_port` and `_proto` of an SRV owner name mean.
    pub(super) fn srv_port(&self, port: &[u8], proto: &[u8]) -> Option<&NamedPort> {
        let name = port.strip_prefix(b"_")?;
        self.terms.ports.iter().find(|p| p.name.as_bytes() == name && p.protocol.label() == proto)
    }

    /// Whether any named port uses the protocol of the label `_proto`.
    pub(super) fn has_proto(&self, proto: &[u8]) -> bool {
        self.terms.ports.iter().any(|p| p.protocol.label() == proto)
    }
}

/// The annotations of the whole service that two shards give different values.
fn disagreement(shards: &[(ClusterId, &Shard)]) -> Option<String> {
    fn differ<'a, T: PartialEq + 'a>(mut values: impl Iterator<Item = &'a T>) -> bool {
        values.next().is_some_and(|first| values.any(|value| value != first))
    }
    let options = || shards.iter().filter_map(|(_, shard)| shard.options());
    let found = [
        ("meridian.dev/ttl", differ(options().filter_map(|o| o.ttl.as_ref()))),
        ("meridian.dev/policy", differ(options().filter_map(|o| o.policy.as_ref()))),
        ("meridian.dev/sticky", differ(options().filter_map(|o| o.ties.as_ref()))),
        (
            "meridian.dev/when-none-healthy",
            differ(options().filter_map(|o| o.when_none_healthy.as_ref())),
        ),
    ];
    let found: Vec<_> = found.into_iter().filter(|(_, differ)| *differ).map(|(n, _)| n).collect();
    (!found.is_empty()).then(|| {
        format!(
            "its clusters disagree on {}; the first of them in the configuration counts",
            found.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::Kept;
    use crate::model::{ClusterId, Label, ServiceKey, ShardEntry, ShardParts};
    use crate::zone::{Zone, testing};

    /// Behind the two counts of its `Arc`, and so in the whole lines that allocators put it into: what
    /// takes 161 to 192 octets stands 192 apart.
    #[test]
    fn a_service_takes_three_cache_lines() {
        assert!((161..=192).contains(&(size_of::<Kept<[u64; 2]>>() + 16)));
    }

    /// Those that are held beside the data, and those that are too long for that.
    #[test]
    fn keys_of_any_length_are_known() {
        let clusters = [(Label::parse("k").expect("a label"), Default::default())];
        for len in [1, 22, 23, 40, 63] {
            let label = Label::parse(&"x".repeat(len)).expect("a label");
            let entry = ShardEntry::new(ServiceKey::new(&label, &label), ShardParts::default());
            let (mut zone, _) = Zone::new(testing::settings().into(), &clusters);
            let shards = [(ClusterId::new(0), &entry)].into_iter();
            zone.rebuild_bucket(crate::model::bucket_of(entry.hash), |_| true, shards, |_| ());
            let wire = entry.key.wire();
            let (service, _) = zone.service(wire).expect("it is there");
            assert!(service.has_key(wire) && !service.has_key(&wire[1..]), "{len}");
            assert!(!service.has_key(&wire[..wire.len() - 1]) && !service.has_key(&[]), "{len}");
        }
    }
}
