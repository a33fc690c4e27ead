//! The section `federation`, but for its static records.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use serde_saphyr::Spanned;

use super::clusters::Registry;
use super::domain::{Tree, domain};
use super::notes::{Notes, Refused, at};
use super::records;
use super::values::{Range, all, host_address, networks, number};
use crate::cluster::{Export, Namespaces};
use crate::config::raw;
use crate::model::{DomainName, Label, Policy, Ties, WhenNoneHealthy};
use crate::zone;

/// RFC 2181 §8: a TTL is "an unsigned number, with a minimum value of 0, and a maximum value of
/// 2147483647".
const MOST_TTL: i64 = (1 << 31) - 1;

/// TTLs of data. Zero is legal, but it sends every look-up of every client to us, and some
/// resolvers hand out such records more than once anyway.
pub(super) const TTL: Range =
    Range { least: 1, most: MOST_TTL, why: "seconds; 0 would forbid all caching (RFC 2181 §8)" };

/// What users of earlier federations know (three minutes).
const DEFAULT_TTL: u32 = 180;

/// TTLs of negative answers; not to cache those is a sensible choice.
const NEGATIVE_TTL: Range = Range { least: 0, most: MOST_TTL, why: "seconds (RFC 2181 §8)" };

/// SOA timers.
const TIMER: Range = Range { least: 1, most: MOST_TTL, why: "seconds (RFC 1035 §3.3.13)" };

/// Some 2300 AAAA records fill a message of 65,535 octets, the rest of it aside.
const MAX_ADDRESSES: Range = Range { least: 1, most: 1000, why: "addresses of one answer" };

/// Checks everything that the zone owns.
pub(super) fn settings(
    raw: &raw::Federation,
    registry: &Registry,
    notes: &mut Notes,
) -> Result<zone::Settings, Refused> {
    let federation = name(&raw.name, registry, notes);
    let known_name = federation.as_ref().map_err(|refused| *refused);
    let domain = domain(&raw.domain, known_name, registry, notes);
    let known_domain = domain.as_ref().map_err(|refused| *refused);
    let tree = Tree { domain: known_domain, federation: known_name, registry };
    let seconds = |n: i64| u32::try_from(n).ok();
    let nameservers = nameservers(&raw.nameservers, tree, notes);
    let soa = soa(&raw.soa, known_domain, notes);
    let ttl = number(notes, "federation.ttl", raw.ttl.as_ref(), DEFAULT_TTL, &TTL, seconds);
    let negative = raw.negative_ttl.as_ref();
    let negative_ttl =
        number(notes, "federation.negativeTtl", negative, 60, &NEGATIVE_TTL, seconds);
    let unhealthy = raw.unhealthy_ttl.as_ref();
    let unhealthy_ttl =
        number(notes, "federation.unhealthyTtl", unhealthy, 5, &NEGATIVE_TTL, seconds);
    let unsettled = raw.unsettled_ttl.as_ref();
    let unsettled_ttl =
        number(notes, "federation.unsettledTtl", unsettled, None, &TTL, |n| seconds(n).map(Some));
    let max_addresses = max_addresses(raw, notes);
    let policy = policy(raw.policy.as_ref(), registry, notes);
    let when_none_healthy = when_none_healthy(raw.when_none_healthy.as_ref(), tree, notes);
    // The default counts only where the configured TTL is refused, and the file with it.
    let default_ttl = ttl.unwrap_or(DEFAULT_TTL);
    let records = records::records(&raw.records, tree, &nameservers, default_ttl, notes);
    let nameservers = some_nameservers(&raw.nameservers, nameservers, notes);
    Ok(zone::Settings {
        federation: known_name?.clone(),
        domain: known_domain?.clone(),
        nameservers: nameservers?,
        soa: soa?,
        ttl: ttl?,
        negative_ttl: negative_ttl?,
        unhealthy_ttl: unhealthy_ttl?,
        unsettled_ttl: unsettled_ttl?,
        max_addresses: max_addresses?,
        policy: policy?,
        ties: if raw.sticky == Some(true) { Ties::Sticky } else { Ties::Rotate },
        when_none_healthy: when_none_healthy?,
        records: records?,
        // A section of its own.
        internal: None,
    })
}

fn name(raw: &raw::Text, registry: &Registry, notes: &mut Notes) -> Result<Label, Refused> {
    let at = at("federation.name", raw);
    let label = Label::parse(&raw.value).map_err(|error| notes.mistake(&at, error.to_string()))?;
    // Yielded all the same, so that what stands in the domain is still checked.
    if label.is_reserved() {
        notes.mistake(&at, format!("'{label}' is reserved; choose another name"));
    } else if let Some(place) = registry.place_named(label.as_bytes()) {
        let reason = format!(
            "'{label}' is also a region or availability zone ({}), which would have the same names",
            place.path
        );
        notes.mistake(&at, reason);
    }
    Ok(label)
}

