//! The sections `listen`, `dns`, `resolver` and `shutdown`.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use super::notes::{At, Notes, Refused, at};
use super::values::{Range, all, duration, listen_address, number};
use crate::cluster::ResolverSettings;
use crate::config::raw;
use crate::model::unusable_address;
use crate::server::{Settings, TcpSettings};
use crate::snapshot::Identity;

/// 512 octets is what every client takes (RFC 1035 §2.3.4), 4096 the most that RFC 6891 §6.2.5
/// has anyone begin with.
const UDP_PAYLOAD: Range = Range { least: 512, most: 4096, why: "octets of a UDP reply" };

/// Of 1232 octets it is agreed that they pass every path unfragmented: the least IPv6 MTU, 1280,
/// less the headers (DNS flag day 2020).
const DEFAULT_UDP_PAYLOAD: u16 = 1232;

const WORKERS: Range = Range { least: 1, most: 1024, why: "threads for each address" };

const CONNECTIONS: Range = Range { least: 1, most: 1_000_000, why: "connections at a time" };

/// Half of the 1024 open files that a process may usually have.
const DEFAULT_CONNECTIONS: usize = 512;

/// A client needs one connection for its queries and one for zone transfers (RFC 7766 §6.2.2);
/// several clients may share an address.
const DEFAULT_CONNECTIONS_PER_CLIENT: usize = 16;

/// "On the order of a few seconds" (RFC 7766 §6.2.3), and what other servers have.
const DEFAULT_IDLE: Duration = Duration::from_secs(10);

/// Longer than the resolvers' usual time-out, so that they have asked elsewhere before we go.
const DEFAULT_DRAIN: Duration = Duration::from_secs(5);

/// The longest string of a TXT record (RFC 1035 §3.3), and as long as an NSID needs to be.
const LONGEST_STRING: usize = 255;

/// The port of DNS, where an upstream has none.
const DNS_PORT: u16 = 53;

/// Checks what the sockets need.
pub(super) fn settings(raw: &raw::File, notes: &mut Notes) -> Result<Settings, Refused> {
    let (dns, http) = listen(&raw.listen, notes);
    let workers = raw.dns.udp_workers.as_ref();
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let udp_workers = number(notes, "dns.udpWorkers", workers, cores, &WORKERS, |n| {
        usize::try_from(n).ok().and_then(NonZeroUsize::new)
    });
    let tcp = tcp(&raw.dns.tcp, notes);
    let drain = raw.shutdown.drain.as_ref();
    let drain = duration(notes, "shutdown.drain", drain, DEFAULT_DRAIN, Duration::ZERO);
    Ok(Settings {
        dns: dns?,
        http: http?,
        udp_workers: udp_workers?,
        udp_receive_offload: raw.dns.udp_receive_offload.unwrap_or(false),
        tcp: tcp?,
        drain: drain?,
    })
}

type Listeners = (Result<Vec<SocketAddr>, Refused>, Result<Option<SocketAddr>, Refused>);

fn listen(raw: &raw::Listen, notes: &mut Notes) -> Listeners {
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    let mut claim = |at: At, text: &raw::Text, notes: &mut Notes| {
        let address = listen_address(notes, &at, &text.value)?;
        // Port 0 is another port each time.
        let same = |(other, _): &&(SocketAddr, String)| *other == address && address.port() != 0;
        if let Some((_, first)) = taken.iter().find(same) {
            return Err(notes.mistake(&at, format!("{address} is already {first}")));
        }
        taken.push((address, at.path));
        Ok(address)
    };
    let dns = raw.dns.value.iter().enumerate();
    let mut dns =
        all(dns.map(|(i, text)| claim(at(format!("listen.dns[{i}]"), text), text, notes)));
    if raw.dns.value.is_empty() {
        let reason = "is empty: give at least one address to answer on";
        dns = Err(notes.mistake(&at("listen.dns", &raw.dns), reason));
    }
    let http = raw.http.as_ref().map(|text| claim(at("listen.http", text), text, notes));
    (dns, http.transpose())
}

