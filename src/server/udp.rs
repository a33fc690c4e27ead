//! A UDP worker: receive a batch, answer it, send the replies.
//!
//! Nearly all of a query's price is the kernel's; batches save the entry into it. Everything is
//! allocated when the worker starts. A batch that waits for nothing more than its first datagram
//! (`MSG_WAITFORONE`) adds no latency.

mod ip;

use std::array;
use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, RecvMsg, recvmmsg, sendmmsg};

use self::ip::{Ip, V4, V6};
use super::AnswerFn;
use super::stop::Stop;
use crate::answer::{Client, Transport};
use crate::snapshot::{Snapshot, SnapshotCell};
use crate::telemetry::{Counters, Dropped};

/// Datagrams a batch: 16 to 128 measure alike, and 64 fit the bits of a word.
const BATCH: usize = 64;

/// The longest query taken, octets: the largest payload size that we can be configured to announce
/// (RFC 6891 §6.2.3). Nearly all stay below 512; what is never written to takes no memory.
const QUERY: usize = 4096;

/// Room for a reply: the largest `udp_payload` of [`crate::snapshot::Identity`], and a cache line
/// that keeps the fronts of all buffers from meeting in the same cache sets.
const REPLY: usize = 4096 + 64;

/// Pause after a failure to receive that is none of the usual ones, so that one that persists
/// does not burn a processor.
const FAILURE_PAUSE: Duration = Duration::from_millis(5);

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
}

impl Worker {
    /// Serves the socket, bound to `address`, until asked to stop.
    pub(super) fn run(mut self, address: SocketAddr) {
        // Only where any address may have been asked does the kernel have to say which.
        let wildcard = address.ip().is_unspecified();
        match address {
            SocketAddr::V4(_) => self.serve::<V4>(wildcard),
            SocketAddr::V6(_) => self.serve::<V6>(wildcard),
        }
    }

    fn serve<I: Ip>(&mut self, wildcard: bool) {
        let socket = self.socket.as_raw_fd();
        let headers = || MultiHeaders::preallocate(BATCH, wildcard.then(I::control_space));
        let mut received = headers();
        let mut replies = Replies::<I>::new(headers());
        // The buffers, a third of a megabyte, live on this thread's stack of two.
        let mut queries = [[0; QUERY]; BATCH];
        while !self.stop.requested() {
            let mut slices = queries.each_mut().map(|query| [IoSliceMut::new(query)]);
            let flags = MsgFlags::MSG_WAITFORONE;
            let batch = match recvmmsg(socket, &mut received, slices.iter_mut(), flags, None) {
                Ok(batch) => batch,
                Err(error) => {
                    self.receive_failed(error);
                    continue;
                }
            };
            let start = Instant::now();
            let (mut count, mut damaged) = (0, false);
            // Loaded once a batch, and given back before waiting: a snapshot that was replaced
            // must not live for as long as a worker has nothing to do.
            let snapshot = self.cell.load();
            for message in batch {
                count += 1;
                if let Err(reason) = self.reply_to(&snapshot, &message, wildcard, &mut replies) {
                    self.counters.dropped(reason, 1);
                    damaged |= reason == Dropped::NoDestination;
                }
            }
            drop(snapshot);
            replies.send(socket, &mut self.counters);
            self.counters.batch(start.elapsed(), count);
            if damaged {
                // The kernel shortened the room for control messages to what it used; nix does
                // not widen it again.
                received = headers();
            }
        }
    }

