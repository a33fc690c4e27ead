//! Queries made beforehand, and what is expected of their replies.

use clap::ValueEnum;
use meridian::model::DomainName;

use super::mmdb::{Networks, nearest};
use super::model::{DOMAIN, FEDERATION, Level, PAIRS, Random, Size, owner, pair};

/// Kinds of queries, all of type A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Global names, with EDNS and the /24 of a random client.
    Ecs,
    /// Names of all levels, without EDNS.
    Plain,
    /// Names that do not exist, without EDNS.
    Nx,
    /// Of ten, six as `ecs`, three as `plain` and one as `nx`.
    Mixed,
}

/// How closely replies are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Expect {
    /// Exactly the addresses of the service at that level, the nearest cluster's first.
    Exact,
    /// As many addresses of the service at that level as there are, in any order.
    Set,
    /// At least one address, all of them of the service at that level: servers that choose.
    Some,
    /// Only the id and the question: an echo.
    Echo,
}

/// A query with what is known of its reply.
#[derive(Clone, Copy, Debug)]
struct Query {
    start: u32,
    len: u16,
    /// Octets of the question.
    question: u16,
    answer: Answer,
}

/// What the answer must be.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// The addresses of a service at a level.
    Addresses(Place),
    /// Both addresses of one generation of a pair.
    Pair,
    /// NXDOMAIN with the SOA.
    Nothing,
}

/// What a name of a service holds while all is well.
#[derive(Clone, Copy, Debug)]
struct Place {
    service: u32,
    /// Clusters, a bit each.
    clusters: u16,
    /// Whether it is the name of one shard, which leads nowhere else.
    shard: bool,
    /// The nearest cluster, if it is by far the nearest to the client that is told.
    nearest: Option<u8>,
}

/// Queries in the order in which they are sent, again and again.
pub(crate) struct Queries {
    wire: Vec<u8>,
    queries: Vec<Query>,
    /// Services whose shards come and go: every so many, from the first on.
    changing: Option<usize>,
}

/// Why a reply is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// No reply to this query at all.
    Question,
    /// Another code than expected.
    Code,
    /// An answer that cannot be read, or has other addresses than it should.
    Addresses,
    /// The nearest cluster is not the first.
    Order,
    /// Parts of two generations.
    Mixed,
}

/// A cluster counts as the nearest where the next is so much farther, kilometres: servers round.
const CLEARLY: f64 = 50.0;

/// Octets of a header.
const HEADER: usize = 12;

impl Queries {
    /// `count` queries over a federation of `size`, the same every time. With `pairs` one of
    /// sixteen asks for a pair; of `changing` services, one of so many, any shard may be away.
    pub(crate) fn make(kind: Kind, size: Size, count: usize, changing: Option<usize>) -> Self {
        let networks = Networks::make();
        let mut random = Random(kind as u64 + 1);
        let mut all = Self { wire: Vec::new(), queries: Vec::with_capacity(count), changing };
        for _ in 0..count {
            if changing.is_some() && random.below(16) == 0 {
                let name = format!("{}.pairs.{FEDERATION}.svc", pair(random.below(PAIRS)));
                all.push(&name, None, Answer::Pair);
                continue;
            }
            let kind = match (kind, random.below(10)) {
                (Kind::Mixed, 0..6) => Kind::Ecs,
                (Kind::Mixed, 6..9) => Kind::Plain,
                (Kind::Mixed, _) => Kind::Nx,
                (kind, _) => kind,
            };
            all.make_one(kind, size, &networks, &mut random);
        }
        all
    }

    fn make_one(&mut self, kind: Kind, size: Size, networks: &Networks, random: &mut Random) {
        let service = random.below(size.services);
        let mut name = String::new();
        if kind == Kind::Nx {
            let name = format!("absent-{service}.team-{}.{FEDERATION}.svc", service / 100);
            return self.push(&name, None, Answer::Nothing);
        }
        let levels: Vec<Level> = Level::all(size.clusters).collect();
        let level =
            if kind == Kind::Ecs { Level::Global } else { levels[random.below(levels.len())] };
        level.name(service, &mut name);
        let client = (kind == Kind::Ecs).then(|| {
            let (first, ..) = networks.networks[random.below(networks.networks.len())];
            (first, networks.place(first))
        });
        let order = client.and_then(|(_, place)| Some(nearest(place?, size.clusters)));
        let first = order.filter(|order| order.len() < 2 || order[1].1 - order[0].1 > CLEARLY);
        let answer = Answer::Addresses(Place {
            service: service as u32,
            clusters: level.clusters(size.clusters),
            shard: matches!(level, Level::Shard(_)),
            nearest: first.map(|order| order[0].0 as u8),
        });
        self.push(&name, client.map(|(subnet, _)| subnet), answer);
    }

