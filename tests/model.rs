//! What hickory-proto reads from our replies is what a simple model says; and a snapshot built step
//! by step is the one built at once.

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "support/dns.rs"]
mod dns;
#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "support/federation.rs"]
mod federation;
#[path = "support/model.rs"]
mod model;
#[path = "support/random.rs"]
mod random;

use std::sync::Arc;

use meridian::answer::{Client, MAX_MESSAGE, Transport, answer};
use meridian::model::ServiceKey;
use meridian::snapshot::{Federation, Inputs, Snapshot, build};
use proptest::prelude::*;

use dns::{Opt, Query, Reply};
use federation::{Cluster, anonymous, inputs, overrides, settle};
use model::Model;
use random::{START, Settings, Step, clusters, qtypes, steps};

/// Over TCP, so that nothing is cut; from a place that nobody knows.
fn ask(snapshot: &Snapshot, query: &Query, turn: u32) -> Vec<u8> {
    let client = Client { address: [203, 0, 113, 9].into(), transport: Transport::Tcp };
    let mut reply = vec![0; MAX_MESSAGE];
    let answered = answer(snapshot, &query.bytes(), client, turn, &mut reply).expect("a reply");
    reply.truncate(answered.len);
    reply
}

/// A reply without the serial, which is the time of the last change of content: from scratch that is
/// always now.
fn but_serial(snapshot: &Snapshot, query: &Query) -> Vec<u8> {
    let mut reply = ask(snapshot, query, 1);
    let serial = snapshot.serial.to_be_bytes();
    while let Some(at) = reply.windows(4).position(|octets| octets == serial) {
        reply[at..at + 4].fill(0);
    }
    reply
}

fn agrees(snapshot: &Snapshot, model: &Model, query: &Query) -> Result<(), TestCaseError> {
    let reply = Reply::parse(&ask(snapshot, query, 0)).map_err(TestCaseError::fail)?;
    prop_assert!(reply.has_question(&query.question()));
    let expected = model.answer(&query.name, query.qtype);
    let found = model::Answer::of(&reply);
    prop_assert_eq!(found, expected, "{} {}", model::text(&query.name), query.qtype);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Every name that the model has, some beside them and some outside, for every type.
    #[test]
    fn replies_are_what_the_model_says(clusters in clusters(), strange in random::names()) {
        let model = Model::of(&clusters);
        let snapshot = build(None, inputs(&clusters, anonymous(), START));
        let names: Vec<Vec<u8>> = model.names().map(<[u8]>::to_vec).collect();
        let beside = names.iter().step_by(7).flat_map(|name| {
            [b"\x01x".as_slice(), b"\x05_http", b"\x04_tcp"].map(|label| [label, name].concat())
        });
        let strange = strange.iter().map(|name| dns::wire_name(name));
        for name in names.iter().cloned().chain(beside).chain(strange) {
            // The apex has types of its own, which its scenario asks for.
            if name.len() > 255 || name == dns::wire_name(federation::DOMAIN) {
                continue;
            }
            for qtype in qtypes() {
                let query = Query { name: name.clone(), qtype, ..Query::new(".", "A") };
                agrees(&snapshot, &model, &query)?;
            }
        }
    }

    /// "Incremental equals from scratch", whatever changed in between; so a reload equals a start.
    #[test]
    fn a_snapshot_has_no_history(mut clusters in clusters(), steps in steps()) {
        let first = inputs(&clusters, anonymous(), START);
        let mut snapshot = build(None, first.clone());
        let mut inputs = first;
        for step in &steps {
            change(&mut clusters, &mut inputs, step);
            snapshot = build(Some(&snapshot), inputs.clone());
        }
        let scratch = build(None, inputs.clone());
        prop_assert_eq!(snapshot.digest, scratch.digest);
        prop_assert_eq!(snapshot.deadline(), scratch.deadline());
        prop_assert_eq!(&snapshot.wholes, &scratch.wholes);
        prop_assert_eq!(snapshot.complete, scratch.complete);
        prop_assert_eq!(&snapshot.up, &scratch.up);
        prop_assert_eq!(&snapshot.tallies, &scratch.tallies);
        prop_assert_eq!(&snapshot.reports, &scratch.reports);
        prop_assert_eq!(snapshot.wanted_tables(), scratch.wanted_tables());
        prop_assert_eq!(snapshot.generation, steps.len() as u64 + 1);
        let (snapshot, scratch) = (settle(snapshot), settle(scratch));
        let model = Model::of(&clusters);
        for name in model.names().chain([dns::wire_name("web.n.f.svc.example.com").as_slice()]) {
            for qtype in [1, 28, 33] {
                for subnet in ["198.18.1.0/24", "198.18.2.9/32", "2001:db8:7::/48", "0.0.0.0/0"] {
                    let opt = Opt::default().subnet(subnet);
                    let query = Query { name: name.to_vec(), qtype, ..Query::new(".", "A") };
                    let query = query.opt(opt);
                    prop_assert_eq!(but_serial(&snapshot, &query), but_serial(&scratch, &query));
                }
            }
        }
    }
}

