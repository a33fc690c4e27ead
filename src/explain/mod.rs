//! The reasoning of an answer, told for people.
//!
//! *Owns*: [`explain`], which asks the same parts in the same order as [`crate::answer`] and says
//! what each told, then shows the answer itself, decoded from the very octets that a client would
//! get; [`dump`], the zone as master-file text; [`drill`](mod@drill), what the loss of clusters would
//! change. *Does not*: decide anything; it may allocate and
//! take its time.

mod decode;
pub mod drill;
pub mod dump;
mod internal;
mod limit;
mod table;
#[cfg(test)]
mod tests;
mod why;

use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::rr::RecordType;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use limit::Question;

use crate::answer::{Eligible, End, Path, resolve};
use crate::geo::Located;
use crate::model::{ClusterId, DomainName, Label, WhenNoneHealthy};
use crate::snapshot::Snapshot;
use crate::wire::QuestionName;
use crate::wire::number::rtype;
use crate::zone::{Family, Lookup, ServiceName};

/// What is to be explained.
#[derive(Clone, Debug)]
pub struct Request {
    /// The name asked for.
    pub name: DomainName,
    /// QTYPE.
    pub qtype: u16,
    /// The client, as it would stand in a Client Subnet option; its address is also taken for
    /// the resolver's.
    pub client: IpNet,
}

/// Why a request cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// The name is none.
    #[error("name: {0}")]
    Name(#[from] crate::model::InvalidName),
    /// The type is none.
    #[error("type: '{0}' is no record type; write A, AAAA, SRV, TXT ... or TYPE65534")]
    Type(String),
    /// The client is none.
    #[error("client: '{0}' is neither an address nor a prefix such as 203.0.113.0/24")]
    Client(String),
}

impl Request {
    /// Reads a name, a type (mnemonic or `TYPE` with a number) and `ADDR[/LEN]`.
    ///
    /// # Errors
    /// [`InvalidRequest`] says which cannot be understood.
    pub fn parse(name: &str, qtype: &str, client: &str) -> Result<Self, InvalidRequest> {
        let number = qtype.to_ascii_uppercase();
        let qtype = match number.strip_prefix("TYPE").and_then(|n| n.parse().ok()) {
            Some(number) => number,
            None => RecordType::from_str(&number)
                .map_err(|_| InvalidRequest::Type(qtype.to_owned()))?
                .into(),
        };
        let client = client
            .parse::<IpNet>()
            .or_else(|_| client.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| InvalidRequest::Client(client.to_owned()))?;
        Ok(Self { name: DomainName::parse(name)?, qtype, client: client.trunc() })
    }
}

/// Everything that led to an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The name asked for.
    pub name: String,
    /// The type asked for.
    pub r#type: String,
    /// The client's prefix.
    pub client: String,
    /// Where the client is, and what said so.
    pub location: Location,
    /// What stands at the name, in words.
    pub found: String,
    /// The service, where the name is one of a service.
    pub service: Option<ServiceStory>,
    /// Response code.
    pub rcode: String,
    /// Records of the answer section, in presentation form.
    pub answer: Vec<String>,
    /// Records of the authority section.
    pub authority: Vec<String>,
    /// Records of the additional section, OPT left out.
    pub additional: Vec<String>,
    /// The prefix for which a resolver may keep the answer (RFC 7871 §7.2.1).
    pub scope: String,
    /// Generation of the snapshot that answered.
    pub generation: u64,
    /// Serial of the zone.
    pub serial: u32,
}

/// Where a client is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// The place, in words.
    pub place: String,
    /// The rule, pod network or database that said so.
    pub source: String,
    /// The network that the source has it for.
    pub network: String,
}

/// What is to be said of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStory {
    /// Namespace and name.
    pub service: String,
    /// The levels from the name asked for to where the data is, as owner names.
    pub path: Vec<String>,
    /// What stands at the end of the path, in words.
    pub end: String,
    /// TTL of its records now, seconds.
    #[serde(default)]
    pub ttl: u32,
    /// Which served shards are taken, as it is configured.
    pub policy: String,
    /// The neighbouring network that keeps the scope from being wider, and why; `None` where the
    /// client makes no difference.
    #[serde(default)]
    pub limit: Option<String>,
    /// Every registered cluster, those in the answer first, in its order.
    pub clusters: Vec<ClusterStory>,
}

/// What is to be said of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStory {
    /// The cluster.
    pub cluster: String,
    /// Its locations.
    pub location: String,
    /// From the client, kilometres, where both places are known.
    pub distance_km: Option<f64>,
    /// Its addresses of the family asked for, or of both.
    pub addresses: Vec<String>,
    /// Place in the order, from 1, of those in the answer.
    pub rank: Option<u32>,
    /// Why it is not in the answer.
    pub excluded: Option<String>,
    /// Since when it is excluded for that reason (RFC 3339), where this was seen to begin.
    pub since: Option<String>,
    /// Overrides in force, drains under way, doubts that lower the TTL.
    #[serde(default)]
    pub remark: Option<String>,
}

