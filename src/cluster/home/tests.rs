//! What Secrets say.

use k8s_openapi::ByteString;

use std::time::Duration;

use super::secret::registration;
use super::*;
use crate::model::{Check, CheckMode, Coordinates, Drain, Forced};

const KUBECONFIG: &str = "{clusters: [{name: c, cluster: {server: 'https://192.0.2.1'}}], \
                          users: [], contexts: [], current-context: c}";

fn secret(annotations: &[(&str, &str)], data: &[(&str, &str)]) -> Secret {
    let annotation =
        |(key, value): &(&str, &str)| (format!("meridian.dev/{key}"), (*value).to_owned());
    let item =
        |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
    Secret {
        metadata: ObjectMeta {
            name: Some("berlin".to_owned()),
            namespace: Some("meridian".to_owned()),
            annotations: Some(annotations.iter().map(annotation).collect()),
            ..ObjectMeta::default()
        },
        data: Some(data.iter().map(item).collect()),
        ..Secret::default()
    }
}

fn berlin() -> SecretName {
    SecretName { name: "berlin".into(), ..SecretName::default() }
}

fn read(annotations: &[(&str, &str)]) -> Result<Registration, Unusable> {
    registration(&secret(annotations, &[("kubeconfig", KUBECONFIG)]), berlin())
}

#[test]
fn annotations_place_a_cluster() {
    let said = read(&[
        ("region", "eu"),
        ("zones", "eu-a, eu-b"),
        ("location", "52.5,13.4"),
        ("drain", "true"),
        ("stale-grace", "1m 30s"),
        ("override", "up; by=alice; reason=a test; until=never"),
        ("checks", "always"),
    ])
    .unwrap();
    assert_eq!(said.member.name.as_str(), "berlin", "by default the Secret's name");
    assert_eq!(said.member.region.unwrap().as_str(), "eu");
    assert_eq!(said.member.zones.len(), 2);
    assert_eq!(said.member.location, Coordinates::new(52.5, 13.4).ok());
    assert_eq!(said.member.drain, Drain::AtOnce);
    assert_eq!(said.member.force.map(|force| force.to), Some(Forced::Up));
    assert_eq!(said.member.stale_grace, Some(Duration::from_secs(90)));
    let never = read(&[("stale-grace", "never")]).unwrap();
    assert_eq!(never.member.stale_grace, None, "the default, said");
    assert_eq!(said.member.checks.mode, Some(CheckMode::Always));
    let apart = read(&[("latitude", "52.5"), ("longitude", "13.4"), ("name", "other")]).unwrap();
    assert_eq!(apart.member.location, Coordinates::new(52.5, 13.4).ok());
    assert_eq!(apart.member.name.as_str(), "other");
}

#[test]
fn annotations_set_the_checks_of_a_cluster() {
    let said = read(&[
        ("checks", "suspect"),
        ("check", "http:80/healthz method=POST address=192.0.2.9 interval=500ms fall=5"),
    ]);
    let checks = said.unwrap().member.checks;
    assert_eq!(checks.mode, Some(CheckMode::Suspect));
    let check: Check = "http:80/healthz method=POST address=192.0.2.9".parse().unwrap();
    assert_eq!(checks.check.as_deref(), Some(&check), "the timing stands beside it");
    assert_eq!(checks.timing.interval, Some(Duration::from_millis(500)));
    assert_eq!((checks.timing.timeout, checks.timing.fall.map(|n| n.get())), (None, Some(5)));
    for (text, told) in [
        ("https:443/ colour=red", "meridian.dev/check 'https:443/ colour=red' is no check: colour"),
        ("tcp:0", "meridian.dev/check 'tcp:0' is no check: port"),
        ("off", "write meridian.dev/checks 'off'"),
        (&format!("http/{}", "x".repeat(1000)), "is longer than 1000 octets"),
    ] {
        let why = read(&[("check", text)]).unwrap_err().0;
        assert!(why.contains(told), "{why}");
    }
}

#[test]
fn what_cannot_be_used_has_a_reason() {
    let refused = [
        ("zones", "eu-a"),
        ("region", "svc"),
        ("location", "52.5"),
        ("location", "91,0"),
        ("latitude", "52.5"),
        ("drain", "perhaps"),
        ("stale-grace", "2h"),
        ("stale-grace", "90"),
        ("override", "up"),
        ("checks", "on"),
        ("name", "---"),
    ];
    for annotation in refused {
        assert!(read(&[annotation]).is_err(), "{annotation:?}");
    }
    let without = registration(&secret(&[], &[]), berlin());
    assert!(without.unwrap_err().0.contains("data.kubeconfig"));
    let value = secret(&[], &[("value", KUBECONFIG)]);
    assert!(registration(&value, berlin()).is_ok(), "as Cluster API writes it");
}

#[test]
fn a_secret_that_breaks_keeps_what_it_said() {
    let rules = Rules::new(Export::All, Arc::default(), DomainName::parse("x").unwrap());
    let narrow = |secret: &Secret| {
        Narrow::of(rules.id_of(&secret.metadata, Scope::Namespaced).unwrap(), secret)
    };
    let (sender, told) = watch::channel(None);
    let mut secrets = Secrets::default();
    secrets.tell(&sender);
    assert!(told.borrow().is_none(), "nothing is known before the list is complete");
    let good = secret(&[], &[("kubeconfig", KUBECONFIG)]);
    for change in [Change::Init, Change::InitApply(narrow(&good)), Change::InitDone] {
        secrets.apply(change);
    }
    secrets.tell(&sender);
    assert_eq!(told.borrow().as_ref().unwrap().clusters.len(), 1);
    secrets.apply(Change::Apply(narrow(&secret(&[], &[]))));
    secrets.tell(&sender);
    {
        let now = told.borrow();
        let now = now.as_ref().unwrap();
        assert_eq!((now.clusters.len(), now.reports.len()), (1, 1));
    }
    // The task begins anew, with other identities.
    let rules = Rules::new(Export::All, Arc::default(), DomainName::parse("x").unwrap());
    let broken = secret(&[], &[]);
    let id = rules.id_of(&broken.metadata, Scope::Namespaced).unwrap();
    let mut secrets = Secrets::after(told.borrow().as_deref(), &rules);
    for change in [Change::Init, Change::InitApply(Narrow::of(id, &broken)), Change::InitDone] {
        secrets.apply(change);
    }
    secrets.tell(&sender);
    assert_eq!(told.borrow().as_ref().unwrap().clusters.len(), 1, "it still says what it said");
    for change in [Change::Init, Change::InitDone] {
        secrets.apply(change);
    }
    secrets.tell(&sender);
    assert_eq!(**told.borrow().as_ref().unwrap(), Registered::default(), "it is gone");
}
