//! Asks the API server whether it is ready.

use std::sync::Arc;

use hyper::Request;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::board::Board;
use super::client::Connection;
use super::fault;
use crate::cluster::ApiSettings;
use crate::cluster::link::{Fault, ProbeOutcome};

/// Asks `/readyz` for ever; says so to `renew` where the credentials are refused.
pub(super) async fn run(
    connection: Connection,
    settings: ApiSettings,
    board: Arc<Board>,
    renew: Arc<Notify>,
) {
    let mut period = interval(settings.probe_period);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        // The request cannot fail to be built: its path is a constant.
        let Ok(request) = Request::get("/readyz").body(Vec::new()) else { return };
        let outcome =
            match timeout(settings.probe_timeout, connection.client.request_text(request)).await {
                Err(_) => ProbeOutcome::Failed(
                    format!("no answer from /readyz within {:?}", settings.probe_timeout).into(),
                ),
                Ok(Ok(_)) => ProbeOutcome::Ok,
                Ok(Err(error)) => match fault::of(&error) {
                    // It answers, and may well keep this page from us, or wait for fewer questions.
                    Fault::Forbidden | Fault::Missing | Fault::Throttled => ProbeOutcome::Ok,
                    Fault::Unauthorized => {
                        renew.notify_one();
                        ProbeOutcome::Failed(fault::describe(&error).into())
                    }
                    _ => ProbeOutcome::Failed(fault::describe(&error).into()),
                },
            };
        board.probed(outcome);
    }
}
