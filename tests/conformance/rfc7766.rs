//! RFC 7766, DNS transport over TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::support::client::{framed, receive_framed, send_framed};
use crate::support::dns::{self, Query, Reply};
use crate::support::server::Server;
use crate::{CONFIG, rules, start};

rules![
    a_connection_serves_many_queries,
    queries_may_be_pipelined,
    a_query_may_come_in_pieces,
    replies_come_before_a_half_closed_connection_ends,
    an_empty_message_ends_the_connection,
    an_incomplete_message_is_not_answered,
    large_messages_are_not_cut,
    idle_connections_are_closed,
    connections_of_one_client_are_limited,
];

fn query(id: u16) -> Query {
    Query { id, ..Query::new("web.n.f.svc.example.com", "A") }
}

fn reply(stream: &mut TcpStream) -> Reply {
    Reply::parse(&receive_framed(stream).expect("a reply")).expect("readable")
}

/// Whether the server has closed the connection; it has nothing more to say.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(0) => true,
        // A reset closes it too.
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
        Ok(_) => false,
    }
}

/// §6.2.1: clients should reuse a connection for several queries.
fn a_connection_serves_many_queries(server: &Server) {
    let mut stream = server.client().tcp().expect("connected");
    for id in 0..100 {
        send_framed(&mut stream, &query(id).bytes()).expect("sent");
        let reply = reply(&mut stream);
        assert_eq!((reply.message.metadata.id, reply.answer().len()), (id, 2));
    }
}

/// §6.2.1.1: clients may send queries before earlier ones are answered; each gets its reply.
fn queries_may_be_pipelined(server: &Server) {
    let mut stream = server.client().tcp().expect("connected");
    let all: Vec<u8> = (0..200).flat_map(|id| framed(&query(id).bytes())).collect();
    stream.write_all(&all).expect("sent");
    let mut ids: Vec<u16> = (0..200).map(|_| reply(&mut stream).message.metadata.id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..200).collect::<Vec<_>>());
}

/// §8: length and message may arrive in different segments, or a whole one with a part of the next.
fn a_query_may_come_in_pieces(server: &Server) {
    let mut stream = server.client().tcp().expect("connected");
    for octet in framed(&query(1).bytes()) {
        stream.write_all(&[octet]).expect("sent");
    }
    assert_eq!(reply(&mut stream).message.metadata.id, 1);
    let both = [framed(&query(2).bytes()), framed(&query(3).bytes())].concat();
    let (early, late) = both.split_at(both.len() - 9);
    stream.write_all(early).expect("sent");
    assert_eq!(reply(&mut stream).message.metadata.id, 2);
    stream.write_all(late).expect("sent");
    assert_eq!(reply(&mut stream).message.metadata.id, 3);
}

/// §6.2.4: a client may close its side when it has sent all; what it asked is answered.
fn replies_come_before_a_half_closed_connection_ends(server: &Server) {
    let mut stream = server.client().tcp().expect("connected");
    send_framed(&mut stream, &query(1).bytes()).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert_eq!(reply(&mut stream).message.metadata.id, 1);
    assert!(is_closed(&mut stream));
}

/// RFC 1035 §4.2.2: the length is that of a message, and none is empty: nothing sensible follows.
fn an_empty_message_ends_the_connection(server: &Server) {
    let mut stream = server.client().tcp().expect("connected");
    send_framed(&mut stream, &query(1).bytes()).expect("sent");
    stream.write_all(&[0, 0]).expect("sent");
    assert_eq!(reply(&mut stream).message.metadata.id, 1);
    assert!(is_closed(&mut stream));
}

/// RFC 1035 §4.2.2: a message begins when it is whole.
fn an_incomplete_message_is_not_answered(server: &Server) {
    let mut stream = server.client().tcp().expect("connected");
    let whole = framed(&query(1).bytes());
    stream.write_all(&whole[..whole.len() - 1]).expect("sent");
    stream.shutdown(Shutdown::Write).expect("half closed");
    assert!(is_closed(&mut stream));
}

/// §8 and RFC 1035 §4.2.2: two octets of length allow what no datagram does.
fn large_messages_are_not_cut(server: &Server) {
    let mut stream = server.client().tcp().expect("connected");
    let query = Query::new("big.n.f.svc.example.com", "AAAA");
    send_framed(&mut stream, &query.bytes()).expect("sent");
    let whole = reply(&mut stream);
    assert_eq!((whole.rcode(), whole.answer().len()), (dns::NOERROR, 60));
    assert_eq!(whole.flags(), ["aa", "rd"]);
}

/// §6.2.3: servers close idle connections after a time of their own.
fn idle_connections_are_closed(_: &Server) {
    let dns = "nsid: node-1, tcp: {idleTimeout: 500ms}";
    let server = start(&CONFIG.replace("nsid: node-1", dns));
    let mut silent = server.client().tcp().expect("connected");
    assert!(is_closed(&mut silent), "closed although nothing came");
    let mut slow = server.client().tcp().expect("connected");
    slow.write_all(&[0]).expect("sent");
    assert!(is_closed(&mut slow), "a part of a message does not keep it open");
    let mut done = server.client().tcp().expect("connected");
    send_framed(&mut done, &query(1).bytes()).expect("sent");
    assert_eq!(reply(&mut done).message.metadata.id, 1);
    assert!(is_closed(&mut done), "closed some time after the reply");
}

/// §6.2.2: servers may limit the connections of one client; those that it has are served.
fn connections_of_one_client_are_limited(_: &Server) {
    let dns = "nsid: node-1, tcp: {maxConnectionsPerClient: 2}";
    let server = start(&CONFIG.replace("nsid: node-1", dns));
    let mut streams = [(); 2].map(|()| server.client().tcp().expect("connected"));
    for stream in &mut streams {
        send_framed(stream, &query(1).bytes()).expect("sent");
        assert_eq!(reply(stream).message.metadata.id, 1);
    }
    let mut third = server.client().tcp().expect("connected");
    assert!(is_closed(&mut third));
    // Another client has places of its own.
    let other = crate::support::client::Client {
        source: "127.0.0.7".parse().expect("an address"),
        ..server.client()
    };
    let mut stream = other.tcp().expect("connected");
    send_framed(&mut stream, &query(2).bytes()).expect("sent");
    assert_eq!(reply(&mut stream).message.metadata.id, 2);
    for stream in &mut streams {
        send_framed(stream, &query(3).bytes()).expect("sent");
        assert_eq!(reply(stream).message.metadata.id, 3);
    }
}
