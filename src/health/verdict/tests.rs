//! What beats what.

use std::net::IpAddr;

use super::*;
use crate::model::{
    AddressList, Endpoints, Internal, Label, MinReady, ServiceOptions, ShardParts, Until,
};

const NOW: u64 = 1000;

fn shard(ready: u32, options: ServiceOptions) -> Shard {
    let parts = ShardParts {
        addresses: [IpAddr::from([192, 0, 2, 1])][..].into(),
        endpoints: Endpoints { ready, total: 4 },
        options: Some(Box::new(options)),
        ..ShardParts::default()
    };
    parts.into()
}

fn drained(drain: Drain) -> ServiceOptions {
    ServiceOptions { drain, ..ServiceOptions::default() }
}

fn min_ready(needed: MinReady) -> ServiceOptions {
    ServiceOptions { min_ready: Some(needed), ..ServiceOptions::default() }
}

fn force(to: Forced) -> Arc<Force> {
    let (author, reason) = ("alice".into(), "a test".into());
    Arc::new(Force { to, author, reason, until: Until::At(NOW + 50) })
}

fn failing() -> Opinion {
    failed(false)
}

fn failed(held: bool) -> Opinion {
    let failure = Failure { since: 1, why: "refused".into(), seen_by: Arc::default(), held };
    Opinion { check: Checked::Failing(Arc::new(failure)), ..Opinion::default() }
}

fn loaded(load: Load) -> Opinion {
    Opinion { load: Some(load), ..Opinion::default() }
}

fn evidence(shard: &Shard) -> Evidence<'_> {
    Evidence { shard, opinion: None, phase: None, force: None }
}

fn verdict(evidence: Evidence<'_>) -> Verdict {
    evidence.assess(&Settings::default(), NOW).verdict
}

#[test]
fn thresholds() {
    let judged = |ready, options| judge(&shard(ready, options), &Settings::default());
    let not_ready = |ready, needed| Err(Exclusion::NotReady { ready, needed });
    assert_eq!(judged(1, ServiceOptions::default()), Ok(()));
    assert_eq!(judged(0, ServiceOptions::default()), not_ready(0, 1));
    assert_eq!(judged(0, min_ready(MinReady::Count(0))), Ok(()));
    assert_eq!(judged(1, min_ready(MinReady::Count(2))), not_ready(1, 2));
    assert_eq!(judged(1, min_ready(MinReady::Percent(50))), not_ready(1, 2));
    assert_eq!(judged(2, min_ready(MinReady::Percent(50))), Ok(()));
    assert_eq!(judged(9, drained(Drain::AtOnce)), Err(Exclusion::Drained));
    assert_eq!(judged(9, drained(Drain::Planned)), Err(Exclusion::Drained));
    assert_eq!(judge(&Shard::default(), &Settings::default()), Err(Exclusion::NoAddress));
}

/// Inside its cluster a shard needs no outer address, but an endpoint always.
#[test]
fn inside_the_cluster() {
    let settings = Settings { min_ready: MinReady::Count(0), ..Settings::default() };
    let reached = |ready, options, addresses: &[[u8; 4]]| {
        let addresses = addresses.iter().map(|a| IpAddr::from(*a)).collect();
        let internal = Some(Box::new(Internal::ClusterIp(addresses)));
        let parts = shard(ready, options).parts();
        ShardParts { addresses: AddressList::default(), internal, ..parts }.into()
    };
    let judged = |shard: &Shard| evidence(shard).judge_internal(&settings, NOW);
    let none = ServiceOptions::default;
    let ip: &[[u8; 4]] = &[[10, 96, 0, 1]];
    assert_eq!(judged(&reached(1, none(), ip)), Ok(()));
    let not_ready = |ready, needed| Err(Exclusion::NotReady { ready, needed });
    assert_eq!(judged(&reached(0, none(), ip)), not_ready(0, 1));
    assert_eq!(judged(&reached(1, none(), &[])), Err(Exclusion::NoAddress));
    assert_eq!(judged(&shard(1, none())), Err(Exclusion::NoAddress));
    assert_eq!(judged(&reached(1, drained(Drain::AtOnce), ip)), Err(Exclusion::Drained));
    assert_eq!(judged(&reached(1, min_ready(MinReady::Count(2)), ip)), not_ready(1, 2));
    // What is seen of the load balancer does not matter; what operators say does.
    let (up, down, drain) = (force(Forced::Up), force(Forced::Down), force(Forced::Drained));
    let (one, none_ready) = (reached(1, none(), ip), reached(0, none(), ip));
    let (failing, leaving) = (failing(), Phase { leaving: Some(NOW + 1), load: None });
    let seen = Evidence { opinion: Some(&failing), ..evidence(&one) };
    assert_eq!(seen.judge_internal(&settings, NOW), Ok(()));
    let forced = |shard, force, phase| {
        Evidence { force: Some(force), phase, ..evidence(shard) }.judge_internal(&settings, NOW)
    };
    assert_eq!(forced(&none_ready, &up, None), Ok(()));
    assert_eq!(forced(&one, &down, None), Err(Exclusion::Forced(down.clone())));
    assert_eq!(forced(&one, &drain, None), Err(Exclusion::Forced(drain.clone())));
    assert_eq!(forced(&one, &drain, Some(&leaving)), Ok(()));
}