/// Every name server by itself and beside those before it.
fn nameservers(
    raw: &Spanned<Vec<raw::Nameserver>>,
    tree: Tree<'_>,
    notes: &mut Notes,
) -> Vec<Result<zone::Nameserver, Refused>> {
    let mut names: BTreeMap<DomainName, usize> = BTreeMap::new();
    let check = |(index, raw): (usize, &raw::Nameserver)| {
        let server = nameserver(index, raw, tree, notes)?;
        if let Some(first) = names.get(&server.name) {
            let at = at(format!("federation.nameservers[{index}].name"), &raw.name);
            let reason = format!("{} is already federation.nameservers[{first}]", server.name);
            return Err(notes.mistake(&at, reason));
        }
        names.insert(server.name.clone(), index);
        Ok(server)
    };
    raw.value.iter().enumerate().map(check).collect()
}

fn some_nameservers(
    raw: &Spanned<Vec<raw::Nameserver>>,
    checked: Vec<Result<zone::Nameserver, Refused>>,
    notes: &mut Notes,
) -> Result<Vec<zone::Nameserver>, Refused> {
    if checked.is_empty() {
        let reason = "is empty: a zone has at least one name server";
        return Err(notes.mistake(&at("federation.nameservers", raw), reason));
    }
    checked.into_iter().collect()
}

fn nameserver(
    index: usize,
    raw: &raw::Nameserver,
    tree: Tree<'_>,
    notes: &mut Notes,
) -> Result<zone::Nameserver, Refused> {
    let path = format!("federation.nameservers[{index}]");
    let at_name = at(format!("{path}.name"), &raw.name);
    let name = DomainName::parse(&raw.name.value)
        .map_err(|error| notes.mistake(&at_name, error.to_string()));
    let mut seen = Vec::new();
    let addresses = all(raw.addresses.iter().enumerate().map(|(number, text)| {
        let at = at(format!("{path}.addresses[{number}]"), text);
        let address = host_address(notes, &at, &text.value)?;
        if seen.contains(&address) {
            return Err(notes.mistake(&at, format!("{address} is listed twice")));
        }
        seen.push(address);
        Ok(address)
    }));
    let name = name?;
    let within = tree.domain.map(|domain| name.is_within(domain));
    let fault = match within {
        _ if name.wire().len() == 1 => Some("the root is no host".to_owned()),
        Ok(true) if tree.claim(&name).is_some() => tree.claim(&name),
        Ok(true) if raw.addresses.is_empty() => {
            Some(format!("{name} is within the domain, so its 'addresses' are needed here"))
        }
        Ok(false) if !raw.addresses.is_empty() => Some(format!(
            "{name} is not within the domain, so its addresses are not ours to serve: leave them \
             out"
        )),
        _ => None,
    };
    match fault {
        Some(fault) => Err(notes.mistake(&at_name, fault)),
        None => Ok(zone::Nameserver { name, addresses: addresses? }),
    }
}

/// Defaults as RIPE-203 recommends for zones in general (refresh a day, retry two hours, expire
/// 1000 hours) suit zones that change by hand; ours changes by the minute, so an hour and ten
/// minutes, and a secondary gives up after a week.
fn soa(
    raw: &raw::Soa,
    domain: Result<&DomainName, Refused>,
    notes: &mut Notes,
) -> Result<zone::SoaSettings, Refused> {
    let rname = rname(raw.rname.as_ref(), domain, notes);
    let mut timer = |path, raw: &Option<raw::Number>, default| {
        number(notes, path, raw.as_ref(), default, &TIMER, |n| u32::try_from(n).ok())
    };
    let refresh = timer("federation.soa.refresh", &raw.refresh, 3600);
    let retry = timer("federation.soa.retry", &raw.retry, 600);
    let expire = timer("federation.soa.expire", &raw.expire, 604_800);
    if let (Some(value), Ok(refresh), Ok(retry), Ok(expire)) =
        (&raw.expire, &refresh, &retry, &expire)
        && *expire < refresh.saturating_add(*retry)
    {
        let reason = format!(
            "{expire} is less than refresh and retry together ({}): a secondary would give up \
             before its second attempt (RFC 1912 §2.2)",
            refresh.saturating_add(*retry)
        );
        notes.mistake(&at("federation.soa.expire", value), reason);
    }
    Ok(zone::SoaSettings { rname: rname?, refresh: refresh?, retry: retry?, expire: expire? })
}

fn rname(
    raw: Option<&raw::Text>,
    domain: Result<&DomainName, Refused>,
    notes: &mut Notes,
) -> Result<DomainName, Refused> {
    let Some(raw) = raw else {
        // RFC 2142 §7: HOSTMASTER is the mailbox for DNS. It always fits: a domain that leaves
        // room for the shortest service has 12 octets to spare.
        let domain = domain?;
        return Ok(domain.prefixed([&b"hostmaster"[..]]).unwrap_or_else(|| domain.clone()));
    };
    DomainName::parse(&raw.value).map_err(|error| {
        let hint = if raw.value.contains('@') { "; write '.' in the place of '@'" } else { "" };
        notes.mistake(&at("federation.soa.rname", raw), format!("{error}{hint}"))
    })
}