fn tcp(raw: &raw::Tcp, notes: &mut Notes) -> Result<TcpSettings, Refused> {
    let mut count = |path, raw: &Option<raw::Number>, default| {
        number(notes, path, raw.as_ref(), default, &CONNECTIONS, |n| usize::try_from(n).ok())
    };
    let in_all = count("dns.tcp.maxConnections", &raw.max_connections, DEFAULT_CONNECTIONS);
    // Left alone, the limit of one client follows a lower one in all.
    let default = in_all.map_or(DEFAULT_CONNECTIONS_PER_CLIENT, |all: usize| {
        all.min(DEFAULT_CONNECTIONS_PER_CLIENT)
    });
    let each = count("dns.tcp.maxConnectionsPerClient", &raw.max_connections_per_client, default);
    if let (Some(value), Ok(in_all), Ok(each)) = (&raw.max_connections_per_client, &in_all, &each)
        && each > in_all
    {
        let at = at("dns.tcp.maxConnectionsPerClient", value);
        notes.mistake(&at, format!("{each} is more than maxConnections, {in_all}"));
    }
    let idle = raw.idle_timeout.as_ref();
    let least = Duration::from_millis(100);
    let idle_timeout = duration(notes, "dns.tcp.idleTimeout", idle, DEFAULT_IDLE, least);
    Ok(TcpSettings {
        max_connections: in_all?,
        max_connections_per_client: each?,
        idle_timeout: idle_timeout?,
    })
}

/// Checks how the server names itself, and its UDP limit.
pub(super) fn identity(raw: &raw::Dns, notes: &mut Notes) -> Result<Identity, Refused> {
    let size = raw.udp_payload_size.as_ref();
    let convert = |n| u16::try_from(n).ok();
    let udp_payload =
        number(notes, "dns.udpPayloadSize", size, DEFAULT_UDP_PAYLOAD, &UDP_PAYLOAD, convert);
    let mut string = |path: &str, raw: &Option<raw::Text>| {
        raw.as_ref().map(|text| short_string(path, text, notes)).transpose()
    };
    let version = string("dns.version", &raw.version);
    let id = string("dns.id", &raw.id);
    let nsid = string("dns.nsid", &raw.nsid);
    Ok(Identity {
        version: version?,
        id: id?,
        nsid: nsid?.map(|text| text.into_bytes().into()),
        udp_payload: udp_payload?,
    })
}

fn short_string(path: &str, raw: &raw::Text, notes: &mut Notes) -> Result<String, Refused> {
    match raw.value.len() {
        1..=LONGEST_STRING => Ok(raw.value.clone()),
        0 => Err(notes.mistake(&at(path, raw), "is empty: leave the key out to switch it off")),
        many => {
            let reason = format!("has {many} octets; at most {LONGEST_STRING} fit");
            Err(notes.mistake(&at(path, raw), reason))
        }
    }
}

/// Checks the recursive resolvers.
pub(super) fn resolver(
    raw: &raw::Resolver,
    notes: &mut Notes,
) -> Result<ResolverSettings, Refused> {
    let mut seen = Vec::new();
    let upstreams = all(raw.upstreams.iter().enumerate().map(|(index, text)| {
        let at = at(format!("resolver.upstreams[{index}]"), text);
        let address = upstream(&at, &text.value, notes)?;
        if seen.contains(&address) {
            return Err(notes.mistake(&at, format!("{address} is listed twice")));
        }
        seen.push(address);
        Ok(address)
    }));
    Ok(ResolverSettings { upstreams: upstreams? })
}

fn upstream(at: &At, text: &str, notes: &mut Notes) -> Result<SocketAddr, Refused> {
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    match text.parse::<SocketAddr>().or_else(|_| bare()) {
        Ok(address) if address.port() == 0 => Err(notes.mistake(at, "port 0 cannot be asked")),
        Ok(address) => match unusable_address(address.ip()) {
            Some(kind) => Err(notes.mistake(at, format!("cannot ask {}, {kind}", address.ip()))),
            None => Ok(address),
        },
        Err(_) => {
            let reason = format!("'{text}' is no address: write one such as \"192.0.2.53:53\"");
            Err(notes.mistake(at, reason))
        }
    }
}