#[test]
fn overrides_beat_every_signal_but_give_no_address() {
    let unready = shard(0, drained(Drain::AtOnce));
    let (up, down) = (force(Forced::Up), force(Forced::Down));
    let failing = failing();
    let all_against = Evidence { opinion: Some(&failing), force: Some(&up), ..evidence(&unready) };
    assert_eq!(verdict(all_against), Verdict::Forced(up.clone()));
    assert_eq!(all_against.assess(&Settings::default(), NOW).until, Some(NOW + 50));
    let good = shard(4, ServiceOptions::default());
    let forced = |force| verdict(Evidence { force: Some(force), ..evidence(&good) });
    assert_eq!(forced(&down), Verdict::Out(Exclusion::Forced(down.clone())));
    let homeless = ShardParts { addresses: AddressList::default(), ..good.parts() }.into();
    let homeless = Evidence { force: Some(&up), ..evidence(&homeless) };
    assert_eq!(verdict(homeless), Verdict::Out(Exclusion::NoAddress));
}

#[test]
fn drains_let_a_shard_be_served_until_they_are_over() {
    let planned = shard(4, drained(Drain::Planned));
    let phase = Phase { leaving: Some(NOW + 10), load: None };
    let leaving = Evidence { phase: Some(&phase), ..evidence(&planned) };
    let at = |now| leaving.assess(&Settings::default(), now);
    assert_eq!(
        at(NOW),
        Assessment { verdict: Verdict::Served, unsettled: true, until: Some(NOW + 10) }
    );
    let over =
        Assessment { verdict: Verdict::Out(Exclusion::Drained), unsettled: false, until: None };
    assert_eq!(at(NOW + 10), over);
    assert_eq!(
        verdict(evidence(&planned)),
        Verdict::Out(Exclusion::Drained),
        "none was seen begin"
    );
    // So does one by override; other reasons count meanwhile.
    let drain = force(Forced::Drained);
    let good = shard(4, ServiceOptions::default());
    let forced = |shard, phase| verdict(Evidence { force: Some(&drain), phase, ..evidence(shard) });
    assert_eq!(forced(&good, Some(&phase)), Verdict::Served);
    assert_eq!(forced(&good, None), Verdict::Out(Exclusion::Forced(drain.clone())));
    let unready = shard(0, ServiceOptions::default());
    let why = Exclusion::NotReady { ready: 0, needed: 1 };
    assert_eq!(forced(&unready, Some(&phase)), Verdict::Out(why));
}

#[test]
fn failing_checks_exclude_and_loads_make_spare() {
    let good = shard(4, ServiceOptions::default());
    let by = |opinion: &Opinion| verdict(Evidence { opinion: Some(opinion), ..evidence(&good) });
    assert!(matches!(by(&failing()), Verdict::Out(Exclusion::ChecksFail(_))));
    assert!(matches!(by(&failed(true)), Verdict::Spare(Exclusion::ChecksFail(_))), "held back");
    assert_eq!(by(&loaded(Load::Within(0.8))), Verdict::Served);
    assert_eq!(by(&loaded(Load::Over(0.95))), Verdict::Spare(Exclusion::Overloaded(0.95)));
    let phase = Phase { leaving: None, load: Some(Load::Over(1.0)) };
    let told = verdict(Evidence { phase: Some(&phase), ..evidence(&good) });
    assert_eq!(told, Verdict::Spare(Exclusion::Overloaded(1.0)));
    let doubtful = Opinion { unsettled: true, ..Opinion::default() };
    let doubtful = Evidence { opinion: Some(&doubtful), ..evidence(&good) };
    assert!(doubtful.assess(&Settings::default(), NOW).unsettled);
}

#[test]
fn clusters_by_state_drain_and_override() {
    let member = |drain| Member { drain, ..Member::named(Label::parse("a").expect("a label")) };
    let judged = |drain, state, leaving, force: Option<&Arc<Force>>| {
        let member = member(drain);
        let Assessment { verdict, unsettled, until } =
            ClusterEvidence { member: &member, state, leaving, force }.assess(NOW);
        (verdict, unsettled, until)
    };
    use ClusterState::{Down, Stale, Up};
    let (up, down, drain) = (force(Forced::Up), force(Forced::Down), force(Forced::Drained));
    let out = |force: &Arc<Force>| Err(Exclusion::ClusterForced(force.clone()));
    let (soon, end) = (Some(NOW + 9), Some(NOW + 50));
    assert_eq!(judged(Drain::No, Up, None, None), (Ok(()), false, None));
    assert_eq!(judged(Drain::No, Stale, None, None), (Ok(()), true, None));
    let lost = (Err(Exclusion::ClusterDown), true, None);
    assert_eq!(judged(Drain::No, Down, None, None), lost);
    let gone = (Err(Exclusion::ClusterDrained), false, None);
    assert_eq!(judged(Drain::AtOnce, Up, None, None), gone);
    assert_eq!(judged(Drain::Planned, Up, Some(NOW), None), gone);
    assert_eq!(judged(Drain::Planned, Up, soon, None), (Ok(()), true, soon));
    assert_eq!(judged(Drain::AtOnce, Down, None, Some(&up)), (Ok(()), false, end));
    assert_eq!(judged(Drain::No, Up, None, Some(&down)), (out(&down), false, end));
    assert_eq!(judged(Drain::No, Up, None, Some(&drain)), (out(&drain), false, end));
    assert_eq!(judged(Drain::No, Up, soon, Some(&drain)), (Ok(()), true, soon));
}
