//! What the model answers: levels, chains, what stands in where no shard is served.

use std::net::IpAddr;

use meridian::model::{Drain, Forced, MinReady, Protocol, WhenNoneHealthy};

use super::super::dns::{self, Reply, wire_name};
use super::super::federation::{DOMAIN, Key, NEGATIVE_TTL, ServiceShard, TTL, Told, UNHEALTHY_TTL};
use super::{Level, MAX_NAME, Model, Node, protocol, text};

/// What is to be thought of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    Overloaded,
    Bad,
    ForcedOut,
}

/// What a reply says, but for the order of records in a section.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    rcode: u16,
    authoritative: bool,
    /// The answer section, sorted.
    answer: Vec<String>,
    /// TTL of the SOA in the authority section.
    soa: Option<u32>,
    /// The additional section, sorted.
    additional: Vec<String>,
}

impl Answer {
    /// What a reply says.
    pub(crate) fn of(reply: &Reply) -> Self {
        let lower = |records: Vec<String>| {
            let mut records: Vec<String> = records.iter().map(|record| plain(record)).collect();
            records.sort();
            records
        };
        let soa = match &reply.message.authorities[..] {
            [] => None,
            [soa] if soa.record_type().to_string() == "SOA" => Some(soa.ttl),
            other => panic!("{other:?}"),
        };
        Self {
            rcode: reply.rcode(),
            authoritative: reply.flags().contains(&"aa"),
            answer: lower(reply.answer()),
            soa,
            additional: lower(reply.additional()),
        }
    }
}

/// A record in lower case, without what geography says of it: priority and weight of SRV.
fn plain(record: &str) -> String {
    let lower = record.to_ascii_lowercase();
    match lower.split(' ').collect::<Vec<_>>()[..] {
        [owner, ttl, "srv", _, _, number, target] => format!("{owner} {ttl} srv {number} {target}"),
        _ => lower,
    }
}

