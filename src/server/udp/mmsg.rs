//! `recvmmsg` and `sendmmsg`, the only `unsafe` of this crate.
//!
//! *Owns*: the buffers of a batch and the headers by which the kernel finds them. *Guarantees*: it
//! allocates when made and never again. *Does not*: know DNS, or why a reply goes where it goes.
//!
//! Why not nix: its `sendmmsg` gives all datagrams of a call the same control messages, where each
//! train needs its own length and each reply its own source, and its `sendmsg` allocates every time.

#![allow(unsafe_code, reason = "two system calls that no safe wrapper makes as they are needed")]
#![allow(clippy::unnecessary_cast, reason = "lengths have other widths with musl")]

mod inbox;
mod outbox;

use std::mem::zeroed;
use std::ptr;

use nix::libc::{IP_PKTINFO, IPPROTO_IP, IPPROTO_IPV6, IPV6_PKTINFO, c_int, iovec, mmsghdr};

pub(super) use self::inbox::{Cursor, Datagram, Inbox};
pub(super) use self::outbox::Outbox;
use crate::telemetry::Family;

/// The longest query taken, octets: the largest payload size that we can be configured to announce
/// (RFC 6891 §6.2.3), and a cache line that keeps the fronts of all buffers from meeting in the
/// same cache sets. Nearly all stay below 512; what is never written to takes no memory.
const QUERY: usize = 4096 + 64;

/// Room for a reply: the largest `udp_payload` of [`crate::snapshot::Identity`], and a cache line.
const REPLY: usize = 4096 + 64;

/// What a control message says, by family: level and type.
fn information(family: Family) -> (c_int, c_int) {
    match family {
        Family::V4 => (IPPROTO_IP, IP_PKTINFO),
        Family::V6 => (IPPROTO_IPV6, IPV6_PKTINFO),
    }
}

/// A header that points to nothing.
fn header() -> mmsghdr {
    // SAFETY: it consists of integers and pointers, for which zero is a value.
    unsafe { zeroed() }
}

/// A slice of nothing.
const NOTHING: iovec = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