    /// Adds a query for a name relative to the domain, with the /24 of a client.
    fn push(&mut self, name: &str, subnet: Option<u32>, answer: Answer) {
        let name = format!("{name}.{DOMAIN}");
        let name = DomainName::parse(&name).expect("made of labels that are short enough");
        let start = self.wire.len();
        let additional = u8::from(subnet.is_some());
        self.wire.extend([0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, additional]);
        self.wire.extend_from_slice(name.wire());
        self.wire.extend([0, 1, 0, 1]);
        let question = self.wire.len() - start - HEADER;
        if let Some(subnet) = subnet {
            let [a, b, c, _] = subnet.to_be_bytes();
            // OPT, 1232 octets; option 8 (RFC 7871 §6) with a source prefix of 24.
            self.wire.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 11]);
            self.wire.extend([0, 8, 0, 7, 0, 1, 24, 0, a, b, c]);
        }
        let (start, len) = (start as u32, (self.wire.len() - start) as u16);
        self.queries.push(Query { start, len, question: question as u16, answer });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.queries.len()
    }

    /// Brings those of one length together, so that trains can be made of them.
    pub(crate) fn sort_by_length(&mut self) {
        self.queries.sort_by_key(|query| query.len);
    }

    /// A query, with id 0.
    pub(crate) fn wire(&self, index: usize) -> &[u8] {
        let Query { start, len, .. } = self.queries[index];
        &self.wire[start as usize..][..usize::from(len)]
    }

    /// Whether `reply` is one to query `index`; the id is the caller's.
    pub(crate) fn check(&self, index: usize, reply: &[u8], expect: Expect) -> Result<(), Wrong> {
        let query = &self.queries[index];
        let wire = self.wire(index);
        let end = HEADER + usize::from(query.question);
        if reply.len() < end || reply[2] & 0x80 == 0 || reply[HEADER..end] != wire[HEADER..end] {
            return Err(Wrong::Question);
        }
        if expect == Expect::Echo {
            return Ok(());
        }
        // Authoritative, not truncated.
        if reply[2] & 0x06 != 0x04 {
            return Err(Wrong::Code);
        }
        let (rcode, answers) = (reply[3] & 0x0f, u16::from_be_bytes([reply[6], reply[7]]));
        let code = match query.answer {
            Answer::Nothing => 3,
            Answer::Addresses(_) | Answer::Pair => 0,
        };
        if rcode != code {
            return Err(Wrong::Code);
        }
        let records = Records { rest: &reply[end..], left: answers };
        match query.answer {
            Answer::Nothing if reply[9] == 1 && answers == 0 => Ok(()),
            Answer::Nothing => Err(Wrong::Addresses),
            Answer::Pair => check_pair(records),
            Answer::Addresses(place) => {
                let changes = |every| (place.service as usize).is_multiple_of(every);
                match self.changing.is_some_and(changes) {
                    true => check_changing(records, &place),
                    false => check_addresses(records, &place, expect),
                }
            }
        }
    }
}

fn check_addresses(records: Records<'_>, place: &Place, expect: Expect) -> Result<(), Wrong> {
    let (mut seen, mut first) = (0u16, None);
    for record in records {
        let Some(Record::Address(address)) = record else { return Err(Wrong::Addresses) };
        let (of, cluster) = owner(address);
        let bit = 1u16.checked_shl(cluster as u32).ok_or(Wrong::Addresses)?;
        if of != place.service as usize || place.clusters & bit == 0 {
            return Err(Wrong::Addresses);
        }
        first.get_or_insert(cluster);
        seen |= bit;
    }
    // At most eight are given; the nearest of them.
    let whole = seen == place.clusters || seen.count_ones() == 8;
    let nearest = place.nearest.map(usize::from);
    match expect {
        Expect::Some if first.is_none() => Err(Wrong::Addresses),
        Expect::Exact | Expect::Set if !whole => Err(Wrong::Addresses),
        Expect::Exact if nearest.is_some() && nearest != first => Err(Wrong::Order),
        _ => Ok(()),
    }
}

