//! As much HTTP/1.1 as an API server needs, blocking, over TCP or TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Broken;
use super::store::Gone;
use crate::support::PATIENCE;

/// Who signed the certificates.
pub(super) const AUTHORITY: &str = include_str!("tls/ca.pem");
/// A certificate for 127.0.0.1 that is valid for a century.
pub(crate) const GOOD: &str = include_str!("tls/good.pem");
/// One that ended in 2020, as seen by a clock that is right.
pub(crate) const EXPIRED: &str = include_str!("tls/expired.pem");
/// One that begins in 2119: to a clock that is behind the issuer's a new one looks so.
pub(crate) const EARLY: &str = include_str!("tls/early.pem");
const KEY: &str = include_str!("tls/server.key");

/// The settings of a server with `certificate`.
pub(super) fn tls(certificate: &str) -> Arc<rustls::ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("PEM");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("what ring has")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key of the certificate");
    Arc::new(config)
}

/// RFC 4648 §4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | u32::from(*group.get(i).unwrap_or(&0)));
        let digit = |i: usize| match i <= group.len() {
            true => char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]),
            false => '=',
        };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

/// A request.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) body: Vec<u8>,
    pub(super) path: String,
    pub(super) query: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A parameter of the query, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value)).next()
    }

    /// The namespace in its path.
    pub(super) fn namespace(&self) -> String {
        let mut parts = self.path.split('/').skip_while(|part| *part != "namespaces");
        parts.nth(1).unwrap_or_default().to_owned()
    }

    /// The last part of its path.
    pub(super) fn name(&self) -> String {
        self.path.rsplit('/').next().unwrap_or_default().to_owned()
    }

    /// A header, by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }
}

fn decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).expect("UTF-8").replace('+', " ")
}

/// Octets in both directions.
trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// A connection of a client.
pub(super) struct Connection {
    stream: BufReader<Box<dyn Duplex>>,
}

impl Connection {
    /// A connection over `stream`; `None` where it is broken already.
    pub(super) fn new(stream: TcpStream, tls: Option<Arc<rustls::ServerConfig>>) -> Option<Self> {
        stream.set_nodelay(true).ok()?;
        // A client that is gone must not keep a thread for ever.
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        let stream: Box<dyn Duplex> = match tls {
            None => Box::new(stream),
            Some(config) => {
                let session = rustls::ServerConnection::new(config).ok()?;
                Box::new(rustls::StreamOwned::new(session, stream))
            }
        };
        Some(Self { stream: BufReader::new(stream) })
    }

    /// The next request; `None` at the end.
    pub(super) fn request(&mut self) -> io::Result<Option<Request>> {
        let mut first = String::new();
        if self.stream.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut parts = first.split(' ');
        let method = parts.next().unwrap_or_default().to_owned();
        let target = parts.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line)?;
            let Some((key, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((key.to_ascii_lowercase(), value.to_owned()));
        }
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut request = Request { method, body: Vec::new(), path, query, headers };
        if let Some(len) = request.header("content-length").and_then(|len| len.parse().ok()) {
            request.body = vec![0; len];
            self.stream.read_exact(&mut request.body)?;
        }
        Ok(Some(request))
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes())?;
        stream.flush()
    }

    fn respond(&mut self, status: u16, extra: &str, kind: &str, body: &str) -> io::Result<()> {
        let len = body.len();
        self.send(&format!(
            "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{extra}Content-Length: {len}\r\n\r\n{body}"
        ))
    }

    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.respond(200, "", "text/plain", text)
    }

    /// An object that was written.
    pub(super) fn written(&mut self, object: &Value) -> io::Result<()> {
        self.respond(201, "", "application/json", &object.to_string())
    }

    pub(super) fn json(&mut self, value: &Value) -> io::Result<()> {
        self.respond(200, "", "application/json", &value.to_string())
    }

    /// The first half of a response; what is returned breaks the connection.
    pub(super) fn half(&mut self, value: &Value) -> io::Result<Broken> {
        let text = value.to_string();
        let (len, half) = (text.len(), &text[..text.len() / 2]);
        self.send(&format!(
            "HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n{half}"
        ))?;
        Ok(Broken)
    }

    /// A `Status` as the API has it.
    pub(super) fn status(&mut self, code: u16, why: &str, retry: Option<u32>) -> io::Result<()> {
        let retry = retry.map(|seconds| format!("Retry-After: {seconds}\r\n")).unwrap_or_default();
        let status = of(code, why).to_string();
        self.respond(code, &retry, "application/json", &status)
    }

    /// 410, one way or the other.
    pub(super) fn gone(&mut self, gone: Gone) -> io::Result<()> {
        let why = "too old resource version";
        match gone {
            Gone::Status => self.status(410, why, None),
            Gone::Event => self.error(410, why),
        }
    }

    /// A stream that holds an error only.
    pub(super) fn error(&mut self, code: u16, why: &str) -> io::Result<()> {
        self.begin_chunks()?;
        self.chunk(&format!("{}\n", json!({"type": "ERROR", "object": of(code, why)})))?;
        self.end_chunks()
    }

    /// Begins a response of unknown length.
    pub(super) fn begin_chunks(&mut self) -> io::Result<()> {
        self.send(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
    }

    pub(super) fn chunk(&mut self, text: &str) -> io::Result<()> {
        self.send(&format!("{:x}\r\n{text}\r\n", text.len()))
    }

    pub(super) fn end_chunks(&mut self) -> io::Result<()> {
        self.send("0\r\n\r\n")
    }
}

fn of(code: u16, why: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
           "message": why, "reason": "Test", "code": code})
}
