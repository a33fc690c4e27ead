//! DNS over TCP (RFC 7766): our own two-byte framing over tokio.
//!
//! A connection reads what has come, answers every whole query of it against one snapshot, in
//! order, and writes the replies together; so clients may pipeline. What a client can hold is
//! bounded: a place among [`Slots`], one message being read, about two being written, and the
//! idle time-out, which only a *whole* query or a *taken* reply puts off.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

use super::AnswerFn;
use super::slots::{Full, Slot, Slots};
use super::stop::Stop;
use crate::answer::{Ahead, Client, Found, Transport};
use crate::snapshot::SnapshotCell;
use crate::telemetry::{Dropped, SharedCounters, TcpMetrics};

/// Octets of the length before every message (RFC 1035 §4.2.2).
const PREFIX: usize = 2;

/// The longest message, octets.
const MAX_MESSAGE: usize = u16::MAX as usize;

/// Octets asked of a socket at once: some tens of queries.
const READ: usize = 4096;

/// Replies are written once they are so long together, octets, so that a client that pipelines
/// many queries cannot have us hold more than this and one more reply.
const WRITE: usize = 64 * 1024;

/// Pause after a failure to accept, such as too many open files: only time helps, and the
/// connection stays in the backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) answer: AnswerFn,
    pub(super) counters: SharedCounters,
    pub(super) metrics: TcpMetrics,
    pub(super) slots: Arc<Slots>,
    pub(super) idle_timeout: Duration,
    /// The first turn number of the next connection.
    pub(super) turn: AtomicU32,
}

impl Service {
    /// A place for a connection; counts a refusal.
    fn admit(&self, peer: SocketAddr) -> Option<Slot> {
        match self.slots.take(peer.ip()) {
            Ok(slot) => Some(slot),
            Err(Full::Total) => {
                self.metrics.refused_total.inc();
                None
            }
            Err(Full::Client) => {
                self.metrics.refused_client.inc();
                None
            }
        }
    }
}

/// Accepts and serves connections until asked to stop; then waits for them to end.
pub(super) async fn listen(listener: TcpListener, service: Arc<Service>, mut stop: Stop) {
    let mut connections = JoinSet::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = stop.wait() => break,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a DNS connection ended by a fault of ours");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                if let Some(slot) = service.admit(peer) {
                    let connection = Connection::new(stream, peer, Arc::clone(&service), slot);
                    connections.spawn(connection.serve(stop.clone()));
                }
            }
            Err(error) => {
                service.metrics.accept_errors.inc();
                // Once for a row of failures; the metric has the number.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept DNS connections");
                }
                tokio::select! { () = stop.wait() => break, () = sleep(ACCEPT_PAUSE) => {} }
            }
        }
    }
    drop(listener);
    // Whoever does not take its replies is cut off when the whole stop takes too long: dropping
    // the set ends its tasks.
    while connections.join_next().await.is_some() {}
}

/// Why a connection ends.
enum End {
    /// The client closed it, sent a frame that cannot be, or it failed.
    Closed,
    /// No whole query came, or no reply was taken, for too long.
    TimedOut,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        // Connections are reset all the time, and the client knows.
        Self::Closed
    }
}

impl From<tokio::time::error::Elapsed> for End {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::TimedOut
    }
}

/// What [`Connection::answer_some`] left.
#[derive(PartialEq)]
enum Rest {
    /// Less than a whole message.
    Partial,
    /// Perhaps more whole messages: the replies are to be written first.
    More,
    /// Nothing that can be understood: close once the replies are written.
    Garbage,
}

struct Connection {
    stream: TcpStream,
    client: Client,
    service: Arc<Service>,
    turn: u32,
    /// Received and not yet answered.
    input: Vec<u8>,
    /// Replies not yet written.
    output: Vec<u8>,
    _slot: Slot,
}

