//! What is written is read, and what is no such file is set aside.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::cluster::{AddressScope, ApiSettings, Export, InternalAddresses, Namespaces, Source};
use crate::model::{
    Buckets, Check, CheckMode, ClusterChecks, Coordinates, Drain, Endpoints, Force, Forced,
    Internal, MinReady, Port, Ports, Protocol, Refusal, ServiceCheck, ServiceKey, ServiceOptions,
    Shard, ShardEntry, ShardParts, Ties, Topology, Until, WhenNoneHealthy,
};

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn name(text: &str) -> DomainName {
    DomainName::parse(text).unwrap()
}

fn settings(cluster: &str, directory: &str) -> Settings {
    Settings {
        name: label(cluster),
        source: Source::Manifests(directory.into()),
        export: Export::Label,
        allow_nets: ["127.0.0.0/8".parse().unwrap()].into(),
        confirm: Duration::ZERO,
        namespaces: Namespaces::default(),
        addresses: AddressScope::Any,
        api: ApiSettings::default(),
        internal: InternalAddresses::LeftOut,
    }
}

fn known(cluster: &str, directory: &str, shards: Vec<ShardEntry>) -> KnownView {
    let topology = |zone: Option<&str>| Topology { region: label("r"), zone: zone.map(label) };
    let view = ClusterView {
        shards: Buckets::from_items(shards),
        topologies: Arc::new(BTreeSet::from([topology(None), topology(Some("z"))])),
        pod_networks: Arc::new(BTreeSet::from(["10.1.0.0/16".parse().unwrap()])),
        ..ClusterView::default()
    };
    let source = Source::Manifests(directory.into()).identity();
    KnownView { name: label(cluster), source, view: Arc::new(view) }
}

fn plain(index: usize) -> ShardEntry {
    let address = IpAddr::from([127, (index >> 16) as u8, (index >> 8) as u8, index as u8]);
    let port = Port { name: label("http"), protocol: Protocol::Tcp, number: 80 };
    let shard = ShardParts {
        addresses: [address][..].into(),
        ports: Ports::new([port].into(), None),
        endpoints: Endpoints { ready: 2, total: 3 },
        ..ShardParts::default()
    };
    let key = ServiceKey::new(&label(&format!("ns{}", index % 100)), &label(&format!("s{index}")));
    ShardEntry::new(key, shard)
}

/// Shards that between them have every field and variant.
fn rich() -> Vec<ShardEntry> {
    let whens = [
        WhenNoneHealthy::Nothing,
        WhenNoneHealthy::All,
        WhenNoneHealthy::Addresses(["127.0.0.9".parse().unwrap()].into()),
        WhenNoneHealthy::Name(name("sorry.example.net")),
    ];
    let policies = ["all", "nearest: 1", "weighted: 3", "failover: b, a"];
    let checks = [None, Some("off"), Some("http:80/ contains='a b'"), Some("dns/x fall=9")];
    let port = |protocol| Port { name: label("p"), protocol, number: 53 };
    whens
        .into_iter()
        .enumerate()
        .map(|(index, when)| {
            let ports = [port(Protocol::Tcp), port(Protocol::Udp), port(Protocol::Sctp)];
            let shard = ShardParts {
                addresses: ["127.0.0.1", "2001:db8::1"].map(|a| a.parse().unwrap())[..].into(),
                hostnames: ["lb.example.net".into()].into(),
                ttl_cap: Some(30),
                ports: Ports::new(ports.into(), Some(53)),
                endpoints: Endpoints { ready: 1, total: 4 },
                options: Some(Box::new(ServiceOptions {
                    ttl: Some(20),
                    policy: Some(policies[index].parse().unwrap()),
                    ties: Some(if index == 1 { Ties::Sticky } else { Ties::Rotate }),
                    weight: Some(index as u32),
                    when_none_healthy: Some(when),
                    min_ready: Some(MinReady::Percent(50)),
                    drain: if index == 1 { Drain::AtOnce } else { Drain::Planned },
                    load: Some(0.25),
                    force: Some(Arc::new(force(index))),
                    check: checks[index].map(|text| text.parse().unwrap()),
                })),
                refused: [Refusal { address: "::".into(), reason: "no host".into() }].into(),
                internal: match index {
                    0 => None,
                    1 => Some(Box::new(Internal::Headless(["10.0.0.1".parse().unwrap()].into()))),
                    _ => Some(Box::new(Internal::ClusterIp(["fd00::1".parse().unwrap()].into()))),
                },
            };
            let key = ServiceKey::new(&label("ns"), &label(&format!("rich{index}")));
            ShardEntry::new(key, shard)
        })
        .collect()
}

