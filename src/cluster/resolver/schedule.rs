//! When to look up which host name: pure, time is an argument.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cluster::state::HostAnswer;

/// The shortest time between two look-ups of a name: a TTL of 0 must not become a query storm.
/// AWS gives its load balancers 60 s.
pub(super) const MIN_REFRESH: Duration = Duration::from_secs(5);

/// The longest: a TTL of a day must not keep a rotated load balancer for a day.
pub(super) const MAX_REFRESH: Duration = Duration::from_secs(15 * 60);

/// The first pause after a failure, doubled by each further one up to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// As long as the TTL of most load balancers: an upstream that is back is found within it.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// How many TTLs are remembered of a name. A caching upstream counts a TTL down, so what it says
/// varies from look-up to look-up; the longest of the last few is the record's own, and does not
/// make a new answer of every look-up.
const TTLS: usize = 4;

/// What one look-up of one address family brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FamilyAnswer {
    /// The addresses of that family, and their TTL in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The upstream says that there are none.
    None,
    /// It could not be told.
    Failed(Box<str>),
}

/// What one look-up brought, for each family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LookupAnswer {
    /// A records.
    pub(super) v4: FamilyAnswer,
    /// AAAA records.
    pub(super) v6: FamilyAnswer,
}

/// The wanted host names, and when each is next due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    hosts: HashMap<Arc<str>, Host>,
    queue: BTreeSet<(Instant, Arc<str>)>,
    jitter: RandomState,
    turns: u64,
}

/// One wanted name.
#[derive(Debug)]
struct Host {
    state: Due,
    /// Look-ups begun before the name was last wanted bring an older turn, and are ignored.
    turn: u64,
    failures: u32,
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
    ttls: VecDeque<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    At(Instant),
    InFlight,
}

/// A look-up that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// The name.
    pub(super) hostname: Arc<str>,
    turn: u64,
}

impl Schedule {
    /// Adds a name, due at once.
    pub(super) fn want(&mut self, hostname: &str, now: Instant) {
        if self.hosts.contains_key(hostname) {
            return;
        }
        let hostname: Arc<str> = hostname.into();
        self.turns += 1;
        let host = Host {
            state: Due::At(now),
            turn: self.turns,
            failures: 0,
            v4: Vec::new(),
            v6: Vec::new(),
            ttls: VecDeque::new(),
        };
        self.queue.insert((now, hostname.clone()));
        self.hosts.insert(hostname, host);
    }

    /// Drops a name; a look-up that is under way will be ignored.
    pub(super) fn unwant(&mut self, hostname: &str) {
        if let Some((hostname, host)) = self.hosts.remove_entry(hostname)
            && let Due::At(at) = host.state
        {
            self.queue.remove(&(at, hostname));
        }
    }

    /// When the next name is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Takes a name that is due at `now`; it is under way until it is [`Self::done`].
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Ticket> {
        if self.next_due()? > now {
            return None;
        }
        let (_, hostname) = self.queue.pop_first()?;
        let host = self.hosts.get_mut(&hostname)?;
        host.state = Due::InFlight;
        Some(Ticket { turn: host.turn, hostname })
    }

    /// Takes in what a look-up brought and sets the time of the next. `None` where nobody wants
    /// the name any longer.
    pub(super) fn done(
        &mut self,
        ticket: &Ticket,
        answer: LookupAnswer,
        now: Instant,
    ) -> Option<HostAnswer> {
        let host = self.hosts.get_mut(&ticket.hostname).filter(|host| host.turn == ticket.turn)?;
        let (told, ttl, failure) = host.take_in(answer);
        let pause = match failure {
            Failure::No => {
                host.failures = 0;
                ttl.clamp(MIN_REFRESH, MAX_REFRESH)
            }
            Failure::Partly | Failure::Wholly => {
                host.failures = host.failures.saturating_add(1);
                backoff(host.failures, self.jitter.hash_one((&ticket.hostname, host.failures)))
            }
        };
        host.state = Due::At(now + pause);
        self.queue.insert((now + pause, ticket.hostname.clone()));
        Some(told)
    }
}

/// Whether a look-up failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    No,
    /// One family did; its old addresses are kept beside the other's new ones.
    Partly,
    Wholly,
}

impl Host {
    /// Merges an answer with what is known: a family that failed keeps its addresses, and a name
    /// that has no address at all any more keeps those it had. A load balancer that is deleted
    /// leaves the Service's status; a name that only vanishes from DNS is a fault of DNS.
    fn take_in(&mut self, answer: LookupAnswer) -> (HostAnswer, Duration, Failure) {
        let LookupAnswer { v4, v6 } = answer;
        let ttl = [&v4, &v6].iter().filter_map(|family| family.ttl()).min();
        let reason = [&v4, &v6].into_iter().find_map(FamilyAnswer::failure);
        let Some(ttl) = ttl else {
            let reason = reason.unwrap_or("it has no A or AAAA records");
            let told = HostAnswer::Failed { reason: reason.into() };
            return (told, Duration::ZERO, Failure::Wholly);
        };
        let failure = if reason.is_some() { Failure::Partly } else { Failure::No };
        for (family, known) in [(v4, &mut self.v4), (v6, &mut self.v6)] {
            match family {
                FamilyAnswer::Addresses(addresses, _) => *known = addresses,
                FamilyAnswer::None => known.clear(),
                FamilyAnswer::Failed(_) => {}
            }
        }
        if self.ttls.len() == TTLS {
            self.ttls.pop_front();
        }
        self.ttls.push_back(ttl);
        let cap = self.ttls.iter().copied().max().unwrap_or(ttl);
        let addresses = self.v4.iter().chain(&self.v6).copied().collect();
        let told = HostAnswer::Resolved { addresses, ttl: cap };
        (told, Duration::from_secs(ttl.into()), failure)
    }
}

