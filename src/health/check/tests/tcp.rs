use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};

use super::support::*;
use crate::health::check::{Memory, Probed, Prober, Settings};

#[tokio::test]
async fn accepted_or_refused() {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    assert_eq!(probe("tcp", address, PATIENT).await.outcome, Probed::Passed);
    let why = failure(probe("tcp", closed().await, PATIENT).await);
    assert!(why.contains("Connection refused"), "{why}");
}

/// A listener whose queue is full drops what would open another connection, as a firewall does.
#[tokio::test]
async fn a_black_hole_is_a_failure() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = socket.local_addr().expect("bound");
    let _listener = socket.listen(0).expect("listens");
    let mut queue = Vec::new();
    // The queue has room for a few.
    while let Ok(stream) = tokio::time::timeout(BRIEF, TcpStream::connect(address)).await {
        queue.push(stream);
        assert!(queue.len() < 16, "the queue has no end");
    }
    let why = failure(probe("tcp", address, BRIEF).await);
    assert_eq!(why, "no connection within 200ms");
}

/// No connection is left waiting in the system.
#[tokio::test]
async fn connections_are_reset() {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    assert_eq!(probe("tcp", address, PATIENT).await.outcome, Probed::Passed);
    let (mut stream, _) = listener.accept().await.expect("the check");
    let error = stream.read_u8().await.expect_err("nothing is sent");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// What cannot be sent from here says nothing of the target.
#[tokio::test]
async fn our_own_faults_are_told_apart() {
    // Only root's own rules could route a class E address; loopback-only machines route none.
    let nowhere: SocketAddr = "255.255.255.255:80".parse().expect("an address");
    match probe("tcp", nowhere, BRIEF).await.outcome {
        Probed::Unable(why) => assert!(why.contains("cannot ask from here"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_more_at_a_time_than_allowed() {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    let settings = Settings { concurrency: std::num::NonZeroUsize::MIN, ..Settings::default() };
    let prober = Arc::new(Prober::new(&settings));
    // The first asks for a page and gets none; the second may not begin.
    let first = tokio::spawn({
        let prober = prober.clone();
        async move { once(&prober, &target("http/", address, PATIENT)).await }
    });
    let (held, _) = listener.accept().await.expect("the first");
    let second = tokio::spawn({
        let prober = prober.clone();
        async move { once(&prober, &target("tcp", address, PATIENT)).await }
    });
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    drop(held);
    failure(first.await.expect("ends"));
    assert_eq!(second.await.expect("ends").outcome, Probed::Passed);
}

/// Tens of thousands may wait for their turn.
#[tokio::test]
async fn what_waits_takes_little() {
    let prober = Prober::new(&Settings::default());
    let target = target("https/", closed().await, BRIEF);
    let size = size_of_val(&prober.probe(&target, &mut Memory::default()));
    assert!(size < 1024, "{size} octets");
}
