//! Queries as they were received.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc::{
    MSG_TRUNC, MSG_WAITFORONE, SOL_UDP, UDP_GRO, c_int, c_uint, iovec, mmsghdr, recvmmsg,
};

use super::super::packet::{Asked, Peer};
use super::super::{BATCH, Bound, Reception};
use super::{NOTHING, QUERY, header, information};
use crate::telemetry::Family;

/// Room for a train of queries: the longest datagram there is, and a cache line as of [`QUERY`].
const TRAIN: usize = (1 << 16) + 64;

/// Room for the control messages of a datagram: the length of the cars of a train (24 octets as the
/// kernel pads it) and the address that was asked (40 with IPv6).
const CONTROL: usize = 64;

/// Room for control messages, aligned as the kernel's.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; CONTROL]);

/// Datagrams of a batch. Each holds a query, or several of one client: a train.
pub(in crate::server::udp) struct Inbox {
    bound: Bound,
    /// Octets of a datagram's buffer.
    room: usize,
    /// Whether they may be trains.
    trains: bool,
    headers: Box<[mmsghdr; BATCH]>,
    slices: Box<[iovec; BATCH]>,
    peers: Box<[Peer; BATCH]>,
    controls: Box<[Control; BATCH]>,
    /// As much room for each.
    buffers: Vec<u8>,
}

/// A query.
#[derive(Clone, Copy, Debug)]
pub(in crate::server::udp) struct Datagram<'a> {
    pub(in crate::server::udp) octets: &'a [u8],
    /// In which datagram of the batch it came.
    pub(in crate::server::udp) index: usize,
    /// Whether more came than is taken.
    pub(in crate::server::udp) cut: bool,
}

/// A place among the queries of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::server::udp) struct Cursor {
    /// Which datagram.
    index: usize,
    /// Where in it the next query begins.
    start: usize,
}

impl Cursor {
    /// Whether it is behind all of `count` datagrams.
    pub(in crate::server::udp) fn is_behind(&self, count: usize) -> bool {
        self.index >= count
    }
}

impl Inbox {
    pub(in crate::server::udp) fn new(bound: Bound, reception: Reception) -> Self {
        let (room, trains) = match reception {
            Reception::Single => (QUERY, false),
            Reception::Trains => (TRAIN, true),
        };
        Self {
            bound,
            room,
            trains,
            headers: Box::new([header(); BATCH]),
            slices: Box::new([NOTHING; BATCH]),
            peers: Box::new([Peer::default(); BATCH]),
            controls: Box::new([Control([0; CONTROL]); BATCH]),
            buffers: vec![0; room * BATCH],
        }
    }

    /// Waits for a datagram, for as long as the socket's time-out says, and takes what has come by
    /// then. Returns how many.
    pub(in crate::server::udp) fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
    ) -> Result<usize, Errno> {
        for (i, buffer) in self.buffers.chunks_exact_mut(self.room).enumerate().take(BATCH) {
            self.slices[i] = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = ptr::from_mut(&mut self.peers[i]).cast();
            header.msg_namelen = Peer::len(self.bound.family) as _;
            header.msg_iov = &raw mut self.slices[i];
            header.msg_iovlen = 1;
            if self.bound.wildcard || self.trains {
                header.msg_control = ptr::from_mut(&mut self.controls[i]).cast();
                header.msg_controllen = CONTROL as _;
            }
        }
        let (headers, flags) = (self.headers.as_mut_ptr(), MSG_WAITFORONE);
        // SAFETY: `headers` points to `BATCH` headers, all written above, as there are as many
        // buffers. Their pointers were made above from fields of `self`, which is borrowed until the
        // call is over, and none of those fields was touched since; the lengths beside them are those
        // of what they point to. All of it is plain memory in which any octets are valid values. No
        // time-out is given.
        let count = unsafe {
            recvmmsg(socket.as_raw_fd(), headers, BATCH as c_uint, flags, ptr::null_mut())
        };
        Errno::result(count).map(|count| count as usize)
    }

    /// The query at a place among the `count` datagrams that the last call received, and moves the
    /// place to the next; `None` behind the last.
    #[inline]
    pub(in crate::server::udp) fn next(
        &self,
        at: &mut Cursor,
        count: usize,
    ) -> Option<Datagram<'_>> {
        let Cursor { index, start } = *at;
        if index >= count {
            return None;
        }
        let header = &self.headers[index];
        let len = (header.msg_len as usize).min(self.room);
        let end = match self.car(index) {
            Some(car) if start + car < len => {
                at.start = start + car;
                start + car
            }
            _ => {
                *at = Cursor { index: index + 1, start: 0 };
                len
            }
        };
        let octets = &self.buffers[index * self.room..][start..end];
        let long = octets.len() > QUERY;
        Some(Datagram {
            octets: if long { &octets[..QUERY] } else { octets },
            index,
            cut: header.msg_hdr.msg_flags & MSG_TRUNC != 0 || long,
        })
    }

    /// Who sent a datagram of the last batch.
    #[inline]
    pub(in crate::server::udp) fn peer(&self, index: usize) -> &Peer {
        &self.peers[index]
    }

    /// What a datagram says of where it went to; none also where the socket has but one address.
    #[inline]
    pub(in crate::server::udp) fn asked(&self, index: usize) -> Option<Asked> {
        if self.bound.wildcard { self.told(index).asked } else { None }
    }

    /// Octets of a query in a datagram, where it may hold several.
    #[inline]
    fn car(&self, index: usize) -> Option<usize> {
        if self.trains { self.told(index).car } else { None }
    }

    /// What the control messages of a datagram say.
    #[inline(never)]
    fn told(&self, index: usize) -> Told {
        let written = self.headers[index].msg_hdr.msg_controllen as usize;
        Told::read(&self.controls[index].0[..written.min(CONTROL)], self.bound.family)
    }
}