impl FamilyAnswer {
    fn ttl(&self) -> Option<u32> {
        match self {
            Self::Addresses(_, ttl) => Some(*ttl),
            Self::None | Self::Failed(_) => None,
        }
    }

    fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) => Some(reason),
            Self::Addresses(..) | Self::None => None,
        }
    }
}

/// The pause after the `failures`th failure in a row: exponential, and between half and all of it
/// by `random`, so that names and replicas that failed together do not come back together.
fn backoff(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = (MIN_BACKOFF * 2_u32.pow(doublings)).min(MAX_BACKOFF);
    whole / 2 + (whole / 2).mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(addresses: &[&str], ttl: u32) -> LookupAnswer {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        LookupAnswer { v4: FamilyAnswer::Addresses(addresses, ttl), v6: FamilyAnswer::None }
    }

    fn failed() -> LookupAnswer {
        let failed = FamilyAnswer::Failed("no answer".into());
        LookupAnswer { v4: failed.clone(), v6: failed }
    }

    fn addresses(answer: Option<HostAnswer>) -> (Vec<String>, u32) {
        match answer {
            Some(HostAnswer::Resolved { addresses, ttl }) => {
                (addresses.iter().map(ToString::to_string).collect(), ttl)
            }
            other => panic!("{other:?} is no resolution"),
        }
    }

    /// The pause until the next look-up, after `answer` to one that is due at `now`.
    fn pause(schedule: &mut Schedule, answer: LookupAnswer, now: Instant) -> Duration {
        let ticket = schedule.take_due(now).expect("due");
        assert_eq!(schedule.take_due(now), None, "it is under way");
        schedule.done(&ticket, answer, now);
        schedule.next_due().expect("scheduled") - now
    }

    #[test]
    fn refreshed_by_ttl_within_bounds() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want("lb.example.net", start);
        schedule.want("lb.example.net", start + MIN_REFRESH);
        assert_eq!(schedule.next_due(), Some(start));
        let mut now = start;
        for (ttl, expected) in
            [(60, Duration::from_secs(60)), (0, MIN_REFRESH), (86_400, MAX_REFRESH)]
        {
            let found = pause(&mut schedule, v4(&["192.0.2.1"], ttl), now);
            assert_eq!(found, expected, "TTL {ttl}");
            assert_eq!(schedule.take_due(now), None);
            now += found;
        }
    }

    #[test]
    fn failures_back_off_and_keep_addresses() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want("lb.example.net", now);
        now += pause(&mut schedule, v4(&["192.0.2.1"], 60), now);
        let mut whole = MIN_BACKOFF;
        for _ in 0..12 {
            let found = pause(&mut schedule, failed(), now);
            assert!(found >= whole / 2 && found <= whole, "{found:?} of {whole:?}");
            whole = (whole * 2).min(MAX_BACKOFF);
            now += found;
        }
        let ticket = schedule.take_due(now).unwrap();
        let partly = LookupAnswer {
            v4: FamilyAnswer::Failed("no answer".into()),
            v6: FamilyAnswer::Addresses(vec!["2001:db8::1".parse().unwrap()], 60),
        };
        let answer = schedule.done(&ticket, partly, now);
        assert_eq!(addresses(answer).0, ["192.0.2.1", "2001:db8::1"]);
        now += MAX_BACKOFF;
        assert_eq!(pause(&mut schedule, v4(&["192.0.2.2"], 60), now), Duration::from_secs(60));
        now += Duration::from_secs(60);
        let ticket = schedule.take_due(now).unwrap();
        let nothing = LookupAnswer { v4: FamilyAnswer::None, v6: FamilyAnswer::None };
        assert!(matches!(schedule.done(&ticket, nothing, now), Some(HostAnswer::Failed { .. })));
    }

    #[test]
    fn the_cap_is_the_records_own_ttl_not_what_a_cache_left_of_it() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want("lb.example.net", now);
        let mut caps = Vec::new();
        for ttl in [60, 12, 48, 60, 10, 10, 10, 10] {
            let ticket = schedule.take_due(now).unwrap();
            caps.push(addresses(schedule.done(&ticket, v4(&["192.0.2.1"], ttl), now)).1);
            now += MAX_REFRESH;
        }
        assert_eq!(caps, [60, 60, 60, 60, 60, 60, 60, 10]);
    }

    #[test]
    fn an_answer_for_a_name_that_was_dropped_is_ignored() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.want("lb.example.net", now);
        let ticket = schedule.take_due(now).unwrap();
        schedule.unwant("lb.example.net");
        assert_eq!(schedule.done(&ticket, v4(&["192.0.2.1"], 60), now), None);
        schedule.want("lb.example.net", now);
        assert_eq!(schedule.done(&ticket, v4(&["192.0.2.1"], 60), now), None);
        assert!(schedule.take_due(now).is_some(), "wanted anew, so looked up anew");
        schedule.unwant("lb.example.net");
        assert_eq!(schedule.next_due(), None);
    }
}
