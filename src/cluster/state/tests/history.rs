//! Any history of events ends in the state that its final objects make from scratch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::{CONFIRM, rules};
use crate::model::{ServiceKey, Shard, Topology};

/// The last three have the same key.
const NAMES: [&str; 5] = ["web", "api", "a_b", "a-b", "a.b"];
const HOSTS: [&str; 2] = ["one.example.net", "two.example.net"];

/// One step, by small numbers that stand for names.
#[derive(Clone, Debug)]
enum Step {
    Service(usize, ServiceSpec),
    DeleteService(usize),
    Slice(usize, SliceSpec),
    DeleteSlice(usize),
    Node(usize, (u8, u8)),
    DeleteNode(usize),
    /// Every kind is listed anew, without the objects of this number.
    Relist(usize),
    /// A list of every kind begins and is read to the end, but not ended.
    BeginList,
    /// Lists under way end; what changed meanwhile came as changes too.
    EndList,
    Resolved(usize, u8),
    Failed(usize),
    Source(u8),
}

#[derive(Clone, Debug)]
struct ServiceSpec {
    exported: bool,
    ip: u8,
    host: Option<usize>,
    publish_all: bool,
    bad_ttl: bool,
}

#[derive(Clone, Debug)]
struct SliceSpec {
    service: Option<usize>,
    endpoints: Vec<(u8, bool)>,
    labelled: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let service = (
        any::<bool>(),
        0..3_u8,
        proptest::option::of(0..HOSTS.len()),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(exported, ip, host, publish_all, bad_ttl)| ServiceSpec {
            exported,
            ip,
            host,
            publish_all,
            bad_ttl,
        });
    let endpoints = proptest::collection::vec((0..4_u8, any::<bool>()), 0..4);
    let slice = (proptest::option::of(0..NAMES.len()), endpoints, any::<bool>())
        .prop_map(|(service, endpoints, labelled)| SliceSpec { service, endpoints, labelled });
    prop_oneof![
        4 => (name.clone(), service).prop_map(|(i, spec)| Step::Service(i, spec)),
        2 => name.clone().prop_map(Step::DeleteService),
        4 => (0..4_usize, slice).prop_map(|(i, spec)| Step::Slice(i, spec)),
        1 => (0..4_usize).prop_map(Step::DeleteSlice),
        1 => (0..3_usize, (0..2_u8, 0..2_u8)).prop_map(|(i, spec)| Step::Node(i, spec)),
        1 => (0..3_usize).prop_map(Step::DeleteNode),
        1 => name.prop_map(Step::Relist),
        1 => Just(Step::BeginList),
        1 => Just(Step::EndList),
        2 => (0..HOSTS.len(), 0..3_u8).prop_map(|(i, n)| Step::Resolved(i, n)),
        1 => (0..HOSTS.len()).prop_map(Step::Failed),
        1 => (0..3_u8).prop_map(Step::Source),
    ]
}

/// The objects as they are, and the state that was told of every change.
struct World {
    rules: Arc<Rules>,
    services: BTreeMap<usize, NarrowService>,
    slices: BTreeMap<usize, NarrowSlice>,
    nodes: BTreeMap<usize, NarrowNode>,
    /// What each host name last brought since it was last wanted: addresses, then failure.
    hosts: HashMap<Box<str>, Vec<HostAnswer>>,
    source: BTreeSet<Report>,
    topologies: BTreeSet<Topology>,
    state: ClusterState,
}

impl World {
    fn new() -> Self {
        let rules = rules();
        let mut world = Self {
            state: ClusterState::new(rules.clone(), CONFIRM),
            rules,
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            nodes: BTreeMap::new(),
            hosts: HashMap::new(),
            source: BTreeSet::new(),
            topologies: BTreeSet::new(),
        };
        world.relist();
        world
    }

    /// Tells the state of everything that there is, as complete lists.
    fn relist(&mut self) {
        let events = lists(&self.services, &self.slices, &self.nodes);
        self.tell(events);
    }

