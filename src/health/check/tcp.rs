//! Checks by TCP, and the connections of all others.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};

use super::deadline::{Deadline, Fault};

/// A connection to `address`. When it is dropped it is reset instead of being closed in turns:
/// otherwise each check would leave its port in TIME-WAIT for a minute, and thousands a second
/// would use up all ports. Nothing is lost by it, as we have read what we want.
pub(super) async fn connect(
    address: SocketAddr,
    deadline: &mut Deadline,
) -> Result<TcpStream, Fault> {
    let ours = |error: io::Error| Fault::Ours(format!("no socket: {error}"));
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(ours)?;
    socket.set_zero_linger().map_err(ours)?;
    let connection = async { socket.connect(address).await.map_err(|e| fault(address, &e)) };
    // The kernel connects without us, however late we look.
    deadline.limit("no connection", connection).await.map_err(|fault| match fault {
        Fault::Late(why) => Fault::Target(why),
        fault => fault,
    })
}

/// Whose fault it is that `address` could not be reached.
pub(super) fn fault(address: SocketAddr, error: &io::Error) -> Fault {
    if is_ours(error) || (is(error, Errno::NETUNREACH) && !has_route(address)) {
        Fault::Ours(format!("cannot ask from here: {error}"))
    } else {
        Fault::Target(error.to_string())
    }
}

/// Whether the system refused before it sent anything: no file, port or memory left, no address
/// of the family, or a rule of its own firewall.
fn is_ours(error: &io::Error) -> bool {
    const OURS: [Errno; 8] = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
        Errno::AFNOSUPPORT,
        Errno::ACCESS,
        Errno::PERM,
    ];
    OURS.iter().any(|errno| is(error, *errno))
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Whether the machine has any route to `address`: "network is unreachable" is said both by it,
/// where there is none, and by routers further on. Connecting a datagram socket sends nothing.
fn has_route(address: SocketAddr) -> bool {
    let any = if address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}
