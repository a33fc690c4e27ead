//! What a DNS worker counts.
//!
//! A [`Block`] belongs to one worker, so that no cache line is written by two workers for a query;
//! the scrape sums them. Two handles write to it: [`Counters`] for a thread that is the only
//! writer, and [`SharedCounters`] for the tasks of a TCP listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::answer::{Answered, LocatedBy, ZoneKind};

/// Transport of a query, the label `proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// Datagrams.
    Udp,
    /// Streams.
    Tcp,
}

impl Proto {
    /// Label value.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// Address family of a query's transport, the label `family`; CoreDNS writes 1 and 2 (the IANA
/// address family numbers), and so do we.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of `address`.
    #[must_use]
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Label value.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::V4 => "1",
            Self::V6 => "2",
        }
    }
}

/// Why a query got no reply, the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// No reply is due: a response, or shorter than a header.
    Unanswerable,
    /// Source port 0: nothing can listen there, and a reply could start a loop.
    PortZero,
    /// Longer than any query has reason to be.
    Oversize,
    /// The kernel did not say which address was asked, so none can answer.
    NoDestination,
    /// The reply could not be sent.
    Send,
    /// Receiving failed; counts failures, not queries.
    Receive,
}

/// Label values of [`Dropped`], in its order.
pub(super) const DROPPED: [&str; 6] =
    ["unanswerable", "port_zero", "oversize", "no_destination", "send_error", "receive_error"];

/// Query types with a series of their own, as CoreDNS has them and those that clients now ask for
/// most (HTTPS); all others are `other`, so that no client can make up series.
const TYPED: [(u16, &str); 17] = [
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (35, "NAPTR"),
    (43, "DS"),
    (48, "DNSKEY"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (252, "AXFR"),
    (255, "ANY"),
    (257, "CAA"),
];

/// Series of query types: [`TYPED`] and `other`.
pub(super) const TYPES: usize = TYPED.len() + 1;

/// The series of each type number; the last item stands for all greater numbers.
const TYPE_SERIES: [u8; 259] = {
    let mut series = [TYPED.len() as u8; 259];
    let mut i = 0;
    while i < TYPED.len() {
        series[TYPED[i].0 as usize] = i as u8;
        i += 1;
    }
    series
};

/// Label value of a series of types.
pub(super) fn type_label(series: usize) -> &'static str {
    TYPED.get(series).map_or("other", |(_, label)| label)
}

/// Response codes with a series of their own (IANA DNS RCODEs that this server can send, now or
/// with cookies and transfers); all others are `other`.
const CODED: [(u16, &str); 8] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (16, "BADVERS"),
    (23, "BADCOOKIE"),
];

/// Series of response codes: [`CODED`] and `other`.
pub(super) const RCODES: usize = CODED.len() + 1;

/// Label value of a series of response codes.
pub(super) fn rcode_label(series: usize) -> &'static str {
    CODED.get(series).map_or("other", |(_, label)| label)
}

/// Kinds of zones.
pub(super) const ZONES: usize = 3;

/// Upper bounds of reply sizes are `SMALLEST << i` octets, 64 to 65,536: the bucket of a reply
/// is found by counting leading zeros.
pub(super) const SIZES: usize = 11;
const SMALLEST: usize = 64;

/// Upper bound of a bucket of sizes, octets.
pub(super) fn size_bound(bucket: usize) -> usize {
    SMALLEST << bucket
}

/// Upper bounds of the time per query, nanoseconds: 1 µs is below any batch (a system call is more),
/// 100 ms is a stalled machine.
pub(super) const DURATIONS: [u64; 14] = [
    1_000,
    2_000,
    3_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    5_000_000,
    20_000_000,
    100_000_000,
];

/// The counters of one worker. Aligned to two cache lines, because processors fetch them in
/// pairs.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Block {
    pub(super) proto: Proto,
    pub(super) family: Family,
    pub(super) requests: [[AtomicU64; TYPES]; ZONES],
    pub(super) responses: [[AtomicU64; RCODES]; ZONES],
    pub(super) sizes: [AtomicU64; SIZES],
    pub(super) size_sum: AtomicU64,
    /// The last item is beyond all bounds.
    pub(super) durations: [AtomicU64; DURATIONS.len() + 1],
    pub(super) nanoseconds: AtomicU64,
    /// By the ECS prefix, by the source address.
    pub(super) located: [AtomicU64; 2],
    pub(super) dropped: [AtomicU64; DROPPED.len()],
}

