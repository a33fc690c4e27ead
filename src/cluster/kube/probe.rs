//! Asks the API server whether it is ready.

use std::sync::Arc;

use hyper::Request;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::board::Board;
use super::client::Connection;
use super::fault;
use crate::cluster::ApiSettings;
use crate::cluster::link::{Fault, ProbeOutcome};
use crate::health::check::{self, Deadline};

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
        let asked = async { Ok(connection.client.request_text(request).await) };
        let mut deadline = Deadline::after(settings.probe_timeout);
        let asked = deadline.limit("no answer from /readyz", asked).await;
        if let Some(outcome) = outcome(asked, &renew) {
            board.probed(outcome);
        }
    }
}

/// What follows from an answer, or from none; nothing where we had no processor to hear it in time.
fn outcome(
    asked: Result<Result<String, kube::Error>, check::Fault>,
    renew: &Notify,
) -> Option<ProbeOutcome> {
    let error = match asked {
        Ok(Ok(_)) => return Some(ProbeOutcome::Ok),
        Ok(Err(error)) => error,
        Err(check::Fault::Target(why)) => return Some(ProbeOutcome::Failed(why.into())),
        Err(check::Fault::Late(_) | check::Fault::Ours(_)) => return None,
    };
    Some(match fault::of(&error) {
        // It answers, and may well keep this page from us, or wait for fewer questions.
        Fault::Forbidden | Fault::Missing | Fault::Throttled => ProbeOutcome::Ok,
        Fault::Unauthorized => {
            renew.notify_one();
            ProbeOutcome::Failed(fault::describe(&error).into())
        }
        _ => ProbeOutcome::Failed(fault::describe(&error).into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_counts_only_where_we_could_hear_one() {
        let outcome = |fault| outcome(Err(fault), &Notify::new());
        let silent = outcome(check::Fault::Target("no answer".to_owned()));
        assert!(matches!(silent, Some(ProbeOutcome::Failed(why)) if &*why == "no answer"));
        assert!(outcome(check::Fault::Late("no answer".to_owned())).is_none());
    }
}
