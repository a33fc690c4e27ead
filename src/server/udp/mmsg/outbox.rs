//! Replies on their way out.

use std::mem::{offset_of, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc::{SOL_UDP, UDP_SEGMENT, c_int, c_uint, cmsghdr, iovec, mmsghdr, sendmmsg};

use super::super::packet::{Asked, Peer};
use super::super::train::{Cars, Destination, Trains};
use super::super::{BATCH, Segmentation};
use super::{NOTHING, REPLY, header, information};
use crate::telemetry::Family;

/// What the kernel aligns control messages to: `CMSG_ALIGN`.
const ALIGN: usize = size_of::<usize>();

/// A control message with its data (cmsg(3)), padded as `CMSG_SPACE` has it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Control<T> {
    align: [usize; 0],
    header: cmsghdr,
    data: T,
}

/// Octets of `header` and `data`, not padded: `CMSG_LEN`.
const fn control_len(data: usize) -> usize {
    size_of::<cmsghdr>() + data
}

/// Octets of the same, padded: `CMSG_SPACE`.
const fn control_space(data: usize) -> usize {
    control_len(data.next_multiple_of(ALIGN))
}

// As `CMSG_DATA` has it: right behind the header, which is aligned for whatever follows.
const _: () = {
    assert!(offset_of!(Control<Asked>, data) == size_of::<cmsghdr>());
    assert!(offset_of!(Control<u16>, data) == size_of::<cmsghdr>());
    assert!(size_of::<cmsghdr>().is_multiple_of(ALIGN));
    assert!(size_of::<Control<Asked>>() == control_space(size_of::<Asked>()));
};

impl<T> Control<T> {
    fn new(data: T) -> Self {
        // SAFETY: the header consists of integers.
        Self { align: [], header: unsafe { zeroed() }, data }
    }

    /// With its level, its type, and the octets of its data that count.
    fn fill(&mut self, (level, kind): (c_int, c_int), data: T, len: usize) {
        self.header.cmsg_len = control_len(len) as _;
        self.header.cmsg_level = level;
        self.header.cmsg_type = kind;
        self.data = data;
    }
}

/// Control messages of a train: the length of its cars, then its source. In this order because
/// the next message begins where `CMSG_SPACE` of the one before ends, and only of the length is
/// that the same for both families.
#[derive(Clone, Copy)]
#[repr(C)]
struct Way {
    segment: Control<u16>,
    source: Control<Asked>,
}

const _: () = {
    assert!(offset_of!(Way, source) == control_space(size_of::<u16>()));
    assert!(size_of::<Way>() == offset_of!(Way, source) + size_of::<Control<Asked>>());
};

/// Where the source of a reply stands in its [`Way`].
const SOURCE: usize = offset_of!(Way, source);

/// Replies on their way out.
pub(in crate::server::udp) struct Outbox {
    family: Family,
    buffers: Box<[[u8; REPLY]]>,
    destinations: Vec<Destination>,
    trains: Trains,
    /// One for each train.
    headers: Box<[mmsghdr; BATCH]>,
    /// One for each reply, those of a train in a row.
    slices: Box<[iovec; BATCH]>,
    ways: Box<[Way; BATCH]>,
}

impl Outbox {
    pub(in crate::server::udp) fn new(family: Family, segmentation: Segmentation) -> Self {
        let way = Way { segment: Control::new(0), source: Control::new(Asked::default()) };
        Self {
            family,
            buffers: vec![[0; REPLY]; BATCH].into(),
            destinations: Vec::with_capacity(BATCH),
            trains: Trains::new(segmentation),
            headers: Box::new([header(); BATCH]),
            slices: Box::new([NOTHING; BATCH]),
            ways: Box::new([way; BATCH]),
        }
    }

    /// Room for the next reply; there is some for as many as a batch has queries.
    #[inline]
    pub(in crate::server::udp) fn room(&mut self) -> &mut [u8] {
        &mut self.buffers[self.destinations.len()]
    }

    /// For how many more replies there is room.
    pub(in crate::server::udp) fn left(&self) -> usize {
        BATCH - self.destinations.len()
    }

    /// What was written to the room is a reply.
    #[inline]
    pub(in crate::server::udp) fn push(&mut self, destination: Destination) {
        debug_assert!(destination.len <= REPLY && self.destinations.len() < BATCH);
        self.destinations.push(destination);
    }

