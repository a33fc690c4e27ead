use std::net::UdpSocket;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

#[tokio::test]
async fn stopping_ends_all_and_frees_the_addresses() {
    // An address of its own: no other test takes the port as soon as it is free.
    let mut settings = settings(&["127.0.7.2:0"]);
    settings.udp_workers = NonZeroUsize::new(2).unwrap();
    let mut server = start(&settings).unwrap();
    // One connection that idles and one with half a query: neither can hold the stop up.
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(&[0, 9, 1]).await.unwrap();
    until(&server.telemetry, "meridian_dns_tcp_connections", 2).await;
    let quiet = timeout(Duration::from_millis(1), server.running.died()).await;
    assert!(quiet.is_err(), "nothing has died");
    timeout(BOUND, server.running.stop()).await.unwrap();
    assert!(timeout(BOUND, idle.read_u8()).await.unwrap().is_err());
    assert!(timeout(BOUND, half.read_u8()).await.unwrap().is_err());
    assert_eq!(metric(&server.telemetry, "meridian_dns_tcp_connections"), 0);
    drop((idle, half));
    settings.dns = vec![server.address];
    Sockets::bind(&settings).expect("the addresses are free");
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_served() {
    let sockets = bind(&settings(&["127.0.0.1:0"])).unwrap();
    let address = sockets.dns.addresses().next().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_nonblocking(true).unwrap();
    udp.send_to(&query(1, ECHO), address).unwrap();
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(&[0, 3, 0, 2, ECHO]).await.unwrap();
    assert!(udp.recv(&mut [0; 64]).is_err());
    let telemetry = Telemetry::new("example.com.");
    let running = sockets.dns.serve(&cell(), &telemetry, stand_in).unwrap();
    udp.set_nonblocking(false).unwrap();
    udp.set_read_timeout(Some(BOUND)).unwrap();
    let mut reply = [0; 64];
    udp.recv(&mut reply).unwrap();
    assert_eq!(reply[..2], [0, 1]);
    timeout(BOUND, tcp.read_u16()).await.unwrap().unwrap();
    running.stop().await;
}

#[tokio::test]
async fn the_death_of_a_worker_is_told() {
    let mut server = start(&settings(&["127.0.0.1:0"])).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(&query(1, PANIC), server.address).unwrap();
    let died = timeout(BOUND, server.running.died()).await.unwrap();
    assert_eq!(died, format!("UDP worker 0 of {}", server.address));
    timeout(BOUND, server.running.stop()).await.unwrap();
}

#[tokio::test]
async fn a_fault_on_one_connection_leaves_the_listener() {
    let server = start(&settings(&["127.0.0.1:0"])).unwrap();
    let mut bad = TcpStream::connect(server.address).await.unwrap();
    bad.write_all(&[0, 3, 0, 1, PANIC]).await.unwrap();
    assert!(timeout(BOUND, bad.read_u8()).await.unwrap().is_err());
    let mut good = TcpStream::connect(server.address).await.unwrap();
    good.write_all(&[0, 3, 0, 2, ECHO]).await.unwrap();
    timeout(BOUND, good.read_u16()).await.unwrap().unwrap();
    server.running.stop().await;
}
