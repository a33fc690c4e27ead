//! Sockets: UDP workers, TCP streams, HTTP.
//!
//! *Owns*: binding, the threads and tasks that move bytes between sockets and the answer
//! function, their limits, the HTTP pages. *Guarantees*: every socket is bound before any is
//! served; a UDP query takes no allocation and no lock; a snapshot is loaded once for a batch and
//! never held while a worker waits; stopping is bounded in time; `udp::mmsg` alone is unsafe.
//! *Does not*: look into DNS
//! messages, decide when to answer, or make what the HTTP pages show.
//!
//! | standard | where |
//! |---|---|
//! | RFC 7766 DNS over TCP | `tcp` |
//! | DNS flag day 2020, fragmentation; RFC 9715 | `udp::fragments` |

mod bind;
mod dns;
mod files;
mod http;
mod slots;
mod stop;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use crate::answer::{Ahead, Answered, Client, Found};

pub use bind::{BindError, Sockets};
pub use dns::{DnsSockets, RunningDns};
pub use files::{most_open_files, raise_open_files};
pub use http::{HttpSocket, HttpState, RunningHttp};

/// What the configuration says of sockets.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Addresses for DNS over UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// Address for /metrics, /livez, /readyz, /state and /explain; none where not configured.
    pub http: Option<SocketAddr>,
    /// UDP worker threads for each address of `dns`.
    pub udp_workers: NonZeroUsize,
    /// Whether UDP workers take several queries of one client as one where the kernel has put them
    /// together (`UDP_GRO`, udp(7)).
    pub udp_receive_offload: bool,
    /// DNS over TCP.
    pub tcp: TcpSettings,
    /// How long to keep answering after SIGTERM, not ready, before exit.
    pub drain: Duration,
}

/// Limits of DNS over TCP (RFC 7766 §6.1, §6.2).
#[derive(Clone, Debug, PartialEq)]
pub struct TcpSettings {
    /// Connections in all.
    pub max_connections: usize,
    /// Connections of one client: of an IPv4 address, or of an IPv6 /64, since one host commands
    /// all of its /64.
    pub max_connections_per_client: usize,
    /// A connection is closed when no query has become whole for so long, whether nothing came or
    /// a part, and when replies are not taken for so long.
    pub idle_timeout: Duration,
}

/// The function that makes a reply of a query that was read ahead:
/// [`crate::answer::answer_ahead`], or in tests a stand-in.
///
/// A plain function pointer rather than a type parameter: one well-predicted indirect call beside
/// the four microseconds that the kernel takes for a datagram, and nothing here is generic.
pub type AnswerFn = fn(Found<'_>, &[u8], &Ahead, Client, u32, &mut [u8]) -> Option<Answered>;

/// How long stopping may take before what still runs is abandoned: more than a UDP worker waits
/// for a datagram, less than Kubernetes' usual 30 s before it kills.
const STOP_LIMIT: Duration = Duration::from_secs(5);
