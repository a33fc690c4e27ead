//! Real sockets on loopback, ports chosen by the system, a stand-in for the answer function.

mod bind;
mod dns;
mod http;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::answer::{LocatedBy, ZoneKind};
use crate::snapshot::SnapshotCell;
use crate::telemetry::Telemetry;

/// Only keeps a test that fails from hanging.
const BOUND: Duration = Duration::from_secs(20);

/// What the stand-in does with a query is its third octet.
const ECHO: u8 = 0;
/// No reply.
const SILENT: u8 = 1;
/// A reply of [`LONG`] octets.
const LONG_REPLY: u8 = 2;
/// A fault of ours.
const PANIC: u8 = 3;

/// Longer than a socket's usual piece, so that a few fill every buffer on the way.
const LONG: usize = 60_000;

/// Stands in for the real function: id and third octet are sent back, then the turn (four octets)
/// and the client's address as text.
fn stand_in(
    _: Found<'_>,
    query: &[u8],
    _: &Ahead,
    client: Client,
    turn: u32,
    reply: &mut [u8],
) -> Option<Answered> {
    let head = query.get(..3)?;
    let mut text = head.to_vec();
    text.extend(turn.to_be_bytes());
    text.extend(client.address.to_string().bytes());
    match head[2] {
        SILENT => return None,
        LONG_REPLY => text.resize(LONG, b'.'),
        PANIC => panic!("a fault made by the test"),
        _ => {}
    }
    reply[..text.len()].copy_from_slice(&text);
    let (zone, located) = (ZoneKind::Federation, LocatedBy::Source);
    Some(Answered { len: text.len(), zone, qtype: 1, rcode: 0, located })
}

/// A reply of [`stand_in`].
#[derive(Debug, PartialEq)]
struct Reply {
    id: u16,
    turn: u32,
    client: String,
}

impl Reply {
    fn parse(reply: &[u8]) -> Self {
        Self {
            id: u16::from_be_bytes([reply[0], reply[1]]),
            turn: u32::from_be_bytes(reply[3..7].try_into().unwrap()),
            client: String::from_utf8(reply[7..].to_vec()).unwrap(),
        }
    }
}

fn query(id: u16, what: u8) -> [u8; 3] {
    let [high, low] = id.to_be_bytes();
    [high, low, what]
}

fn cell() -> Arc<SnapshotCell> {
    Arc::new(SnapshotCell::new(crate::snapshot::testing::Fixture::new().build()))
}

fn settings(dns: &[&str]) -> Settings {
    Settings {
        dns: dns.iter().map(|address| address.parse().unwrap()).collect(),
        http: None,
        udp_workers: NonZeroUsize::new(1).unwrap(),
        udp_receive_offload: false,
        tcp: TcpSettings {
            max_connections: 100,
            max_connections_per_client: 100,
            idle_timeout: BOUND,
        },
        drain: Duration::ZERO,
    }
}

/// A server and what is needed to ask and judge it.
struct Server {
    address: SocketAddr,
    telemetry: Telemetry,
    running: RunningDns,
}

/// Binds and serves at once; `None`, said aloud, where the machine lacks IPv6.
fn start(settings: &Settings) -> Option<Server> {
    let sockets = bind(settings)?;
    let address = sockets.dns.addresses().next().unwrap();
    let telemetry = Telemetry::new("example.com.");
    let running = sockets.dns.serve(&cell(), &telemetry, stand_in).unwrap();
    Some(Server { address, telemetry, running })
}

fn bind(settings: &Settings) -> Option<Sockets> {
    match Sockets::bind(settings) {
        Ok(sockets) => Some(sockets),
        Err(BindError::None) => {
            println!("skipped: this machine has no IPv6 ({:?})", settings.dns);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The value of a series, 0 where there is none.
fn metric(telemetry: &Telemetry, series: &str) -> u64 {
    let text = telemetry.render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |number| number.parse().unwrap())
}

/// Waits until a series has the value.
async fn until(telemetry: &Telemetry, series: &str, expected: u64) {
    let reached = async {
        while metric(telemetry, series) != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(BOUND, reached).await;
    assert!(waited.is_ok(), "{series} is {} not {expected}", metric(telemetry, series));
}
