//! Targets on loopback, each with a port of its own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use crate::health::check::{Probed, Prober, Report, Settings, Target, Timing};
use crate::model::{Check, CheckTiming};

/// Far longer than a good answer takes here, so that none is missed on a busy machine.
pub(super) const PATIENT: Duration = Duration::from_secs(20);

/// Soon over, where no answer comes however long one waits.
pub(super) const BRIEF: Duration = Duration::from_millis(200);

/// The target of a check in its text form, without port, at `address`.
pub(super) fn target(check: &str, address: SocketAddr, timeout: Duration) -> Target {
    let check: Check = check.parse().unwrap_or_else(|error| panic!("{error}"));
    let timing = Timing::default().with(CheckTiming { timeout: Some(timeout), ..check.timing });
    Target { kind: check.kind, address, timing }
}

/// How a check of `address` by a prober of its own goes.
pub(super) async fn probe(check: &str, address: SocketAddr, timeout: Duration) -> Report {
    Prober::new(&Settings::default()).probe(&target(check, address, timeout)).await
}

/// Why it failed.
pub(super) fn failure(report: Report) -> String {
    match report.outcome {
        Probed::Failed(why) => why.to_string(),
        other => panic!("not a failure of the target: {other:?}"),
    }
}

/// A port on which nobody listens.
pub(super) async fn closed() -> SocketAddr {
    listener().await.local_addr().expect("bound")
}

pub(super) async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a port")
}
