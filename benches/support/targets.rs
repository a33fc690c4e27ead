//! Targets of checks that always answer well, in a process of their own.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};
use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The argument by which a process becomes that of the targets.
pub(crate) const ROLE: &str = "--targets";

/// What is there to be checked.
pub(crate) const KINDS: [&str; 5] = ["tcp", "http", "https", "grpc", "dns"];

/// Signs the certificate of the target by HTTPS.
pub(crate) const AUTHORITY: &str = include_str!("../../src/health/check/tests/tls/authority.pem");
const CERTIFICATE: &str = include_str!("../../src/health/check/tests/tls/good.pem");
const KEY: &str = include_str!("../../src/health/check/tests/tls/server.key");

/// Tells the port of each kind on standard output, and serves until standard input ends.
pub(crate) fn serve() -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.spawn(async {
        for kind in KINDS {
            let address = start(kind).await;
            println!("{kind} {}", address.port());
        }
        std::io::stdout().flush().expect("somebody reads");
    });
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    runtime.block_on(std::future::pending())
}

async fn start(kind: &'static str) -> SocketAddr {
    if kind == "dns" {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        tokio::spawn(dns(socket));
        return address;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let tls = TlsAcceptor::from(Arc::new(tls()));
    tokio::spawn(async move {
        loop {
            // One that was reset before it was taken is an error, and none of ours.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let tls = tls.clone();
            tokio::spawn(async move {
                match kind {
                    "tcp" => drop(stream),
                    "http" => http(stream).await,
                    "https" => {
                        if let Ok(stream) = tls.accept(stream).await {
                            http(stream).await;
                        }
                    }
                    _ => grpc(stream).await,
                }
            });
        }
    });
    address
}

fn tls() -> ServerConfig {
    let chain = vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("PEM");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider's own")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    // As load balancers do: any number of sessions can be taken up.
    config.ticketer = ring::Ticketer::new().expect("randomness");
    config
}

async fn http(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut head = [0; 1024];
    let mut length = 0;
    while !head[..length].ends_with(b"\r\n\r\n") {
        match stream.read(&mut head[length..]).await {
            Ok(0) | Err(_) => return,
            Ok(more) => length += more,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let _ = stream.shutdown().await;
}

async fn grpc(stream: TcpStream) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let reply = http::Response::builder().header("content-type", "application/grpc");
        let reply = reply.body(()).expect("well-formed");
        let Ok(mut stream) = respond.send_response(reply, false) else { return };
        let _ = stream.send_data(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1]), false);
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let _ = stream.send_trailers(trailers);
    }
}

async fn dns(socket: UdpSocket) {
    let mut buffer = [0; 512];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        let mut reply = query.into_response();
        let name = reply.queries[0].name().clone();
        reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
        let _ = socket.send_to(&reply.to_vec().expect("fits"), from).await;
    }
}
