//! Host names of load balancers, resolved in the background.
//!
//! *Owns*: the task that looks up the host names of one cluster, and the upstreams it asks.
//! *Guarantees*: at most [`CONCURRENCY`] look-ups at a time; a name is never asked for more often
//! than its TTL or the backoff allows; an answer that leads back into the federation's own zone
//! counts as a failure. *Does not*: hold up anything else: a cluster's services without host names
//! never wait for one.

mod lookup;
mod schedule;

use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::lookup::Lookup;
use self::schedule::{LookupAnswer, Schedule, Ticket};
use super::state::{Event, HostChange};
use crate::model::DomainName;

/// How load balancers' host names are resolved.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolverSettings {
    /// Recursive servers to ask, over UDP and TCP; where empty, those of the system
    /// (`/etc/resolv.conf`).
    pub upstreams: Vec<SocketAddr>,
}

/// Look-ups under way at once for one cluster. Names whose servers do not answer hold their places
/// for the time-out of some seconds; 32 of them leave room for some hundred refreshes a second.
const CONCURRENCY: usize = 32;

/// Resolves what `changes` ask for, and sends what comes of it to `answers`. Ends when either is
/// closed.
pub(super) async fn run(
    settings: ResolverSettings,
    apex: DomainName,
    mut changes: mpsc::UnboundedReceiver<HostChange>,
    answers: mpsc::Sender<Event>,
) {
    let mut lookup = Lookup::new(settings, apex);
    let mut schedule = Schedule::default();
    let mut under_way: JoinSet<(Ticket, LookupAnswer)> = JoinSet::new();
    loop {
        let now = Instant::now();
        while under_way.len() < CONCURRENCY
            && let Some(ticket) = schedule.take_due(now)
        {
            let answer = lookup.start(&ticket.hostname);
            under_way.spawn(async move { (ticket, answer.await) });
        }
        let wake = schedule.next_due().filter(|_| under_way.len() < CONCURRENCY);
        tokio::select! {
            change = changes.recv() => match change {
                Some(HostChange::Wanted(hostname)) => schedule.want(&hostname, Instant::now()),
                Some(HostChange::Unwanted(hostname)) => schedule.unwant(&hostname),
                None => return,
            },
            Some(done) = under_way.join_next() => {
                // A look-up neither panics nor is it aborted while this task lives.
                let Ok((ticket, answer)) = done else { continue };
                let Some(answer) = schedule.done(&ticket, answer, Instant::now()) else { continue };
                let hostname = (*ticket.hostname).into();
                if answers.send(Event::Host { hostname, answer }).await.is_err() {
                    return;
                }
            }
            () = sleep_until(wake) => {}
        }
    }
}

/// Waits until `at`, or for ever.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