/// Brings clusters and inputs up to date: what the step does not touch stays the same pointer.
fn change(clusters: &mut Vec<Cluster>, inputs: &mut Inputs, step: &Step) {
    // Far enough apart that a serial is the time of its change.
    inputs.now += 1000;
    let count = clusters.len();
    let index = |at: &prop::sample::Index| at.index(count);
    match step {
        Step::Shard(at, key, Some(shard)) => {
            let at = index(at);
            clusters[at].services.insert(key.clone(), shard.clone());
            edit(inputs, at, |view| {
                let entry = shard.entry(key);
                let same = entry.key.clone();
                view.shards.upsert(entry, |old| old.key == same);
            });
        }
        Step::Shard(at, key, None) => {
            let at = index(at);
            if let Some(shard) = clusters[at].services.remove(key) {
                edit(inputs, at, |view| {
                    let entry = shard.entry(key);
                    view.shards.remove(entry.hash, |old| old.key == entry.key);
                });
            }
        }
        Step::Whole(at, services) => {
            let at = index(at);
            clusters[at].services = services.clone();
            clusters[at].unread = false;
            inputs.views[at] = Some(Arc::new(clusters[at].view()));
            inputs.standings[at] = clusters[at].standing();
        }
        Step::Nodes(at, nodes) => {
            let at = index(at);
            clusters[at].nodes = nodes.clone();
            let view = clusters[at].view();
            edit(inputs, at, |old| old.topologies = view.topologies);
        }
        Step::Down(at, down) => {
            let at = index(at);
            clusters[at].down = *down;
            inputs.standings[at] = clusters[at].standing();
        }
        Step::Told(at, key, told) => {
            let at = index(at);
            let cluster = federation::label(&clusters[at].name);
            let (name, namespace) = key;
            let service = ServiceKey::new(&federation::label(namespace), &federation::label(name));
            let told = told.clone().unwrap_or_default();
            inputs.opinions.set(&service, &cluster, told.opinion());
            inputs.phases.shards.set(&service, &cluster, told.phase());
            let before = clusters[at].told.insert(key.clone(), told.clone());
            if before.is_none_or(|before| before.force != told.force) {
                inputs.overrides = overrides(clusters);
            }
        }
        Step::Reload(settings) => reload(clusters, inputs, settings),
    }
}

/// Has another configuration take effect.
fn reload(clusters: &mut Vec<Cluster>, inputs: &mut Inputs, settings: &Settings) {
    let count = clusters.len();
    let old = &inputs.federation;
    let (mut zone, mut health) = ((*old.zone).clone(), old.health.clone());
    match settings {
        Settings::Nothing => {}
        Settings::Drained(at, drained) => clusters[at.index(count)].drained = *drained,
        Settings::Location(at, place) => clusters[at.index(count)].location = Some(*place),
        Settings::Ttl(ttl) => zone.ttl = *ttl,
        Settings::MinReady(needed) => health.min_ready = *needed,
        Settings::Gone(at) if count > 1 => {
            let at = at.index(count);
            clusters.remove(at);
            inputs.views.remove(at);
            inputs.standings.remove(at);
        }
        Settings::Gone(_) => {}
    }
    inputs.federation = Arc::new(Federation {
        zone: Arc::new(zone),
        health,
        networks: old.networks.clone(),
        identity: old.identity.clone(),
        members: clusters.iter().map(Cluster::member).collect(),
        membership: old.membership,
        reports: old.reports.clone(),
    });
}

/// Changes the view of a cluster, if it has been read, into a new one that shares the rest.
fn edit(inputs: &mut Inputs, at: usize, change: impl FnOnce(&mut meridian::model::ClusterView)) {
    if let Some(view) = &inputs.views[at] {
        let mut view = (**view).clone();
        change(&mut view);
        inputs.views[at] = Some(Arc::new(view));
    }
}