fn force(index: usize) -> Force {
    let to = Forced::ALL[index % 3];
    let until = if index == 0 { Until::Never } else { Until::At(index as u64) };
    Force { to, author: "alice".into(), reason: "a test".into(), until }
}

/// The views of `clusters`, where no home registers others.
fn load(path: &Path, clusters: &[Settings], apex: &DomainName) -> Vec<KnownView> {
    let registered = &|_, _| unreachable!("nothing is registered");
    super::load(path, &Wanted { clusters, home: None, registered, apex }).views
}

fn save(path: &Path, views: &[KnownView]) -> Result<(), SaveError> {
    super::save(path, &LastGood { views: views.to_vec(), ..LastGood::default() })
}

fn apex() -> DomainName {
    name("example.com")
}

fn shards(view: &ClusterView) -> Vec<(ServiceKey, Shard)> {
    view.shards.iter().map(|entry| (entry.key.clone(), entry.shard.clone())).collect()
}

/// The files beside each other, by name.
fn files(home: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(home.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_field_comes_back() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    let mut entries = rich();
    entries.extend((0..1000).map(plain));
    let before = [known("one", "/m/one", entries), known("two", "/m/two", vec![plain(7)])];
    save(&path, &before).unwrap();
    assert_eq!(files(&home), ["state"], "nothing is left beside it");
    let clusters = [settings("one", "/m/one"), settings("two", "/m/two")];
    let after = load(&path, &clusters, &apex());
    assert_eq!(after.len(), 2);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.name, &before.source), (&after.name, &after.source));
        assert_eq!(shards(&before.view), shards(&after.view));
        assert_eq!(before.view.topologies, after.view.topologies);
        assert_eq!(before.view.pod_networks, after.view.pod_networks);
    }
    let ports: BTreeSet<_> = after[0]
        .view
        .shards
        .iter()
        .map(|entry| Arc::as_ptr(entry.shard.ports.named()).addr())
        .collect();
    assert_eq!(ports.len(), 2, "equal lists of ports are one");
}

#[test]
fn only_clusters_of_the_same_name_and_source_get_their_view() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    let views = ["a", "b", "c"].map(|name| known(name, &format!("/m/{name}"), vec![plain(1)]));
    save(&path, &views).unwrap();
    let clusters = [settings("c", "/m/c"), settings("a", "/m/other"), settings("d", "/m/a")];
    let names: Vec<_> =
        load(&path, &clusters, &apex()).into_iter().map(|known| known.name).collect();
    assert_eq!(names, [label("c")]);
}

/// By the home cluster that registered them, and without credentials.
#[test]
fn registered_clusters_come_back_with_their_views() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    let mode = Some(CheckMode::Always);
    let mut checks = ClusterChecks { mode, ..ClusterChecks::default() };
    checks.set("https:443/z host=a.example contains='all is well' interval=9s".parse().unwrap());
    let member = |name: &str| Member {
        name: label(name),
        region: Some(label("r")),
        zones: BTreeSet::from([label("z1"), label("z2")]),
        location: Coordinates::new(52.5, -13.25).ok(),
        drain: if name == "b" { Drain::Planned } else { Drain::No },
        force: (name == "b").then(|| Arc::new(force(1))),
        stale_grace: Some(Duration::from_millis(90_500)),
        checks: if name == "b" { checks.clone() } else { ClusterChecks::default() },
    };
    let cluster = |name: &str| KnownCluster {
        member: member(name),
        source: format!("registered:https://{name}"),
    };
    let view = KnownView { source: cluster("b").source, ..known("b", "", vec![plain(1)]) };
    let clusters = vec![cluster("a"), cluster("b")];
    let registry = Registry { home: "h".to_owned(), clusters, partial: false };
    let before = LastGood {
        views: vec![known("c", "/m", vec![plain(2)]), view],
        registry: Some(Arc::new(registry)),
        ..LastGood::default()
    };
    super::save(&path, &before).unwrap();
    let load = |home: Option<&str>| {
        let registered =
            &|name: Label, source| Settings { source, ..settings(name.as_str(), "/none") };
        let (clusters, home) = (&[settings("c", "/m")], home.map(str::to_owned));
        super::load(&path, &Wanted { clusters, home, registered, apex: &apex() })
    };
    let names = |state: &LastGood| -> Vec<Label> {
        state.views.iter().map(|known| known.name.clone()).collect()
    };
    let after = load(Some("h"));
    assert_eq!(after.registry, before.registry);
    assert_eq!(names(&after), [label("c"), label("b")], "nothing was known of the other");
    for home in [None, Some("another")] {
        let after = load(home);
        assert_eq!((after.registry.clone(), names(&after)), (None, vec![label("c")]));
    }
}

