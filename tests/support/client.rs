//! A DNS client over the sockets of the system.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::PATIENCE;
use super::dns::{Query, Reply};

/// How long to wait for a datagram before it is taken for lost and sent again.
const RESEND: Duration = Duration::from_secs(2);

/// Datagrams are sent so often before the server is taken for dead.
const SENDS: u32 = 5;

/// What carries a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Udp,
    Tcp,
}

/// Both transports.
pub(crate) const BOTH: [Over; 2] = [Over::Udp, Over::Tcp];

/// Who asks, and whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) server: SocketAddr,
    pub(crate) source: IpAddr,
}

impl Client {
    /// A client at 127.0.0.1.
    pub(crate) fn of(server: SocketAddr) -> Self {
        Self { server, source: Ipv4Addr::LOCALHOST.into() }
    }

    /// Asks and reads the reply, whose id and question must be the query's.
    pub(crate) fn ask(&self, over: Over, query: &Query) -> Result<Reply, String> {
        let bytes = self.exchange(over, &query.bytes()).map_err(|error| error.to_string())?;
        let reply = Reply::parse(&bytes)?;
        if reply.message.metadata.id != query.id || reply.bytes[2] & 0x80 == 0 {
            return Err("no reply to this query".into());
        }
        if !reply.has_question(&query.question()) {
            return Err(format!("the question is not echoed octet for octet\n{reply}"));
        }
        Ok(reply)
    }

    /// Sends a message and gives what comes back.
    pub(crate) fn exchange(&self, over: Over, message: &[u8]) -> io::Result<Vec<u8>> {
        match over {
            Over::Udp => {
                let socket = self.udp()?;
                socket.set_read_timeout(Some(RESEND))?;
                for _ in 1..SENDS {
                    socket.send(message)?;
                    match receive(&socket) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        done => return done,
                    }
                }
                socket.send(message)?;
                receive(&socket)
            }
            Over::Tcp => {
                let mut stream = self.tcp()?;
                send_framed(&mut stream, message)?;
                receive_framed(&mut stream)
            }
        }
    }

    /// Sends a message that gets no reply, then `probe`, which does; gives what came back first.
    /// One socket's datagrams go to one worker and its connection's messages are answered in
    /// order, so no clock is needed to see that nothing was sent before.
    pub(crate) fn first_reply_after(
        &self,
        over: Over,
        message: &[u8],
        probe: &Query,
    ) -> io::Result<Vec<u8>> {
        match over {
            Over::Udp => {
                let socket = self.udp()?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.send(message)?;
                socket.send(&probe.bytes())?;
                receive(&socket)
            }
            Over::Tcp => {
                let mut stream = self.tcp()?;
                send_framed(&mut stream, message)?;
                send_framed(&mut stream, &probe.bytes())?;
                receive_framed(&mut stream)
            }
        }
    }

    /// A datagram socket that talks to the server only.
    pub(crate) fn udp(&self) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((self.source, 0))?;
        socket.connect(self.server)?;
        Ok(socket)
    }

    /// A connection to the server.
    pub(crate) fn tcp(&self) -> io::Result<TcpStream> {
        let socket =
            Socket::new(Domain::for_address(self.server), Type::STREAM, Some(Protocol::TCP))?;
        socket.bind(&SocketAddr::from((self.source, 0)).into())?;
        socket.connect_timeout(&self.server.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn receive(socket: &UdpSocket) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_535];
    let len = socket.recv(&mut buffer)?;
    buffer.truncate(len);
    Ok(buffer)
}

/// A message with its length before it (RFC 1035 §4.2.2).
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let len = u16::try_from(message.len()).expect("a message");
    [&len.to_be_bytes()[..], message].concat()
}

/// Writes one message.
pub(crate) fn send_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(&framed(message))
}

/// Reads one message.
pub(crate) fn receive_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(message)
}
