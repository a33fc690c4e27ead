//! Answers at the names of services.

use std::net::IpAddr;

use super::ranking::{Choice, Eligible, ranking, visit};
use super::resolve::{End, Path, resolve};
use super::{Answer, ZoneKind};
use crate::geo::Ranking;
use crate::model::{ClusterId, ClusterSet, DomainName, Label, WhenNoneHealthy};
use crate::snapshot::Live;
use crate::wire::number::{rcode, rtype};
use crate::wire::{AddressHead, Full, Mark, Owner, Reply, Section};
use crate::zone::{Family, Level, NamedPort, Service, ServiceName};

/// A record set that a level of a service can hold.
#[derive(Clone, Copy)]
enum Wanted<'s> {
    Addresses(Family),
    Srv(&'s NamedPort),
    /// A type that services never have.
    Absent,
}

impl<'s> Wanted<'s> {
    /// The clusters of a service that could have such records: "a policy then chooses among
    /// served shards *that have the asked family*".
    fn base(self, service: &'s Service) -> &'s ClusterSet {
        match self {
            Self::Addresses(family) => service.addressed(family),
            Self::Srv(port) => &port.clusters,
            Self::Absent => &service.clusters,
        }
    }
}

impl<'s> Answer<'s, '_, '_> {
    /// The name of a service at a level, or of one of its ports there.
    #[inline]
    pub(super) fn service(&mut self, name: ServiceName<'s>) -> Result<(), Full> {
        let snapshot = self.snapshot;
        let live = snapshot.live(name.position);
        self.ttl = snapshot.ttl(name.service, live);
        let path = resolve(snapshot, live, &name);
        if let Some(first) = path.cnames().first() {
            // "A CNAME stands for every type but CNAME and ANY"; for these it
            // is itself the answer (RFC 1034 §4.3.2, RFC 8482 §4.1).
            if matches!(self.query.qtype, rtype::CNAME | rtype::ANY) {
                return self.cname(&name, Owner::QUESTION, path.after(*first)).map(drop);
            }
        }
        match path.end {
            End::Served => self.served(&name, &path, live),
            End::Nothing => {
                self.chain(&name, &path)?;
                self.unhealthy()
            }
            End::StandIn(stand_in) => self.stand_in(&name, &path, stand_in),
        }
    }

