//! What would happen without some clusters.
//!
//! *Owns*: [`drill`], which builds the snapshot that there would be were they down, and compares.
//! *Guarantees*: nothing happens; it goes by the rules of the real thing, as it asks them. *Does
//! not*: know how much traffic a client network makes; it counts addresses.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::answer::Eligible;
use crate::geo::{Order, Share};
use crate::health::{ClusterState, Reason, Standing};
use crate::model::{BUCKETS, ClusterId, ClusterSet, Label, Policy};
use crate::snapshot::{Snapshot, build};
use crate::zone::{Family, Level, Position, Service};

mod table;
#[cfg(test)]
mod tests;

/// What is to be drilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The clusters that are lost, all at once; at least one.
    pub clusters: Vec<Label>,
}

/// Why a drill cannot be held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDrill {
    /// Nothing to take out.
    #[error("cluster= is missing: the cluster to take out; several take part together")]
    NoCluster,
    /// No cluster can have such a name.
    #[error("cluster: '{0}' is no name of a cluster")]
    NoName(String),
    /// No cluster has the name.
    #[error("cluster: there is no '{name}'; there are {}", join(known))]
    Unknown {
        /// The name.
        name: Label,
        /// The clusters that there are.
        known: Vec<Label>,
    },
}

fn join(labels: &[Label]) -> String {
    labels.iter().map(Label::as_str).collect::<Vec<_>>().join(", ")
}

impl Request {
    /// Reads names of clusters, as they stand in the configuration.
    ///
    /// # Errors
    /// [`InvalidDrill`], where there are none, or one that no cluster can have.
    pub fn parse(names: &[impl AsRef<str>]) -> Result<Self, InvalidDrill> {
        let name = |text: &str| {
            Label::from_kubernetes(text).ok_or_else(|| InvalidDrill::NoName(text.to_owned()))
        };
        let clusters = names.iter().map(|n| name(n.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if clusters.is_empty() { Err(InvalidDrill::NoCluster) } else { Ok(Self { clusters }) }
    }
}

/// What the loss of clusters would change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drill {
    /// The clusters taken out.
    pub clusters: Vec<String>,
    /// Those of them that serve nothing as it is, being drained, down or not read yet.
    pub already_out: Vec<String>,
    /// Services with a served shard as it is, by the family of its addresses.
    pub services: PerFamily<usize>,
    /// Those of them with a served shard in a cluster taken out.
    pub touched: PerFamily<usize>,
    /// The client address space that would be sent elsewhere, the mean over the services.
    pub moves: Vec<Move>,
    /// Services that would lose every shard with addresses of a family.
    pub lost: Vec<Lost>,
    /// Generation of the snapshot that was looked at.
    pub generation: u64,
}

/// Something for each address family: of the clients, and of what they are answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerFamily<T> {
    /// IPv4 clients and A records.
    pub ipv4: T,
    /// IPv6 clients and AAAA records.
    pub ipv6: T,
}

/// Clients that would be sent elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// The cluster that is nearest to them, or that their service chooses for them.
    pub from: String,
    /// The cluster that would be; none where a service would have no shard left.
    pub to: Option<String>,
    /// The share of the client address space, 0 to 1.
    #[serde(flatten)]
    pub share: PerFamily<f64>,
}

/// A service that would lose shards without a substitute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// Namespace and name.
    pub service: String,
    /// What it would be answered with no more: `A`, `AAAA`.
    pub types: Vec<String>,
    /// Whether no shard at all would be left.
    pub gone: bool,
}

