//! The short way to the answer of nearly every query.
//!
//! *Owns*: nothing but speed: addresses at the names of levels and shards where shards are served and
//! nothing is special about the service, and names of services that do not exist. *Guarantees*: what it
//! answers is octet for octet what the long way answers, which a property test holds. *Does not*:
//! decide anything of its own; whatever it does not know it declines.

mod ahead;
mod draft;

use std::net::IpAddr;

use self::ahead::Asked;
pub use self::ahead::{Ahead, Found};
use self::draft::Draft;
use super::ranking::by_distance;
use super::{Answered, Client};
use crate::geo::{GeoTable, LocatedBy, Order, Ranking, Shape};
use crate::model::key_hash;
use crate::snapshot::{Live, Snapshot};
use crate::wire::number::{rcode, rtype};
use crate::wire::{AddressHead, Owner};
use crate::zone::{Plain, ServiceEntry};

/// A service and its health.
type Entry = ServiceEntry<Live>;

/// Answers one of the many alike, of which `ahead` was read; `None` where the long way has to be
/// taken, after which `reply` may hold anything.
#[inline]
pub(super) fn quick(
    Found { snapshot, entry }: Found<'_>,
    query: &[u8],
    ahead: &Ahead,
    client: Client,
    turn: u32,
    reply: &mut [u8],
) -> Option<Answered> {
    let asked = ahead.asked()?;
    let zone = &snapshot.zone;
    let (level, found) = match zone.speaks_for(asked.end()?) {
        Some(level) => {
            let hint = || entry.filter(|entry| entry.service().has_key(asked.key()));
            let search = || Some(zone.entry_with(asked.hash, asked.key())?.0);
            (level, hint().or_else(search))
        }
        None => {
            // What is none of a known service and cluster is rare.
            let (cluster, service) = shard(snapshot, asked)?;
            (1 << cluster, Some(service))
        }
    };
    let mut draft = Draft::new(snapshot, query, asked, client.transport, reply)?;
    let (rcode, counts, by) = match found {
        Some(entry) => {
            let way = Way { snapshot, entry, level, turn, subnet: &asked.opt.subnet };
            let (records, by) = way.answer(asked.qtype, client, &mut draft)?;
            (rcode::NOERROR, [records, 0], by)
        }
        None => {
            // While some source has never been read, absence is unknown.
            let absent = snapshot.complete && !zone.has_statics_among();
            let soa = absent.then(|| snapshot.negative())?;
            let apex = asked.len() - zone.apex().wire().len();
            draft.put(&Owner::in_question(apex).octets())?;
            draft.put(soa)?;
            (rcode::NXDOMAIN, [0, 1], (0, LocatedBy::Nothing))
        }
    };
    draft.finish(rcode, counts, by)
}

/// The cluster, one of the first 64, and the service of the shard that is asked for by its own name,
/// if it is.
#[inline(never)]
fn shard<'s>(snapshot: &'s Snapshot, asked: &Asked) -> Option<(u8, &'s Entry)> {
    let zone = &snapshot.zone;
    let (label, key, end) = asked.shard()?;
    let cluster = zone.shard_of(label, end).filter(|cluster| cluster.index() < 64)?;
    Some((cluster.index() as u8, zone.entry_with(key_hash(key), key)?.0))
}

/// From a service to the addresses in an answer.
struct Way<'s> {
    snapshot: &'s Snapshot,
    entry: &'s Entry,
    /// Those of the first 64 clusters for which the level speaks.
    level: u64,
    turn: u32,
    subnet: &'s Option<IpAddr>,
}

impl<'s> Way<'s> {
    /// Puts the addresses; gives their number, the scope, and whose address chose them.
    #[inline]
    fn answer(
        &self,
        qtype: u16,
        client: Client,
        draft: &mut Draft<'_>,
    ) -> Option<(u16, (u8, LocatedBy))> {
        let Self { snapshot, entry, level, turn, .. } = *self;
        let (service, live) = (entry.service(), entry.beside());
        let addressed = match qtype {
            rtype::A => service.v4().clusters(),
            rtype::AAAA => service.v6().clusters(),
            _ => return None,
        };
        let [served, up] = live.eligible(&snapshot.up);
        let eligible = served.word(0) & up.word(0) & level & addressed.word(0);
        let plain = service.plain()?;
        let mut chosen = Chosen::default();
        let by = self.choose(plain, eligible, client, &mut chosen)?;
        let ttl = snapshot.ttl(service, live);
        let most = snapshot.zone.settings().max_addresses.get().into();
        let records = if qtype == rtype::A {
            let head = AddressHead::v4(Owner::QUESTION, ttl);
            draft.addresses(service.v4(), &chosen, turn, most, |octets| head.record(octets))?
        } else {
            let head = AddressHead::v6(Owner::QUESTION, ttl);
            draft.addresses(service.v6(), &chosen, turn, most, |octets| head.record(octets))?
        };
        Some((records, by))
    }

