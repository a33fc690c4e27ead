use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::*;

const TIMEOUTS: &str = "meridian_dns_tcp_timeouts_total";
const OPEN: &str = "meridian_dns_tcp_connections";

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = (message.len() as u16).to_be_bytes().to_vec();
    frame.extend(message);
    frame
}

async fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let read = async {
        let len = stream.read_u16().await.unwrap();
        let mut message = vec![0; len.into()];
        stream.read_exact(&mut message).await.unwrap();
        message
    };
    timeout(BOUND, read).await.unwrap()
}

/// Whether the server ends the connection with no further octet.
async fn ended(stream: &mut TcpStream) -> bool {
    // A reset is an end too.
    timeout(BOUND, stream.read_u8()).await.expect("still open").is_err()
}

async fn asks(stream: &mut TcpStream, id: u16) -> Reply {
    stream.write_all(&frame(&query(id, ECHO))).await.unwrap();
    Reply::parse(&receive(stream).await)
}

async fn pipelines(listen: &str) {
    let Some(server) = start(&settings(&[listen])) else { return };
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut queries: Vec<u8> = (0..100).flat_map(|id| frame(&query(id, ECHO))).collect();
    queries.extend(frame(&query(100, SILENT)));
    queries.extend(frame(&query(101, ECHO)));
    // In pieces that end within prefixes and messages.
    for piece in queries.chunks(13) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    for id in (0..100).chain([101]) {
        let reply = Reply::parse(&receive(&mut stream).await);
        assert_eq!((reply.id, reply.turn), (id, u32::from(id)));
        assert_eq!(reply.client, server.address.ip().to_string());
    }
    let timed = "meridian_dns_request_duration_seconds_count";
    until(&server.telemetry, timed, 102).await;
    server.running.stop().await;
}

#[tokio::test]
async fn replies_come_in_order_over_ipv4() {
    pipelines("127.0.0.1:0").await;
}

#[tokio::test]
async fn replies_come_in_order_over_ipv6() {
    pipelines("[::1]:0").await;
}

#[tokio::test]
async fn long_messages_are_whole_both_ways() {
    let server = start(&settings(&["127.0.0.1:0"])).unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut longest = vec![0; usize::from(u16::MAX)];
    longest[..3].copy_from_slice(&query(1, LONG_REPLY));
    let (mut read, mut write) = stream.split();
    let asking = async {
        for _ in 0..10 {
            write.write_all(&frame(&longest)).await.unwrap();
        }
    };
    let hearing = async {
        for _ in 0..10 {
            assert_eq!(usize::from(read.read_u16().await.unwrap()), LONG);
            let mut message = vec![0; LONG];
            read.read_exact(&mut message).await.unwrap();
            assert_eq!(message[..2], [0, 1]);
        }
    };
    timeout(BOUND, async { tokio::join!(asking, hearing) }).await.unwrap();
    server.running.stop().await;
}

#[tokio::test]
async fn half_a_close_still_gets_its_replies() {
    let server = start(&settings(&["127.0.0.1:0"])).unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&frame(&query(5, ECHO))).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(Reply::parse(&receive(&mut stream).await).id, 5);
    assert!(ended(&mut stream).await);
    until(&server.telemetry, OPEN, 0).await;
    server.running.stop().await;
}

#[tokio::test]
async fn an_empty_frame_ends_the_connection_after_what_came_before() {
    let server = start(&settings(&["127.0.0.1:0"])).unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut octets = frame(&query(1, ECHO));
    octets.extend([0, 0]);
    stream.write_all(&octets).await.unwrap();
    assert_eq!(Reply::parse(&receive(&mut stream).await).id, 1);
    assert!(ended(&mut stream).await);
    assert_eq!(metric(&server.telemetry, TIMEOUTS), 0);
    server.running.stop().await;
}

#[tokio::test]
async fn connections_are_limited_by_client_and_in_all() {
    let mut settings = settings(&["127.0.0.1:0"]);
    settings.tcp.max_connections = 3;
    settings.tcp.max_connections_per_client = 2;
    let server = start(&settings).unwrap();
    let connect = async |from: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(server.address).await.unwrap()
    };
    // A reply shows that the server has taken the connection.
    let mut first = connect("127.0.0.1").await;
    asks(&mut first, 1).await;
    let mut second = connect("127.0.0.1").await;
    asks(&mut second, 2).await;
    assert!(ended(&mut connect("127.0.0.1").await).await);
    let mut other = connect("127.0.0.2").await;
    asks(&mut other, 3).await;
    assert!(ended(&mut connect("127.0.0.3").await).await);
    let refused = |reason| {
        let series = format!(r#"meridian_dns_tcp_refused_total{{reason="{reason}"}}"#);
        metric(&server.telemetry, &series)
    };
    assert_eq!((refused("client"), refused("total")), (1, 1));
    assert_eq!(metric(&server.telemetry, OPEN), 3);
    // A place is free again when its connection ends.
    drop(first);
    until(&server.telemetry, OPEN, 2).await;
    asks(&mut connect("127.0.0.1").await, 4).await;
    server.running.stop().await;
}

/// A server that closes connections after a short time without a whole query.
fn impatient() -> Server {
    let mut settings = settings(&["127.0.0.1:0"]);
    settings.tcp.idle_timeout = Duration::from_millis(100);
    start(&settings).unwrap()
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = impatient();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    asks(&mut stream, 1).await;
    assert!(ended(&mut stream).await);
    until(&server.telemetry, TIMEOUTS, 1).await;
    server.running.stop().await;
}

#[tokio::test]
async fn a_message_that_trickles_in_does_not_keep_a_connection() {
    let server = impatient();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let (mut read, mut write) = stream.split();
    // An octet every so often, always in time; the message would be whole after an hour.
    let trickle = async {
        write.write_all(&u16::MAX.to_be_bytes()).await.unwrap();
        while write.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        read = timeout(BOUND, read.read_u8()) => assert!(read.expect("still open").is_err()),
        () = trickle => {}
    }
    until(&server.telemetry, TIMEOUTS, 1).await;
    server.running.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_replies_is_cut_off() {
    let server = impatient();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // Some hundred megabytes of replies, more than any socket holds.
    let queries: Vec<u8> = (0..2000).flat_map(|id| frame(&query(id, LONG_REPLY))).collect();
    stream.write_all(&queries).await.unwrap();
    until(&server.telemetry, TIMEOUTS, 1).await;
    until(&server.telemetry, OPEN, 0).await;
    server.running.stop().await;
}