impl Model<'_> {
    /// Clusters whose shard is served at a level.
    fn served(&self, key: &Key, level: &Level) -> Vec<usize> {
        let within = |at: usize| {
            let stands = |r: &str, z: Option<&str>| {
                let here = |(region, zone): &(String, Option<String>)| {
                    region == r && (z.is_none() || zone.as_deref() == z)
                };
                self.places[at].iter().any(here)
            };
            match level {
                Level::Global => true,
                Level::Region(region) => stands(region, None),
                Level::Zone(region, zone) => stands(region, Some(zone)),
                Level::Shard(shard) => at == *shard,
            }
        };
        // What is overloaded is as good as nothing, but better than nothing.
        let of = |health: Health| {
            let those = self.holders(key).into_iter().filter(|at| self.health(*at, key) == health);
            those.collect::<Vec<_>>()
        };
        let (good, spare) = (of(Health::Good), of(Health::Overloaded));
        let served = if good.is_empty() { spare } else { good };
        served.into_iter().filter(|at| within(*at)).collect()
    }

    /// What is to be thought of a shard.
    fn health(&self, at: usize, key: &Key) -> Health {
        let (shard, told) = (self.shard(at, key).expect("a holder"), self.told(at, key));
        let cluster = &self.clusters[at];
        let leaving = told.leaving.is_some();
        let needed = match shard.options.min_ready {
            None => 1,
            Some(MinReady::Count(count)) => count,
            // All endpoints of these federations are ready.
            Some(MinReady::Percent(0)) => 0,
            Some(MinReady::Percent(_)) => 1,
        };
        let drained = match shard.options.drain {
            Drain::No => false,
            Drain::AtOnce => true,
            Drain::Planned => !leaving,
        };
        match told.force.map(|(to, _)| to) {
            _ if shard.addresses.is_empty() => Health::Bad,
            Some(Forced::Up) => Health::Good,
            Some(Forced::Down) => Health::ForcedOut,
            Some(Forced::Drained) if !leaving => Health::ForcedOut,
            _ if shard.ready < needed || drained || told.failing => Health::Bad,
            _ if cluster.drained || cluster.down => Health::Bad,
            _ if told.overloaded => Health::Overloaded,
            _ => Health::Good,
        }
    }

    fn told(&self, at: usize, key: &Key) -> Told {
        self.clusters[at].told.get(key).cloned().unwrap_or_default()
    }

    /// TTL of a service's records: a third, but at least 5 s, while one of its shards is in doubt or
    /// in a cluster that is lost.
    fn ttl(&self, key: &Key) -> u32 {
        let ttl = self.option(key, |shard| shard.options.ttl).unwrap_or(TTL);
        let doubtful = |at: usize| {
            let (told, cluster) = (self.told(at, key), &self.clusters[at]);
            let homeless = self.shard(at, key).expect("a holder").addresses.is_empty();
            let forced_up = told.force.is_some_and(|(to, _)| to == Forced::Up) && !homeless;
            let shard = (told.unsettled || told.leaving.is_some()) && !forced_up;
            shard || (cluster.down && !cluster.drained)
        };
        match self.holders(key).into_iter().any(doubtful) {
            true => ttl.min((ttl / 3).max(5)),
            false => ttl,
        }
    }

    /// An option, by the first cluster that sets it.
    fn option<T>(&self, key: &Key, of: impl Fn(&ServiceShard) -> Option<T>) -> Option<T> {
        self.holders(key).into_iter().find_map(|at| of(self.shard(at, key)?))
    }

    /// What a reply to a question is to say.
    pub(crate) fn answer(&self, name: &[u8], qtype: u16) -> Answer {
        let name = name.to_ascii_lowercase();
        let apex = wire_name(DOMAIN);
        let inside = text(&name) == text(&apex) || text(&name).ends_with(&format!(".{DOMAIN}."));
        if !inside {
            return Answer { rcode: dns::REFUSED, ..Answer::default() };
        }
        let negative =
            |rcode, ttl| Answer { rcode, authoritative: true, soa: Some(ttl), ..Answer::default() };
        match self.nodes.get(&name) {
            None if self.clusters.iter().any(|cluster| cluster.unread) => {
                Answer { rcode: dns::SERVFAIL, ..Answer::default() }
            }
            None => negative(dns::NXDOMAIN, NEGATIVE_TTL),
            Some(Node::Empty) => negative(dns::NOERROR, NEGATIVE_TTL),
            Some(Node::Static(records)) if name != apex => {
                let first = records.first().map(|(rtype, _)| *rtype);
                let of = |(rtype, data): &(u16, String)| {
                    let wanted = *rtype == qtype || *rtype == 5;
                    let any = qtype == 255 && Some(*rtype) == first;
                    (wanted || any).then(|| format!("{} {data}", text(&name)))
                };
                positive(records.iter().filter_map(of).collect(), NEGATIVE_TTL)
            }
            // The apex, of whose types none is asked for.
            Some(Node::Static(_)) => negative(dns::NOERROR, NEGATIVE_TTL),
            Some(Node::Service(key, level, port)) => {
                self.service(&name, key, level, port.as_ref(), qtype)
            }
        }
    }

    fn service(
        &self,
        name: &[u8],
        key: &Key,
        level: &Level,
        port: Option<&(String, Protocol)>,
        qtype: u16,
    ) -> Answer {
        let ttl = self.ttl(key);
        let (mut owner, mut level) = (text(name), level.clone());
        let mut answer = Vec::new();
        while self.served(key, &level).is_empty() {
            let Some((up, target)) = self.above(key, &level, port) else {
                let stand_in = self
                    .option(key, |shard| shard.options.when_none_healthy.clone())
                    .unwrap_or(WhenNoneHealthy::Nothing);
                let (stand_in, only) = match (level, stand_in) {
                    (Level::Shard(at), WhenNoneHealthy::All)
                        if self.served(key, &Level::Global).is_empty() =>
                    {
                        (WhenNoneHealthy::All, Some(at))
                    }
                    (Level::Shard(_), _) => (WhenNoneHealthy::Nothing, None),
                    (_, stand_in) => (stand_in, None),
                };
                let question = (&*owner, key, port, qtype);
                let (records, additional) = self.stand_in(question, ttl, &stand_in, only);
                let none = records.is_empty();
                answer.extend(records);
                let mut reply = positive(answer, UNHEALTHY_TTL);
                if none {
                    reply.soa = Some(UNHEALTHY_TTL);
                }
                reply.additional = section(additional);
                return reply;
            };
            answer.push(format!("{owner} {ttl} CNAME {target}"));
            if matches!(qtype, 5 | 255) {
                return positive(answer, 0);
            }
            (owner, level) = (target, up);
        }
        let served = self.served(key, &level);
        let (records, additional) = self.records(&owner, key, port, qtype, ttl, &served);
        let none = records.is_empty();
        answer.extend(records);
        let mut reply = positive(answer, NEGATIVE_TTL);
        if none {
            reply.soa = Some(NEGATIVE_TTL);
        }
        reply.additional = section(additional);
        reply
    }

    /// The next level up whose name is short enough to exist, and that name.
    fn above(
        &self,
        key: &Key,
        level: &Level,
        port: Option<&(String, Protocol)>,
    ) -> Option<(Level, String)> {
        let up = match level {
            Level::Zone(region, _) => Level::Region(region.clone()),
            Level::Region(_) => Level::Global,
            Level::Global | Level::Shard(_) => return None,
        };
        let port_labels =
            port.map_or(String::new(), |(name, proto)| format!("_{name}.{}.", protocol(*proto)));
        let base = match &up {
            Level::Region(region) => format!("f.svc.{region}"),
            _ => "f.svc".to_owned(),
        };
        let owner = format!("{port_labels}{}.{}.{base}", key.0, key.1);
        let name = wire_name(&format!("{owner}.{DOMAIN}"));
        if name.len() > MAX_NAME {
            return self.above(key, &up, port);
        }
        Some((up, text(&name)))
    }

    /// Records of some shards, and the addresses of the targets among them.
    fn records(
        &self,
        owner: &str,
        key: &Key,
        port: Option<&(String, Protocol)>,
        qtype: u16,
        ttl: u32,
        shards: &[usize],
    ) -> (Vec<String>, Vec<String>) {
        let addresses = |at: usize| self.shard(at, key).expect("a holder").addresses.iter();
        let Some(port) = port else {
            let all: Vec<&IpAddr> = shards.iter().flat_map(|at| addresses(*at)).collect();
            return (of_family(&all, owner, qtype, ttl), Vec::new());
        };
        if !matches!(qtype, 33 | 255) {
            return (Vec::new(), Vec::new());
        }
        let (mut records, mut additional) = (Vec::new(), Vec::new());
        for &at in shards {
            let Some(number) = self.shard(at, key).expect("a holder").ports.get(port) else {
                continue;
            };
            let target = format!("{}.{}.{}.f.svc.{DOMAIN}.", self.clusters[at].name, key.0, key.1);
            if wire_name(&target).len() > MAX_NAME {
                continue;
            }
            records.push(format!("{owner} {ttl} SRV {number} {target}"));
            additional.extend(addresses(at).map(|address| record(&target, ttl, address)));
        }
        (records, additional)
    }

    /// What stands at the global name while no shard is served, and at the name of one shard.
    fn stand_in(
        &self,
        (owner, key, port, qtype): (&str, &Key, Option<&(String, Protocol)>, u16),
        ttl: u32,
        stand_in: &WhenNoneHealthy,
        only: Option<usize>,
    ) -> (Vec<String>, Vec<String>) {
        let short = ttl.min(UNHEALTHY_TTL);
        match stand_in {
            WhenNoneHealthy::All => {
                let with_address = |at: &usize| {
                    only.is_none_or(|only| only == *at)
                        && !self.shard(*at, key).expect("a holder").addresses.is_empty()
                };
                let unbarred = |at: &usize| self.health(*at, key) != Health::ForcedOut;
                let all = self.holders(key).into_iter().filter(with_address).filter(unbarred);
                let all: Vec<usize> = all.collect();
                self.records(owner, key, port, qtype, short, &all)
            }
            WhenNoneHealthy::Name(target) if port.is_none() => {
                (vec![format!("{owner} {short} CNAME {target}")], Vec::new())
            }
            WhenNoneHealthy::Addresses(addresses) if port.is_none() => {
                let all: Vec<&IpAddr> = addresses.iter().collect();
                (of_family(&all, owner, qtype, short), Vec::new())
            }
            _ => (Vec::new(), Vec::new()),
        }
    }
}

