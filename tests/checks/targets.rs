//! Targets of checks that are good or bad in any way, and can be mended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};
use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{HandshakeKind, ServerConfig};

use crate::support::{PATIENCE, PAUSE};

/// A certificate and its key, PEM.
pub(crate) type Certificate = (&'static str, &'static str);

const KEY: &str = include_str!("../../src/health/check/tests/tls/server.key");

/// Of `shop.example.com`, by an authority that is trusted.
pub(crate) const GOOD: Certificate =
    (include_str!("../../src/health/check/tests/tls/good.pem"), KEY);
/// The same, until 2020.
pub(crate) const EXPIRED: Certificate =
    (include_str!("../../src/health/check/tests/tls/expired.pem"), KEY);
/// Of `shop.example.com`, by itself.
pub(crate) const OWN: Certificate = (include_str!("tls/own.pem"), KEY);
/// Of 127.0.0.1, by another authority that is trusted.
pub(crate) const OTHER: Certificate = (
    include_str!("../support/apiserver/tls/good.pem"),
    include_str!("../support/apiserver/tls/server.key"),
);

/// What a target does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// It is not there.
    Refuse,
    /// It drops what would open a connection.
    BlackHole,
    /// The system takes connections, and nobody takes them from it.
    Deaf,
    /// It reads, and never says anything; over UDP too.
    Mute,
    /// It says this once it has read the head of a request, and closes.
    Http(&'static str),
    /// The same, too late.
    Late(&'static str),
    /// The same over TLS.
    Https(Certificate, &'static str),
    /// It answers gRPC with this message and status 0.
    Grpc(&'static [u8]),
    /// It answers gRPC with this status.
    GrpcStatus(&'static str),
    /// It answers DNS with this code and so many records.
    Dns(ResponseCode, usize),
}

/// How long after the time-out what is late comes.
const LATE: Duration = Duration::from_secs(5);

/// A target at an address and port of its own.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    task: Option<JoinHandle<()>>,
    resumed: Arc<AtomicU32>,
}

impl Target {
    /// One at a port that the system chooses, which does `act`.
    pub(crate) async fn start(ip: &str, act: Act) -> Self {
        // Where TCP and UDP are both free.
        let address = loop {
            let tcp = TcpListener::bind((ip, 0)).await.expect("a port");
            let address = tcp.local_addr().expect("bound");
            if UdpSocket::bind(address).await.is_ok() {
                break address;
            }
        };
        let mut target = Self { address, task: None, resumed: Arc::default() };
        target.turn(act).await;
        target
    }

    /// Has it do `act` from now on.
    pub(crate) async fn turn(&mut self, act: Act) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Its sockets are closed with it.
            let _ = task.await;
        }
        self.task = match act {
            Act::Refuse => None,
            Act::Dns(..) => Some(tokio::spawn(dns(datagrams(self.address).await, act))),
            Act::Mute => {
                let sockets = (datagrams(self.address).await, listener(self.address).await);
                Some(tokio::spawn(mute(sockets.0, sockets.1)))
            }
            Act::BlackHole => {
                let sockets = full(self.address).await;
                Some(tokio::spawn(async move {
                    let _sockets = sockets;
                    std::future::pending().await
                }))
            }
            act => {
                let listener = listener(self.address).await;
                Some(tokio::spawn(accept(listener, act, self.resumed.clone())))
            }
        };
    }

    /// How many sessions of TLS have been taken up again.
    pub(crate) fn resumed(&self) -> u32 {
        self.resumed.load(Ordering::Relaxed)
    }
}

/// A runtime for targets, with threads of its own.
pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

/// What `open` yields, once the system gives the port again.
async fn again<T, F: Future<Output = std::io::Result<T>>>(open: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match open().await {
            Ok(opened) => return opened,
            Err(error) => assert!(Instant::now() < deadline, "the port is taken: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn listener(address: SocketAddr) -> TcpListener {
    again(|| TcpListener::bind(address)).await
}

async fn datagrams(address: SocketAddr) -> UdpSocket {
    again(|| UdpSocket::bind(address)).await
}

/// A listener with a queue that is full, and what is in it: the system drops everything that would
/// open another connection.
async fn full(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
    let listener = again(|| async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(0)
    });
    let listener = listener.await;
    let mut queue = Vec::new();
    // It has room for a few.
    let brief = Duration::from_millis(200);
    while let Ok(stream) = tokio::time::timeout(brief, TcpStream::connect(address)).await {
        queue.push(stream.expect("it is accepted"));
        assert!(queue.len() < 16, "the queue has no end");
    }
    (listener, queue)
}

async fn mute(datagrams: UdpSocket, listener: TcpListener) {
    let _datagrams = datagrams;
    let mut connections = Vec::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.push(stream);
    }
}

async fn accept(listener: TcpListener, act: Act, resumed: Arc<AtomicU32>) {
    if matches!(act, Act::Deaf) {
        let _listener = listener;
        return std::future::pending().await;
    }
    let acceptor = match act {
        Act::Https(certificate, _) => Some(TlsAcceptor::from(Arc::new(tls(certificate)))),
        _ => None,
    };
    // They end with this.
    let mut connections = JoinSet::new();
    loop {
        // One that was reset before it was taken is an error, and none of ours.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (acceptor, resumed) = (acceptor.clone(), resumed.clone());
        connections.spawn(async move {
            match (act, acceptor) {
                (Act::Https(_, says), Some(acceptor)) => {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                        resumed.fetch_add(1, Ordering::Relaxed);
                    }
                    http(stream, says, Duration::ZERO).await;
                }
                (Act::Http(says), _) => http(stream, says, Duration::ZERO).await,
                (Act::Late(says), _) => http(stream, says, LATE).await,
                (act, _) => grpc(stream, act).await,
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

fn tls((chain, key): Certificate) -> ServerConfig {
    let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider's own")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together")
}

async fn http(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: &str, after: Duration) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            // A check for a connection alone asks nothing.
            Err(_) => return,
        }
    }
    tokio::time::sleep(after).await;
    let _ = stream.write_all(says.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn grpc(stream: TcpStream, act: Act) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let reply = http::Response::builder().header("content-type", "application/grpc");
        let _ = match act {
            Act::Grpc(message) => {
                let reply = reply.body(()).expect("well-formed");
                respond.send_response(reply, false).and_then(|mut stream| {
                    stream.send_data(Bytes::from_static(message), false)?;
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    stream.send_trailers(trailers)
                })
            }
            Act::GrpcStatus(status) => {
                let reply = reply.header("grpc-status", status).body(()).expect("well-formed");
                respond.send_response(reply, true).map(drop)
            }
            other => panic!("{other:?} is not of gRPC"),
        };
    }
}

async fn dns(socket: UdpSocket, act: Act) {
    let Act::Dns(code, records) = act else { panic!("{act:?} is not of DNS") };
    let mut buffer = [0; 512];
    loop {
        // A check that is gone may have left an error behind.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        let mut reply = query.into_response();
        reply.metadata.response_code = code;
        let name = reply.queries[0].name().clone();
        for _ in 0..records {
            let data = RData::A(A::new(192, 0, 2, 1));
            reply.add_answer(Record::from_rdata(name.clone(), 60, data));
        }
        let _ = socket.send_to(&reply.to_vec().expect("fits"), from).await;
    }
}
