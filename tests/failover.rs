//! How fast failures are answered, and what is no failure is not: three instances that vote with
//! each other, in network namespaces whose links are cut.
//!
//! It takes root, `ip` of iproute2 and some minutes, as settings are the default ones. So it runs
//! only where it is asked for: `MERIDIAN_FAILOVER` is how many times each failure is tried.
//!
//! | part | role |
//! |---|---|
//! | `network` | namespaces and links |
//! | `player` | what runs in them: API servers and load balancers; instances, each with a resolver |
//! | `federation` | four clusters and three instances |

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

#[path = "failover/federation.rs"]
mod federation;
#[path = "failover/network.rs"]
mod network;
#[path = "failover/player.rs"]
mod player;

use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

use federation::{ALL, CLUSTERS, Federation, INSTANCES};
use network::Part;
use support::kubernetes::{federated, slice};

/// How many times each failure is tried.
const ROUNDS: &str = "MERIDIAN_FAILOVER";

/// Before each failure: longer than `health.damping.minUp`, so that what came back may fall again.
const REST: Duration = Duration::from_secs(11);

/// The failures of one kind are spread over this time: what is done again and again at default
/// settings is done every 5 s.
const PERIOD: Duration = Duration::from_secs(5);

/// How long nothing may change where nothing should: the grace of 30 s and what it takes to see that
/// an API is lost, twice.
const HOLD: Duration = Duration::from_secs(90);

/// How long an answer that has become right must stay so.
const STAY: Duration = Duration::from_secs(5);

/// The cluster that fails alone: no instance runs there.
const ALONE: usize = 2;

/// The instance that is cut off.
const CUT_OFF: usize = 3;

/// Something that fails.
struct Failure {
    title: &'static str,
    /// What is not served then.
    lost: &'static [usize],
    /// Instances that are cut off by it: they change nothing.
    outside: &'static [usize],
    strike: fn(&Federation),
    mend: fn(&Federation),
}

/// What was measured: from the failure, and from its end, to the right answer of each instance.
struct Times {
    away: Vec<Duration>,
    back: Vec<Duration>,
}

const POD: Failure = Failure {
    title: "pod: the last ready endpoint is not ready any more",
    lost: &[ALONE],
    outside: &[],
    strike: |all| all.put(ALONE, "endpointslices", &endpoints(false)),
    mend: |all| all.put(ALONE, "endpointslices", &endpoints(true)),
};

const REFUSAL: Failure = Failure {
    title: "load balancer: refuses connections",
    lost: &[ALONE],
    outside: &[],
    strike: |all| all.balancer(ALONE, "down"),
    mend: |all| all.balancer(ALONE, "up"),
};

const BLACK_HOLE: Failure = Failure {
    title: "load balancer: a black hole",
    lost: &[ALONE],
    outside: &[],
    strike: |all| all.network.cut(Part::Balancer(ALONE)),
    mend: |all| all.network.mend(Part::Balancer(ALONE)),
};

const ZONE: Failure = Failure {
    title: "availability zone: a cluster is cut off",
    lost: &[ALONE],
    outside: &[],
    strike: |all| all.network.cut(Part::Cluster(ALONE)),
    mend: |all| all.network.mend(Part::Cluster(ALONE)),
};

const REGION: Failure = Failure {
    title: "region: two clusters and an instance are cut off",
    lost: &[1, ALONE],
    outside: &[1],
    strike: |all| [1, ALONE].iter().for_each(|c| all.network.cut(Part::Cluster(*c))),
    mend: |all| [1, ALONE].iter().for_each(|c| all.network.mend(Part::Cluster(*c))),
};

fn endpoints(ready: bool) -> Value {
    let mut slice = slice("web", federated());
    slice["endpoints"][0]["conditions"]["ready"] = ready.into();
    slice
}

impl Failure {
    /// Lets it happen, over and over.
    fn measure(&self, all: &Federation, rounds: u32) -> Times {
        let mut times = Times { away: Vec::new(), back: Vec::new() };
        let left: Vec<usize> = ALL.into_iter().filter(|c| !self.lost.contains(c)).collect();
        let inside: Vec<usize> =
            INSTANCES.into_iter().filter(|c| !self.outside.contains(c)).collect();
        for round in 0..rounds {
            all.settle();
            thread::sleep(REST + PERIOD * round / rounds);
            let struck = Instant::now();
            (self.strike)(all);
            times.away.extend(all.until(&inside, &left, struck));
            let right = Instant::now();
            thread::sleep(STAY);
            all.kept(&inside, &left, right);
            all.kept(self.outside, &ALL, struck);
            let mended = Instant::now();
            (self.mend)(all);
            times.back.extend(all.until(&INSTANCES, &ALL, mended));
        }
        times
    }
}