impl Connection {
    fn new(stream: TcpStream, peer: SocketAddr, service: Arc<Service>, slot: Slot) -> Self {
        service.metrics.accepted.inc();
        service.metrics.open.inc();
        let client = Client { address: peer.ip(), transport: Transport::Tcp };
        let turn = service.turn.fetch_add(1, Relaxed);
        Self { stream, client, service, turn, input: Vec::new(), output: Vec::new(), _slot: slot }
    }

    async fn serve(mut self, stop: Stop) {
        // Replies are written together as it is; waiting for more would only delay them.
        let _ = self.stream.set_nodelay(true);
        if let Err(End::TimedOut) = self.exchange(stop).await {
            self.service.metrics.timed_out.inc();
        }
        // A client that is gone cannot be told.
        let _ = self.stream.shutdown().await;
    }

    /// Reads, answers, writes; ends well only where asked to stop.
    async fn exchange(&mut self, mut stop: Stop) -> Result<(), End> {
        let idle = self.service.idle_timeout;
        let mut deadline = tokio::time::Instant::now() + idle;
        loop {
            self.input.reserve(READ);
            let read = tokio::select! {
                // What has come is read before a request to stop is heeded.
                biased;
                read = timeout_at(deadline, self.stream.read_buf(&mut self.input)) => read??,
                () = stop.wait() => return Ok(()),
            };
            if read == 0 {
                return Err(End::Closed);
            }
            loop {
                let start = Instant::now();
                let (queries, rest) = self.answer_some();
                if queries > 0 {
                    timeout(idle, self.stream.write_all(&self.output)).await??;
                    self.output.clear();
                    self.service.counters.batch(start.elapsed(), queries);
                    deadline = tokio::time::Instant::now() + idle;
                }
                match rest {
                    Rest::More => {}
                    Rest::Partial => break,
                    Rest::Garbage => return Err(End::Closed),
                }
            }
            // An idle connection holds little.
            self.input.shrink_to(READ);
            self.output.shrink_to(READ);
            if stop.requested() {
                return Ok(());
            }
        }
    }

    /// Answers whole queries, all against one snapshot, until there is no more or enough to write.
    /// Returns how many there were.
    fn answer_some(&mut self) -> (usize, Rest) {
        let (mut queries, mut at) = (0, 0);
        let (mut reply, mut ahead) = (Vec::new(), Ahead::default());
        let snapshot = self.service.cell.load();
        let rest = loop {
            if self.output.len() >= WRITE {
                break Rest::More;
            }
            let query = match next_frame(&self.input[at..]) {
                Frame::Whole(query) => query,
                Frame::Partial => break Rest::Partial,
                // No message: a client that sends this is lost or worse.
                Frame::Empty => break Rest::Garbage,
            };
            at += PREFIX + query.len();
            queries += 1;
            // Once for what came together, and only where something did.
            reply.resize(MAX_MESSAGE, 0);
            let (answer, turn) = (self.service.answer, self.turn);
            self.turn = turn.wrapping_add(1);
            ahead.read(query);
            let found = Found::nothing(&snapshot);
            match answer(found, query, &ahead, self.client, turn, &mut reply) {
                Some(answered) => {
                    self.service.counters.record(&answered);
                    // The buffer holds no more than fits 16 bits.
                    self.output.extend_from_slice(&(answered.len as u16).to_be_bytes());
                    self.output.extend_from_slice(&reply[..answered.len]);
                }
                None => self.service.counters.dropped(Dropped::Unanswerable, 1),
            }
        };
        self.input.drain(..at);
        (queries, rest)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.service.metrics.open.dec();
    }
}

/// What stands at the front of the octets received.
enum Frame<'a> {
    Whole(&'a [u8]),
    Partial,
    /// A length of zero.
    Empty,
}

fn next_frame(input: &[u8]) -> Frame<'_> {
    match input {
        [0, 0, ..] => Frame::Empty,
        [high, low, rest @ ..] => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            rest.get(..len).map_or(Frame::Partial, Frame::Whole)
        }
        _ => Frame::Partial,
    }
}
