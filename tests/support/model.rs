//! The rules of names, chains and negative answers done the simplest way: every name is written down in a map, and looked
//! up there. It shares nothing with the server but the description of the clusters.

#[path = "answers.rs"]
mod answers;

use std::collections::{BTreeMap, BTreeSet};

use meridian::model::Protocol;

use super::dns::wire_name;
use super::federation::{Cluster, DOMAIN, Key, ServiceShard, TTL};

pub(crate) use answers::Answer;

/// The longest name (RFC 1035 §2.3.4).
const MAX_NAME: usize = 255;

/// A place that names speak for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Global,
    Region(String),
    Zone(String, String),
    Shard(usize),
}

/// What stands at a name.
#[derive(Clone, Debug)]
enum Node {
    Empty,
    /// A service at a level, and the labels of one of its ports, such as `_http._tcp.`.
    Service(Key, Level, Option<(String, Protocol)>),
    /// Records as text: type, TTL, data.
    Static(Vec<(u16, String)>),
}

/// Every name of a federation.
#[derive(Debug)]
pub(crate) struct Model<'c> {
    clusters: &'c [Cluster],
    /// Where each cluster is.
    places: Vec<BTreeSet<(String, Option<String>)>>,
    nodes: BTreeMap<Vec<u8>, Node>,
}

/// A name as text.
pub(crate) fn text(wire: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = wire;
    while let [len, tail @ ..] = rest
        && *len > 0
    {
        let (label, after) = tail.split_at(usize::from(*len));
        text.push_str(&String::from_utf8_lossy(label));
        text.push('.');
        rest = after;
    }
    if text.is_empty() { ".".into() } else { text }
}

fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "_tcp",
        Protocol::Udp => "_udp",
        Protocol::Sctp => "_sctp",
    }
}

fn is_reserved(label: &str) -> bool {
    ["svc", "pod", "any", "*", "f"].contains(&label)
}

impl<'c> Model<'c> {
    /// Writes down every name.
    pub(crate) fn of(clusters: &'c [Cluster]) -> Self {
        let places = clusters.iter().map(places).collect();
        let mut model = Self { clusters, places, nodes: BTreeMap::new() };
        model.add("", Node::Static(vec![]));
        let bases: Vec<(String, Level)> = model.bases();
        for (base, _) in &bases {
            model.add(base, Node::Empty);
        }
        let read = clusters.iter().filter(|cluster| !cluster.unread);
        let keys: BTreeSet<Key> =
            read.flat_map(|cluster| cluster.services.keys().cloned()).collect();
        for key in &keys {
            for (base, level) in &bases {
                let at = |port| Node::Service(key.clone(), level.clone(), port);
                let owner = format!("{}.{}.{base}", key.0, key.1);
                model.add(&owner, at(None));
                for (port, proto) in model.ports(key) {
                    let owner = format!("_{port}.{}.{owner}", protocol(proto));
                    model.add(&owner, at(Some((port, proto))));
                }
            }
            for at in model.holders(key) {
                let owner = format!("{}.{}.{}.f.svc", clusters[at].name, key.0, key.1);
                model.add(&owner, Node::Service(key.clone(), Level::Shard(at), None));
            }
        }
        let address = |last| vec![(1, format!("{TTL} A 192.0.2.{last}"))];
        model.add("ns1", Node::Static(address(53)));
        let mut www = address(80);
        www.push((16, format!("{TTL} TXT text")));
        model.add("www", Node::Static(www));
        model.add("deep.down", Node::Static(address(81)));
        model.add("alias", Node::Static(vec![(5, format!("{TTL} CNAME www.example.net."))]));
        model
    }

    /// Every name within the zone at which something stands, or below which something does.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.nodes.keys().map(Vec::as_slice)
    }

    /// Puts a node at a name in front of the domain, and nothing at the names above it; but not
    /// where the name is too long.
    fn add(&mut self, owner: &str, node: Node) {
        let mut name = wire_name(&format!("{owner}.{DOMAIN}"));
        if name.len() > MAX_NAME || !labels_fit(owner) {
            return;
        }
        match node {
            Node::Empty => drop(self.nodes.entry(name.clone()).or_insert(Node::Empty)),
            node => drop(self.nodes.insert(name.clone(), node)),
        }
        let apex = wire_name(DOMAIN);
        while name != apex {
            name.drain(..=usize::from(name[0]));
            self.nodes.entry(name.clone()).or_insert(Node::Empty);
        }
    }

    /// What stands between `S.N` and the domain, with both synonyms, for every level.
    fn bases(&self) -> Vec<(String, Level)> {
        let mut bases = vec![("f.svc".to_owned(), Level::Global), ("f".to_owned(), Level::Global)];
        let all: BTreeSet<&(String, Option<String>)> = self.places.iter().flatten().collect();
        let regions: BTreeSet<&String> = all.iter().map(|(region, _)| region).collect();
        let zones: BTreeSet<(&String, &String)> =
            all.iter().filter_map(|(region, zone)| Some((region, zone.as_ref()?))).collect();
        for region in &regions {
            bases.push((format!("f.svc.{region}"), Level::Region((*region).clone())));
        }
        for (region, zone) in &zones {
            let level = Level::Zone((*region).clone(), (*zone).clone());
            bases.push((format!("f.svc.{zone}.{region}"), level.clone()));
            // A region wins over a zone, and a zone name in two regions has no short name.
            let elsewhere = zones.iter().filter(|(_, other)| other == zone).count() > 1;
            if !elsewhere && !regions.contains(zone) {
                bases.push((format!("f.svc.{zone}"), level));
            }
        }
        bases
    }

    fn shard(&self, at: usize, key: &Key) -> Option<&'c ServiceShard> {
        self.clusters[at].services.get(key).filter(|_| !self.clusters[at].unread)
    }

    /// Clusters that have a shard of a service.
    fn holders(&self, key: &Key) -> Vec<usize> {
        (0..self.clusters.len()).filter(|at| self.shard(*at, key).is_some()).collect()
    }

    fn ports(&self, key: &Key) -> BTreeSet<(String, Protocol)> {
        let holders = self.holders(key).into_iter();
        let ports = holders.filter_map(|at| Some(self.shard(at, key)?.ports.keys().cloned()));
        // A port label has the underscore beside the name.
        ports.flatten().filter(|(name, _)| name.len() < 63).collect()
    }
}

fn labels_fit(owner: &str) -> bool {
    owner.split('.').all(|label| label.len() <= 63)
}

/// Where a cluster is: as configured, else as its nodes say; a configured region without zones has
/// those that nodes report in it. What has a reserved label has no names.
fn places(cluster: &Cluster) -> BTreeSet<(String, Option<String>)> {
    let seen = || cluster.nodes.iter().filter(|_| !cluster.unread).cloned();
    let all: BTreeSet<(String, Option<String>)> = match &cluster.region {
        None => seen().collect(),
        Some(region) if cluster.zones.is_empty() => {
            let inside = seen().filter(|(other, _)| other == region);
            inside.chain([(region.clone(), None)]).collect()
        }
        Some(region) => {
            let zones = cluster.zones.iter().map(|zone| (region.clone(), Some(zone.clone())));
            zones.chain([(region.clone(), None)]).collect()
        }
    };
    // A zone without a name is still in its region.
    let named = |(region, zone): (String, Option<String>)| {
        let zone = zone.filter(|zone| !is_reserved(zone));
        (!is_reserved(&region)).then_some((region, zone))
    };
    all.into_iter().filter_map(named).collect()
}