    /// The record set that the question is about; `has` tells whether a family has any address.
    fn wanted(&self, name: &ServiceName<'s>, has: impl Fn(Family) -> bool) -> Wanted<'s> {
        match (self.query.qtype, name.port) {
            (rtype::SRV | rtype::ANY, Some(port)) => Wanted::Srv(port),
            (_, Some(_)) => Wanted::Absent,
            (rtype::A, None) => Wanted::Addresses(Family::V4),
            (rtype::AAAA, None) => Wanted::Addresses(Family::V6),
            // RFC 8482 §4.1: one of the RRsets at the name is enough.
            (rtype::ANY, None) if has(Family::V4) => Wanted::Addresses(Family::V4),
            (rtype::ANY, None) => Wanted::Addresses(Family::V6),
            _ => Wanted::Absent,
        }
    }

    /// A chain that ends in served shards.
    #[inline]
    fn served(
        &mut self,
        name: &ServiceName<'s>,
        path: &Path<'s>,
        live: &'s Live,
    ) -> Result<(), Full> {
        let snapshot = self.snapshot;
        let wanted = self.wanted(name, |family| {
            let base = name.service.addressed(family);
            !Eligible::served(base, snapshot, live, path.level).is_empty()
        });
        let eligible = Eligible::served(wanted.base(name.service), snapshot, live, path.level);
        if self.data(name, path, wanted, &eligible, self.ttl)? {
            return Ok(());
        }
        // "A level with any served shard has no CNAME, also for a type that it lacks: NODATA
        // there".
        self.negative(rcode::NOERROR, snapshot.zone.settings().negative_ttl)
    }

    /// The chain of a path and the records of the eligible clusters at its end; `false` where
    /// there are none, with the chain written.
    #[inline]
    fn data(
        &mut self,
        name: &ServiceName<'s>,
        path: &Path<'s>,
        wanted: Wanted<'s>,
        eligible: &Eligible<'_>,
        ttl: u32,
    ) -> Result<bool, Full> {
        let ranking = match wanted {
            Wanted::Absent => Ranking::EQUAL,
            _ => self.rank(name.service, eligible),
        };
        let chases = self.zone == ZoneKind::Federation;
        if let (Some(first), true, Some(_), true) =
            (path.cnames().first(), ranking.varies, self.subnet(), chases)
        {
            // RFC 7871 §7.2.1: for a chain "the Authoritative Nameserver SHOULD only put the
            // initial CNAME record in the Answer section", as scopes are kept by name.
            self.cname(name, Owner::QUESTION, path.after(*first))?;
            return Ok(true);
        }
        let owner = self.chain(name, path)?;
        let before = self.reply.count(Section::Answer);
        match wanted {
            Wanted::Addresses(family) => {
                self.addresses(name.service, family, owner, eligible, &ranking, ttl)?;
            }
            Wanted::Srv(port) => self.srv(name.service, port, owner, eligible, &ranking, ttl)?,
            Wanted::Absent => {}
        }
        let any = self.reply.count(Section::Answer) > before;
        if any {
            self.scope = ranking.scope;
            self.located = ranking.by;
        }
        Ok(any)
    }

    fn rank(&self, service: &Service, eligible: &Eligible<'_>) -> Ranking<'s> {
        ranking(self.snapshot, service, eligible, (self.subnet(), self.client.address))
    }

    fn choice<'a>(&self, service: &'a Service) -> Choice<'a>
    where
        's: 'a,
    {
        Choice { service, beside: self.snapshot.geography.compiled.beside() }
    }

    /// The client's prefix, where the query tells it.
    fn subnet(&self) -> Option<IpAddr> {
        self.query.edns?.subnet?.address()
    }

    /// No served shard, but something that stands in for it at the global name.
    fn stand_in(
        &mut self,
        name: &ServiceName<'s>,
        path: &Path<'s>,
        stand_in: &'s WhenNoneHealthy,
    ) -> Result<(), Full> {
        let service = name.service;
        // What stands in is to be gone as soon as a shard is back.
        let ttl = self.ttl.min(self.snapshot.zone.settings().unhealthy_ttl);
        let answered = match stand_in {
            WhenNoneHealthy::Nothing => self.chain(name, path).map(|_| false)?,
            WhenNoneHealthy::All => {
                let (snapshot, live) = (self.snapshot, self.snapshot.live(name.position));
                let all = |base| Eligible::all(base, snapshot, live, path.level);
                let wanted = self.wanted(name, |family| !all(service.addressed(family)).is_empty());
                let eligible = all(wanted.base(service));
                self.data(name, path, wanted, &eligible, ttl)?
            }
            WhenNoneHealthy::Name(target) => {
                let owner = self.chain(name, path)?;
                let cname = [target.wire()];
                if name.port.is_none() {
                    self.reply.record(Section::Answer, owner, rtype::CNAME, ttl, &cname)?;
                }
                name.port.is_none()
            }
            WhenNoneHealthy::Addresses(addresses) => {
                let owner = self.chain(name, path)?;
                let has = |family| addresses.iter().any(|a| a.is_ipv4() == (family == Family::V4));
                let before = self.reply.count(Section::Answer);
                if let Wanted::Addresses(family) = self.wanted(name, has) {
                    for address in addresses.iter() {
                        self.address(family, owner, ttl, *address)?;
                    }
                }
                self.reply.count(Section::Answer) > before
            }
        };
        if answered { Ok(()) } else { self.unhealthy() }
    }

    /// NODATA for as long as a recovery may take to be seen.
    fn unhealthy(&mut self) -> Result<(), Full> {
        self.negative(rcode::NOERROR, self.snapshot.zone.settings().unhealthy_ttl)
    }

    /// Writes the CNAMEs of a path; gives the owner of what stands at its end.
    fn chain(&mut self, name: &ServiceName<'s>, path: &Path<'s>) -> Result<Owner, Full> {
        let mut owner = self.head;
        for level in path.cnames() {
            owner = self.cname(name, owner, path.after(*level))?;
        }
        Ok(owner)
    }

    /// One CNAME to the name of a higher level, with the labels of the port, if any, kept.
    fn cname(&mut self, name: &ServiceName<'s>, owner: Owner, to: Level) -> Result<Owner, Full> {
        let snapshot = self.snapshot;
        let prefix = if name.port.is_some() { 2 } else { 0 };
        let labels = [
            self.query.name.span(0, prefix),
            name.service.key.wire(),
            snapshot.zone.levels().tail(to),
        ];
        self.reply.cname(owner, self.ttl, &labels, self.apex)
    }

    /// The addresses of the eligible clusters, nearest first.
    #[inline]
    fn addresses(
        &mut self,
        service: &Service,
        family: Family,
        owner: Owner,
        eligible: &Eligible<'_>,
        ranking: &Ranking<'_>,
        ttl: u32,
    ) -> Result<(), Full> {
        let mut left = usize::from(self.snapshot.zone.settings().max_addresses.get());
        let turn = self.turn;
        let choice = self.choice(service);
        let reply = &mut self.reply;
        let start = service.repeats_addresses().then(|| reply.mark());
        let (v4, v6) = (AddressHead::v4(owner, ttl), AddressHead::v6(owner, ttl));
        let full = visit(ranking, eligible, choice, turn, |cluster, _| {
            let full = match family {
                Family::V4 => rdata(service.v4().of(cluster), turn, &mut left, |octets| {
                    once(reply, start, &v4, octets)
                }),
                Family::V6 => rdata(service.v6().of(cluster), turn, &mut left, |octets| {
                    once(reply, start, &v6, octets)
                }),
            };
            match full {
                Err(full) => Some(Err(full)),
                Ok(()) if left == 0 => Some(Ok(())),
                Ok(()) => None,
            }
        });
        full.unwrap_or(Ok(()))
    }

    /// One address, if it is of the family.
    pub(super) fn address(
        &mut self,
        family: Family,
        owner: Owner,
        ttl: u32,
        address: IpAddr,
    ) -> Result<(), Full> {
        match (address, family) {
            (IpAddr::V4(a), Family::V4) => {
                self.reply.address(&AddressHead::v4(owner, ttl), &a.octets())
            }
            (IpAddr::V6(a), Family::V6) => {
                self.reply.address(&AddressHead::v6(owner, ttl), &a.octets())
            }
            _ => Ok(()),
        }
    }

    /// One SRV record a served shard with the port; nearer shards have the lower priority, so
    /// that clients that follow RFC 2782 try them first, and equals share it.
    fn srv(
        &mut self,
        service: &'s Service,
        port: &NamedPort,
        owner: Owner,
        eligible: &Eligible<'_>,
        ranking: &Ranking<'_>,
        ttl: u32,
    ) -> Result<(), Full> {
        let max = usize::from(self.snapshot.zone.settings().max_addresses.get());
        let (mut left, turn) = (max, self.turn);
        let choice = self.choice(service);
        let full = visit(ranking, eligible, choice, turn, |cluster, group| {
            let number = service.port(cluster, port)?;
            let full = self.srv_record(service, cluster, owner, ttl, [group, 1, number]);
            left -= 1;
            match full {
                Err(full) => Some(Err(full)),
                Ok(()) if left == 0 => Some(Ok(())),
                Ok(()) => None,
            }
        });
        full.unwrap_or(Ok(()))?;
        let mut left = max;
        let _ = visit(ranking, eligible, choice, turn, |cluster, _| {
            service.port(cluster, port)?;
            left -= 1;
            (self.targets(service, cluster, ttl).is_err() || left == 0).then_some(())
        });
        Ok(())
    }

    /// Priority, weight, port, and the shard's name, uncompressed: "name compression is not to be
    /// used for this field" (RFC 2782).
    fn srv_record(
        &mut self,
        service: &Service,
        cluster: ClusterId,
        owner: Owner,
        ttl: u32,
        numbers: [u16; 3],
    ) -> Result<(), Full> {
        let mut fixed = [0; 6];
        for (to, number) in fixed.chunks_exact_mut(2).zip(numbers) {
            to.copy_from_slice(&number.to_be_bytes());
        }
        let Some([len, label, key, tail]) = self.shard_name(service, cluster) else {
            return Ok(());
        };
        let apex = self.snapshot.zone.apex().wire();
        let parts = [&fixed[..], len, label, key, tail, apex];
        self.reply.record(Section::Answer, owner, rtype::SRV, ttl, &parts)
    }

    /// The parts of `c.S.N.F.svc` in wire form; `None` where the name would be too long to exist.
    fn shard_name<'a>(&self, service: &'a Service, cluster: ClusterId) -> Option<[&'a [u8]; 4]>
    where
        's: 'a,
    {
        let snapshot = self.snapshot;
        let label = snapshot.inputs.federation.members[cluster.index()].name.as_bytes();
        let len = LENGTHS.get(label.len()..=label.len())?;
        let tail = snapshot.zone.levels().tail(Level::Global);
        let parts = [len, label, service.key.wire(), tail];
        let total: usize = parts.iter().map(|part| part.len()).sum();
        (total + snapshot.zone.apex().wire().len() <= DomainName::MAX_LEN).then_some(parts)
    }

    /// Addresses of an SRV target in the additional section, as far as they fit.
    /// An RRset that does not fit whole is left out whole (RFC 2181 §9).
    fn targets(&mut self, service: &Service, cluster: ClusterId, ttl: u32) -> Result<(), Full> {
        let Some([len, label, key, tail]) = self.shard_name(service, cluster) else {
            return Ok(());
        };
        let mut name = [0; DomainName::MAX_LEN];
        let mut at = 0;
        for part in [len, label, key, tail] {
            name[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        let owner = (&name[..at], self.apex);
        self.reply.additional(owner, rtype::A, ttl, service.v4().of(cluster))?;
        self.reply.additional(owner, rtype::AAAA, ttl, service.v6().of(cluster))
    }
}

/// Every length octet of a label, to be pointed to.
static LENGTHS: [u8; Label::MAX_LEN + 1] = {
    let mut lengths = [0; Label::MAX_LEN + 1];
    let mut len = 0;
    while len <= Label::MAX_LEN {
        lengths[len] = len as u8;
        len += 1;
    }
    lengths
};

/// Writes the addresses of one shard from the one whose turn it is, while `left` lasts; `write`
/// tells whether it wrote.
#[inline]
pub(super) fn rdata<A>(
    addresses: &[A],
    turn: u32,
    left: &mut usize,
    mut write: impl FnMut(&A) -> Result<bool, Full>,
) -> Result<(), Full> {
    if let [only] = addresses {
        if *left > 0 {
            *left -= usize::from(write(only)?);
        }
        return Ok(());
    }
    if addresses.is_empty() {
        return Ok(());
    }
    // Clusters take turns by the same number: mixed (Fibonacci hashing), lest an address come
    // first only together with one cluster.
    let first = (turn.wrapping_mul(0x9e37_79b9) >> 16) as usize % addresses.len();
    let (late, early) = addresses.split_at(first);
    for octets in early.iter().chain(late) {
        if *left == 0 {
            break;
        }
        *left -= usize::from(write(octets)?);
    }
    Ok(())
}

/// Writes an address unless the RRset, which began at `start`, holds it already: "each RR in the
/// DNS is unique ... DNS servers should suppress such duplicates" (RFC 2181 §5). Where no shards
/// share addresses there is no `start` to look from.
#[inline]
fn once<const N: usize>(
    reply: &mut Reply<'_>,
    start: Option<Mark>,
    head: &AddressHead<N>,
    octets: &[u8; N],
) -> Result<bool, Full> {
    if start.is_some_and(|start| reply.holds(start, octets)) {
        return Ok(false);
    }
    reply.address(head, octets).map(|()| true)
}