/// Records, or none and the SOA with this TTL.
fn positive(answer: Vec<String>, negative_ttl: u32) -> Answer {
    let answer = section(answer);
    let soa = answer.is_empty().then_some(negative_ttl);
    Answer { rcode: dns::NOERROR, authoritative: true, answer, soa, additional: Vec::new() }
}

/// A section whatever its order; of records that are alike one is sent (RFC 2181 §5).
fn section(mut records: Vec<String>) -> Vec<String> {
    records.iter_mut().for_each(|record| record.make_ascii_lowercase());
    records.sort();
    records.dedup();
    records
}

/// Addresses of the family asked for; for ANY of the first family that there is.
fn of_family(all: &[&IpAddr], owner: &str, qtype: u16, ttl: u32) -> Vec<String> {
    let has_v4 = all.iter().any(|address| address.is_ipv4());
    let wanted = |address: &IpAddr| match qtype {
        1 => address.is_ipv4(),
        28 => address.is_ipv6(),
        255 => address.is_ipv4() == has_v4,
        _ => false,
    };
    let found = all.iter().filter(|address| wanted(address));
    found.map(|address| record(owner, ttl, address)).collect()
}

fn record(owner: &str, ttl: u32, address: &IpAddr) -> String {
    let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
    format!("{owner} {ttl} {rtype} {address}")
}
