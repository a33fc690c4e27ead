//! Whole-server scenarios: two tests for each file of `tests/scenarios`, against the real binary,
//! each question over UDP and over TCP. One has its objects in files, as they are written there,
//! one in the API servers that tests have; against real ones they are played by `tests/envtest.rs`.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

use libtest_mimic::{Arguments, Failed, Trial};

use support::apiserver::ApiServer;
use support::files::Files;
use support::objects::Objects;
use support::player::play;
use support::scenario::Scenario;

fn main() {
    let mut trials = Vec::new();
    for (name, path) in Scenario::all() {
        let scenario = Scenario::load(&path).unwrap_or_else(|why| panic!("{name}: {why}"));
        if scenario.0.only_files.is_none() {
            let scenario = scenario.clone();
            trials.push(Trial::test(format!("{name}::objects"), move || {
                let clusters = scenario.0.clusters().map(|_| ApiServer::start()).collect();
                play(&scenario, Objects::new(&scenario.0, clusters)).map_err(Failed::from)
            }));
        }
        let trial = move || play(&scenario, Files).map_err(Failed::from);
        trials.push(Trial::test(name, trial));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
