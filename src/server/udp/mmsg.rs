//! `recvmmsg` and `sendmmsg`, the only `unsafe` of this crate.
//!
//! *Owns*: the buffers of a batch and the headers by which the kernel finds them. *Guarantees*: it
//! allocates when made and never again. *Does not*: know DNS, or why a reply goes where it goes.
//!
//! Why not nix: its `sendmmsg` gives all datagrams of a call the same control messages, where each
//! train needs its own length and each reply its own source, and its `sendmsg` allocates every time.

#![allow(unsafe_code, reason = "two system calls that no safe wrapper makes as they are needed")]
#![allow(clippy::unnecessary_cast, reason = "lengths have other widths with musl")]

use std::mem::{self, offset_of, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc::{
    MSG_TRUNC, MSG_WAITFORONE, SOL_UDP, UDP_SEGMENT, c_int, c_uint, cmsghdr, iovec, mmsghdr,
    recvmmsg, sendmmsg,
};

use super::packet::{Asked, Peer, Told, information};
use super::train::{Cars, Destination, Trains};
use super::{BATCH, Bound, Reception, Segmentation};
use crate::telemetry::Family;

/// Octets from the front of one buffer to that of the next, for messages of at most `longest`: lines of
/// the processor's cache whose number is odd, so that fronts do not meet in the same sets of it. No more
/// than is needed, as every page that a batch touches has to be looked up.
fn stride(longest: u16) -> usize {
    const LINE: usize = 64;
    (usize::from(longest).div_ceil(LINE) | 1) * LINE
}

/// A header that points to nothing.
fn header() -> mmsghdr {
    // SAFETY: it consists of integers and pointers, for which zero is a value.
    unsafe { zeroed() }
}

/// A slice of nothing.
const NOTHING: iovec = iovec { iov_base: ptr::null_mut(), iov_len: 0 };

/// The longest train of queries, octets: the longest datagram there is.
const TRAIN: u16 = u16::MAX;

/// Room for the control messages of a datagram: the length of the cars of a train (24 octets as the
/// kernel pads it) and the address that was asked (40 with IPv6).
const CONTROL: usize = 64;

/// Room for control messages, aligned as the kernel's.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Controls([u8; CONTROL]);

/// Datagrams of a batch. Each holds a query, or several of one client: a train.
pub(super) struct Inbox {
    bound: Bound,
    /// The longest query taken, octets.
    longest: u16,
    /// The longest datagram, octets.
    datagram: u16,
    /// Whether they may be trains.
    trains: bool,
    headers: Box<[mmsghdr; BATCH]>,
    slices: Box<[iovec; BATCH]>,
    peers: Box<[Peer; BATCH]>,
    controls: Box<[Controls; BATCH]>,
    /// As much room for each: the [`stride`] of the longest.
    buffers: Vec<u8>,
}

/// A query.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Datagram<'a> {
    pub(super) octets: &'a [u8],
    /// In which datagram of the batch it came.
    pub(super) index: usize,
    /// Whether more came than is taken.
    pub(super) cut: bool,
}

/// A place among the queries of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    /// Which datagram.
    index: usize,
    /// Where in it the next query begins.
    start: usize,
}

impl Inbox {
    /// For queries of at most `longest` octets.
    pub(super) fn new(bound: Bound, reception: Reception, longest: u16) -> Self {
        let (datagram, trains) = match reception {
            Reception::Single => (longest, false),
            Reception::Trains => (TRAIN, true),
        };
        Self {
            bound,
            longest,
            datagram,
            trains,
            headers: Box::new([header(); BATCH]),
            slices: Box::new([NOTHING; BATCH]),
            peers: Box::new([Peer::default(); BATCH]),
            controls: Box::new([Controls([0; CONTROL]); BATCH]),
            buffers: vec![0; stride(datagram) * BATCH],
        }
    }