/// Tells what the loss of clusters would change, for the global names of all services.
///
/// # Errors
/// [`InvalidDrill::Unknown`].
pub fn drill(snapshot: &Snapshot, request: &Request) -> Result<Drill, InvalidDrill> {
    let members = &snapshot.inputs.federation.members;
    let ids = request.clusters.iter().map(|name| {
        let at = members.iter().position(|member| member.name == *name);
        at.map(ClusterId::new).ok_or_else(|| InvalidDrill::Unknown {
            name: name.clone(),
            known: members.iter().map(|member| member.name.clone()).collect(),
        })
    });
    let out = ids.collect::<Result<ClusterSet, _>>()?;
    let after = without(snapshot, &out);
    let mut tally = Tally::default();
    for bucket in 0..BUCKETS {
        for (slot, entry) in snapshot.zone.services().bucket(bucket).iter().enumerate() {
            tally.add([snapshot, &after], entry.service(), Position { bucket, slot });
        }
    }
    let serves =
        |id: &ClusterId| snapshot.up.contains(*id) && snapshot.inputs.views[id.index()].is_some();
    let name = |id: ClusterId| members[id.index()].name.to_string();
    Ok(Drill {
        clusters: out.iter().map(name).collect(),
        already_out: out.iter().filter(|id| !serves(id)).map(name).collect(),
        moves: tally.moves(&snapshot.geography.compiled.census(), name),
        services: tally.services.into(),
        touched: tally.touched.into(),
        lost: tally.lost,
        generation: snapshot.generation,
    })
}

/// The snapshot that there would be, were some clusters down.
fn without(snapshot: &Snapshot, out: &ClusterSet) -> Snapshot {
    let mut inputs = snapshot.inputs.clone();
    for id in out.iter() {
        let (state, since) = (ClusterState::Down, inputs.now);
        inputs.standings[id.index()] = Standing { state, since, reason: Reason::ChecksFail(None) };
    }
    build(Some(snapshot), inputs)
}

/// Both families and the types that are asked for them; numbers stand in this order.
const FAMILIES: [(Family, &str); 2] = [(Family::V4, "A"), (Family::V6, "AAAA")];

impl<T> From<[T; 2]> for PerFamily<T> {
    fn from([ipv4, ipv6]: [T; 2]) -> Self {
        Self { ipv4, ipv6 }
    }
}

/// Services that choose alike among the same clusters before and after.
type Group = (Choice, [ClusterSet; 2]);

/// What is found, walking over services.
#[derive(Default)]
struct Tally {
    services: [usize; 2],
    touched: [usize; 2],
    groups: [HashMap<Group, usize>; 2],
    lost: Vec<Lost>,
}

impl Tally {
    /// Adds a service, which stands at one position in both snapshots.
    fn add(&mut self, snapshots: [&Snapshot; 2], service: &Service, at: Position) {
        let eligible = |base: &ClusterSet| {
            snapshots.map(|snapshot| -> ClusterSet {
                Eligible::served(base, snapshot, snapshot.live(at), Level::Global).iter().collect()
            })
        };
        let mut types = Vec::new();
        for (index, (family, rtype)) in FAMILIES.into_iter().enumerate() {
            let sets = eligible(service.addressed(family));
            let [before, after] = &sets;
            if before.is_empty() {
                continue;
            }
            self.services[index] += 1;
            if before == after {
                continue;
            }
            self.touched[index] += 1;
            if after.is_empty() {
                types.push(rtype.to_owned());
            }
            let group = (Choice::of(service, before), sets);
            *self.groups[index].entry(group).or_default() += 1;
        }
        if !types.is_empty() {
            let [_, left] = eligible(&service.clusters);
            let gone = left.is_empty();
            self.lost.push(Lost { service: service.key.to_string(), types, gone });
        }
    }

