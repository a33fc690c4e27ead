//! The static records of the domain, `federation.records`.

use std::collections::BTreeMap;

use super::domain::Tree;
use super::federation::TTL;
use super::notes::{At, Notes, Refused, at};
use super::rdata::{self, RecordType};
use super::values::{all, number};
use crate::config::raw;
use crate::model::{DomainName, Protocol};
use crate::zone::{Nameserver, StaticRecord};

/// Checks every record by itself and beside the others and the name servers' addresses.
pub(super) fn records(
    raw: &[raw::Record],
    tree: Tree<'_>,
    nameservers: &[Result<Nameserver, Refused>],
    default_ttl: u32,
    notes: &mut Notes,
) -> Result<Vec<StaticRecord>, Refused> {
    let mut by_owner: BTreeMap<DomainName, Vec<(usize, StaticRecord)>> = BTreeMap::new();
    all(raw.iter().enumerate().map(|(index, raw)| {
        let record = record(index, raw, tree, default_ttl, notes)?;
        let at_name = at(format!("federation.records[{index}].name"), &raw.name);
        let beside = by_owner.entry(record.owner.clone()).or_default();
        let fault = conflict_with_nameservers(&record, nameservers)
            .or_else(|| beside.iter().find_map(|(first, other)| conflict(&record, *first, other)));
        if let Some(fault) = fault {
            return Err(notes.mistake(&at_name, fault));
        }
        beside.push((index, record.clone()));
        Ok(record)
    }))
}

fn record(
    index: usize,
    raw: &raw::Record,
    tree: Tree<'_>,
    default_ttl: u32,
    notes: &mut Notes,
) -> Result<StaticRecord, Refused> {
    let path = |key: &str| format!("federation.records[{index}].{key}");
    let owner = owner(&at(path("name"), &raw.name), &raw.name.value, tree, notes);
    let rtype = RecordType::parse(&raw.rtype.value)
        .map_err(|fault| notes.mistake(&at(path("type"), &raw.rtype), fault));
    let convert = |n| u32::try_from(n).ok();
    let ttl = number(notes, &path("ttl"), raw.ttl.as_ref(), default_ttl, &TTL, convert);
    let rdata = rtype.and_then(|rtype| {
        rdata::parse(rtype, &raw.data.value, tree.domain.ok())
            .map_err(|fault| notes.mistake(&at(path("data"), &raw.data), fault))
    });
    let (owner, rtype) = (owner?, rtype?);
    if rtype == RecordType::CNAME && tree.domain.is_ok_and(|domain| owner == *domain) {
        let reason = "the apex has SOA and NS records, and a CNAME stands alone (RFC 1034 §3.6.2)";
        return Err(notes.mistake(&at(path("type"), &raw.rtype), reason));
    }
    Ok(StaticRecord { owner, rtype: rtype.number(), ttl: ttl?, rdata: rdata? })
}

/// `@`, an absolute name (with a final dot, or ending in the domain), or one relative to the
/// domain.
fn owner(at: &At, text: &str, tree: Tree<'_>, notes: &mut Notes) -> Result<DomainName, Refused> {
    if text == "@" {
        return tree.domain.cloned();
    }
    let written = DomainName::parse(text).map_err(|e| notes.mistake(at, e.to_string()))?;
    let domain = tree.domain?;
    let name = if written.is_within(domain) {
        written
    } else if text.ends_with('.') {
        return Err(notes.mistake(at, format!("{written} is not within {domain}")));
    } else {
        domain.prefixed(written.labels()).ok_or_else(|| {
            notes.mistake(at, format!("'{text}' below {domain} is over 255 octets"))
        })?
    };
    match tree.claim(&name) {
        Some(claim) if !is_beside_services(&name) => Err(notes.mistake(
            at,
            format!(
                "{name} cannot be had: {claim}; free are there only names that begin with '_', \
                 such as _acme-challenge, but for those of ports"
            ),
        )),
        _ => Ok(name),
    }
}

/// Whether no service ever has this name: what it begins with is neither a service, a cluster nor a
/// namespace, as they have no underscore, nor a port or protocol of SRV names (RFC 2782).
fn is_beside_services(name: &DomainName) -> bool {
    let is_protocol = |label: Option<&[u8]>| {
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].iter().any(|p| Some(p.label()) == label)
    };
    let mut labels = name.labels();
    let (first, second) = (labels.next(), labels.next());
    first.is_some_and(|label| label.starts_with(b"_"))
        && !is_protocol(first)
        && !is_protocol(second)
}

fn conflict_with_nameservers(
    record: &StaticRecord,
    servers: &[Result<Nameserver, Refused>],
) -> Option<String> {
    let server = servers
        .iter()
        .position(|server| server.as_ref().is_ok_and(|server| server.name == record.owner))?;
    let rtype = record.rtype;
    if rtype == RecordType::CNAME.number() {
        Some(format!(
            "{} is federation.nameservers[{server}], which is no alias (RFC 2181 §10.3)",
            record.owner
        ))
    } else if rtype == RecordType::A.number() || rtype == RecordType::AAAA.number() {
        Some(format!("the addresses of {} stand in federation.nameservers[{server}]", record.owner))
    } else {
        None
    }
}

/// Why `record` cannot stand beside `other`, the record with index `first` and the same owner.
fn conflict(record: &StaticRecord, first: usize, other: &StaticRecord) -> Option<String> {
    let same_type = record.rtype == other.rtype;
    if same_type && record.rdata == other.rdata {
        return Some(format!("the same record is already federation.records[{first}]"));
    }
    if [record, other].iter().any(|record| record.rtype == RecordType::CNAME.number()) {
        return Some(format!(
            "a CNAME stands alone at its name, which federation.records[{first}] has too (RFC 1034 §3.6.2)"
        ));
    }
    (same_type && record.ttl != other.ttl).then(|| {
        format!(
            "federation.records[{first}], of the same RRset, has TTL {}; an RRset has one TTL (RFC 2181 §5.2)",
            other.ttl
        )
    })
}
