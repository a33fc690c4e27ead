//! TLS of checks.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, HandshakeKind,
    RootCertStore, SignatureScheme, SupportedCipherSuite,
};

use super::connection::Way;
use super::deadline::Fault;
use crate::model::{DomainName, TlsCheck, Verify};

/// What is spoken over TLS.
#[derive(Clone, Copy, Debug)]
pub(super) enum Protocol {
    /// HTTP/1.1
    Http,
    /// HTTP/2, which gRPC needs.
    Grpc,
}

/// The configurations that all checks share, made when the first needs one.
#[derive(Debug)]
pub(super) struct Configs {
    authorities: Arc<[CertificateDer<'static>]>,
    made: OnceLock<Result<Made, String>>,
}

#[derive(Debug)]
struct Made {
    verifying: ByProtocol,
    trusting: ByProtocol,
}

#[derive(Debug)]
struct ByProtocol {
    http: Arc<ClientConfig>,
    grpc: Arc<ClientConfig>,
}

impl Configs {
    pub(super) fn new(authorities: Arc<[CertificateDer<'static>]>) -> Self {
        Self { authorities, made: OnceLock::new() }
    }

    /// A TLS session over `stream`; the certificate is for the name asked for, which is that of
    /// `check`, else `host`, else for the address.
    pub(super) async fn handshake(
        &self,
        check: &TlsCheck,
        host: Option<&DomainName>,
        protocol: Protocol,
        stream: TcpStream,
        way: &mut Way<'_>,
    ) -> Result<TlsStream<TcpStream>, Fault> {
        let made = self.made.get_or_init(|| make(&self.authorities)).as_ref();
        let made = made.map_err(|why| Fault::Ours(why.clone()))?;
        let by_protocol = match check.verify {
            Verify::Full => &made.verifying,
            Verify::Nothing => &made.trusting,
        };
        let config = match protocol {
            Protocol::Http => &by_protocol.http,
            Protocol::Grpc => &by_protocol.grpc,
        };
        let name = match check.sni.as_ref().or(host) {
            Some(name) => {
                let name = name.to_string();
                let bare = name.strip_suffix('.').unwrap_or(&name).to_owned();
                ServerName::try_from(bare).map_err(|error| Fault::of(&error))?
            }
            None => ServerName::IpAddress(way.address.ip().into()),
        };
        let sessions = way.memory.sessions(&name, way.address);
        // Each target has sessions of its own. Beside these, all that a configuration holds is
        // shared, so that a copy costs little.
        let mut config = ClientConfig::clone(config);
        config.resumption = sessions.resumption(Instant::now());
        let connector = TlsConnector::from(Arc::new(config));
        let session = async { connector.connect(name, stream).await.map_err(|e| explained(&e)) };
        let session = way.deadline.limit("no TLS session", session).await?;
        if session.get_ref().1.handshake_kind() != Some(HandshakeKind::Resumed) {
            sessions.verified(Instant::now());
        }
        Ok(session)
    }
}

/// What went wrong with a handshake, and what to do about the certificates that are most often to
/// blame.
fn explained(error: &std::io::Error) -> Fault {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = tls else { return Fault::of(error) };
    Fault::Target(match why {
        CertificateError::UnknownIssuer => {
            "the certificate is of an authority that is not trusted; health.checks.authorities \
             lists more"
                .to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            // The reason lists all names, and may be cut short.
            format!("the certificate is for another name than 'host' or 'sni' says: {why}")
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the certificate has expired: {why}")
        }
        // Of the library below, whose error cannot be named here.
        why if why.to_string().contains("CaUsedAsEndEntity") => {
            "the certificate is one of an authority, such as one that signed itself".to_owned()
        }
        _ => format!("the certificate is not valid: {why}"),
    })
}

fn make(authorities: &[CertificateDer<'static>]) -> Result<Made, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "trusted authorities of the system could not be read");
    }
    // A store holds some that only old software reads; those are of no use and no harm.
    let _ = roots.add_parsable_certificates(system.certs);
    let _ = roots.add_parsable_certificates(authorities.iter().cloned());
    if roots.is_empty() {
        let why = "no authority is trusted: the system has none (package ca-certificates), and \
                   health.checks.authorities lists none";
        return Err(why.to_owned());
    }
    let provider = Arc::new(provider());
    let builder = || {
        ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))
    };
    let verifying = builder()?.with_root_certificates(roots).with_no_client_auth();
    let any = Arc::new(AnyCertificate(provider.clone()));
    let trusting =
        builder()?.dangerous().with_custom_certificate_verifier(any).with_no_client_auth();
    Ok(Made { verifying: by_protocol(verifying), trusting: by_protocol(trusting) })
}

/// The usual algorithms, but of ciphers first the one that costs least: nothing is secret here, and
/// most of a check is its handshake. Its SHA-256, by which all keys are derived, takes a fraction of
/// the SHA-384 of the usual first one where the processor has instructions for it.
fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    let dear =
        |suite: &SupportedCipherSuite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.sort_by_key(dear);
    provider
}

fn by_protocol(config: ClientConfig) -> ByProtocol {
    let with = |protocol: &[u8]| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    ByProtocol { http: with(b"http/1.1"), grpc: with(b"h2") }
}

/// Takes every certificate, as `verify=false` asks; that the target holds its key is still seen.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
