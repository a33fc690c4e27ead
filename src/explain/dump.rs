//! The zone as master-file text (RFC 1035 §5), its derived names enumerated.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use hickory_proto::rr::{RData, RecordType};
use hickory_proto::serialize::binary::{BinDecoder, Restrict};

use crate::answer::{Eligible, End, resolve};
use crate::model::{ClusterId, WhenNoneHealthy, labels};
use crate::snapshot::Snapshot;
use crate::wire::number::rtype;
use crate::zone::{Level, NamedPort, Position, Service, ServiceName};

/// The owner name of a service at a level, as text.
#[must_use]
pub fn owner(snapshot: &Snapshot, service: &Service, level: Level) -> String {
    let zone = &snapshot.zone;
    let mut name = String::new();
    if let Level::Shard(id) = level {
        let _ = write!(name, "{}.", snapshot.inputs.federation.members[id.index()].name);
    }
    for wire in [service.key.wire(), zone.levels().tail(level)] {
        push_labels(&mut name, wire);
    }
    let _ = write!(name, "{}", zone.apex());
    name
}

/// The labels of a named port in front of a level's name (RFC 2782).
pub(super) fn port_labels(port: &NamedPort) -> String {
    format!("_{}.{}.", port.name, String::from_utf8_lossy(port.protocol.label()))
}

/// Appends length-prefixed labels as text, each with its dot; they are host-name labels.
pub(super) fn push_labels(name: &mut String, wire: &[u8]) {
    for label in labels(wire) {
        let _ = write!(name, "{}.", String::from_utf8_lossy(label));
    }
}

/// Writes the whole zone: static records, then every service at every level, in the order in
/// which an unplaced client gets them. Cluster-internal names follow, if they are served.
///
/// # Errors
/// Those of `out`.
pub fn dump(snapshot: &Snapshot, out: &mut dyn fmt::Write) -> fmt::Result {
    let zone = &snapshot.zone;
    let apex = zone.apex();
    writeln!(out, "$ORIGIN {apex}")?;
    let soa = text(rtype::SOA, snapshot.soa());
    writeln!(out, "{apex} {} IN SOA {soa}", zone.settings().ttl)?;
    for (relative, node) in zone.statics().sorted() {
        let mut name = String::new();
        push_labels(&mut name, relative);
        for set in node.rrsets() {
            for rdata in &set.rdata {
                let (rtype, rdata) = (RecordType::from(set.rtype), text(set.rtype, rdata));
                writeln!(out, "{name}{apex} {} IN {rtype} {rdata}", set.ttl)?;
            }
        }
    }
    let mut services: Vec<_> = zone.services().iter().collect();
    services.sort_by(|a, b| a.service().key.cmp(&b.service().key));
    for entry in services {
        if let Some((service, position)) = zone.service(entry.service().key.wire()) {
            dump_service(snapshot, service, position, out)?;
        }
    }
    super::internal::dump(snapshot, out)
}

fn dump_service(
    snapshot: &Snapshot,
    service: &Service,
    position: Position,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let levels = std::iter::once(Level::Global)
        .chain(snapshot.zone.levels().all())
        .filter(|level| snapshot.zone.fits(service, None, *level));
    let mut names: Vec<(Level, String)> = Vec::new();
    for level in levels {
        names.push((level, owner(snapshot, service, level)));
        names.extend(synonym(snapshot, service, level).map(|synonym| (level, synonym)));
    }
    for (level, own) in &names {
        let name = ServiceName { service, position, level: *level, port: None };
        dump_level(snapshot, &name, own, out)?;
    }
    for level in service.clusters.iter().map(Level::Shard) {
        let name = ServiceName { service, position, level, port: None };
        dump_level(snapshot, &name, &owner(snapshot, service, level), out)?;
    }
    for port in service.ports() {
        for (level, own) in &names {
            let name = ServiceName { service, position, level: *level, port: Some(port) };
            if snapshot.zone.fits(service, Some(port), *level) {
                dump_level(snapshot, &name, own, out)?;
            }
        }
    }
    Ok(())
}