    /// Chooses the clusters in an answer of those `eligible`; gives the scope of the choice, and
    /// whose address made it. `None` where none is eligible, which leads elsewhere.
    #[inline]
    fn choose(
        &self,
        plain: Plain,
        eligible: u64,
        client: Client,
        chosen: &mut Chosen,
    ) -> Option<(u8, LocatedBy)> {
        if eligible == 0 {
            return None;
        }
        let geography = &self.snapshot.geography;
        let whole = geography.compiled.whole();
        let most = plain.nearest.get().into();
        let alike = whole.are_alike(eligible);
        let exact = || {
            let shape = match plain.within {
                None => Shape::Whole,
                Some(within) => Shape::First(within.get()).over(eligible.count_ones() as usize),
            };
            geography.compiled.exact(eligible, |set| set.width() == 1, shape)
        };
        // By the one IPv4 network that counts, where that tells all that is to be told.
        if !alike
            && let table = exact().unwrap_or(whole)
            && let Some((order, scope, by)) = self.by_v4(table, client)
        {
            if !(table.lists(eligible) && chosen.take_all(order, most)) {
                chosen.take(Some(order), eligible, self.turn, most);
            }
            return Some((scope, by));
        }
        let client = (*self.subnet, client.address);
        let Ranking { order, scope, by, .. } = by_distance(geography, alike, exact, client);
        chosen.take(order, eligible, self.turn, most);
        Some((scope, by))
    }

    /// The order for an IPv4 client, the scope, and whose address told; `None` where more has to be
    /// asked than its network.
    #[inline]
    fn by_v4(&self, table: &'s GeoTable, client: Client) -> Option<(Order<'s>, u8, LocatedBy)> {
        let geography = &self.snapshot.geography;
        match (self.subnet, client.address) {
            (Some(IpAddr::V4(subnet)), _) => {
                let (order, scope) = geography.by_v4(table, *subnet)?;
                Some((order?, scope, LocatedBy::Subnet))
            }
            (None, IpAddr::V4(source)) => {
                let (order, _) = geography.by_v4(table, source)?;
                Some((order.unwrap_or(table.unknown()), 0, LocatedBy::Source))
            }
            _ => None,
        }
    }
}

/// The most clusters of an answer: those with ids below 64.
const MOST: usize = 64;

/// Clusters in the order of an answer.
struct Chosen {
    /// The last place is never read: what is not taken may be written there.
    ids: [u8; MOST + 1],
    count: usize,
}

impl Default for Chosen {
    #[inline]
    fn default() -> Self {
        Self { ids: [0; MOST + 1], count: 0 }
    }
}

impl Chosen {
    /// Takes at most `most` of those `eligible`, nearest first, equals in turn.
    #[inline]
    fn take(&mut self, order: Option<Order<'_>>, eligible: u64, turn: u32, most: usize) {
        match order {
            None => self.add(eligible, turn),
            Some(order) if self.take_each(order, eligible) => {}
            Some(order) => self.take_groups(order, eligible, turn, most),
        }
        self.count = self.count.min(most);
    }

    /// Takes the first `most` of an order, unless some are as near as the one before.
    #[inline]
    fn take_all(&mut self, order: Order<'_>, most: usize) -> bool {
        let ranked = order.ranked();
        let mut further = true;
        for (id, ranked) in self.ids.iter_mut().zip(ranked) {
            *id = ranked.cluster().index() as u8;
            further &= ranked.starts_group();
        }
        self.count = ranked.len().min(most);
        further
    }

    /// Takes all that are `eligible`, unless some may be as near as the one before.
    #[inline]
    fn take_each(&mut self, order: Order<'_>, eligible: u64) -> bool {
        let (mut count, mut equals) = (0, false);
        for ranked in order.ranked() {
            let id = ranked.cluster().index();
            // Tables of all clusters hold ids beyond those of this service.
            let taken = id < 64 && eligible >> (id % 64) & 1 != 0;
            equals |= taken && !ranked.starts_group();
            // Written always and counted where it is taken, so that nothing has to be foretold.
            self.ids[count.min(MOST)] = id as u8;
            count += usize::from(taken);
        }
        self.count = count;
        !equals
    }

    /// Takes them by groups of equals.
    #[inline(never)]
    fn take_groups(&mut self, order: Order<'_>, eligible: u64, turn: u32, most: usize) {
        self.count = 0;
        for group in order.groups() {
            let ids = group.iter().map(|ranked| ranked.cluster().index()).filter(|id| *id < 64);
            self.add(eligible & ids.fold(0, |all, id| all | 1 << id), turn);
            if self.count >= most {
                break;
            }
        }
    }

    /// Adds equals, from the one whose turn it is.
    #[inline]
    fn add(&mut self, members: u64, turn: u32) {
        if members & members.wrapping_sub(1) != 0 {
            return self.add_several(members, turn);
        }
        if members != 0 {
            // No cluster is added twice, so there are never more than 64.
            self.ids[self.count.min(MOST)] = members.trailing_zeros() as u8;
            self.count += 1;
        }
    }

    #[inline(never)]
    fn add_several(&mut self, members: u64, turn: u32) {
        let mut late = members;
        for _ in 0..turn % members.count_ones() {
            late &= late - 1;
        }
        for mut rest in [late, members & !late] {
            while rest != 0 {
                self.add(rest & rest.wrapping_neg(), turn);
                rest &= rest - 1;
            }
        }
    }

    #[inline]
    fn ids(&self) -> &[u8] {
        &self.ids[..self.count.min(MOST)]
    }
}

#[cfg(test)]
mod tests;