    /// Adds the reply to one query.
    fn reply_to<I: Ip>(
        &mut self,
        snapshot: &Snapshot,
        message: &RecvMsg<'_, '_, I::Address>,
        wildcard: bool,
        replies: &mut Replies<I>,
    ) -> Result<(), Dropped> {
        // The kernel gives an address with every datagram.
        let peer = message.address.ok_or(Dropped::PortZero)?;
        let (address, port) = I::client(peer);
        if port == 0 {
            return Err(Dropped::PortZero);
        }
        if message.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(Dropped::Oversize);
        }
        let asked = match wildcard {
            false => None,
            true => {
                let mut control = message.cmsgs().map_err(|_| Dropped::NoDestination)?;
                Some(control.find_map(I::asked).ok_or(Dropped::NoDestination)?)
            }
        };
        let query = message.iovs().next().unwrap_or_default();
        let client = Client { address, transport: Transport::Udp };
        let (turn, slot) = (self.turn, replies.count);
        self.turn = turn.wrapping_add(1);
        let reply = &mut replies.buffers[slot][..];
        let answered = (self.answer)(snapshot, query, client, turn, reply);
        let answered = answered.ok_or(Dropped::Unanswerable)?;
        self.counters.record(&answered);
        replies.lengths[slot] = answered.len;
        replies.peers[slot] = Some(peer);
        replies.asked[slot] = asked;
        replies.count += 1;
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

/// The replies of one batch.
struct Replies<I: Ip> {
    headers: MultiHeaders<I::Address>,
    count: usize,
    buffers: [[u8; REPLY]; BATCH],
    lengths: [usize; BATCH],
    peers: [Option<I::Address>; BATCH],
    /// The address that was asked, to reply from; none where the socket has but one.
    asked: [Option<I::Asked>; BATCH],
}

impl<I: Ip> Replies<I> {
    fn new(headers: MultiHeaders<I::Address>) -> Self {
        Self {
            headers,
            count: 0,
            buffers: [[0; REPLY]; BATCH],
            lengths: [0; BATCH],
            peers: [None; BATCH],
            asked: [None; BATCH],
        }
    }

    /// Sends all and empties the batch. `sendmmsg` of nix takes one set of control messages for
    /// all datagrams, so those from one address go together: one call in nearly every batch.
    fn send(&mut self, socket: RawFd, counters: &mut Counters) {
        let Self { headers, buffers, lengths, peers, asked, count } = self;
        // A bit for each reply; none is left where there are none.
        let mut waiting = u64::MAX.checked_shr((BATCH - *count) as u32).unwrap_or(0);
        while waiting != 0 {
            let from = asked[waiting.trailing_zeros() as usize];
            let mut slices = array::from_fn::<_, BATCH, _>(|_| [IoSlice::new(&[])]);
            let mut to = [None; BATCH];
            let mut group = 0;
            for i in 0..*count {
                if waiting & (1 << i) != 0 && asked[i] == from {
                    waiting &= !(1 << i);
                    slices[group] = [IoSlice::new(&buffers[i][..lengths[i]])];
                    to[group] = peers[i];
                    group += 1;
                }
            }
            let failed = send_from::<I>(socket, headers, from, &slices[..group], &to[..group]);
            counters.dropped(Dropped::Send, failed);
        }
        *count = 0;
    }
}

/// Sends datagrams from one address; returns how many could not be sent.
fn send_from<I: Ip>(
    socket: RawFd,
    headers: &mut MultiHeaders<I::Address>,
    from: Option<I::Asked>,
    slices: &[[IoSlice<'_>; 1]],
    to: &[Option<I::Address>],
) -> usize {
    let control = from.as_ref().map(I::control);
    let (mut done, mut failed) = (0, 0);
    while done < slices.len() {
        let (slices, to) = (&slices[done..], &to[done..]);
        match sendmmsg(socket, headers, slices, to, control.as_slice(), MsgFlags::empty()) {
            // The kernel stops before a datagram that it cannot send, and the next call says why.
            // Counting is the only way that nix gives to the number.
            Ok(sent) => done += sent.count(),
            Err(Errno::EINTR) => {}
            // The send buffer stayed full for as long as we wait: the way out is blocked for all.
            Err(Errno::EAGAIN) => return failed + slices.len(),
            // A fault of this one datagram: no route, refused by a filter.
            Err(_) => {
                failed += 1;
                done += 1;
            }
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::SockaddrIn;

    use super::*;

    #[test]
    fn a_datagram_that_cannot_be_sent_does_not_hold_up_the_rest() {
        let bind = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (from, to) = (bind(), bind());
        to.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let SocketAddr::V4(good) = to.local_addr().unwrap() else { unreachable!() };
        // Nothing can be sent to port 0.
        let bad = std::net::SocketAddrV4::new(*good.ip(), 0);
        let targets = [bad, good, bad, bad, good, bad].map(|to| Some(SockaddrIn::from(to)));
        let slices = [b"0", b"1", b"2", b"3", b"4", b"5"].map(|octet| [IoSlice::new(octet)]);
        let mut headers = MultiHeaders::preallocate(BATCH, None);
        let failed = send_from::<V4>(from.as_raw_fd(), &mut headers, None, &slices, &targets);
        assert_eq!(failed, 4);
        for expected in [b"1", b"4"] {
            let mut octet = [0];
            to.recv(&mut octet).unwrap();
            assert_eq!(&octet, expected);
        }
    }
}