/// The other name of a level, where it has one: `S.N.F.D`, and `S.N.F.svc.z.D` of a zone that
/// needs no region.
fn synonym(snapshot: &Snapshot, service: &Service, level: Level) -> Option<String> {
    let zone = &snapshot.zone;
    let (federation, apex) = (&zone.settings().federation, zone.apex());
    let mut name = String::new();
    push_labels(&mut name, service.key.wire());
    match level {
        Level::Global => Some(format!("{name}{federation}.{apex}")),
        Level::Zone(id) if zone.levels().is_short(id) => {
            let label = &zone.levels().availability_zone(id).label;
            Some(format!("{name}{federation}.svc.{label}.{apex}"))
        }
        Level::Zone(_) | Level::Region(_) | Level::Shard(_) => None,
    }
}

/// The records of one name.
fn dump_level(
    snapshot: &Snapshot,
    name: &ServiceName<'_>,
    own: &str,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let service = name.service;
    let live = snapshot.live(name.position);
    let prefix = name.port.map_or_else(String::new, port_labels);
    let path = resolve(snapshot, live, name);
    let ttl = snapshot.ttl(service, live);
    let own = format!("{prefix}{own}");
    if let Some(first) = path.cnames().first() {
        let target = owner(snapshot, service, path.after(*first));
        return writeln!(out, "{own} {ttl} IN CNAME {prefix}{target}");
    }
    let soon = ttl.min(snapshot.zone.settings().unhealthy_ttl);
    match (path.end, name.port) {
        (End::Served, port) => {
            let base = port.map_or(&service.clusters, |port| &port.clusters);
            let eligible = Eligible::served(base, snapshot, live, path.level);
            dump_shards(snapshot, name, &own, ttl, &eligible, out)
        }
        (End::StandIn(WhenNoneHealthy::All), port) => {
            let base = port.map_or(&service.clusters, |port| &port.clusters);
            let eligible = Eligible::all(base, snapshot, live, path.level);
            dump_shards(snapshot, name, &own, soon, &eligible, out)
        }
        (End::StandIn(WhenNoneHealthy::Name(target)), None) => {
            writeln!(out, "{own} {soon} IN CNAME {target}")
        }
        (End::StandIn(WhenNoneHealthy::Addresses(addresses)), None) => {
            addresses.iter().try_for_each(|address| write_address(out, &own, soon, *address))
        }
        (End::Nothing | End::StandIn(_), _) => {
            writeln!(out, "; {own} has no served shard")
        }
    }
}

fn dump_shards(
    snapshot: &Snapshot,
    name: &ServiceName<'_>,
    own: &str,
    ttl: u32,
    eligible: &Eligible<'_>,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let each = |id: ClusterId| {
        let written = match name.port {
            Some(port) => write_srv(snapshot, name.service, port, id, (own, ttl), out),
            None => {
                let v4 = name.service.v4().of(id).iter().map(|octets| IpAddr::from(*octets));
                let v6 = name.service.v6().of(id).iter().map(|octets| IpAddr::from(*octets));
                let mut all = v4.chain(v6);
                all.try_for_each(|address| write_address(out, own, ttl, address))
            }
        };
        written.err()
    };
    // Every record that some client may get: the order and the policy are the client's.
    eligible.iter().find_map(each).map_or(Ok(()), Err)
}

pub(super) fn write_address(
    out: &mut dyn fmt::Write,
    own: &str,
    ttl: u32,
    address: IpAddr,
) -> fmt::Result {
    let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
    writeln!(out, "{own} {ttl} IN {rtype} {address}")
}

fn write_srv(
    snapshot: &Snapshot,
    service: &Service,
    port: &NamedPort,
    id: ClusterId,
    (own, ttl): (&str, u32),
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let Some(number) = service.port(id, port) else { return Ok(()) };
    let target = owner(snapshot, service, Level::Shard(id));
    writeln!(out, "{own} {ttl} IN SRV 0 1 {number} {target}")
}

/// RDATA in presentation form, or as RFC 3597 §5 writes unknown types.
pub(super) fn text(rtype: u16, rdata: &[u8]) -> String {
    let mut decoder = BinDecoder::new(rdata);
    let length = Restrict::new(rdata.len() as u16);
    match RData::read(&mut decoder, RecordType::from(rtype), length) {
        Ok(rdata) => rdata.to_string(),
        Err(_) => {
            let hex: String = rdata.iter().map(|octet| format!("{octet:02x}")).collect();
            format!("\\# {} {hex}", rdata.len())
        }
    }
}
