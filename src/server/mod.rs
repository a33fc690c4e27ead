//! Sockets: UDP workers, TCP streams, HTTP.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

/// What the configuration says of sockets.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Addresses for DNS over UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// Address for /metrics, /livez, /readyz, /state and /explain; none where not configured.
    pub http: Option<SocketAddr>,
    /// UDP worker threads for each address of `dns`.
    pub udp_workers: NonZeroUsize,
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
    /// Connections of one client address.
    pub max_connections_per_client: usize,
    /// A connection without a query for so long is closed.
    pub idle_timeout: Duration,
}