#[test]
fn a_damaged_registration_takes_no_other_down() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    let cluster = |name: &str| KnownCluster {
        member: Member { region: Some(label("r")), ..Member::named(label(name)) },
        source: format!("registered:https://{name}"),
    };
    let clusters = vec![cluster("atlantis"), cluster("berlin")];
    let registry = Registry { home: "h".to_owned(), clusters, partial: false };
    let state = LastGood { registry: Some(Arc::new(registry)), ..LastGood::default() };
    super::save(&path, &state).unwrap();
    damage(&path, "atlantis");
    let load = || {
        let registered =
            &|name: Label, source| Settings { source, ..settings(name.as_str(), "/none") };
        let wanted =
            Wanted { clusters: &[], home: Some("h".to_owned()), registered, apex: &apex() };
        super::load(&path, &wanted)
    };
    let after = load();
    let registry = after.registry.as_deref().unwrap();
    assert_eq!((&*registry.clusters, registry.partial), (&[cluster("berlin")][..], true));
    super::save(&path, &after).unwrap();
    assert_eq!(load().registry, None, "what is left does not pass for all");
}

#[test]
fn what_may_no_longer_be_published_is_not() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    save(&path, &[known("a", "/m", rich())]).unwrap();
    let strict = Settings { allow_nets: [].into(), ..settings("a", "/m") };
    let view = &load(&path, &[strict], &apex())[0].view;
    let shard = &view.shards.iter().next().unwrap().shard;
    assert_eq!(*shard.addresses, ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    let given = Some(Arc::new(BTreeSet::from(["other".into()])));
    let namespaces = Namespaces { given, ..Namespaces::default() };
    let confined = Settings { namespaces, ..settings("a", "/m") };
    assert!(load(&path, &[confined], &apex())[0].view.shards.is_empty());
}

#[test]
fn no_file_is_no_fault() {
    let home = TempDir::new().unwrap();
    assert!(load(&home.path().join("state"), &[settings("a", "/m")], &apex()).is_empty());
    assert!(files(&home).is_empty());
}

fn sealed(content: &[u8]) -> Vec<u8> {
    [&header(content.len() as u64, crc32fast::hash(content))[..], content].concat()
}

/// Writes the file at `path` anew with the first letter of `text` as none that a name can have.
fn damage(path: &Path, text: &str) {
    let mut content = fs::read(path).unwrap().split_off(HEADER);
    let at = content.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
    content[at] = b'_';
    fs::write(path, sealed(&content)).unwrap();
}

#[test]
fn a_damaged_shard_takes_no_other_down() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    save(&path, &[known("a", "/m", rich()), known("b", "/n", rich())]).unwrap();
    damage(&path, "rich0");
    let after = load(&path, &[settings("a", "/m"), settings("b", "/n")], &apex());
    let found: Vec<_> = after.iter().map(|k| (k.view.shards.len(), k.view.partial)).collect();
    assert_eq!(found, [(3, true), (4, false)], "what is missing is not said to be absent");
    assert_eq!(files(&home), ["state"], "it is not set aside");
}

