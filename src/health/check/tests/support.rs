//! Targets on loopback, each with a port of its own. They end with the runtime of the test.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ALL_VERSIONS, HandshakeKind, ServerConfig, SupportedProtocolVersion};

use crate::health::check::{Memory, Probed, Prober, Report, Settings, Target, Timing};
use crate::model::{Check, CheckTiming};

/// Far longer than a good answer takes here, so that none is missed on a busy machine.
pub(super) const PATIENT: Duration = Duration::from_secs(20);

/// Soon over, where no answer comes however long one waits.
pub(super) const BRIEF: Duration = Duration::from_millis(200);

/// Signs [`GOOD`] and [`EXPIRED`].
pub(super) const AUTHORITY: &str = include_str!("tls/authority.pem");
/// Of `shop.example.com` and 127.0.0.1.
pub(super) const GOOD: &str = include_str!("tls/good.pem");
/// Of the same, until 2020.
pub(super) const EXPIRED: &str = include_str!("tls/expired.pem");
const KEY: &str = include_str!("tls/server.key");

/// The target of a check in its text form, without port, at `address`.
pub(super) fn target(check: &str, address: SocketAddr, timeout: Duration) -> Target {
    let check: Check = check.parse().unwrap_or_else(|error| panic!("{error}"));
    let timing = Timing::default().with(CheckTiming { timeout: Some(timeout), ..check.timing });
    Target { kind: check.kind, address, timing }
}

/// A prober that trusts the authority in `pem`.
pub(super) fn trusting(pem: &str) -> Prober {
    let authorities = [CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")].into();
    let concurrency = NonZeroUsize::MIN;
    Prober::new(&Settings { authorities, concurrency, ..Settings::default() })
}

/// How a check of `address` goes by a prober that trusts [`AUTHORITY`].
pub(super) async fn probe(check: &str, address: SocketAddr, timeout: Duration) -> Report {
    once(&trusting(AUTHORITY), &target(check, address, timeout)).await
}

/// How a check goes that is the first of its target.
pub(super) async fn once(prober: &Prober, target: &Target) -> Report {
    prober.probe(target, &mut Memory::default()).await
}

/// Why it failed.
pub(super) fn failure(report: Report) -> String {
    match report.outcome {
        Probed::Failed(why) => why.to_string(),
        other => panic!("not a failure of the target: {other:?}"),
    }
}

/// A port on which nobody listens.
pub(super) async fn closed() -> SocketAddr {
    listener().await.local_addr().expect("bound")
}

pub(super) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}

/// What a target does once it has read the head of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// It says this and closes.
    Close(&'static str),
    /// It says this and holds the connection open.
    Hold(&'static str),
    /// It says the first, then the second for ever.
    Repeat(&'static str, &'static str),
}

/// An HTTP server that is as good or bad as `then`; and the heads of the requests that it reads.
pub(super) async fn http(then: Then) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    let (heads, read) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, then, heads.clone()));
        }
    });
    (address, read)
}

/// The same over TLS with this certificate; before each head, what kind of session it is and the
/// name asked for.
pub(super) async fn https(
    then: Then,
    certificate: &str,
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    secured(then, tls(certificate)).await
}

/// The same as TLS is spoken by `config`.
pub(super) async fn secured(
    then: Then,
    config: ServerConfig,
) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    let (heads, read) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, heads) = (acceptor.clone(), heads.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    let session = stream.get_ref().1;
                    let (sni, kind) = (session.server_name(), session.handshake_kind());
                    // A session that is not made anew is resumed.
                    let full = kind.is_some_and(|kind| kind != HandshakeKind::Resumed);
                    let kind = if full { "new" } else { "resumed" };
                    let _ = heads.send(format!("{kind} {}", sni.unwrap_or_default()));
                    serve(stream, then, heads).await;
                }
            });
        }
    });
    (address, read)
}

pub(super) fn tls(certificate: &str) -> ServerConfig {
    tls_of(certificate, ALL_VERSIONS)
}

/// By some versions of the protocol alone.
pub(super) fn tls_of(
    certificate: &str,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("PEM");
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("the provider's own")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together")
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    then: Then,
    heads: mpsc::UnboundedSender<String>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_) => return,
        }
    }
    let _ = heads.send(String::from_utf8_lossy(&head).into_owned());
    match then {
        Then::Close(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Then::Hold(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.flush().await;
            // Until the other side goes.
            let _ = stream.read_u8().await;
        }
        Then::Repeat(text, more) => {
            let _ = stream.write_all(text.as_bytes()).await;
            while stream.write_all(more.as_bytes()).await.is_ok() {}
        }
    }
}

/// A server that does `act` with each connection.
pub(super) async fn server<F>(act: fn(TcpStream) -> F) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(act(stream));
        }
    });
    address
}