/// Of a service whose shards come and go, but for one: the addresses at its level, or an alias and
/// addresses elsewhere. With an alias from a place that has a shard in the same reply, the reply
/// would be made of two generations.
fn check_changing(records: Records<'_>, place: &Place) -> Result<(), Wrong> {
    let (mut alias, mut seen) = (false, 0u16);
    for record in records {
        match record.ok_or(Wrong::Addresses)? {
            Record::Alias => alias = true,
            Record::Address(address) => {
                let (of, cluster) = owner(address);
                if of != place.service as usize {
                    return Err(Wrong::Addresses);
                }
                seen |= 1u16.checked_shl(cluster as u32).ok_or(Wrong::Addresses)?;
            }
        }
    }
    match alias {
        true if seen & place.clusters != 0 => Err(Wrong::Mixed),
        true if place.shard || seen == 0 => Err(Wrong::Addresses),
        false if seen & !place.clusters != 0 || seen == 0 && !place.shard => Err(Wrong::Addresses),
        _ => Ok(()),
    }
}

/// A query for the addresses of a name, with id 0 and without EDNS.
pub(crate) fn plain(name: &str) -> Vec<u8> {
    let name = DomainName::parse(name).expect("made of labels that are short enough");
    let mut wire = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    wire.extend_from_slice(name.wire());
    wire.extend([0, 1, 0, 1]);
    wire
}

/// The clusters whose addresses are in a reply to such a query of `asked` octets, a bit each.
pub(crate) fn clusters(reply: &[u8], asked: usize) -> Option<u16> {
    let left = u16::from_be_bytes([*reply.get(6)?, *reply.get(7)?]);
    let mut records = Records { rest: reply.get(asked..)?, left };
    records.try_fold(0, |seen, record| match record? {
        Record::Address(address) => Some(seen | 1u16.checked_shl(owner(address).1 as u32)?),
        Record::Alias => Some(seen),
    })
}

/// Both addresses, of one generation.
fn check_pair(records: Records<'_>) -> Result<(), Wrong> {
    let mut generations = [None; 2];
    for record in records {
        let Some(Record::Address([_, high, low, which])) = record else {
            return Err(Wrong::Addresses);
        };
        let place = generations.get_mut(usize::from(which)).ok_or(Wrong::Addresses)?;
        *place = Some([high, low]);
    }
    match generations {
        [Some(one), Some(other)] if one == other => Ok(()),
        [Some(_), Some(_)] => Err(Wrong::Mixed),
        _ => Err(Wrong::Addresses),
    }
}

/// The records of an answer section; `None` where it cannot be read, or has others.
struct Records<'a> {
    rest: &'a [u8],
    left: u16,
}

/// A record.
enum Record {
    /// A.
    Address([u8; 4]),
    /// CNAME.
    Alias,
}

impl Iterator for Records<'_> {
    type Item = Option<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let record = self.record();
        if record.is_none() {
            self.left = 0;
        }
        Some(record)
    }
}