#[test]
fn a_damaged_cluster_takes_no_other_down() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    let before = known("a", "/m", rich());
    let topology = Topology { region: label("atlantis"), zone: None };
    let view = ClusterView {
        topologies: Arc::new(BTreeSet::from([topology])),
        ..ClusterView::clone(&before.view)
    };
    save(&path, &[KnownView { view: Arc::new(view), ..before }, known("b", "/n", rich())]).unwrap();
    damage(&path, "atlantis");
    let after = load(&path, &[settings("a", "/m"), settings("b", "/n")], &apex());
    assert_eq!(after.iter().map(|known| known.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(files(&home), ["state"], "it is not set aside");
}

/// An annotation of 1000 octets, written anew, is longer than an annotation may be.
#[test]
fn a_check_comes_back_however_long_its_text_is() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    let check = format!(r#"http:80 contains="'{}""#, r"\d".repeat(480));
    let check: ServiceCheck = check.parse().unwrap();
    assert!(check.to_string().len() > Check::LONGEST_TEXT);
    let entry = plain(1);
    let options = ServiceOptions { check: Some(check), ..ServiceOptions::default() };
    let shard = ShardParts { options: Some(Box::new(options)), ..entry.shard.parts() };
    let before = known("a", "/m", vec![ShardEntry::new(entry.key, shard)]);
    save(&path, std::slice::from_ref(&before)).unwrap();
    let after = load(&path, &[settings("a", "/m")], &apex());
    assert_eq!(shards(&after[0].view), shards(&before.view));
}

#[test]
fn any_file_that_is_none_is_set_aside() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    let views = [known("a", "/m", rich())];
    save(&path, &views).unwrap();
    let good = fs::read(&path).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let faults: [(&str, Vec<u8>); 8] = [
        ("empty", Vec::new()),
        ("short", good[..HEADER - 1].to_vec()),
        ("foreign", b"#!/bin/sh\necho a file of another kind that is long enough\n".to_vec()),
        ("of a later version", with(&|bytes| bytes[8] = VERSION as u8 + 1)),
        ("cut off", with(&|bytes| bytes.truncate(good.len() - 1))),
        ("too long", with(&|bytes| bytes.push(0))),
        ("with a flipped bit", with(&|bytes| bytes[HEADER + 9] ^= 1)),
        ("sealed nonsense", sealed(&[0xff; 40])),
    ];
    for (what, bytes) in faults {
        fs::write(&path, &bytes).unwrap();
        assert!(load(&path, &[settings("a", "/m")], &apex()).is_empty(), "{what}");
        let files = files(&home);
        assert_eq!(files.len(), 1, "{what}: {files:?}");
        assert!(files[0].starts_with("state.damaged-"), "{what}: {files:?}");
        assert_eq!(fs::read(home.path().join(&files[0])).unwrap(), bytes, "{what}: kept as it was");
        fs::remove_file(home.path().join(&files[0])).unwrap();
    }
    save(&path, &views).unwrap();
    assert_eq!(load(&path, &[settings("a", "/m")], &apex()).len(), 1, "the good one is good");
}

#[test]
fn a_failed_write_leaves_the_file_as_it_was() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    save(&path, &[known("a", "/m", vec![plain(1)])]).unwrap();
    let before = fs::read(&path).unwrap();
    // Where the new file would be written, something else is in the way.
    fs::create_dir(home.path().join("state.new")).unwrap();
    let error = save(&path, &[known("a", "/m", vec![plain(2)])]).unwrap_err();
    assert!(error.to_string().contains("state.new"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// `cargo test --release -- --ignored --nocapture a_large_federation`
#[test]
#[ignore = "a measurement, of use in a release build alone"]
fn a_large_federation_is_read_in_a_blink() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("state");
    let shards: Vec<_> = (0..100_000).map(plain).collect();
    let clusters: Vec<_> = (0..4).map(|i| settings(&format!("c{i}"), &format!("/m/{i}"))).collect();
    let views: Vec<_> =
        (0..4).map(|i| known(&format!("c{i}"), &format!("/m/{i}"), shards.clone())).collect();
    let start = Instant::now();
    save(&path, &views).unwrap();
    println!("written in {:?}, {} octets", start.elapsed(), fs::metadata(&path).unwrap().len());
    let start = Instant::now();
    let read = load(&path, &clusters, &apex());
    println!("read in {:?}", start.elapsed());
    assert_eq!(read.iter().map(|known| known.view.shards.len()).sum::<usize>(), 400_000);
}