/// What the control messages of a datagram say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Told {
    /// Octets of each car but the last, where it is a train; not zero.
    car: Option<usize>,
    asked: Option<Asked>,
}

impl Told {
    /// Reads messages as the kernel writes them (cmsg(3)): a length of one word that counts the
    /// header too, level and type, then the data, padded to a word.
    fn read(mut octets: &[u8], family: Family) -> Self {
        const WORD: usize = size_of::<usize>();
        const HEADER: usize = WORD + 2 * size_of::<c_int>();
        let number = |octets: &[u8]| octets.first_chunk().map(|four| c_int::from_ne_bytes(*four));
        let mut told = Self::default();
        while let Some((fixed, _)) = octets.split_at_checked(HEADER)
            && let Some(word) = fixed.first_chunk()
            && let len = usize::from_ne_bytes(*word)
            && let Some(data) = octets.get(HEADER..len)
            && let (Some(level), Some(kind)) = (number(&fixed[WORD..]), number(&fixed[WORD + 4..]))
        {
            if (level, kind) == (SOL_UDP, UDP_GRO) {
                told.car =
                    number(data).and_then(|car| usize::try_from(car).ok()).filter(|c| *c > 0);
            } else if (level, kind) == information(family) {
                told.asked = Asked::read(data, family);
            }
            octets = octets.get(len.next_multiple_of(WORD)..).unwrap_or(&[]);
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::sys::socket::{
        ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, sendmsg, setsockopt,
        sockopt,
    };

    use super::super::super::Reception;
    use super::*;

    const BOUND: Bound = Bound { family: Family::V4, wildcard: false };

    fn socket(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    #[test]
    fn what_is_longer_than_any_query_is_known() {
        for reception in [Reception::Single, Reception::Trains] {
            let (from, to) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
            from.send_to(&[7; QUERY + 1], to.local_addr().unwrap()).unwrap();
            let mut inbox = Inbox::new(BOUND, reception);
            assert_eq!(inbox.receive(to.as_fd()).unwrap(), 1);
            let datagram = inbox.next(&mut Cursor::default(), 1).unwrap();
            assert_eq!((datagram.cut, datagram.octets.len()), (true, QUERY));
        }
    }

    /// Sends `queries` of `car` octets each, but for the last, as one train.
    fn send_train<A: SockaddrLike>(from: &UdpSocket, to: A, queries: &[u8], car: u16) {
        let control = [ControlMessage::UdpGsoSegments(&car)];
        let (flags, slices) = (MsgFlags::empty(), [IoSlice::new(queries)]);
        sendmsg(from.as_raw_fd(), &slices, &control, flags, Some(&to)).expect("sent");
    }

    /// Everything that has come, as text, and whether each tells where it went to.
    fn read(inbox: &mut Inbox, socket: &UdpSocket) -> Vec<(String, bool)> {
        let count = inbox.receive(socket.as_fd()).unwrap();
        let mut at = Cursor::default();
        let queries = std::iter::from_fn(|| inbox.next(&mut at, count));
        let text = |octets: &[u8]| String::from_utf8(octets.to_vec()).unwrap();
        queries.map(|query| (text(query.octets), inbox.asked(query.index).is_some())).collect()
    }

    #[test]
    fn trains_are_taken_query_by_query() {
        for (from, to, wildcard) in [
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("127.0.0.1:0", "0.0.0.0:0", true),
            ("[::1]:0", "[::1]:0", false),
            ("[::1]:0", "[::]:0", true),
        ] {
            let (from, to) = (socket(from), socket(to));
            let port = to.local_addr().unwrap().port();
            let family = Family::of(to.local_addr().unwrap().ip());
            let reception = Reception::of(&to, true);
            if reception == Reception::Single {
                println!("skipped: this kernel receives no trains");
                return;
            }
            let send = |queries: &[u8], car| match family {
                Family::V4 => send_train(&from, SockaddrIn::new(127, 0, 0, 1, port), queries, car),
                Family::V6 => {
                    let to = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 0, 0);
                    send_train(&from, SockaddrIn6::from(to), queries, car);
                }
            };
            if wildcard && family == Family::V4 {
                setsockopt(&to, sockopt::Ipv4PacketInfo, &true).unwrap();
            } else if wildcard {
                setsockopt(&to, sockopt::Ipv6RecvPacketInfo, &true).unwrap();
            }
            let mut inbox = Inbox::new(Bound { family, wildcard }, reception);
            // Twice, as buffers are used again, with one alone between.
            for _ in 0..2 {
                send(b"abcdefgh", 3);
                let told = ["abc", "def", "gh"].map(|text| (text.to_owned(), wildcard));
                assert_eq!(read(&mut inbox, &to), told);
                send(b"alone", 5);
                assert_eq!(read(&mut inbox, &to), [("alone".to_owned(), wildcard)]);
            }
        }
    }

    #[test]
    fn control_messages_that_make_no_sense_say_nothing() {
        for octets in [&[][..], &[0; 15], &[0; 16], &[0xff; 64], &[16, 0, 0, 0]] {
            assert_eq!(Told::read(octets, Family::V4), Told::default(), "{octets:?}");
        }
    }
}
