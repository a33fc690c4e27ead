//! Checks by the gRPC health protocol: `grpc.health.v1.Health/Check` over HTTP/2.
//!
//! Two messages of one field each are read and written here rather than by a code generator.

use std::net::SocketAddr;

use h2::RecvStream;
use hyper::body::Bytes;

use super::connection::{Connection, Way, driven};
use super::deadline::Fault;
use super::http::{USER_AGENT, authority};
use super::tls::Protocol;
use crate::model::GrpcCheck;

/// Where a gRPC server answers for its health.
const METHOD: &str = "/grpc.health.v1.Health/Check";

/// Octets of all headers of a reply together.
const MAX_HEAD: u32 = 16 << 10;

/// Octets of the message of a reply: it has one small field.
const MAX_MESSAGE: usize = 1 << 10;

/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Asks by `check`.
pub(super) async fn ask(check: &GrpcCheck, mut way: Way<'_>) -> Result<(), Fault> {
    let connection = way.open(check.tls.as_ref(), check.host.as_ref(), Protocol::Grpc).await?;
    way.deadline.limit("no whole reply", exchange(check, way.address, connection)).await
}

async fn exchange(
    check: &GrpcCheck,
    address: SocketAddr,
    connection: Connection,
) -> Result<(), Fault> {
    let mut builder = h2::client::Builder::new();
    builder.max_header_list_size(MAX_HEAD).enable_push(false);
    let handshake = builder.handshake::<_, Bytes>(connection);
    let (mut sender, connection) = handshake.await.map_err(|error| Fault::of(&error))?;
    let request = request(check, address)?;
    let reply = async {
        let fault = |error: h2::Error| Fault::of(&error);
        let (reply, mut stream) = sender.send_request(request, false).map_err(fault)?;
        stream.send_data(message(&check.service), true).map_err(fault)?;
        judge(check, reply.await.map_err(fault)?).await
    };
    driven(reply, connection).await
}

fn request(check: &GrpcCheck, address: SocketAddr) -> Result<http::Request<()>, Fault> {
    let (scheme, usual) = if check.tls.is_some() { ("https", 443) } else { ("http", 80) };
    let authority = authority(check.host.as_ref(), address, usual);
    http::Request::post(format!("{scheme}://{authority}{METHOD}"))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .header(http::header::USER_AGENT, USER_AGENT)
        .body(())
        .map_err(|error| Fault::Ours(format!("the request cannot be written: {error}")))
}

/// `HealthCheckRequest { string service = 1; }` behind its prefix.
fn message(service: &str) -> Bytes {
    let mut field = Vec::with_capacity(service.len() + 4);
    if !service.is_empty() {
        field.push(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend_from_slice(service.as_bytes());
    }
    let mut message = Vec::with_capacity(PREFIX + field.len());
    message.push(0);
    // A check's text is at most 1000 octets long.
    message.extend_from_slice(&(field.len() as u32).to_be_bytes());
    message.extend_from_slice(&field);
    message.into()
}

async fn judge(check: &GrpcCheck, reply: http::Response<RecvStream>) -> Result<(), Fault> {
    let fail = |why: String| Err(Fault::Target(why));
    let (head, mut body) = reply.into_parts();
    if head.status != http::StatusCode::OK {
        return fail(format!("HTTP status {} is no answer of gRPC", head.status.as_u16()));
    }
    let kind = head.headers.get(http::header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return fail("the reply is not of gRPC".to_owned());
    }
    let mut octets = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| Fault::of(&error))?;
        if octets.len() + data.len() > PREFIX + MAX_MESSAGE {
            return fail(format!("the message is longer than {MAX_MESSAGE} octets"));
        }
        octets.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.map_err(|error| Fault::of(&error))?;
    // Where there is no message, the trailers are the headers.
    status(trailers.as_ref().unwrap_or(&head.headers), &check.service)?;
    match health(&octets) {
        Some(SERVING) => Ok(()),
        Some(0) => fail("its health is UNKNOWN".to_owned()),
        Some(2) => fail("its health is NOT_SERVING".to_owned()),
        Some(3) => fail("its health is SERVICE_UNKNOWN".to_owned()),
        Some(other) => fail(format!("its health is {other}, which is not defined")),
        None => fail("the message cannot be decoded".to_owned()),
    }
}

/// `HealthCheckResponse.ServingStatus.SERVING`
const SERVING: u64 = 1;

/// What the call itself came to.
fn status(trailers: &http::HeaderMap, service: &str) -> Result<(), Fault> {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status") else {
        return Err(Fault::Target("the reply has no grpc-status".to_owned()));
    };
    let told = text("grpc-message").unwrap_or_default();
    Err(Fault::Target(match code {
        "0" => return Ok(()),
        "5" => format!("gRPC status 5: it knows no service '{service}' {told}"),
        "12" => format!("gRPC status 12: it does not speak the health protocol {told}"),
        _ => format!("gRPC status {code} {told}"),
    }))
}

/// The `status` of a `HealthCheckResponse { ServingStatus status = 1; }` behind its prefix; `None`
/// where it is none, or compressed, which was not asked for.
fn health(octets: &[u8]) -> Option<u64> {
    let (prefix, mut rest) = octets.split_first_chunk::<PREFIX>()?;
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 || u32::from_be_bytes(length) as usize != rest.len() {
        return None;
    }
    // Fields with their default value are left out.
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => {
                varint(&mut rest)?;
            }
            (_, 1) => rest = rest.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                rest = rest.get(length..)?;
            }
            (_, 5) => rest = rest.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// Takes a number of seven bits an octet, the least first, from the start of `rest`.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&octet, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
