//! Links in the tracker's words.

use std::time::{Duration, Instant};

use super::*;
use crate::cluster::link::{Fault, Kind, Probe, WatchStatus};

fn watch(kind: Kind, state: WatchState) -> WatchStatus {
    WatchStatus { kind, state, since: Instant::now(), failures: 0 }
}

#[test]
fn one_watch_that_fails_makes_the_view_old_but_not_the_api_lost() {
    let failed =
        WatchState::Failed { fault: Fault::Forbidden, reason: "may not list nodes".into() };
    let link = Link {
        reach: Reach::Connected,
        probe: None,
        watches: vec![
            watch(Kind::Service, WatchState::Watching),
            watch(Kind::EndpointSlice, WatchState::Listing),
            watch(Kind::Node, failed),
        ],
        undecodable: 0,
    };
    let signals = signals(Reading::Read, &link);
    assert_eq!(signals.reach, Contact::Made);
    match signals.watch {
        Contact::Lost { reason, .. } => assert_eq!(&*reason, "Node: may not list nodes"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn probes_keep_their_count_and_beginning() {
    const PERIOD: Duration = Duration::from_secs(5);
    let start = Instant::now();
    let failed = || ProbeOutcome::Failed("timed out".into());
    let first = Probe::after(None, failed(), start);
    let second = Probe::after(Some(&first), failed(), start + PERIOD);
    let link = Link { probe: Some(second), ..Link::default() };
    let row = signals(Reading::Never, &link).probe.expect("probed");
    let expected = Row { outcome: Outcome::Failed("timed out".into()), times: 2, since: start };
    assert_eq!(row, expected);
}