    /// Waits for a datagram, for as long as the socket's time-out says, and takes what has come by
    /// then. Returns how many.
    pub(super) fn receive(&mut self, socket: BorrowedFd<'_>) -> Result<usize, Errno> {
        let buffers = self.buffers.chunks_exact_mut(stride(self.datagram));
        for (i, buffer) in buffers.enumerate().take(BATCH) {
            let buffer = &mut buffer[..usize::from(self.datagram)];
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
    // Left to the compiler it is called, which takes a third as many instructions more.
    #[inline(always)]
    pub(super) fn next(&self, at: &mut Cursor, count: usize) -> Option<Datagram<'_>> {
        let Cursor { index, start } = *at;
        if index >= count {
            return None;
        }
        let header = &self.headers[index];
        let len = (header.msg_len as usize).min(self.datagram.into());
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
        let front = index * stride(self.datagram);
        let octets = &self.buffers[front + start..front + end];
        let long = octets.len() > usize::from(self.longest);
        Some(Datagram {
            octets: if long { &octets[..self.longest.into()] } else { octets },
            index,
            cut: header.msg_hdr.msg_flags & MSG_TRUNC != 0 || long,
        })
    }

    /// Who sent a datagram of the last batch.
    #[inline]
    pub(super) fn peer(&self, index: usize) -> &Peer {
        &self.peers[index]
    }

    /// What a datagram says of where it went to; none also where the socket has but one address.
    #[inline]
    pub(super) fn asked(&self, index: usize) -> Option<Asked> {
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
pub(super) struct Outbox {
    family: Family,
    /// The longest reply, octets.
    longest: u16,
    /// As much room for each: the [`stride`] of the longest.
    buffers: Vec<u8>,
    destinations: Vec<Destination>,
    trains: Trains,
    /// One for each train.
    headers: Box<[mmsghdr; BATCH]>,
    /// One for each reply, those of a train in a row.
    slices: Box<[iovec; BATCH]>,
    ways: Box<[Way; BATCH]>,
}

impl Outbox {
    /// For replies of at most `longest` octets.
    pub(super) fn new(family: Family, segmentation: Segmentation, longest: u16) -> Self {
        let way = Way { segment: Control::new(0), source: Control::new(Asked::default()) };
        Self {
            family,
            longest,
            buffers: vec![0; stride(longest) * BATCH],
            destinations: Vec::with_capacity(BATCH),
            trains: Trains::new(segmentation),
            headers: Box::new([header(); BATCH]),
            slices: Box::new([NOTHING; BATCH]),
            ways: Box::new([way; BATCH]),
        }
    }

    /// Room for the next reply; there is some for as many as a batch has queries.
    #[inline]
    pub(super) fn room(&mut self) -> &mut [u8] {
        let start = self.destinations.len() * stride(self.longest);
        &mut self.buffers[start..start + usize::from(self.longest)]
    }

    /// For how many more replies there is room.
    pub(super) fn left(&self) -> usize {
        BATCH - self.destinations.len()
    }

    /// What was written to the room is a reply.
    #[inline]
    pub(super) fn push(&mut self, destination: Destination) {
        debug_assert!(self.destinations.len() < BATCH);
        let len = destination.len.min(self.longest.into());
        self.destinations.push(Destination { len, ..destination });
    }

    /// Sends all and is empty. Returns how many could not be sent.
    pub(super) fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
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
        let Self { family, longest, buffers, destinations, trains, headers, slices, ways } = self;
        let (buffers, stride) = (buffers.as_mut_ptr(), stride(*longest));
        let (mut count, mut free) = (0, &mut slices[..]);
        let places = headers.iter_mut().zip(ways.iter_mut());
        for ((length, cars), (header, way)) in trains.iter().zip(places) {
            let header = &mut header.msg_hdr;
            header.msg_namelen = Peer::len(*family) as _;
            header.msg_iovlen = cars.len() as _;
            let end = match destinations[cars.first()].asked {
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
            // As many as the header says, or none at all.
            let (own, others) = mem::take(&mut free).split_at_mut(cars.len());
            free = others;
            for (reply, slice) in cars.zip(own) {
                slice.iov_base = buffers.wrapping_add(reply * stride).cast();
                slice.iov_len = destinations[reply].len;
            }
            count += 1;
        }
        // Pointers come last: what they lead to is not touched from here until all is sent.
        let (to, mut slices, mut way) =
            (destinations.as_mut_ptr(), slices.as_mut_ptr(), ways.as_mut_ptr());
        for ((_, cars), header) in trains.iter().zip(headers.iter_mut()) {
            let header = &mut header.msg_hdr;
            let to = to.wrapping_add(cars.first());
            header.msg_name = to.wrapping_byte_add(offset_of!(Destination, peer)).cast();
            header.msg_iov = slices;
            slices = slices.wrapping_add(cars.len());
            header.msg_control = way.wrapping_byte_add(begin(&cars)).cast();
            way = way.wrapping_add(1);
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
        // replies, none of which `push` takes for longer than its buffer; as many belong to a
        // header as its train has cars; names and control messages have the lengths of their
        // types. The kernel reads all that, and writes to the headers alone.
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

/// Has a socket send no checksums, which trains need.
#[cfg(test)]
fn without_checksums(socket: BorrowedFd<'_>) {
    use nix::libc::{SO_NO_CHECK, SOL_SOCKET, setsockopt};
    let on: c_int = 1;
    let (option, len) = (ptr::from_ref(&on).cast(), size_of::<c_int>());
    // SAFETY: the option is the number of this length that `on` holds.
    let set = unsafe { setsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_NO_CHECK, option, len as _) };
    assert_eq!(set, 0);
}

#[cfg(test)]
mod tests;
