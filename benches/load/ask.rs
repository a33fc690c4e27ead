//! The load: queries out, replies in and checked, latencies counted.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::histogram::{Histogram, median};
use super::process::{modes, on_processor};
use super::queries::{Expect, Queries, Wrong};
use super::sockets::{Sockets, Sources};

/// After so long a query counts as lost.
const LOST: u64 = 500_000_000;

/// Ids, and so queries that may be on their way.
const IDS: usize = 1 << 16;

/// What is late leaves at most so much faster than at the rate: a burst of all that the client could not
/// send while it was off its processor would say nothing of the server.
const CATCH_UP: f64 = 1.5;

/// Nanoseconds of a part, of which each has a p99.9 of its own.
const PART: u64 = 250_000_000;

/// How queries are paced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As many on their way as here, whatever the rate: finds what the server can do.
    Closed(usize),
    /// As many a second as here, whatever becomes of them. Latency counts from when a query should
    /// have left, so that a server that stalls is not spared.
    Open(f64),
}

/// What to do.
pub(crate) struct Plan {
    pub(crate) server: SocketAddr,
    pub(crate) sources: Sources,
    pub(crate) pace: Pace,
    pub(crate) expect: Expect,
    /// Before anything is measured.
    pub(crate) warm: Duration,
    pub(crate) measured: Duration,
    /// The server's process, whose use of the processor is read.
    pub(crate) pid: Option<u32>,
}

/// What was found while measured.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Report {
    /// Replies a second.
    pub(crate) qps: f64,
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) lost: u64,
    pub(crate) wrong: u64,
    /// Of those, parts of two generations in one reply.
    pub(crate) mixed: u64,
    /// Why the first wrong reply was wrong.
    pub(crate) why: Option<String>,
    /// Octets of a reply.
    pub(crate) octets: f64,
    /// Microseconds of the server's processor time a reply; none without its process.
    pub(crate) cpu: Option<f64>,
    /// Of that in user mode, by ticks of the clock; some seconds make it good to a tenth.
    pub(crate) user: Option<f64>,
    /// The share of one processor that the server used.
    pub(crate) busy: Option<f64>,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// The median of the p99.9 of each quarter of a second: what a machine does now and then is not
    /// in it, and what the server does all the time is.
    pub(crate) usual: f64,
    pub(crate) max: f64,
}

/// A query on its way.
#[derive(Clone, Copy, Default)]
struct Slot {
    query: u32,
    group: u32,
    /// When it left or should have left, nanoseconds since the start; 0 for none.
    since: u64,
}

struct Load<'q> {
    queries: &'q Queries,
    plan: &'q Plan,
    sockets: Sockets,
    start: Instant,
    slots: Vec<Slot>,
    /// Queries sent, and of those the first that may still be on its way.
    sent: u64,
    oldest: u64,
    flying: usize,
    /// For each group how many are on their way; groups that have any, once each.
    in_group: Vec<u32>,
    waiting: VecDeque<usize>,
    group: usize,
    /// From when on more may leave where a rate is held, nanoseconds since the start.
    ready: u64,
    found: Found,
}

/// What is counted from the end of the warm-up on.
struct Found {
    from: u64,
    first: u64,
    answered: u64,
    octets: u64,
    lost: u64,
    wrong: u64,
    mixed: u64,
    why: Option<Wrong>,
    latency: Histogram,
    /// Of the present part, which ends then; the p99.9 of those before, microseconds.
    part: Histogram,
    end: u64,
    parts: Vec<f64>,
}

/// Runs `plan`.
pub(crate) fn ask(plan: &Plan, queries: &Queries) -> io::Result<Report> {
    let sockets = Sockets::open(plan.server, plan.sources)?;
    let groups = sockets.groups();
    let mut load = Load {
        queries,
        plan,
        sockets,
        start: Instant::now(),
        slots: vec![Slot::default(); IDS],
        sent: 0,
        oldest: 0,
        flying: 0,
        in_group: vec![0; groups],
        waiting: VecDeque::new(),
        group: 0,
        ready: 0,
        found: Found::new(0, 0),
    };
    load.run_until(plan.warm);
    load.found = Found::new(load.now(), load.sent);
    let spent = || plan.pid.map(|pid| Ok::<_, io::Error>((on_processor(pid)?, modes(pid)?)));
    let before = spent().transpose()?;
    load.run_until(plan.warm + plan.measured);
    let after = spent().transpose()?;
    let (sent, took) = (load.sent - load.found.first, load.now() - load.found.from);
    let (answered, octets) = (load.found.answered, load.found.octets);
    load.drain();
    let Found { lost, wrong, mixed, why, latency, parts, .. } = load.found;
    let spent = before.zip(after);
    let used = spent.map(|(before, after)| after.0.saturating_sub(before.0));
    let in_user = spent.map(|((_, before), (_, after))| {
        let [user, kernel] = [0, 1].map(|mode| after[mode].saturating_sub(before[mode]) as f64);
        user / (user + kernel).max(1.0)
    });
    let each = |nanoseconds: u64| nanoseconds as f64 / 1e3 / answered.max(1) as f64;
    Ok(Report {
        qps: answered as f64 * 1e9 / took as f64,
        sent,
        answered,
        lost,
        wrong,
        mixed,
        why: why.map(|why| format!("{why:?}")),
        octets: octets as f64 / answered.max(1) as f64,
        cpu: used.map(each),
        user: used.zip(in_user).map(|(used, share)| each(used) * share),
        busy: used.map(|used| used as f64 / took as f64),
        p50: latency.quantile(0.5),
        p99: latency.quantile(0.99),
        p999: latency.quantile(0.999),
        usual: median(parts),
        max: latency.largest(),
    })
}

