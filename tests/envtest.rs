//! The scenarios and the life of a cluster against real `etcd` and `kube-apiserver`, several pairs
//! at once as several clusters, by the convention of envtest: `KUBEBUILDER_ASSETS` names the
//! directory of both programs. Without it there is nothing to test against, which is said.
//!
//! API servers start slowly, so that as many as the widest scenario needs are started once; one
//! test after another has them, and finds them empty.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

#[path = "envtest/life.rs"]
mod life;
#[path = "envtest/pair.rs"]
mod pair;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use pair::Pair;
use support::objects::Objects;
use support::player::play;
use support::scenario::Scenario;

/// Where the programs are.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The API servers, once they are needed.
#[derive(Default)]
enum Pool {
    /// They have not been.
    #[default]
    Unused,
    /// They did not become ready, which one test has told.
    Failed,
    Running(Vec<Pair>),
}

impl Pool {
    /// Some that run and are empty.
    fn lend(&mut self, assets: &Path, all: usize, count: usize) -> &mut [Pair] {
        if matches!(self, Self::Unused) {
            *self = Self::Failed;
            let runtime = Arc::new(Runtime::new().expect("a runtime"));
            // Both versions that the MCS-API has, by turns.
            let versions = ["v1beta1", "v1alpha1"].into_iter().cycle();
            let start = |version| Pair::start(assets, runtime.clone(), version);
            let mut pairs: Vec<Pair> = versions.take(all).map(start).collect();
            pairs.iter_mut().for_each(Pair::ready);
            *self = Self::Running(pairs);
        }
        let Self::Running(pairs) = self else { panic!("the API servers did not start") };
        let lent = &mut pairs[..count];
        lent.iter_mut().for_each(Pair::clear);
        lent
    }
}

/// What is done with API servers.
type Run = Box<dyn FnOnce(&mut [Pair]) -> Result<(), String> + Send>;

/// A test and how many API servers it needs.
struct Test {
    name: String,
    clusters: usize,
    /// Why it is not run.
    skipped: Option<String>,
    run: Run,
}

fn tests() -> Vec<Test> {
    let scenarios = Scenario::all().into_iter().map(|(name, path)| {
        let scenario = Scenario::load(&path).unwrap_or_else(|why| panic!("{name}: {why}"));
        Test {
            name: format!("scenario::{name}"),
            clusters: scenario.0.clusters().count(),
            skipped: scenario.0.only_files.clone(),
            run: Box::new(move |pairs| {
                play(&scenario, Objects::new(&scenario.0, pairs.iter_mut().collect()))
            }),
        }
    });
    let others = life::TESTS.iter().map(|(name, run)| Test {
        name: (*name).to_owned(),
        clusters: 2,
        skipped: None,
        run: Box::new(move |pairs| {
            run(pairs);
            Ok(())
        }),
    });
    others.chain(scenarios).collect()
}

fn main() {
    let assets = std::env::var_os(ASSETS).map(PathBuf::from);
    if assets.is_none() {
        println!("skipped: {ASSETS} is not set, so there is no real kube-apiserver");
    }
    let mut tests = tests();
    let all = tests.iter().map(|test| test.clusters).max().unwrap_or_default();
    for (test, why) in tests.iter().filter_map(|test| test.skipped.as_ref().map(|why| (test, why)))
    {
        println!("skipped: {}: {why}", test.name);
    }
    tests.retain(|test| test.skipped.is_none());
    let pool = Arc::new(Mutex::new(Pool::default()));
    let trial = |Test { name, clusters, run, .. }: Test| {
        let (assets, pool) = (assets.clone(), pool.clone());
        let absent = assets.is_none();
        let trial = Trial::test(name, move || {
            let assets = assets.ok_or_else(|| Failed::from(format!("{ASSETS} is not set")))?;
            // What a failed test left behind is cleared away.
            let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
            run(pool.lend(&assets, all, clusters)).map_err(Failed::from)
        });
        trial.with_ignored_flag(absent)
    };
    let trials = tests.into_iter().map(trial).collect();
    // The pool is for one test at a time.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let outcome = libtest_mimic::run(&arguments, trials);
    // Ends the programs, which `exit` would not.
    drop(pool);
    outcome.exit();
}
