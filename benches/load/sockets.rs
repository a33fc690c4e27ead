//! Where queries leave from and replies arrive: many sources, or few.

use std::array;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn,
    SockaddrStorage, recvmmsg, sendmmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

/// Queries that leave in one call.
pub(crate) const BURST: usize = 32;

/// Room for a query with the headers of IP and UDP.
const QUERY: usize = 512;

/// Room for a reply.
const REPLY: usize = 4096 + 64;

/// Room for a train of replies: what IP can carry.
const TRAIN: usize = 1 << 16;

/// Octets of the headers of IP and UDP.
const HEADERS: usize = 28;

/// What a source is: a group of sockets as the server sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// As many ports, each with [`BURST`] addresses of 127.1.0.0/24, so that no two queries of a
    /// burst have one source. Written as IP datagrams, since a system call sends from one socket
    /// only, and a call for each query would make the client the slower side. Needs CAP_NET_RAW
    /// and a server on loopback.
    Many(usize),
    /// As many ports of one address, each with a burst at a time, which leaves as a train where
    /// queries are of one length: forwarders that reuse their sockets. With `whole` trains of replies
    /// are taken as they come (`UDP_GRO`). Otherwise they are cut for the socket, and over loopback
    /// by the processor that sent them, where a network card would do that.
    Few { ports: usize, whole: bool },
    /// As many ports, one query at a time: for servers elsewhere.
    Single(usize),
}

/// Sockets for queries to one server.
pub(crate) struct Sockets {
    server: SocketAddr,
    sources: Sources,
    raw: Option<Socket>,
    ports: Vec<UdpSocket>,
    numbers: Vec<u16>,
    queries: Vec<[u8; QUERY]>,
    lengths: [usize; BURST],
    outgoing: MultiHeaders<SockaddrIn>,
    replies: Vec<Box<[u8]>>,
    incoming: MultiHeaders<SockaddrStorage>,
}

impl Sockets {
    /// Opens them.
    pub(crate) fn open(server: SocketAddr, sources: Sources) -> io::Result<Self> {
        let (raw, count) = match sources {
            Sources::Many(_) if !server.is_ipv4() || !server.ip().is_loopback() => {
                let why = "many sources need a server at 127.0.0.0/8: use single ones";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            Sources::Many(count) => (Some(raw()?), count),
            Sources::Few { ports: count, .. } | Sources::Single(count) => (None, count),
        };
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let whole = matches!(sources, Sources::Few { whole: true, .. });
        let open = |_| {
            let socket = UdpSocket::bind(any)?;
            if raw.is_none() {
                socket.connect(server)?;
            }
            if whole {
                setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
            }
            // Replies to bursts must wait while others are read.
            let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(1 << 20);
            Ok(socket)
        };
        let ports = (0..count).map(open).collect::<io::Result<Vec<_>>>()?;
        let number = |socket: &UdpSocket| Ok(socket.local_addr()?.port());
        let numbers = ports.iter().map(number).collect::<io::Result<_>>()?;
        Ok(Self {
            server,
            sources,
            raw,
            ports,
            numbers,
            queries: vec![[0; QUERY]; BURST],
            lengths: [0; BURST],
            outgoing: MultiHeaders::preallocate(BURST, None),
            replies: vec![vec![0; if whole { TRAIN } else { REPLY }].into(); BURST],
            incoming: incoming(sources),
        })
    }

    /// How many groups there are.
    pub(crate) fn groups(&self) -> usize {
        self.ports.len()
    }

    /// The most queries that one group sends at once.
    pub(crate) fn burst(&self) -> usize {
        match self.sources {
            Sources::Many(_) | Sources::Few { .. } => BURST,
            Sources::Single(_) => 1,
        }
    }

    /// Puts a query in place `slot` of the next burst, from the group `group`.
    pub(crate) fn stage(&mut self, slot: usize, group: usize, id: u16, wire: &[u8]) {
        let start = if self.raw.is_some() { HEADERS } else { 0 };
        let out = &mut self.queries[slot];
        let len = start + wire.len();
        out[start..len].copy_from_slice(wire);
        out[start..start + 2].copy_from_slice(&id.to_be_bytes());
        self.lengths[slot] = len;
        if self.raw.is_some() {
            let address = Ipv4Addr::new(127, 1, 0, 1 + slot as u8);
            let source = SocketAddrV4::new(address, self.numbers[group]);
            let SocketAddr::V4(server) = self.server else { unreachable!("refused at the start") };
            write_headers(&mut out[..len], source, server);
        }
    }

    /// Sends a burst of `count`. Returns how many left; the rest met a full buffer.
    pub(crate) fn send(&mut self, group: usize, count: usize) -> usize {
        let sent = match (&self.raw, self.sources) {
            (Some(raw), _) => {
                let raw = raw.as_raw_fd();
                self.send_all(raw, count)
            }
            (None, Sources::Few { .. }) => self.send_trains(self.ports[group].as_raw_fd(), count),
            (None, _) => self.send_all(self.ports[group].as_raw_fd(), count),
        };
        match sent {
            Ok(sent) => sent,
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOBUFS | Errno::ECONNREFUSED) => 0,
            Err(error) => panic!("sending to {}: {error}", self.server),
        }
    }