impl Found {
    fn new(from: u64, first: u64) -> Self {
        let (answered, octets, lost, wrong, mixed) = Default::default();
        let (latency, part, end, parts) = (Histogram::new(), Histogram::new(), from + PART, vec![]);
        let why = None;
        Self { from, first, answered, octets, lost, wrong, mixed, why, latency, part, end, parts }
    }
}

impl Load<'_> {
    /// Nanoseconds since the start, never 0.
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64 + 1
    }

    fn run_until(&mut self, end: Duration) {
        let end = end.as_nanos() as u64;
        let mut now = self.now();
        while now < end {
            let sent = self.send(now);
            let received = self.receive();
            // Who holds a rate must not come back too late.
            if !sent && !received && matches!(self.plan.pace, Pace::Closed(_)) {
                std::thread::yield_now();
            }
            now = self.now();
            self.give_up(now);
        }
    }

    /// Waits for what is on its way.
    fn drain(&mut self) {
        while self.flying > 0 {
            self.receive();
            let now = self.now();
            self.give_up(now);
        }
    }

    /// Sends what is due; whether anything was.
    fn send(&mut self, now: u64) -> bool {
        let burst = self.sockets.burst();
        let due = match self.plan.pace {
            Pace::Closed(window) => window.saturating_sub(self.flying) / burst * burst,
            Pace::Open(_) if now < self.ready => 0,
            Pace::Open(rate) => {
                ((now as f64 * rate / 1e9) as u64).saturating_sub(self.sent) as usize
            }
        };
        // Ids of queries on their way must differ.
        let room = IDS - 1 - (self.sent - self.oldest) as usize;
        let due = due.min(burst).min(room);
        if due == 0 {
            return false;
        }
        let group = self.group;
        self.group = (group + 1) % self.in_group.len();
        for i in 0..due {
            let number = self.sent + i as u64;
            let query = (number % self.queries.len() as u64) as usize;
            let since = match self.plan.pace {
                Pace::Closed(_) => now,
                Pace::Open(rate) => (number as f64 * 1e9 / rate) as u64 + 1,
            };
            self.slots[number as usize % IDS] =
                Slot { query: query as u32, group: group as u32, since };
            self.sockets.stage(i, group, number as u16, self.queries.wire(query));
        }
        let sent = self.sockets.send(group, due);
        if let Pace::Open(rate) = self.plan.pace {
            self.ready = now + (sent as f64 * 1e9 / (rate * CATCH_UP)) as u64;
        }
        // What met a full buffer is tried again under the same number.
        self.sent += sent as u64;
        self.flying += sent;
        if self.in_group[group] == 0 && sent > 0 {
            self.waiting.push_back(group);
        }
        self.in_group[group] += sent as u32;
        sent > 0
    }

    /// Looks for replies at all groups that wait for some, oldest first; whether any came. Two that
    /// have none mean that the server has come no further.
    fn receive(&mut self) -> bool {
        let (mut any, mut silent) = (false, 0);
        for _ in 0..self.waiting.len() {
            let Some(group) = self.waiting.pop_front() else { break };
            let Self { sockets, slots, found, queries, plan, start, in_group, flying, .. } = self;
            let now = start.elapsed().as_nanos() as u64 + 1;
            let count = sockets.receive(group, |reply| {
                let Some(id) = reply.first_chunk::<2>() else { return };
                let slot = &mut slots[usize::from(u16::from_be_bytes(*id))];
                if slot.since == 0 || slot.group as usize != group {
                    // Too late, or twice.
                    return;
                }
                found.take(slot, now, reply, queries, plan.expect);
                slot.since = 0;
                in_group[group] -= 1;
                *flying -= 1;
            });
            if self.in_group[group] > 0 {
                self.waiting.push_back(group);
            }
            any |= count > 0;
            silent = if count > 0 { 0 } else { silent + 1 };
            if silent > 1 && any {
                break;
            }
        }
        any
    }

    /// Counts what has been waited for long enough.
    fn give_up(&mut self, now: u64) {
        while self.oldest < self.sent {
            let slot = &mut self.slots[self.oldest as usize % IDS];
            if slot.since > 0 {
                if now < slot.since + LOST {
                    return;
                }
                self.found.lost += u64::from(slot.since >= self.found.from);
                slot.since = 0;
                self.flying -= 1;
                let group = slot.group as usize;
                self.in_group[group] -= 1;
                if self.in_group[group] == 0 {
                    self.waiting.retain(|waiting| *waiting != group);
                }
            }
            self.oldest += 1;
        }
    }
}

impl Found {
    fn take(&mut self, slot: &Slot, now: u64, reply: &[u8], queries: &Queries, expect: Expect) {
        self.answered += 1;
        self.octets += reply.len() as u64;
        if slot.since >= self.from {
            if now >= self.end {
                self.parts.push(self.part.quantile(0.999));
                (self.part, self.end) = (Histogram::new(), now + PART);
            }
            let took = now.saturating_sub(slot.since);
            self.latency.add(took);
            self.part.add(took);
        }
        if let Err(why) = queries.check(slot.query as usize, reply, expect) {
            self.wrong += 1;
            self.mixed += u64::from(why == Wrong::Mixed);
            self.why.get_or_insert(why);
        }
    }
}
