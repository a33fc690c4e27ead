//! Checks by HTTP/1.1, over TLS or not.

use std::net::{IpAddr, SocketAddr};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::connection::{Connection, Way, driven};
use super::deadline::Fault;
use super::tls::Protocol;
use crate::model::{BodyCheck, DomainName, HttpCheck};

/// Octets of a body that are looked at: what a page of health says fits many times.
const MAX_BODY: usize = 64 << 10;

/// Octets of all headers of a reply together, as the usual servers take them.
const MAX_HEAD: usize = 16 << 10;

/// How we name ourselves to targets.
pub(super) const USER_AGENT: &str = concat!("meridian/", env!("CARGO_PKG_VERSION"));

/// Where a reply tells the load of the target, 0 to 1.
const LOAD: &str = "x-load";

/// Asks by `check`; the load that a good reply tells of.
pub(super) async fn ask(check: &HttpCheck, mut way: Way<'_>) -> Result<Option<f64>, Fault> {
    let connection = way.open(check.tls.as_ref(), check.host.as_ref(), Protocol::Http).await?;
    way.deadline.limit("no whole reply", exchange(check, way.address, connection)).await
}

/// One request and its reply, over a connection that both then close.
async fn exchange(
    check: &HttpCheck,
    address: SocketAddr,
    connection: Connection,
) -> Result<Option<f64>, Fault> {
    let io = TokioIo::new(connection);
    let handshake = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(io);
    let (mut sender, connection) = handshake.await.map_err(|error| Fault::of(&error))?;
    let request = request(check, address)?;
    let reply = async {
        let reply = sender.send_request(request).await.map_err(|error| Fault::of(&error))?;
        judge(check, reply).await
    };
    driven(reply, connection).await
}

fn request(check: &HttpCheck, address: SocketAddr) -> Result<http::Request<Empty<Bytes>>, Fault> {
    let usual = if check.tls.is_some() { 443 } else { 80 };
    http::Request::builder()
        .method(check.method.as_str())
        .uri(&*check.path)
        .header(http::header::HOST, authority(check.host.as_ref(), address, usual))
        .header(http::header::USER_AGENT, USER_AGENT)
        .header(http::header::ACCEPT, "*/*")
        .header(http::header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| Fault::Ours(format!("the request cannot be written: {error}")))
}

/// `host`, or the address, with the port where it is not the `usual` one (RFC 9110 §7.2).
pub(super) fn authority(host: Option<&DomainName>, address: SocketAddr, usual: u16) -> String {
    let port = address.port();
    let host = match (host, address.ip()) {
        (Some(name), _) => {
            let mut text = name.to_string();
            text.truncate(text.trim_end_matches('.').len());
            text
        }
        (None, IpAddr::V4(v4)) => v4.to_string(),
        (None, IpAddr::V6(v6)) => format!("[{v6}]"),
    };
    if port == usual { host } else { format!("{host}:{port}") }
}

async fn judge(check: &HttpCheck, reply: http::Response<Incoming>) -> Result<Option<f64>, Fault> {
    let status = reply.status().as_u16();
    if !check.status.contains(status) {
        return Err(Fault::Target(format!("status {status} is not in {}", check.status)));
    }
    let load = load(reply.headers());
    if let Some(wanted) = &check.body {
        look(wanted, reply.into_body()).await?;
    }
    Ok(load)
}

/// The load that a reply tells of. What is no load is as good as none: it says nothing against the
/// target.
fn load(headers: &http::HeaderMap) -> Option<f64> {
    let text = headers.get(LOAD)?.to_str().ok();
    let load = text.and_then(|text| text.trim().parse().ok());
    let load = load.filter(|load| (0.0..=1.0).contains(load));
    if load.is_none() {
        tracing::debug!(text, "an X-Load that is no number from 0 to 1 is ignored");
    }
    load
}

async fn look(wanted: &BodyCheck, mut body: Incoming) -> Result<(), Fault> {
    let mut octets = Vec::new();
    let mut whole = true;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::of(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        let room = MAX_BODY - octets.len();
        octets.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            whole = false;
            break;
        }
    }
    let (found, what) = match wanted {
        BodyCheck::Contains(text) => (holds(&octets, text.as_bytes()), format!("hold '{text}'")),
        BodyCheck::Matches(pattern) => {
            (pattern.is_match(&octets), format!("match '{}'", pattern.as_str()))
        }
    };
    match (found, whole) {
        (true, _) => Ok(()),
        (false, true) => Err(Fault::Target(format!("the body does not {what}"))),
        (false, false) => {
            Err(Fault::Target(format!("the body does not {what} in its first {MAX_BODY} octets")))
        }
    }
}

fn holds(octets: &[u8], text: &[u8]) -> bool {
    text.is_empty() || octets.windows(text.len()).any(|window| window == text)
}