fn max_addresses(raw: &raw::Federation, notes: &mut Notes) -> Result<NonZeroU16, Refused> {
    // Eight A records fit any UDP reply many times over, and no client tries more.
    const DEFAULT: NonZeroU16 = NonZeroU16::new(8).expect("8 is not zero");
    let raw = raw.max_addresses.as_ref();
    number(notes, "federation.maxAddresses", raw, DEFAULT, &MAX_ADDRESSES, |n| {
        u16::try_from(n).ok().and_then(NonZeroU16::new)
    })
}

fn policy(
    raw: Option<&Spanned<raw::Policy>>,
    registry: &Registry,
    notes: &mut Notes,
) -> Result<Policy, Refused> {
    let Some(raw) = raw else { return Ok(Policy::All) };
    let at = at("federation.policy", raw);
    let text = match &raw.value {
        raw::Policy::Text(text) => text.clone(),
        raw::Policy::Nearest(count) => format!("nearest: {count}"),
        raw::Policy::Weighted(count) => format!("weighted: {count}"),
        raw::Policy::Failover(clusters) => format!("failover: {}", clusters.join(", ")),
    };
    let policy = text.parse().map_err(|error| notes.mistake(&at, format!("{error}")))?;
    if let Policy::Failover(clusters) = &policy
        && let Some(stranger) = clusters.iter().find(|name| !registry.has_cluster(name))
    {
        return Err(notes.mistake(&at, format!("there is no cluster '{stranger}'")));
    }
    Ok(policy)
}

fn when_none_healthy(
    raw: Option<&raw::Text>,
    tree: Tree<'_>,
    notes: &mut Notes,
) -> Result<WhenNoneHealthy, Refused> {
    let Some(raw) = raw else { return Ok(WhenNoneHealthy::Nothing) };
    let at = at("federation.whenNoneHealthy", raw);
    let parsed = raw.value.parse::<WhenNoneHealthy>();
    let choice = parsed.map_err(|error| notes.mistake(&at, error.to_string()))?;
    if let WhenNoneHealthy::Name(name) = &choice
        && let Some(claim) = tree.claim(name)
    {
        return Err(notes.mistake(&at, format!("{name} may lead in a circle: {claim}")));
    }
    Ok(choice)
}

/// `export` with its lists, which each cluster's source owns.
pub(super) fn export(
    raw: &raw::Federation,
    notes: &mut Notes,
) -> Result<(Export, Namespaces), Refused> {
    let Some(raw) = &raw.export else { return Ok((Export::Label, Namespaces::default())) };
    let export = match &raw.value {
        raw::Exported::Label => Export::Label,
        raw::Exported::ServiceExport => Export::ServiceExport,
        raw::Exported::All(raw::All { include, exclude }) => {
            let path = |key| format!("federation.export.all.{key}");
            let include = include
                .as_ref()
                .map(|list| some_namespaces(&path("include"), list, notes))
                .transpose();
            let exclude = namespaces(&path("exclude"), exclude, notes);
            let namespaces = Namespaces { given: None, include: include?, exclude: exclude? };
            return Ok((Export::All, namespaces));
        }
    };
    Ok((export, Namespaces::default()))
}

/// Names of namespaces.
pub(super) type NamespaceList = Arc<BTreeSet<Box<str>>>;

/// A list of namespaces that is not empty: nobody means to export nothing.
pub(super) fn some_namespaces(
    path: &str,
    raw: &Spanned<Vec<raw::Text>>,
    notes: &mut Notes,
) -> Result<NamespaceList, Refused> {
    if raw.value.is_empty() {
        let reason = "is empty, so that nothing would be exported: leave it out, or name some";
        return Err(notes.mistake(&at(path, raw), reason));
    }
    namespaces(path, &raw.value, notes)
}

fn namespaces(path: &str, raw: &[raw::Text], notes: &mut Notes) -> Result<NamespaceList, Refused> {
    let mut seen = BTreeSet::new();
    let read = raw.iter().enumerate().map(|(index, text)| {
        let at = at(format!("{path}[{index}]"), text);
        // Namespaces are DNS labels (RFC 1123), so what is none names nothing.
        Label::parse(&text.value).map_err(|error| notes.mistake(&at, error.to_string()))?;
        if !seen.insert(text.value.clone()) {
            return Err(notes.mistake(&at, format!("'{}' is listed twice", text.value)));
        }
        Ok(Box::from(text.value.as_str()))
    });
    all(read).map(Arc::new)
}

/// `allowNets`, which each cluster's source owns.
pub(super) fn allow_nets(raw: &raw::Federation, notes: &mut Notes) -> Result<Vec<IpNet>, Refused> {
    networks(notes, "federation.allowNets", &raw.allow_nets)
}
