//! Binding every socket before any is served.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::dns::{DnsSocket, DnsSockets};
use super::http::HttpSocket;
use super::{STOP_LIMIT, Settings};

/// Kernel buffers of a UDP socket, octets. A burst must wait there while a worker is off the
/// processor: the usual 208 KiB lose more than half of 512 queries that come at once. 4 MiB hold
/// some five thousand, about 20 ms of work, and older queries have been asked again anyway. To
/// those without `CAP_NET_ADMIN` the kernel grants at most `net.core.rmem_max` and `wmem_max`.
const UDP_BUFFER: usize = 4 << 20;

/// How long a UDP worker waits for a query before it looks whether to stop, and for room in the
/// send buffer before it drops a reply.
const UDP_WAIT: Duration = Duration::from_millis(250);

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn` (4096).
const BACKLOG: i32 = 1024;

/// Ports tried where the system chooses one: it must be free over both UDP and TCP.
const PORT_TRIES: usize = 16;

// A worker must see a request to stop well before it is given up.
const _: () = assert!(UDP_WAIT.as_millis() * 4 < STOP_LIMIT.as_millis());

/// Why the sockets cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// One address cannot be bound.
    #[error("cannot listen on {address} ({protocol}): {source}{}", advice(source))]
    Address {
        /// As configured.
        address: SocketAddr,
        /// What for: `DNS over UDP`, `DNS over TCP`, `HTTP`.
        protocol: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// All addresses are IPv6, and the machine has none.
    #[error("no address to answer DNS on: this machine has no IPv6, and no IPv4 address is set")]
    None,
}

/// What to do about an error, to follow its text.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": is another server running?",
        io::ErrorKind::AddrNotAvailable => ": no interface of this machine has this address",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

/// All sockets, bound and not yet served. The two parts are served on their own, because `/readyz`
/// answers from the start and DNS only once there is something to answer with.
#[derive(Debug)]
pub struct Sockets {
    /// DNS over UDP and TCP.
    pub dns: DnsSockets,
    /// The HTTP pages, where configured.
    pub http: Option<HttpSocket>,
}

impl Sockets {
    /// Binds every address of `settings`. An IPv6 address on a machine without IPv6 is left out
    /// with a warning.
    ///
    /// # Errors
    /// [`BindError`] for the first address that cannot be bound, or where none is left.
    pub fn bind(settings: &Settings) -> Result<Self, BindError> {
        let mut sockets = Vec::with_capacity(settings.dns.len());
        for &address in &settings.dns {
            match bind_dns(address, settings.udp_workers.get()) {
                Ok(socket) => sockets.push(socket),
                Err(BindError::Address { address, source, .. }) if lacks_ipv6(address, &source) => {
                    tracing::warn!(%address, "this machine has no IPv6: not listening there");
                }
                Err(error) => return Err(error),
            }
        }
        if sockets.is_empty() {
            return Err(BindError::None);
        }
        // All of them are granted the same.
        let granted = sockets.iter().flat_map(|socket| &socket.udp).map(granted).next();
        if let Some(granted) = granted.and_then(Result::ok)
            && granted < UDP_BUFFER
        {
            tracing::warn!(
                granted,
                asked = UDP_BUFFER,
                "receive buffers are small, and bursts of queries may be lost: raise the sysctl \
                 net.core.rmem_max, or give CAP_NET_ADMIN"
            );
        }
        let http = settings.http.map(|address| {
            let fail = |source| BindError::Address { address, protocol: "HTTP", source };
            listen(address).and_then(HttpSocket::new).map_err(fail)
        });
        let (tcp, udp_receive_offload) = (settings.tcp.clone(), settings.udp_receive_offload);
        let dns = DnsSockets { sockets, tcp, udp_receive_offload };
        Ok(Self { dns, http: http.transpose()? })
    }
}

/// Whether `address` failed because the machine has no IPv6 at all: the family is unknown, or not
/// even the loopback address exists. Another address that no interface has is a mistake.
fn lacks_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    match address {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(v6) => {
            code == Some(Errno::EAFNOSUPPORT)
                || (code == Some(Errno::EADDRNOTAVAIL)
                    && matches!(*v6.ip(), Ipv6Addr::LOCALHOST | Ipv6Addr::UNSPECIFIED))
        }
    }
}

/// One address over TCP and UDP, the same port for both.
fn bind_dns(address: SocketAddr, workers: usize) -> Result<DnsSocket, BindError> {
    let fail = |protocol| move |source| BindError::Address { address, protocol, source };
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        // TCP first, because it is exclusive: SO_REUSEPORT alone would let a second server of the
        // same user take half of our queries.
        let tcp = listen(address).map_err(fail("DNS over TCP"))?;
        let bound = tcp.local_addr().map_err(fail("DNS over TCP"))?;
        match (0..workers).map(|_| bind_udp(bound)).collect::<io::Result<Vec<_>>>() {
            Ok(udp) => return Ok(DnsSocket { address: bound, udp, tcp }),
            Err(error) if tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(fail("DNS over UDP")(error)),
        }
    }
}

/// A listening TCP socket, non-blocking.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a predecessor that linger in TIME_WAIT do not keep the port from us; one that
    // still listens does.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The UDP socket of one worker.
fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A socket for each worker, among which the kernel shares clients out by a hash. Not
    // SO_REUSEADDR, which for UDP would let any process of any user take the address over.
    socket.set_reuse_port(true)?;
    set_buffers(&socket)?;
    socket.set_read_timeout(Some(UDP_WAIT))?;
    socket.set_write_timeout(Some(UDP_WAIT))?;
    if address.ip().is_unspecified() {
        // Has the kernel say which address was asked, so that the reply comes from there.
        match address {
            SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Asks for [`UDP_BUFFER`]: beyond the system's limits where we may, else as far as they go.
fn set_buffers(socket: &Socket) -> io::Result<()> {
    if setsockopt(socket, sockopt::RcvBufForce, &UDP_BUFFER).is_err() {
        socket.set_recv_buffer_size(UDP_BUFFER)?;
    }
    if setsockopt(socket, sockopt::SndBufForce, &UDP_BUFFER).is_err() {
        socket.set_send_buffer_size(UDP_BUFFER)?;
    }
    Ok(())
}

/// How large the receive buffer of a socket is, as it would be asked for: "the kernel doubles this
/// value (to allow space for bookkeeping overhead)", socket(7).
fn granted(socket: &UdpSocket) -> io::Result<usize> {
    Ok(SockRef::from(socket).recv_buffer_size()? / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receive_buffers_are_as_large_as_the_system_allows() {
        let socket = bind_udp(([127, 0, 0, 1], 0).into()).expect("a socket");
        let most: usize = match std::fs::read_to_string("/proc/sys/net/core/rmem_max") {
            Ok(text) => text.trim().parse().expect("a number"),
            // Before Linux 6.11 a network namespace other than the first lacks it: then it is what
            // is granted to one that asks as anybody may.
            Err(_) => {
                let plain = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
                plain.set_recv_buffer_size(UDP_BUFFER).expect("an option");
                self::granted(&plain.into()).expect("an option")
            }
        };
        let granted = granted(&socket).expect("an option");
        assert!(granted >= most.min(UDP_BUFFER), "{granted} octets granted of {most}");
    }
}