    fn take(&mut self, step: Step) {
        let event = match step {
            Step::Service(i, spec) => {
                let service = self.service(i, &spec);
                self.services.insert(i, service.clone());
                Event::Service(Change::Apply(service))
            }
            Step::DeleteService(i) => {
                self.services.remove(&i);
                Event::Service(Change::Delete(self.rules.id("ns", NAMES[i])))
            }
            Step::Slice(i, spec) => {
                let slice = self.slice(i, &spec);
                self.slices.insert(i, slice.clone());
                Event::Slice(Change::Apply(slice))
            }
            Step::DeleteSlice(i) => {
                self.slices.remove(&i);
                Event::Slice(Change::Delete(self.rules.id("ns", &format!("slice-{i}"))))
            }
            Step::Node(i, spec) => {
                let node = self.node(i, spec);
                self.topologies.extend(node.topology.clone());
                self.nodes.insert(i, node.clone());
                Event::Node(Change::Apply(node))
            }
            Step::DeleteNode(i) => {
                self.nodes.remove(&i);
                Event::Node(Change::Delete(self.rules.id("", &format!("node-{i}"))))
            }
            Step::Relist(i) => {
                self.services.remove(&i);
                self.slices.remove(&i);
                self.nodes.remove(&i);
                return self.relist();
            }
            Step::BeginList => {
                let events = lists(&self.services, &self.slices, &self.nodes);
                return self.tell(events.into_iter().filter(|event| !is_done(event)));
            }
            Step::EndList => {
                return self.tell([
                    Event::Service(Change::InitDone),
                    Event::Slice(Change::InitDone),
                    Event::Node(Change::InitDone),
                ]);
            }
            Step::Resolved(i, n) => self.answer(
                i,
                HostAnswer::Resolved {
                    addresses: (0..n).map(|n| IpAddr::from([198, 51, 100, n])).collect(),
                    ttl: 60 + u32::from(n),
                },
            ),
            Step::Failed(i) => self.answer(i, HostAnswer::Failed { reason: "gone".into() }),
            Step::Source(n) => {
                let report =
                    |n: u8| Report { subject: format!("file {n}").into(), reason: "bad".into() };
                self.source = (0..n).map(report).collect();
                Event::Source { reports: self.source.clone(), partial: false }
            }
        };
        self.tell([event]);
    }

    /// Tells the state, and holds it to what it says has changed.
    fn tell(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let before = self.state.view();
            let changed = self.state.apply(event);
            if let (Changed::Nothing, Some(before)) = (changed, before) {
                let after = self.state.view().expect("it was complete");
                assert_eq!(contents(&before), contents(&after));
            }
        }
        let services = self.services.values();
        let exported = services.filter_map(|service| service.export.as_ref());
        let wanted: BTreeSet<Box<str>> =
            exported.flat_map(|export| export.shard.hostnames().iter().cloned()).collect();
        let mut changes: BTreeSet<(bool, Box<str>)> = BTreeSet::new();
        self.hosts.retain(|host, _| {
            let kept = wanted.contains(host);
            if !kept {
                changes.insert((false, host.clone()));
            }
            kept
        });
        for host in wanted {
            self.hosts.entry(host).or_insert_with_key(|host| {
                changes.insert((true, host.clone()));
                Vec::new()
            });
        }
        let told = self.state.take_host_changes().into_iter().map(|change| match change {
            HostChange::Wanted(host) => (true, host),
            HostChange::Unwanted(host) => (false, host),
        });
        assert_eq!(told.collect::<BTreeSet<_>>(), changes);
    }

    fn answer(&mut self, host: usize, answer: HostAnswer) -> Event {
        if let Some(answers) = self.hosts.get_mut(HOSTS[host]) {
            if matches!(answer, HostAnswer::Resolved { .. }) {
                answers.clear();
            }
            answers.truncate(1);
            answers.push(answer.clone());
        }
        Event::Host { hostname: HOSTS[host].into(), answer }
    }

    /// A state that is told only of the final objects, in another order.
    fn rebuilt(&self) -> ClusterState {
        let mut state = ClusterState::new(self.rules.clone(), CONFIRM);
        let _ = state.apply(Event::Source { reports: self.source.clone(), partial: false });
        let mut events = lists(&self.services, &self.slices, &self.nodes);
        // Nodes first, services last.
        events.reverse();
        let (begin, end): (Vec<Event>, Vec<Event>) = events.into_iter().partition(is_init);
        let (end, items): (Vec<Event>, Vec<Event>) = end.into_iter().partition(is_done);
        for event in begin.into_iter().chain(items).chain(end) {
            let _ = state.apply(event);
        }
        for (hostname, answers) in &self.hosts {
            for answer in answers {
                let (hostname, answer) = (hostname.clone(), answer.clone());
                let _ = state.apply(Event::Host { hostname, answer });
            }
        }
        state
    }

    fn service(&self, i: usize, spec: &ServiceSpec) -> NarrowService {
        let mut ingress = vec![json!({"ip": format!("192.0.2.{}", spec.ip)})];
        ingress.extend(spec.host.map(|host| json!({"hostname": HOSTS[host]})));
        let object = serde_json::from_value(json!({
            "metadata": {
                "namespace": "ns", "name": NAMES[i],
                "labels": {"meridian.dev/federate": spec.exported.to_string()},
                "annotations": {"meridian.dev/ttl": if spec.bad_ttl { "x" } else { "30" }},
            },
            "spec": {
                "publishNotReadyAddresses": spec.publish_all,
                "clusterIP": if i.is_multiple_of(2) { "None" } else { "10.96.0.1" },
            },
            "status": {"loadBalancer": {"ingress": ingress}},
        }))
        .unwrap();
        self.rules.service(&object).unwrap()
    }

    fn slice(&self, i: usize, spec: &SliceSpec) -> NarrowSlice {
        let mut labels = BTreeMap::new();
        if let Some(service) = spec.service {
            labels.insert("kubernetes.io/service-name", NAMES[service]);
        }
        if spec.labelled {
            labels.insert("meridian.dev/federate", "true");
        }
        let endpoint = |(uid, ready): &(u8, bool)| -> Value {
            json!({
                "addresses": [format!("10.0.0.{uid}")], "targetRef": {"uid": uid.to_string()},
                "conditions": {"ready": ready},
            })
        };
        let endpoints: Vec<Value> = spec.endpoints.iter().map(endpoint).collect();
        let object = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": format!("slice-{i}"), "labels": labels},
            "addressType": "IPv4", "endpoints": endpoints,
        }))
        .unwrap();
        self.rules.slice(&object).unwrap()
    }

    fn node(&self, i: usize, (zone, net): (u8, u8)) -> NarrowNode {
        let object = serde_json::from_value(json!({
            "metadata": {"name": format!("node-{i}"), "labels": {
                "topology.kubernetes.io/region": (["R", "r"][usize::from(zone)]),
                "topology.kubernetes.io/zone": format!("z{zone}"),
            }},
            "spec": {"podCIDR": format!("10.{net}.0.0/16")},
        }))
        .unwrap();
        self.rules.node(&object).unwrap()
    }
}