impl Records<'_> {
    fn record(&mut self) -> Option<Record> {
        let mut at = 0;
        // A name: labels, then the root or a pointer.
        loop {
            match *self.rest.get(at)? {
                0 => break at += 1,
                len if len >= 0xc0 => break at += 2,
                len => at += 1 + usize::from(len),
            }
        }
        let fixed = self.rest.get(at..at + 10)?;
        let len = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = self.rest.get(at + 10..at + 10 + len)?;
        self.rest = &self.rest[at + 10 + len..];
        match fixed[..4] {
            [0, 1, 0, 1] => Some(Record::Address(data.try_into().ok()?)),
            [0, 5, 0, 1] => Some(Record::Alias),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{address, pair_addresses};

    const SIZE: Size = Size { services: 30, clusters: 4 };

    /// A reply to query `index` with these records: an address, or none for a CNAME.
    fn reply(queries: &Queries, index: usize, code: u8, records: &[Option<[u8; 4]>]) -> Vec<u8> {
        let end = HEADER + usize::from(queries.queries[index].question);
        let mut reply = queries.wire(index)[..end].to_vec();
        (reply[2], reply[3], reply[7]) = (0x84, code, records.len() as u8);
        for record in records {
            let (kind, data) = match record {
                Some(address) => (1, &address[..]),
                None => (5, &[0xc0, 12][..]),
            };
            reply.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 180, 0, data.len() as u8]);
            reply.extend(data);
        }
        reply
    }

    /// Queries of a kind, with the first of them that is as wanted and has a nearest cluster.
    fn queries(kind: Kind, changing: Option<usize>) -> (Queries, usize, usize, usize) {
        let queries = Queries::make(kind, SIZE, 500, changing);
        let found = queries.queries.iter().enumerate().find_map(|(i, query)| match query.answer {
            Answer::Addresses(Place { service, nearest: Some(nearest), .. }) if service > 0 => {
                Some((i, service as usize, usize::from(nearest)))
            }
            _ => None,
        });
        let (index, service, nearest) = found.expect("one of many");
        (queries, index, service, nearest)
    }

    #[test]
    fn replies_must_have_all_addresses_and_the_nearest_first() {
        let (queries, index, service, nearest) = queries(Kind::Ecs, None);
        let of = |cluster: usize| Some(address(cluster % 4, service).octets());
        let order = |first: usize| [of(first), of(first + 1), of(first + 2), of(first + 3)];
        let check = |records: &[_], expect| {
            queries.check(index, &reply(&queries, index, 0, records), expect)
        };
        assert_eq!(check(&order(nearest), Expect::Exact), Ok(()));
        assert_eq!(check(&order(nearest + 1), Expect::Exact), Err(Wrong::Order));
        assert_eq!(check(&order(nearest + 1), Expect::Set), Ok(()));
        assert_eq!(check(&order(nearest)[..3], Expect::Set), Err(Wrong::Addresses));
        assert_eq!(check(&order(nearest)[..3], Expect::Some), Ok(()));
        assert_eq!(check(&[], Expect::Some), Err(Wrong::Addresses));
        assert_eq!(check(&[Some(address(0, 31).octets())], Expect::Some), Err(Wrong::Addresses));
        let refused = reply(&queries, index, 5, &[]);
        assert_eq!(queries.check(index, &refused, Expect::Some), Err(Wrong::Code));
        let other = reply(&queries, index + 1, 0, &order(nearest));
        assert_eq!(queries.check(index, &other, Expect::Echo), Err(Wrong::Question));
    }

    #[test]
    fn parts_of_two_generations_are_seen() {
        let queries = Queries::make(Kind::Plain, SIZE, 500, Some(1));
        let all = || queries.queries.iter().enumerate();
        let (pair, _) = all().find(|(_, q)| matches!(q.answer, Answer::Pair)).expect("one");
        let ([a, b], [c, _]) = (pair_addresses(7), pair_addresses(8));
        let check = |index, records: &[_]| {
            queries.check(index, &reply(&queries, index, 0, records), Expect::Exact)
        };
        assert_eq!(check(pair, &[Some(b.octets()), Some(a.octets())]), Ok(()));
        assert_eq!(check(pair, &[Some(b.octets()), Some(c.octets())]), Err(Wrong::Mixed));
        assert_eq!(check(pair, &[Some(b.octets())]), Err(Wrong::Addresses));
        let region = all().find_map(|(i, q)| match q.answer {
            Answer::Addresses(place) if place.clusters == 2 && !place.shard => Some((i, place)),
            _ => None,
        });
        let (index, place) = region.expect("one");
        let of = |cluster| Some(address(cluster, place.service as usize).octets());
        assert_eq!(check(index, &[of(1)]), Ok(()));
        assert_eq!(check(index, &[None, of(0), of(2)]), Ok(()));
        assert_eq!(check(index, &[None, of(0), of(1)]), Err(Wrong::Mixed));
        assert_eq!(check(index, &[of(0)]), Err(Wrong::Addresses));
        assert_eq!(check(index, &[]), Err(Wrong::Addresses));
    }
}
