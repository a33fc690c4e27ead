//! What ConfigMaps hold, and who may vote by them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::urn::{Found, Urn};
use super::*;
use crate::cluster::Export;
use crate::cluster::narrow::{ObjectId, Rules, Scope};
use crate::cluster::state::Change;
use crate::model::{DomainName, Label};

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

/// The object of the instance that all ballots here are of.
const ONE: &str = "meridian-ballot-one";

fn ballot(voter: &str, renewal: u64) -> Ballot {
    let (voter, instance) = (label(voter), "one".into());
    Ballot { voter, instance, run: 7, renewal, sights: Arc::default() }
}

/// One for all: the ids of objects are of the rules that gave them.
static RULES: LazyLock<Rules> = LazyLock::new(|| {
    Rules::new(Export::All, Arc::default(), DomainName::parse("example.com").unwrap())
});

fn found(name: &str, text: Option<&str>) -> (ObjectId, Found) {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("meridian".to_owned()),
        ..ObjectMeta::default()
    };
    let id = RULES.id_of(&metadata, Scope::Namespaced).unwrap();
    let data = text.map(|text| BTreeMap::from([(KEY.to_owned(), text.to_owned())]));
    (id, Found::of(id, &ConfigMap { metadata, data, ..ConfigMap::default() }))
}

/// The object that holds this ballot, renewed by an annotation.
fn renewed(name: &str, ballot: &Ballot, renewal: &str) -> Found {
    let (id, _) = found(name, None);
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        annotations: Some(BTreeMap::from([(RENEWAL.to_owned(), renewal.to_owned())])),
        ..ObjectMeta::default()
    };
    let data = Some(BTreeMap::from([(KEY.to_owned(), ballot.encode().unwrap().text)]));
    Found::of(id, &ConfigMap { metadata, data, ..ConfigMap::default() })
}

fn written(name: &str, ballot: &Ballot) -> Found {
    found(name, Some(&ballot.encode().unwrap().text)).1
}

fn urn(office: &Arc<Office>, cluster: &str) -> Urn {
    Urn::new(office.number(), office.clone(), label(cluster))
}

/// Ballots as text, and how many faults.
fn heard(office: &Office) -> (BTreeSet<String>, usize) {
    let heard = office.heard.subscribe().borrow().clone();
    let text = |ballot: &Arc<Ballot>| format!("{ballot} {}", ballot.renewal);
    (heard.ballots.iter().map(text).collect(), heard.faults.len())
}

#[test]
fn ballots_of_all_clusters_are_joined_until_a_cluster_goes() {
    let office = Arc::new(Office::default());
    let (mut a, mut b) = (urn(&office, "a"), urn(&office, "b"));
    a.apply(Change::Apply(written(ONE, &ballot("a", 1))));
    a.tell();
    b.apply(Change::Apply(written(ONE, &ballot("b", 4))));
    b.tell();
    assert_eq!(heard(&office), (["a/one 1".to_owned(), "b/one 4".to_owned()].into(), 0));
    a.apply(Change::Apply(written(ONE, &ballot("a", 2))));
    a.tell();
    drop(b);
    assert_eq!(heard(&office), (["a/one 2".to_owned()].into(), 0));
}

/// Of the same run, and later than what the object holds; else by that.
#[test]
fn an_annotation_renews_a_ballot() {
    let office = Arc::new(Office::default());
    let mut urn = urn(&office, "a");
    for (renewal, heard_as) in
        [("7/9", "a/one 9"), ("7/1", "a/one 2"), ("8/9", "a/one 2"), ("none", "a/one 2")]
    {
        urn.apply(Change::Apply(renewed(ONE, &ballot("a", 2), renewal)));
        urn.tell();
        assert_eq!(heard(&office), ([heard_as.to_owned()].into(), 0), "{renewal}");
    }
}

/// Whoever can write in one cluster has that cluster's vote, and no other.
#[test]
fn nobody_votes_for_another_cluster() {
    let office = Arc::new(Office::default());
    let mut urn = urn(&office, "a");
    urn.apply(Change::Apply(written("x", &ballot("b", 1))));
    urn.apply(Change::Apply(found("y", Some("{}")).1));
    urn.apply(Change::Apply(found("z", None).1));
    urn.tell();
    assert_eq!(heard(&office), (BTreeSet::new(), 3));
    let faults = office.heard.subscribe().borrow().faults.clone();
    let told: Vec<_> = faults.iter().map(|fault| &*fault.subject).collect();
    let expected = ["ballot x in cluster a", "ballot y in cluster a", "ballot z in cluster a"];
    assert_eq!(told, expected);
}

/// Two that say something else would pass for one that is renewed again and again.
#[test]
fn a_ballot_counts_in_the_object_of_its_instance_only() {
    let office = Arc::new(Office::default());
    let mut urn = urn(&office, "a");
    urn.apply(Change::Apply(written("copy", &ballot("a", 9))));
    urn.apply(Change::Apply(written(ONE, &ballot("a", 1))));
    urn.tell();
    assert_eq!(heard(&office), (["a/one 1".to_owned()].into(), 1));
    let faults = office.heard.subscribe().borrow().faults.clone();
    let reasons: Vec<_> = faults.iter().map(|fault| &*fault.reason).collect();
    let reason = "the ballot of a/one that it holds counts in 'meridian-ballot-one' only";
    assert_eq!(reasons, [reason]);
}

#[test]
fn a_list_replaces_what_was_known_when_it_is_complete() {
    let office = Arc::new(Office::default());
    let mut urn = urn(&office, "a");
    let other = Ballot { instance: "two".into(), ..ballot("a", 1) };
    urn.apply(Change::Apply(written(ONE, &ballot("a", 1))));
    urn.apply(Change::Init);
    urn.apply(Change::InitApply(written("meridian-ballot-two", &other)));
    urn.tell();
    assert_eq!(heard(&office).0.len(), 2, "the list is not complete");
    urn.apply(Change::InitDone);
    urn.tell();
    assert_eq!(heard(&office).0, ["a/two 1".to_owned()].into());
    urn.apply(Change::Delete(found("meridian-ballot-two", None).0));
    urn.tell();
    assert_eq!(heard(&office), (BTreeSet::new(), 0));
}