fn lists(
    services: &BTreeMap<usize, NarrowService>,
    slices: &BTreeMap<usize, NarrowSlice>,
    nodes: &BTreeMap<usize, NarrowNode>,
) -> Vec<Event> {
    fn list<T: Clone>(items: &BTreeMap<usize, T>, wrap: fn(Change<T>) -> Event) -> Vec<Event> {
        let items = items.values().map(|item| wrap(Change::InitApply(item.clone())));
        [wrap(Change::Init)].into_iter().chain(items).chain([wrap(Change::InitDone)]).collect()
    }
    let mut events = list(services, Event::Service);
    events.extend(list(slices, Event::Slice));
    events.extend(list(nodes, Event::Node));
    events
}

fn is_init(event: &Event) -> bool {
    matches!(
        event,
        Event::Service(Change::Init) | Event::Slice(Change::Init) | Event::Node(Change::Init)
    )
}

fn is_done(event: &Event) -> bool {
    matches!(
        event,
        Event::Service(Change::InitDone)
            | Event::Slice(Change::InitDone)
            | Event::Node(Change::InitDone)
    )
}

/// What a view says, but for the zones, which remember.
fn contents(
    view: &ClusterView,
) -> (BTreeMap<ServiceKey, Shard>, BTreeSet<ipnet::IpNet>, BTreeSet<Report>) {
    let shards: Vec<(ServiceKey, Shard)> =
        view.shards.iter().map(|entry| (entry.key.clone(), entry.shard.clone())).collect();
    let count = shards.len();
    let shards: BTreeMap<_, _> = shards.into_iter().collect();
    assert_eq!(shards.len(), count, "one entry a key");
    (shards, (*view.pod_networks).clone(), (*view.reports).clone())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_from_scratch(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        let incremental = world.state.view().expect("complete");
        let scratch = world.rebuilt().view().expect("complete");
        prop_assert_eq!(contents(&incremental), contents(&scratch));
        prop_assert!(incremental.topologies.is_superset(&scratch.topologies));
        prop_assert_eq!(&*incremental.topologies, &world.topologies);
    }
}