    fn send_all(&mut self, socket: RawFd, count: usize) -> nix::Result<usize> {
        let Self { queries, lengths, outgoing, .. } = self;
        let slices: [_; BURST] = array::from_fn(|i| [IoSlice::new(&queries[i][..lengths[i]])]);
        let to = match (self.server, &self.raw) {
            (SocketAddr::V4(server), Some(_)) => Some(SockaddrIn::from(server)),
            _ => None,
        };
        let to = [to; BURST];
        let flags = MsgFlags::MSG_DONTWAIT;
        Ok(sendmmsg(socket, outgoing, &slices[..count], &to[..count], [], flags)?.count())
    }

    /// Runs of one length leave as trains.
    fn send_trains(&self, socket: RawFd, count: usize) -> nix::Result<usize> {
        let mut done = 0;
        while done < count {
            let len = self.lengths[done];
            let run = (done..count).take_while(|&i| self.lengths[i] == len).count();
            let slices: Vec<_> =
                (done..done + run).map(|i| IoSlice::new(&self.queries[i][..len])).collect();
            let size = len as u16;
            let train = [ControlMessage::UdpGsoSegments(&size)];
            let control = if run > 1 { &train[..] } else { &[] };
            let flags = MsgFlags::MSG_DONTWAIT;
            match sendmsg::<SockaddrStorage>(socket, &slices, control, flags, None) {
                Ok(_) => done += run,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// Hands the replies that have come to a group to `take`, at most a burst of datagrams or trains.
    /// Returns how many.
    pub(crate) fn receive(&mut self, group: usize, mut take: impl FnMut(&[u8])) -> usize {
        let socket = self.ports[group].as_raw_fd();
        if let Sources::Few { whole: true, .. } = self.sources {
            // They are not made ready for a second use: where one has come without a control message,
            // the next would have no room for one.
            self.incoming = incoming(self.sources);
        }
        let mut slices: Vec<_> = self.replies.iter_mut().map(|r| [IoSliceMut::new(r)]).collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        match recvmmsg(socket, &mut self.incoming, slices.iter_mut(), flags, None) {
            Ok(received) => {
                let mut count = 0;
                for message in received {
                    let octets = message.iovs().next().unwrap_or_default();
                    for reply in octets.chunks(reply_in(&message).unwrap_or(REPLY)) {
                        take(reply);
                        count += 1;
                    }
                }
                count
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ECONNREFUSED) => 0,
            Err(error) => panic!("receiving from {}: {error}", self.server),
        }
    }
}

/// Headers of what is received, with room for the length of a train's replies where these come.
fn incoming(sources: Sources) -> MultiHeaders<SockaddrStorage> {
    let trains = matches!(sources, Sources::Few { whole: true, .. });
    MultiHeaders::preallocate(BURST, trains.then(|| nix::cmsg_space!(i32)))
}

/// Octets of each reply in a train but the last, which may be shorter; none of one that came alone.
fn reply_in(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<usize> {
    message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::UdpGroSegments(len) => {
            usize::try_from(len).ok().filter(|len| *len > 0)
        }
        _ => None,
    })
}

/// A socket that takes whole IP datagrams.
fn raw() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
    let _ = socket.set_send_buffer_size(4 << 20);
    Ok(socket)
}

/// Datagrams are written with their IP header (raw(7)).
const IPPROTO_RAW: i32 = 255;

/// RFC 791 §3.1 and RFC 768. The kernel fills in the length, the identification and the checksum
/// of IP; no checksum of UDP is given, as is allowed over IPv4.
fn write_headers(datagram: &mut [u8], from: SocketAddrV4, to: SocketAddrV4) {
    let len = datagram.len();
    let [high, low] = ((len - 20) as u16).to_be_bytes();
    datagram[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0]);
    datagram[12..16].copy_from_slice(&from.ip().octets());
    datagram[16..20].copy_from_slice(&to.ip().octets());
    datagram[20..22].copy_from_slice(&from.port().to_be_bytes());
    datagram[22..24].copy_from_slice(&to.port().to_be_bytes());
    datagram[24..HEADERS].copy_from_slice(&[high, low, 0, 0]);
}