/// Tells how the answer to `request` comes about.
#[must_use]
pub fn explain(snapshot: &Snapshot, request: &Request) -> Explanation {
    let name = QuestionName::from_domain(&request.name);
    let located = snapshot.geography.locate(request.client.addr());
    let (found, service) = match snapshot.zone.contains(&name) {
        None => internal::found(snapshot, request, &name, &located),
        Some(above) => match snapshot.zone.lookup(&name, above) {
            Lookup::Service(hit) => {
                let story = story(snapshot, request, &hit, &located);
                (format!("service {}", hit.service.key), Some(story))
            }
            Lookup::Static(_) => ("static records".to_owned(), None),
            Lookup::EmptyNonTerminal => ("an empty non-terminal".to_owned(), None),
            Lookup::Nothing if snapshot.complete => ("nothing".to_owned(), None),
            Lookup::Nothing => ("unknown: some source has not been read yet".to_owned(), None),
        },
    };
    let reply = decode::ask(snapshot, request);
    Explanation {
        name: request.name.to_string(),
        r#type: RecordType::from(request.qtype).to_string(),
        client: request.client.to_string(),
        location: Location {
            place: located.place.to_string(),
            source: located.source.to_string(),
            network: located.network.to_string(),
        },
        found,
        service,
        rcode: reply.rcode,
        answer: reply.answer,
        authority: reply.authority,
        additional: reply.additional,
        scope: reply.scope,
        generation: snapshot.generation,
        serial: snapshot.serial,
    }
}

/// The part of the story that is about a service.
fn story(
    snapshot: &Snapshot,
    request: &Request,
    name: &ServiceName<'_>,
    located: &Located,
) -> ServiceStory {
    let live = snapshot.live(name.position);
    let path = resolve(snapshot, live, name);
    let family = match request.qtype {
        rtype::A => Some(Family::V4),
        rtype::AAAA => Some(Family::V6),
        _ => None,
    };
    let base = match (name.port, family) {
        (Some(port), _) => &port.clusters,
        (None, Some(family)) => name.service.addressed(family),
        (None, None) => &name.service.clusters,
    };
    let (eligible, in_answer) = match path.end {
        End::StandIn(WhenNoneHealthy::All) => {
            (Eligible::all(base, snapshot, live, path.level), true)
        }
        end => {
            let served = Eligible::served(base, snapshot, live, path.level);
            (served, matches!(end, End::Served))
        }
    };
    let client = request.client.addr();
    let question = Question { snapshot, service: name.service, client };
    let ranked = question.rank(&eligible, client);
    let order: Vec<_> = question.taken(&ranked, &eligible).0.iter().map(|(id, _)| *id).collect();
    let all = (0..snapshot.inputs.federation.members.len()).map(ClusterId::new);
    let rest: Vec<_> = all.filter(|id| !order.contains(id)).collect();
    let clusters = order.iter().chain(&rest).enumerate().map(|(index, &id)| {
        let rank = (in_answer && index < order.len()).then_some(index as u32 + 1);
        let excluded = match rank {
            Some(_) => None,
            None => Some(why::exclusion(snapshot, name, &path, family, id)),
        };
        cluster_story(snapshot, name, located, id, rank, excluded)
    });
    ServiceStory {
        service: name.service.key.to_string(),
        path: path_names(snapshot, name, &path),
        end: match path.end {
            End::Served => "served shards".to_owned(),
            End::Nothing => "no served shard".to_owned(),
            End::StandIn(stand_in) => format!("no served shard; whenNoneHealthy: {stand_in:?}"),
        },
        ttl: snapshot.ttl(name.service, live),
        policy: name.service.policy().to_string(),
        limit: in_answer.then(|| question.limit(&ranked, &eligible)).flatten(),
        clusters: clusters.collect(),
    }
}

fn cluster_story(
    snapshot: &Snapshot,
    name: &ServiceName<'_>,
    located: &Located,
    id: ClusterId,
    rank: Option<u32>,
    excluded: Option<(String, Option<u64>)>,
) -> ClusterStory {
    let (excluded, since) = excluded.unzip();
    // Unix time; beyond the year 9999 there is none to tell.
    let since = since.flatten().and_then(|at| jiff::Timestamp::from_second(at as i64).ok());
    let site = snapshot.site(id);
    let v4 = name.service.v4().of(id).iter().map(|octets| IpAddr::from(*octets));
    let v6 = name.service.v6().of(id).iter().map(|octets| IpAddr::from(*octets));
    // A region is told by its zones, where there are any.
    let zoned =
        |region: &Label| site.topologies.iter().any(|t| t.zone.is_some() && t.region == *region);
    let named = site.topologies.iter().filter(|t| t.zone.is_some() || !zoned(&t.region));
    let places: Vec<_> = named.map(ToString::to_string).collect();
    ClusterStory {
        cluster: site.name.to_string(),
        location: places.join(", "),
        // Places are known to kilometres at best.
        distance_km: snapshot.geography.distance_km(located, id).map(f64::round),
        addresses: v4.chain(v6).map(|address| address.to_string()).collect(),
        rank,
        excluded,
        since: since.map(|at| at.to_string()),
        remark: why::remark(snapshot, name, id),
    }
}

/// The owner names of a path, from the level asked for to its end.
fn path_names(snapshot: &Snapshot, name: &ServiceName<'_>, path: &Path<'_>) -> Vec<String> {
    let levels = path.cnames().iter().chain(std::iter::once(&path.level));
    let prefix = name.port.map_or_else(String::new, dump::port_labels);
    levels.map(|level| format!("{prefix}{}", dump::owner(snapshot, name.service, *level))).collect()
}
