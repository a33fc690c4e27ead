//! Batches over sockets of loopback.

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, sendmsg, setsockopt, sockopt,
};

use super::*;

/// The longest message, octets.
const LONGEST: u16 = 1500;

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
        from.send_to(&[7; LONGEST as usize + 1], to.local_addr().unwrap()).unwrap();
        let mut inbox = Inbox::new(BOUND, reception, LONGEST);
        assert_eq!(inbox.receive(to.as_fd()).unwrap(), 1);
        let datagram = inbox.next(&mut Cursor::default(), 1).unwrap();
        assert_eq!((datagram.cut, datagram.octets.len()), (true, usize::from(LONGEST)));
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
        let mut inbox = Inbox::new(Bound { family, wildcard }, reception, LONGEST);
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

/// The peer of a socket, as a datagram of it shows it.
fn peer(of: &UdpSocket) -> Peer {
    let receiver = socket("127.0.0.1:0");
    of.send_to(b"who", receiver.local_addr().unwrap()).unwrap();
    let mut inbox = Inbox::new(BOUND, Reception::Single, LONGEST);
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
        let mut octets = [0; LONGEST as usize];
        let len = socket.recv(&mut octets).unwrap();
        assert_eq!(&octets[..len], *expected);
    }
}

#[test]
fn a_datagram_that_cannot_be_sent_does_not_hold_up_the_rest() {
    let (from, to) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let good = peer(&to);
    // Nothing can be sent to port 0.
    let bad = good.with_port(0);
    let mut outbox = Outbox::new(Family::V4, Segmentation::Absent, LONGEST);
    for (to, reply) in [(bad, b"0"), (good, b"1"), (bad, b"2"), (good, b"3"), (bad, b"4")] {
        push(&mut outbox, to, reply);
    }
    assert_eq!(outbox.send(from.as_fd()), 3);
    hears(&to, &[b"1", b"3"]);
}

#[test]
fn trains_arrive_car_by_car() {
    let (from, one, other) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let segmentation = Segmentation::of(&from);
    let mut outbox = Outbox::new(Family::V4, segmentation, LONGEST);
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
    let (from, to) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
    let mut outbox = Outbox::new(Family::V4, Segmentation::Present, LONGEST);
    // Segmentation needs checksums, and this socket sends none.
    without_checksums(from.as_fd());
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

/// Where no two replies go the same way, trains cost the kernel nothing: it is told the same.
#[test]
fn replies_to_different_peers_leave_as_without_trains() {
    let receiver = socket("127.0.0.1:0");
    let some = peer(&receiver);
    let told = |segmentation| {
        let mut outbox = Outbox::new(Family::V4, segmentation, LONGEST);
        for port in 1..=BATCH as u16 {
            push(&mut outbox, some.with_port(port), b"reply");
        }
        outbox.trains.make(&outbox.destinations);
        let count = outbox.address();
        let lengths = |header: &mmsghdr| {
            let header = &header.msg_hdr;
            (header.msg_namelen, header.msg_iovlen, header.msg_controllen)
        };
        outbox.headers[..count].iter().map(lengths).collect::<Vec<_>>()
    };
    let with = told(Segmentation::Present);
    assert_eq!(with, told(Segmentation::Absent));
    assert_eq!(with, vec![(Peer::len(Family::V4) as _, 1, 0); BATCH]);
}