impl Times {
    /// The median and the worst, in seconds.
    fn show(times: &[Duration]) -> String {
        let mut sorted = times.to_vec();
        sorted.sort();
        let median = sorted[sorted.len() / 2];
        let worst = sorted[sorted.len() - 1];
        format!("{}, {}", seconds(median), seconds(worst))
    }
}

/// As people write it: tenths of a second, or hundredths of one that is short.
fn seconds(time: Duration) -> String {
    let digits = if time < Duration::from_secs(1) { 2 } else { 1 };
    format!("{:.digits$} s", time.as_secs_f64())
}

/// Whether an instance finds a cluster stale.
fn is_stale(all: &Federation, instance: usize, cluster: usize) -> bool {
    let state = all.state(instance);
    let clusters = state["clusters"].as_array().cloned().unwrap_or_default();
    clusters.iter().any(|one| one["name"] == CLUSTERS[cluster].0 && one["state"] == "stale")
}

/// An API server alone is lost: it is noticed, and nothing changes.
fn api_only(all: &Federation) {
    all.settle();
    let struck = Instant::now();
    all.network.cut(Part::Api(ALONE));
    thread::sleep(HOLD);
    all.kept(&INSTANCES, &ALL, struck);
    for instance in INSTANCES {
        if !is_stale(all, instance, ALONE) {
            all.fail("a cluster without its API server is not stale");
        }
    }
    all.network.mend(Part::Api(ALONE));
    all.settle();
    all.kept(&INSTANCES, &ALL, struck);
}

/// An instance sees nothing any more, its own cluster neither: it decides nothing, and the others
/// miss nothing.
fn checker_only(all: &Federation) {
    all.settle();
    let struck = Instant::now();
    all.network.cut(Part::Instance(CUT_OFF));
    thread::sleep(HOLD);
    all.kept(&INSTANCES, &ALL, struck);
    for instance in INSTANCES {
        let mode = if instance == CUT_OFF { "frozen" } else { "deciding" };
        let found = all.state(instance)["checks"]["mode"].clone();
        if found != mode {
            all.fail(&format!("instance {instance} is {found} while {CUT_OFF} is cut off"));
        }
    }
    all.network.mend(Part::Instance(CUT_OFF));
    all.settle();
    all.kept(&INSTANCES, &ALL, struck);
}

/// A federation by these settings through all these failures; the lines of the table.
fn table(mode: &str, checks: &str, failures: &[Failure], rounds: u32) -> String {
    let all = Federation::start(mode, checks);
    let mut lines = String::new();
    for failure in failures {
        let times = failure.measure(&all, rounds);
        let (away, back) = (Times::show(&times.away), Times::show(&times.back));
        let line = format!("| {} | `{mode}` | {away} | {back} |\n", failure.title);
        eprint!("{line}");
        lines += &line;
    }
    let same = |title: &str| {
        let line = format!("| {title} | `{mode}` | nothing changes in {} s | |\n", HOLD.as_secs());
        eprint!("{line}");
        line
    };
    api_only(&all);
    lines += &same("API server alone is cut off, its services are well");
    checker_only(&all);
    lines + &same("one instance alone is cut off, its own cluster included")
}

fn failures_are_answered(rounds: u32) {
    let always = || {
        table("always", "  checks: {mode: always}\n", &[REFUSAL, BLACK_HOLE, ZONE, REGION], rounds)
    };
    let suspect = || table("suspect", "", &[POD, ZONE, REGION], rounds);
    // Each in a network of its own; at once, as most of the time is spent waiting.
    let lines = thread::scope(|scope| {
        let both = [scope.spawn(suspect), scope.spawn(always)];
        both.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    println!(
        "\n| failure | `health.checks.mode` | right after (median, worst) | back after (median, worst) |\n\
         |---|---|---|---|\n{}",
        lines.concat()
    );
}

/// How many rounds are asked for; `None` where none are.
fn rounds() -> Result<Option<u32>, Failed> {
    let Ok(asked) = std::env::var(ROUNDS) else { return Ok(None) };
    let rounds = asked.parse().ok().filter(|rounds| *rounds > 0);
    rounds.map(Some).ok_or_else(|| format!("{ROUNDS} is no count of rounds: '{asked}'").into())
}

fn main() {
    if player::play() {
        return;
    }
    let trial = Trial::test("failures_are_answered", || {
        match rounds()?.map(|rounds| (rounds, network::permitted())) {
            None => println!("skipped: {ROUNDS} does not ask for it"),
            Some((_, Err(why))) => println!("skipped: no network namespaces here: {why}"),
            Some((rounds, Ok(()))) => failures_are_answered(rounds),
        }
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit();
}