    /// Sends all and is empty. Returns how many could not be sent.
    pub(in crate::server::udp) fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        self.trains.make(&self.destinations);
        let count = self.address();
        let (mut done, mut failed) = (0, 0);
        while done < count {
            match self.call(socket, done, count) {
                // The kernel stops before a datagram that it cannot send, and the next call says
                // why.
                Ok(sent) => done += sent,
                Err(Errno::EINTR) => {}
                // The send buffer stayed full for as long as we wait: the way out is blocked for
                // all.
                Err(Errno::EAGAIN) => {
                    failed += self.headers[done..count].iter().map(cars).sum::<usize>();
                    break;
                }
                Err(_) => {
                    failed += self.send_singly(socket, done);
                    done += 1;
                }
            }
        }
        self.destinations.clear();
        failed
    }

    /// Writes a header for each train; returns how many there are.
    fn address(&mut self) -> usize {
        let Self { family, buffers, destinations, trains, headers, slices, ways } = self;
        let buffers = buffers.as_mut_ptr();
        let (mut count, mut filled) = (0, 0);
        for (length, cars) in trains.iter() {
            let (header, way) = (&mut headers[count].msg_hdr, &mut ways[count]);
            let asked = destinations[cars.first()].asked;
            header.msg_namelen = Peer::len(*family) as _;
            header.msg_iovlen = cars.len() as _;
            let end = match asked {
                None => SOURCE,
                Some(asked) => {
                    let len = Asked::len(*family);
                    way.source.fill(information(*family), asked, len);
                    SOURCE + control_space(len)
                }
            };
            header.msg_controllen = (end - begin(&cars)) as _;
            if cars.len() > 1 {
                way.segment.fill((SOL_UDP, UDP_SEGMENT), length, size_of::<u16>());
            }
            for reply in cars {
                let start = buffers.wrapping_add(reply).cast();
                slices[filled] = iovec { iov_base: start, iov_len: destinations[reply].len };
                filled += 1;
            }
            count += 1;
        }
        // Pointers come last: what they lead to is not touched from here until all is sent.
        let (to, slices, ways) =
            (destinations.as_mut_ptr(), slices.as_mut_ptr(), ways.as_mut_ptr());
        filled = 0;
        for (train, (_, cars)) in trains.iter().enumerate() {
            let header = &mut headers[train].msg_hdr;
            let to = to.wrapping_add(cars.first());
            header.msg_name = to.wrapping_byte_add(offset_of!(Destination, peer)).cast();
            header.msg_iov = slices.wrapping_add(filled);
            filled += cars.len();
            let way = ways.wrapping_add(train);
            header.msg_control = way.wrapping_byte_add(begin(&cars)).cast();
        }
        count
    }

    /// Sends the trains from `first` to before `end`; returns how many left before one did not.
    fn call(&mut self, socket: BorrowedFd<'_>, first: usize, end: usize) -> Result<usize, Errno> {
        let headers = &mut self.headers[first..end];
        let (headers, count) = (headers.as_mut_ptr(), headers.len() as c_uint);
        // SAFETY: `headers` points to `count` headers, which `address` has written. Their pointers
        // lead into buffers, destinations, slices and ways of `self`, which is borrowed until the
        // call is over; since they were made nothing has touched those. Slices are as long as
        // replies, which fit their buffers; as many belong to a header as its train has cars;
        // names and control messages have the lengths of their types. The kernel reads all that,
        // and writes to the headers alone.
        let sent = unsafe { sendmmsg(socket.as_raw_fd(), headers, count, 0) };
        Errno::result(sent).map(|sent| sent as usize)
    }

    /// Sends the cars of a train one by one, after the kernel has refused it as a whole: some
    /// ways (IPsec, a small MTU) take no trains. Returns how many could not be sent.
    fn send_singly(&mut self, socket: BorrowedFd<'_>, train: usize) -> usize {
        let cars = cars(&self.headers[train]);
        if cars == 1 {
            // It was alone, and tried.
            return 1;
        }
        let header = &mut self.headers[train].msg_hdr;
        header.msg_iovlen = 1;
        header.msg_control = header.msg_control.wrapping_byte_add(SOURCE);
        header.msg_controllen = (header.msg_controllen as usize - SOURCE) as _;
        let mut failed = 0;
        for car in 0..cars {
            let mut sent = Err(Errno::EINTR);
            while sent == Err(Errno::EINTR) {
                sent = self.call(socket, train, train + 1);
            }
            if sent == Err(Errno::EAGAIN) {
                // The way out is blocked, for the rest of them too.
                return failed + (cars - car);
            }
            failed += usize::from(sent.is_err());
            let header = &mut self.headers[train].msg_hdr;
            header.msg_iov = header.msg_iov.wrapping_add(1);
        }
        failed
    }
}

