//! Cluster-internal names, told and enumerated.

use std::fmt;
use std::net::IpAddr;

use super::dump::{owner, port_labels, push_labels, text, write_address};
use super::{Request, ServiceStory, story};
use crate::geo::Located;
use crate::model::Internal;
use crate::snapshot::Snapshot;
use crate::wire::QuestionName;
use crate::wire::number::rtype;
use crate::zone::{INTERNAL_TTL, InternalZone, Lookup, NamedPort, Service, ServiceName};

/// What stands at a name outside of D, in words, and the story of its service.
pub(super) fn found(
    snapshot: &Snapshot,
    request: &Request,
    name: &QuestionName,
    located: &Located,
) -> (String, Option<ServiceStory>) {
    let internal = snapshot.zone.internal();
    let Some((zone, above)) = internal.and_then(|zone| Some((zone, zone.contains(name)?))) else {
        return ("outside of our zones".to_owned(), None);
    };
    let found = match zone.lookup(&snapshot.zone, name, above) {
        Lookup::Service(hit) => return service(snapshot, request, zone, &hit, located),
        Lookup::Static(_) => "the apex of the cluster-internal names",
        Lookup::EmptyNonTerminal => "an empty non-terminal",
        Lookup::Nothing if snapshot.complete => "nothing",
        Lookup::Nothing => "unknown: some source has not been read yet",
    };
    (found.to_owned(), None)
}

fn service(
    snapshot: &Snapshot,
    request: &Request,
    zone: &InternalZone,
    name: &ServiceName<'_>,
    located: &Located,
) -> (String, Option<ServiceStory>) {
    let key = &name.service.key;
    let found = format!("cluster-internal name of service {key}");
    let why = match snapshot.local(name.service) {
        Ok(internal) => {
            return (format!("{found}, answered with {}", in_words(internal)), None);
        }
        Err(why) => why,
    };
    let found = format!("{found}, which leads elsewhere as {why}");
    let prefix = prefix_len(name.port);
    let level = zone.leads_to(&snapshot.zone, name.service, prefix);
    let story = level.map(|level| {
        let mut story = story(snapshot, request, &ServiceName { level, ..*name }, located);
        story.path.insert(0, internal_owner(zone, name.service));
        story
    });
    (found, story)
}

fn in_words(internal: &Internal) -> String {
    let what = match internal {
        Internal::ClusterIp(_) => "the ClusterIP",
        Internal::Headless(_) => "the ready pods",
    };
    let addresses: Vec<_> = internal.addresses().iter().map(IpAddr::to_string).collect();
    format!("{what} of its own cluster: {}", addresses.join(" "))
}

/// Octets of `_port._proto`.
fn prefix_len(port: Option<&NamedPort>) -> usize {
    port.map_or(0, |port| port.name.as_bytes().len() + port.protocol.label().len() + 3)
}

/// The cluster-internal name of a service as text.
fn internal_owner(zone: &InternalZone, service: &Service) -> String {
    let mut name = String::new();
    push_labels(&mut name, service.key.wire());
    name.push_str(&zone.apex().to_string());
    name
}

/// Writes the zone of cluster-internal names, if it is served, behind the other.
pub(super) fn dump(snapshot: &Snapshot, out: &mut dyn fmt::Write) -> fmt::Result {
    let Some(zone) = snapshot.zone.internal() else { return Ok(()) };
    let (apex, ttl) = (zone.apex(), snapshot.zone.settings().ttl);
    writeln!(out, "\n$ORIGIN {apex}")?;
    writeln!(out, "{apex} {ttl} IN SOA {}", text(rtype::SOA, snapshot.internal_soa()))?;
    for rdata in zone.nameservers().rrsets().iter().flat_map(|set| &set.rdata) {
        writeln!(out, "{apex} {ttl} IN NS {}", text(rtype::NS, rdata))?;
    }
    let mut services: Vec<_> = snapshot.zone.services().iter().collect();
    services.sort_by(|a, b| a.service().key.cmp(&b.service().key));
    services.iter().try_for_each(|entry| dump_service(snapshot, zone, entry.service(), out))
}

fn dump_service(
    snapshot: &Snapshot,
    zone: &InternalZone,
    service: &Service,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let own = internal_owner(zone, service);
    let ports = service.ports().iter().map(Some);
    for port in std::iter::once(None).chain(ports) {
        let labels = port.map_or_else(String::new, port_labels);
        match (snapshot.local(service), port) {
            (Ok(internal), None) => {
                let mut all = internal.addresses().iter();
                all.try_for_each(|address| write_address(out, &own, INTERNAL_TTL, *address))?;
            }
            (Ok(Internal::ClusterIp(_)), Some(port)) => {
                let number = zone.home().and_then(|home| service.port(home, port));
                if let Some(number) = number {
                    writeln!(out, "{labels}{own} {INTERNAL_TTL} IN SRV 0 1 {number} {own}")?;
                }
            }
            (Ok(Internal::Headless(_)), Some(_)) => {}
            (Err(_), port) => {
                if let Some(level) = zone.leads_to(&snapshot.zone, service, prefix_len(port)) {
                    let target = owner(snapshot, service, level);
                    writeln!(out, "{labels}{own} {INTERNAL_TTL} IN CNAME {labels}{target}")?;
                }
            }
        }
    }
    Ok(())
}