    /// Who moves from where to where, from the cluster of the lowest id on, most first.
    fn moves(&self, census: &[Share<'_>], name: impl Fn(ClusterId) -> String) -> Vec<Move> {
        let mut moves: BTreeMap<(ClusterId, Option<ClusterId>), [f64; 2]> = BTreeMap::new();
        for (index, groups) in self.groups.iter().enumerate() {
            let sizes = census.iter().map(|share| [share.v4, share.v6][index] as f64);
            let sizes: Vec<f64> = sizes.collect();
            let total: f64 = sizes.iter().sum();
            for ((choice, sets), count) in groups {
                let weight = *count as f64 / self.services[index] as f64;
                let mut add = |from, to, part: f64| {
                    moves.entry((from, to)).or_default()[index] += weight * part;
                };
                if *choice == Choice::Place {
                    // In a family whose addresses are all reserved nobody goes anywhere.
                    for (share, size) in census.iter().zip(&sizes).filter(|_| total > 0.0) {
                        choice.moves(Some(share.order), sets, size / total, &mut add);
                    }
                } else {
                    choice.moves(None, sets, 1.0, &mut add);
                }
            }
        }
        let mut moves: Vec<_> = moves.into_iter().collect();
        moves.sort_by(|((a, _), a_share), ((b, _), b_share)| {
            let sum = |share: &[f64; 2]| share.iter().sum::<f64>();
            a.cmp(b).then(sum(b_share).total_cmp(&sum(a_share)))
        });
        let told = |((from, to), share): ((ClusterId, Option<ClusterId>), [f64; 2])| Move {
            from: name(from),
            to: to.map(&name),
            share: share.into(),
        };
        moves.into_iter().map(told).collect()
    }
}

/// How clients get to the first cluster of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Choice {
    /// By where they are.
    Place,
    /// All alike: the first eligible one of these.
    Line(Box<[ClusterId]>),
    /// By a hash, in these proportions.
    Weights(Box<[(ClusterId, u32)]>),
}

impl Choice {
    /// How a service's clients choose among these clusters.
    fn of(service: &Service, clusters: &ClusterSet) -> Self {
        match *service.policy() {
            Policy::All | Policy::Nearest(_) | Policy::Region => Self::Place,
            Policy::Failover(_) => Self::Line(service.failover().into()),
            Policy::Weighted(_) => {
                Self::Weights(clusters.iter().map(|id| (id, service.weight(id))).collect())
            }
        }
    }

    /// Adds where those of `share` of all clients go who lose the cluster that they went to.
    fn moves(
        &self,
        order: Option<Order<'_>>,
        [before, after]: &[ClusterSet; 2],
        share: f64,
        add: &mut impl FnMut(ClusterId, Option<ClusterId>, f64),
    ) {
        let mut leaving = self.first(order, before);
        leaving.retain(|(from, _)| !after.contains(*from));
        if leaving.is_empty() {
            return;
        }
        let next = self.first(order, after);
        for (from, part) in leaving {
            for &(to, its_part) in &next {
                add(from, Some(to), share * part * its_part);
            }
            if next.is_empty() {
                add(from, None, share * part);
            }
        }
    }

    /// The clusters of a set that come first in an answer, and how often each: equals take turns.
    fn first(&self, order: Option<Order<'_>>, clusters: &ClusterSet) -> Vec<(ClusterId, f64)> {
        let equal = |ids: Vec<ClusterId>| {
            let part = 1.0 / ids.len() as f64;
            ids.into_iter().map(|id| (id, part)).collect::<Vec<_>>()
        };
        let eligible = |id: &ClusterId| clusters.contains(*id);
        match self {
            Self::Place => {
                let groups = order.into_iter().flat_map(Order::groups);
                let ids = groups.map(|group| -> Vec<ClusterId> {
                    group.iter().map(|ranked| ranked.cluster()).filter(eligible).collect()
                });
                equal(ids.into_iter().find(|ids| !ids.is_empty()).unwrap_or_default())
            }
            Self::Line(line) => {
                line.iter().copied().find(eligible).map(|id| (id, 1.0)).into_iter().collect()
            }
            Self::Weights(weights) => {
                let weights: Vec<_> = weights.iter().filter(|(id, _)| eligible(id)).collect();
                let total: f64 = weights.iter().map(|(_, weight)| f64::from(*weight)).sum();
                if total == 0.0 {
                    return equal(weights.into_iter().map(|(id, _)| *id).collect());
                }
                let part = |(id, weight): &(ClusterId, u32)| (*id, f64::from(*weight) / total);
                weights.into_iter().filter(|(_, weight)| *weight > 0).map(part).collect()
            }
        }
    }
}
