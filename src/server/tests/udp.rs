use std::collections::BTreeSet;
use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg, setsockopt, sockopt};

use super::*;

fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(BOUND)).unwrap();
    socket
}

fn receive(client: &UdpSocket) -> (Reply, SocketAddr) {
    let mut buffer = [0; 512];
    let (len, from) = client.recv_from(&mut buffer).unwrap();
    (Reply::parse(&buffer[..len]), from)
}

async fn asks_and_hears(listen: &str, from: &str, family: u8) {
    let Some(server) = start(&settings(&[listen])) else { return };
    let client = client(from);
    client.send_to(&query(7, ECHO), server.address).unwrap();
    let (reply, source) = receive(&client);
    assert_eq!((reply.id, reply.client.as_str()), (7, from));
    assert_eq!(source, server.address);
    let labels = format!(r#"zone="example.com.",proto="udp",family="{family}",type="A""#);
    let series = format!("meridian_dns_requests_total{{{labels}}}");
    assert_eq!(metric(&server.telemetry, &series), 1);
    server.running.stop().await;
}

#[tokio::test]
async fn answers_over_ipv4() {
    asks_and_hears("127.0.0.1:0", "127.0.0.1", 1).await;
}

#[tokio::test]
async fn answers_over_ipv6() {
    asks_and_hears("[::1]:0", "::1", 2).await;
}

#[tokio::test]
async fn a_wildcard_answers_from_the_address_that_was_asked() {
    let sockets = bind(&settings(&["0.0.0.0:0"])).unwrap();
    let port = sockets.dns.addresses().next().unwrap().port();
    let client = client("127.0.0.1");
    let asked = |id: u16| SocketAddr::from(([127, 0, 0, 1 + (id % 5) as u8], port));
    let ask = || (0..40).for_each(|id| _ = client.send_to(&query(id, ECHO), asked(id)).unwrap());
    let hear = || {
        let mut ids = BTreeSet::new();
        for _ in 0..40 {
            let (reply, source) = receive(&client);
            assert_eq!(source, asked(reply.id));
            ids.insert(reply.id);
        }
        assert_eq!(ids, (0..40).collect());
    };
    // Asked before anything is served, so that all are one batch with several addresses in turn.
    ask();
    let telemetry = Telemetry::new("example.com.");
    let running = sockets.dns.serve(&cell(), &telemetry, stand_in).unwrap();
    hear();
    // Again, for the headers are used again.
    ask();
    hear();
    running.stop().await;
}

#[tokio::test]
async fn an_ipv6_wildcard_answers_from_the_address_that_was_asked() {
    let Some(server) = start(&settings(&["[::]:0"])) else { return };
    let client = client("::1");
    // Connected, the client takes replies from this address only.
    client.connect(("::1", server.address.port())).unwrap();
    for id in 0..100 {
        client.send(&query(id, ECHO)).unwrap();
        assert_eq!(receive(&client).0.id, id);
    }
    server.running.stop().await;
}

#[tokio::test]
async fn every_query_of_many_batches_has_one_reply_and_its_own_turn() {
    let sockets = bind(&settings(&["127.0.0.1:0"])).unwrap();
    let address = sockets.dns.addresses().next().unwrap();
    let client = client("127.0.0.1");
    // As many as wait in the smallest usual buffer.
    let count = 150;
    for id in 0..count {
        client.send_to(&query(id, ECHO), address).unwrap();
    }
    let telemetry = Telemetry::new("example.com.");
    let running = sockets.dns.serve(&cell(), &telemetry, stand_in).unwrap();
    let replies: Vec<_> = (0..count).map(|_| receive(&client).0).collect();
    let ids: BTreeSet<_> = replies.iter().map(|reply| reply.id).collect();
    let turns: BTreeSet<_> = replies.iter().map(|reply| reply.turn).collect();
    assert_eq!(ids, (0..count).collect());
    assert_eq!(turns, (0..u32::from(count)).collect());
    let timed = "meridian_dns_request_duration_seconds_count";
    until(&telemetry, timed, count.into()).await;
    running.stop().await;
}

/// Three trains hold more queries than a batch has replies.
#[tokio::test]
async fn every_query_of_a_train_has_one_reply_and_its_own_turn() {
    let mut settings = settings(&["127.0.0.1:0"]);
    settings.udp_receive_offload = true;
    let sockets = bind(&settings).unwrap();
    let address = sockets.dns.addresses().next().unwrap();
    // The worker would ask for it when it begins, which is after they have come.
    setsockopt(&sockets.dns.sockets[0].udp[0], sockopt::UdpGroSegment, &true).unwrap();
    let client = client("127.0.0.1");
    let SocketAddr::V4(to) = address else { panic!("of IPv4") };
    for train in 0..3 {
        let queries: Vec<u8> = (0..60).flat_map(|id| query(60 * train + id, ECHO)).collect();
        let (slices, flags) = ([IoSlice::new(&queries)], MsgFlags::empty());
        let cut = [ControlMessage::UdpGsoSegments(&3)];
        sendmsg(client.as_raw_fd(), &slices, &cut, flags, Some(&SockaddrIn::from(to))).unwrap();
    }
    let telemetry = Telemetry::new("example.com.");
    let running = sockets.dns.serve(&cell(), &telemetry, stand_in).unwrap();
    let replies: Vec<_> = (0..180).map(|_| receive(&client).0).collect();
    let ids: BTreeSet<_> = replies.iter().map(|reply| reply.id).collect();
    let turns: BTreeSet<_> = replies.iter().map(|reply| reply.turn).collect();
    assert_eq!((ids, turns), ((0..180).collect(), (0..180).collect()));
    running.stop().await;
}

#[tokio::test]
async fn workers_share_an_address() {
    let mut settings = settings(&["127.0.0.1:0"]);
    settings.udp_workers = NonZeroUsize::new(4).unwrap();
    let server = start(&settings).unwrap();
    // The kernel chooses the worker by the client's port.
    for id in 0..50 {
        let client = client("127.0.0.1");
        client.send_to(&query(id, ECHO), server.address).unwrap();
        assert_eq!(receive(&client).0.id, id);
    }
    server.running.stop().await;
}

#[tokio::test]
async fn what_gets_no_reply_is_counted_and_hinders_nothing() {
    let server = start(&settings(&["127.0.0.1:0"])).unwrap();
    let client = client("127.0.0.1");
    client.send_to(&query(1, SILENT), server.address).unwrap();
    client.send_to(&[], server.address).unwrap();
    client.send_to(&[0; 1233], server.address).unwrap();
    let mut longest = query(2, ECHO).to_vec();
    longest.resize(1232, 0);
    client.send_to(&longest, server.address).unwrap();
    assert_eq!(receive(&client).0.id, 2);
    let dropped = |reason| {
        let series = format!(r#"meridian_dns_dropped_total{{reason="{reason}"}}"#);
        metric(&server.telemetry, &series)
    };
    assert_eq!(dropped("unanswerable"), 2);
    assert_eq!(dropped("oversize"), 1);
    server.running.stop().await;
}

#[tokio::test]
async fn replies_that_fit_every_path_are_never_fragmented() {
    use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu_discover};

    let sockets = bind(&settings(&["127.0.0.1:0"])).unwrap();
    let address = sockets.dns.addresses().next().unwrap();
    let socket = sockets.dns.sockets[0].udp[0].try_clone().unwrap();
    let (cell, telemetry) = (cell(), Telemetry::new("example.com."));
    let running = sockets.dns.serve(&cell, &telemetry, stand_in).unwrap();
    let client = client("127.0.0.1");
    // By a reload.
    for (payload, expected) in [
        (1232, Ipv4PathMtuDiscovery::PROBE),
        (1233, Ipv4PathMtuDiscovery::OMIT),
        (512, Ipv4PathMtuDiscovery::PROBE),
    ] {
        let fixture = crate::snapshot::testing::Fixture::new().udp_payload(payload);
        cell.swap(fixture.build().into());
        // The first may find the worker waiting as it was.
        for _ in 0..2 {
            client.send_to(&query(1, ECHO), address).unwrap();
            receive(&client);
        }
        assert_eq!(ip_mtu_discover(&socket).unwrap(), expected, "{payload}");
    }
    running.stop().await;
}