impl Block {
    pub(super) fn new(proto: Proto, family: Family) -> Self {
        Self {
            proto,
            family,
            requests: Default::default(),
            responses: Default::default(),
            sizes: Default::default(),
            size_sum: AtomicU64::default(),
            durations: Default::default(),
            nanoseconds: AtomicU64::default(),
            located: Default::default(),
            dropped: Default::default(),
        }
    }

    fn record(&self, answered: &Answered, add: impl Fn(&AtomicU64, u64)) {
        let zone = match answered.zone {
            ZoneKind::None => 0,
            ZoneKind::Federation => 1,
            ZoneKind::Internal => 2,
        };
        let qtype = TYPE_SERIES[usize::from(answered.qtype).min(TYPE_SERIES.len() - 1)];
        add(&self.requests[zone][usize::from(qtype)], 1);
        let rcode = CODED.iter().position(|(code, _)| *code == answered.rcode);
        add(&self.responses[zone][rcode.unwrap_or(CODED.len())], 1);
        // (len - 1) / 64 has as many significant bits as there are bounds below len.
        let above = answered.len.saturating_sub(1) / SMALLEST;
        let bucket = (usize::BITS - above.leading_zeros()) as usize;
        add(&self.sizes[bucket.min(SIZES - 1)], 1);
        add(&self.size_sum, answered.len as u64);
        match answered.located {
            LocatedBy::Nothing => {}
            LocatedBy::Subnet => add(&self.located[0], 1),
            LocatedBy::Source => add(&self.located[1], 1),
        }
    }

    fn batch(&self, took: Duration, queries: usize, add: impl Fn(&AtomicU64, u64)) {
        let Some(each) = took.as_nanos().checked_div(queries as u128) else { return };
        let bucket = DURATIONS.partition_point(|bound| u128::from(*bound) < each);
        add(&self.durations[bucket], queries as u64);
        // 584 years in nanoseconds fit.
        add(&self.nanoseconds, took.as_nanos() as u64);
    }
}

/// Adds where this thread is the only writer: a plain load and store, a third of the price of a
/// locked instruction and as exact.
fn alone(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Adds where others may write too.
fn together(cell: &AtomicU64, n: u64) {
    cell.fetch_add(n, Relaxed);
}

/// The counters of one worker thread, which is the only writer: hence no `Clone`, and `&mut`.
#[derive(Debug)]
pub struct Counters(pub(super) Arc<Block>);

impl Counters {
    /// Counts a query that was answered.
    pub fn record(&mut self, answered: &Answered) {
        self.0.record(answered, alone);
    }

    /// Counts `n` queries that got no reply.
    pub fn dropped(&mut self, reason: Dropped, n: usize) {
        alone(&self.0.dropped[reason as usize], n as u64);
    }

    /// Counts the time of a batch, from received to sent, as `queries` times an equal part of it.
    pub fn batch(&mut self, took: Duration, queries: usize) {
        self.0.batch(took, queries, alone);
    }
}

/// Counters with many writers, the connections of one TCP listener.
///
/// These add with locked instructions to lines that several threads write. Over TCP a query costs
/// several system calls of its own, beside which that is nothing; counters for each connection
/// would cost two kilobytes each and be summed by the ten thousand at scrape.
#[derive(Clone, Debug)]
pub struct SharedCounters(pub(super) Arc<Block>);

impl SharedCounters {
    /// Counts a query that was answered.
    pub fn record(&self, answered: &Answered) {
        self.0.record(answered, together);
    }

    /// Counts `n` queries that got no reply.
    pub fn dropped(&self, reason: Dropped, n: usize) {
        together(&self.0.dropped[reason as usize], n as u64);
    }

    /// Counts the time of a batch, from parsed to written, as `queries` times an equal part of it.
    pub fn batch(&self, took: Duration, queries: usize) {
        self.0.batch(took, queries, together);
    }
}