/// Where in its [`Way`] the control messages of a train begin.
fn begin(cars: &Cars<'_>) -> usize {
    if cars.len() > 1 { 0 } else { SOURCE }
}

/// Replies in a train.
fn cars(header: &mmsghdr) -> usize {
    header.msg_hdr.msg_iovlen as usize
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::AsFd;
    use std::ptr;
    use std::time::Duration;

    use nix::libc::{SO_NO_CHECK, SOL_SOCKET, setsockopt};

    use super::super::super::{Bound, Reception};
    use super::super::{Cursor, Inbox};
    use super::*;

    const BOUND: Bound = Bound { family: Family::V4, wildcard: false };

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    /// The peer of a socket, as a datagram of it shows it.
    fn peer(of: &UdpSocket) -> Peer {
        let receiver = socket();
        of.send_to(b"who", receiver.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::new(BOUND, Reception::Single);
        assert_eq!(inbox.receive(receiver.as_fd()).unwrap(), 1);
        let datagram = inbox.next(&mut Cursor::default(), 1).unwrap();
        assert_eq!((datagram.octets, datagram.cut), (&b"who"[..], false));
        let peer = *inbox.peer(datagram.index);
        let (address, port) = peer.client(Family::V4);
        assert_eq!(SocketAddr::from((address, port)), of.local_addr().unwrap());
        peer
    }

    fn push(outbox: &mut Outbox, peer: Peer, reply: &[u8]) {
        outbox.room()[..reply.len()].copy_from_slice(reply);
        outbox.push(Destination { peer, asked: None, len: reply.len() });
    }

    fn hears(socket: &UdpSocket, expected: &[&[u8]]) {
        for expected in expected {
            let mut octets = [0; REPLY];
            let len = socket.recv(&mut octets).unwrap();
            assert_eq!(&octets[..len], *expected);
        }
    }

    #[test]
    fn a_datagram_that_cannot_be_sent_does_not_hold_up_the_rest() {
        let (from, to) = (socket(), socket());
        let good = peer(&to);
        // Nothing can be sent to port 0.
        let bad = good.with_port(0);
        let mut outbox = Outbox::new(Family::V4, Segmentation::Absent);
        for (to, reply) in [(bad, b"0"), (good, b"1"), (bad, b"2"), (good, b"3"), (bad, b"4")] {
            push(&mut outbox, to, reply);
        }
        assert_eq!(outbox.send(from.as_fd()), 3);
        hears(&to, &[b"1", b"3"]);
    }

    #[test]
    fn trains_arrive_car_by_car() {
        let (from, one, other) = (socket(), socket(), socket());
        let segmentation = Segmentation::of(&from);
        let mut outbox = Outbox::new(Family::V4, segmentation);
        let peers = [peer(&one), peer(&other)];
        // Twice, as headers and buffers are used again.
        for _ in 0..2 {
            for (to, reply) in [(0, "abc"), (1, "def"), (0, "ghi"), (0, "j"), (0, "k"), (1, "lm")] {
                push(&mut outbox, peers[to], reply.as_bytes());
            }
            assert_eq!(outbox.send(from.as_fd()), 0);
            hears(&one, &[b"abc", b"ghi", b"j", b"k"]);
            hears(&other, &[b"def", b"lm"]);
        }
    }

    #[test]
    fn a_train_that_is_refused_is_sent_car_by_car() {
        let (from, to) = (socket(), socket());
        let mut outbox = Outbox::new(Family::V4, Segmentation::Present);
        // Segmentation needs checksums, and this socket sends none.
        let on: c_int = 1;
        let (option, len) = (ptr::from_ref(&on).cast(), size_of::<c_int>());
        // SAFETY: the option is the number of this length that `on` holds.
        let set =
            unsafe { setsockopt(from.as_raw_fd(), SOL_SOCKET, SO_NO_CHECK, option, len as _) };
        assert_eq!(set, 0);
        let peer = peer(&to);
        for reply in [b"abc", b"def", b"ghi"] {
            push(&mut outbox, peer, reply);
        }
        outbox.trains.make(&outbox.destinations);
        assert_eq!(outbox.address(), 1, "one train");
        assert!(outbox.call(from.as_fd(), 0, 1).is_err(), "refused by the kernel");
        assert_eq!(outbox.send(from.as_fd()), 0);
        hears(&to, &[b"abc", b"def", b"ghi"]);
    }
}
