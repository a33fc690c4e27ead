//! A UDP worker: receive a batch, answer it, send the replies.
//!
//! Nearly all of a query's price is the kernel's; batches save the entry into it. Everything is
//! allocated when the worker starts, or when a reload changes how long replies may be. A batch that
//! waits for nothing more than its first datagram (`MSG_WAITFORONE`) adds no latency.

mod fragments;
mod line;
mod mmsg;
mod packet;
mod train;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use self::fragments::Fragments;
use self::line::{Aheads, Finds, Line};
use self::mmsg::{Datagram, Inbox, Outbox};
use self::train::Destination;
use super::AnswerFn;
use super::stop::Stop;
use crate::answer::{Ahead, Client, Found, Transport};
use crate::snapshot::SnapshotCell;
use crate::telemetry::{Counters, Dropped, Family};

/// Datagrams a batch: 16 to 128 measure alike, and the kernel takes at most 64 in a train.
const BATCH: usize = 64;

/// Pause after a failure to receive that is none of the usual ones, so that one that persists
/// does not burn a processor.
const FAILURE_PAUSE: Duration = Duration::from_millis(5);

/// The longest query that is taken where replies are no longer, octets: what fits every path, for who
/// asks may not know yet what we take (RFC 6891 §6.2.3).
const LONGEST_QUERY: u16 = 1232;

/// How long a worker may be busy with one batch, of which each reply may wait for room: a fraction of
/// what stopping may take, and as long as clients wait before they ask again.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the kernel cuts a long datagram into several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segmentation {
    Present,
    Absent,
}

impl Segmentation {
    /// Kernels that do not know the option (before 4.18, and some sandboxes) would send a train
    /// as one long datagram.
    fn of(socket: &UdpSocket) -> Self {
        match getsockopt(socket, sockopt::UdpGsoSegment) {
            Ok(_) => Self::Present,
            Err(_) => Self::Absent,
        }
    }
}

/// Whether the kernel may hand over several datagrams of one client as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reception {
    Single,
    /// `UDP_GRO`, udp(7).
    Trains,
}

impl Reception {
    /// Asks for trains where they are `wanted`. Kernels before 5.0, and some sandboxes, have none.
    fn of(socket: &UdpSocket, wanted: bool) -> Self {
        if !wanted {
            return Self::Single;
        }
        match setsockopt(socket, sockopt::UdpGroSegment, &true) {
            Ok(()) => Self::Trains,
            Err(error) => {
                tracing::warn!(%error, "dns.udpReceiveOffload: this kernel has no UDP_GRO; going on without");
                Self::Single
            }
        }
    }
}

/// One worker, the only user of its socket and the only writer of its counters.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) socket: UdpSocket,
    pub(super) cell: Arc<SnapshotCell>,
    pub(super) answer: AnswerFn,
    pub(super) counters: Counters,
    pub(super) stop: Stop,
    /// The turn number of the next query.
    pub(super) turn: u32,
    /// Whether to receive trains of queries where the kernel makes them.
    pub(super) receive_offload: bool,
}

/// What kind of address a socket is bound to.
#[derive(Clone, Copy, Debug)]
struct Bound {
    family: Family,
    /// Only where any address may have been asked does the kernel have to say which.
    wildcard: bool,
}

impl Worker {
    /// Serves the socket, bound to `address`, until asked to stop.
    pub(super) fn run(mut self, address: SocketAddr) {
        let ip = address.ip();
        let bound = Bound { family: Family::of(ip), wildcard: ip.is_unspecified() };
        let reception = Reception::of(&self.socket, self.receive_offload);
        let segmentation = Segmentation::of(&self.socket);
        let mut ahead = Aheads::default();
        while !self.stop.requested() {
            // Everything is as long as the longest reply that may be sent, which a reload may change.
            let longest = self.longest();
            Fragments::of(longest).apply(&self.socket, bound.family);
            let mut inbox = Inbox::new(bound, reception, longest.max(LONGEST_QUERY));
            let mut outbox = Outbox::new(bound.family, segmentation, longest);
            while !self.stop.requested() && self.longest() == longest {
                match inbox.receive(self.socket.as_fd()) {
                    Ok(count) => {
                        let start = Instant::now();
                        let received = (&inbox, count);
                        let queries = self.reply_to_all(received, bound, &mut ahead, &mut outbox);
                        self.counters.batch(start.elapsed(), queries);
                    }
                    Err(error) => self.receive_failed(error),
                }
            }
        }
    }

    /// The longest reply of the present snapshot, octets.
    fn longest(&self) -> u16 {
        self.cell.load().identity().udp_payload
    }

    /// Replies to all queries in so many datagrams that were received; gives how many these were.
    fn reply_to_all(
        &mut self,
        (inbox, count): (&Inbox, usize),
        bound: Bound,
        ahead: &mut Aheads,
        outbox: &mut Outbox,
    ) -> usize {
        let (begun, mut all) = (Instant::now(), 0);
        let mut line = Line::new((inbox, count), ahead);
        loop {
            // Loaded once a batch, and given back before waiting: a snapshot that was replaced must not
            // live for as long as a worker has nothing to do.
            let snapshot = self.cell.load();
            let mut finds = Finds::of(&snapshot);
            // Of trains there may be more than one batch of replies.
            while outbox.left() > 0
                && let Some(query) = line.next(&mut finds)
            {
                all += 1;
                let replied = self.reply_to(inbox, query, bound, outbox);
                if let Err(reason) = replied {
                    self.counters.dropped(reason, 1);
                }
            }
            let more = outbox.left() == 0;
            drop(snapshot);
            self.counters.dropped(Dropped::Send, outbox.send(self.socket.as_fd()));
            if !more {
                return all;
            }
            if begun.elapsed() > PATIENCE {
                // The way out is blocked, and who asked has asked again.
                let left = line.left();
                self.counters.dropped(Dropped::Send, left);
                return all + left;
            }
        }
    }

    /// Adds the reply to one query.
    #[inline]
    fn reply_to(
        &mut self,
        inbox: &Inbox,
        (query, ahead, found): (&Datagram<'_>, &Ahead, Found<'_>),
        bound: Bound,
        outbox: &mut Outbox,
    ) -> Result<(), Dropped> {
        let peer = inbox.peer(query.index);
        let (address, port) = peer.client(bound.family);
        if port == 0 {
            return Err(Dropped::PortZero);
        }
        if query.cut {
            return Err(Dropped::Oversize);
        }
        let asked = inbox.asked(query.index);
        if bound.wildcard && asked.is_none() {
            return Err(Dropped::NoDestination);
        }
        let client = Client { address, transport: Transport::Udp };
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        let answered = (self.answer)(found, query.octets, ahead, client, turn, outbox.room());
        let answered = answered.ok_or(Dropped::Unanswerable)?;
        self.counters.record(&answered);
        outbox.push(Destination { peer: *peer, asked, len: answered.len });
        Ok(())
    }

    fn receive_failed(&mut self, error: Errno) {
        match error {
            // Nothing came; or a signal.
            Errno::EAGAIN | Errno::EINTR => {}
            // What ICMP said of some earlier reply: the fault of whoever asked.
            Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH => {
                self.counters.dropped(Dropped::Receive, 1);
            }
            _ => {
                self.counters.dropped(Dropped::Receive, 1);
                thread::sleep(FAILURE_PAUSE);
            }
        }
    }
}
