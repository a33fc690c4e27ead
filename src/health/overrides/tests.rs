//! What a file says, and what it does not.

use super::*;
use crate::model::{Forced, Until};

const FILE: &str = "\
# Comments are allowed.
- {cluster: eks-eu, state: down, author: alice, reason: migration, until: 2026-12-01T00:00:00Z}
- cluster: \"eks-*\"
  service: shop/*
  state: up
  author: bob
  reason: \"the probes are wrong\"
  until: never
- {service: Shop/web, state: drained, author: carol, reason: a new release, until: never}
";

fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

fn key(namespace: &str, name: &str) -> ServiceKey {
    ServiceKey::new(&label(namespace), &label(name))
}

fn overrides(text: &str) -> Overrides {
    Overrides { rules: parse(text).expect("valid"), fault: None }
}

fn forced(force: Option<&Arc<Force>>) -> Option<Forced> {
    force.map(|force| force.to)
}

const END: u64 = 1_796_083_200;
const END_TEXT: &str = "2026-12-01T00:00:00Z";

#[test]
fn the_first_rule_that_matches_and_has_not_ended_counts() {
    let overrides = overrides(FILE);
    let (eu, us, gce) = (label("eks-eu"), label("eks-us"), label("gce"));
    assert_eq!(forced(overrides.of_cluster(&eu, END - 1)), Some(Forced::Down));
    assert_eq!(overrides.of_cluster(&eu, END), None, "it has ended");
    assert_eq!(overrides.of_cluster(&us, 0), None, "rules about shards are none about clusters");
    let web = key("shop", "web");
    assert_eq!(forced(overrides.of_shard(&web, &us, 0)), Some(Forced::Up));
    assert_eq!(forced(overrides.of_shard(&web, &gce, 0)), Some(Forced::Drained));
    assert_eq!(overrides.of_shard(&key("other", "web"), &us, 0), None);
    assert_eq!(overrides.deadline(0), Some(END));
    assert_eq!(overrides.deadline(END), None);
    assert_eq!(overrides.rules[1].line, 3);
    assert_eq!(overrides.rules[1].force.until, Until::Never);
}

#[test]
fn an_annotation_does_not_undo_what_the_file_does_to_the_cluster() {
    let rule = |state: &str| {
        overrides(&format!(
            "- {{cluster: eu, state: {state}, author: a, reason: b, until: {END_TEXT}}}"
        ))
    };
    let own =
        |text: &str| Arc::new(format!("{text}; by=c; reason=d; until=never").parse().unwrap());
    let (up, down): (Arc<Force>, Arc<Force>) = (own("up"), own("down"));
    let web = key("shop", "web");
    let counts = |rules: &Overrides, own, cluster: &str, now| {
        forced(rules.in_force(&web, &label(cluster), Some(own), now))
    };
    for state in ["down", "drained"] {
        let rules = rule(state);
        assert_eq!(counts(&rules, &up, "eu", END - 1), None);
        assert_eq!(counts(&rules, &up, "us", END - 1), Some(Forced::Up));
        assert_eq!(counts(&rules, &up, "eu", END), Some(Forced::Up), "the rule has ended");
        assert_eq!(counts(&rules, &down, "eu", 0), Some(Forced::Down));
    }
    assert_eq!(counts(&rule("up"), &up, "eu", 0), Some(Forced::Up));
    // The file itself may except a shard.
    let both = "- {service: shop/web, state: up, author: a, reason: b, until: never}
- {cluster: eu, state: down, author: a, reason: b, until: never}
";
    assert_eq!(counts(&overrides(both), &down, "eu", 0), Some(Forced::Up));
}

#[test]
fn nothing_is_a_valid_file() {
    for text in ["", "# nothing\n", "[]", "---\n"] {
        assert_eq!(parse(text), Ok(Vec::new()), "{text:?}");
    }
}

#[test]
fn every_fault_is_told_with_its_place() {
    let text = "\
- {cluster: eks_eu, state: off, author: alice, reason: x, until: never}
- {state: up, author: \"\", reason: x, until: tomorrow}
- {service: shop, state: up, author: a, reason: x, until: never}
";
    let faults = parse(text).expect_err("faults");
    let places: Vec<_> = faults.iter().map(|fault| (fault.line, fault.column)).collect();
    assert_eq!(places, [(1, 13), (1, 28), (2, 3), (2, 23), (2, 45), (3, 13)], "{faults:#?}");
    for unknown in
        ["- {cluster: a, state: up, author: a, reason: b, until: never, who: c}", "- a: ["]
    {
        let faults = parse(&format!("\n{unknown}\n")).expect_err("a fault");
        assert_eq!(faults[0].line, 2, "{faults:?}");
    }
    assert!(parse("- {cluster: a, state: up, author: a, reason: b}").is_err(), "without an end");
    let with = |reason: &str| {
        let entry =
            format!("- {{cluster: a, state: up, author: a, reason: \"{reason}\", until: never}}");
        parse(&entry).map_err(|faults| faults[0].reason.clone())
    };
    assert_eq!(
        with("a\\nb").expect_err("two lines"),
        "'reason' holds a control character: write it in one line"
    );
    assert_eq!(with(&"b".repeat(257)).expect_err("too long"), "'reason' is longer than 256 octets");
    assert!(with(&"b".repeat(256)).is_ok());
}

#[test]
fn changes_between_files_are_found_whatever_moves() {
    let rule = |name: &str| {
        format!("- {{service: n/{name}, state: up, author: a, reason: b, until: never}}\n")
    };
    let file = |names: &[&str]| {
        let mut text: String = names.iter().map(|name| rule(name)).collect();
        text.insert_str(0, &"#\n".repeat(names.len()));
        overrides(&text)
    };
    let changed = |old: &[&str], new: &[&str]| {
        let (old, new) = (file(old), file(new));
        let names = old.changed(&new).into_iter().filter_map(|rule| rule.service.clone());
        names.map(|service| service.name.to_string()).collect::<Vec<_>>()
    };
    assert!(changed(&["a", "b"], &["a", "b"]).is_empty());
    assert_eq!(changed(&["a", "c"], &["a", "b", "c"]), ["b"]);
    assert_eq!(changed(&["a", "b", "c"], &["a", "c"]), ["b"]);
    assert_eq!(changed(&["a", "b"], &["b", "a"]), ["a", "b", "b", "a"], "the order counts");
    assert_eq!(changed(&["a", "a"], &["a"]), ["a"]);
    assert_eq!(changed(&[], &["a"]), ["a"]);
}

#[test]
fn clusters_that_there_are_not_are_told() {
    let member = Member::named(label("eks-eu"));
    let text = FILE.replace("\"eks-*\"", "gke-*");
    let overrides = overrides(&text);
    let strays: Vec<_> = overrides.strays(std::slice::from_ref(&member)).collect();
    assert_eq!(strays.len(), 1, "{strays:?}");
    assert_eq!(&*strays[0].subject, "override in line 3");
    assert!(strays[0].reason.contains("'gke-*'"), "{:?}", strays[0]);
}

#[test]
fn a_broken_file_leaves_the_rules_before_it_in_force() {
    let directory = tempfile::tempdir().expect("room");
    let path = directory.path().join("overrides.yaml");
    std::fs::write(&path, FILE).expect("writable");
    let mut loader = watch::Loader::new(Some(path.clone()));
    assert_eq!(loader.current().rules.len(), 3);
    assert!(!loader.refresh(), "nothing new");
    std::fs::write(&path, "- {cluster: a, state: perhaps}\n").expect("writable");
    assert!(!loader.refresh(), "it may be half written");
    assert!(loader.refresh() && !loader.refresh());
    let fault = loader.current().fault.as_ref().expect("a fault");
    assert!(fault.reason.contains("overrides.yaml:1:"), "{fault:?}");
    assert_eq!(loader.current().rules.len(), 3);
    std::fs::remove_file(&path).expect("removable");
    assert!(!loader.refresh() && loader.refresh(), "gone is broken, not empty");
    assert_eq!(loader.current().rules.len(), 3);
    std::fs::write(&path, "[]").expect("writable");
    assert!(!loader.refresh() && loader.refresh());
    assert_eq!(**loader.current(), Overrides::default());
    loader.configure(None);
    assert!(!loader.refresh());
}
