//! Checks of the addresses behind shards: the only part of this module that does I/O.
//!
//! *Owns*: what a check asks and what a good answer is, one file a protocol; how many checks run
//! at a time; which targets a shard has ([`targets`]). *Guarantees*: a check ends by its time-out,
//! holds one socket and a bounded part of the reply, follows no redirect, and leaves nothing
//! behind: no task, no connection in TIME-WAIT. What is our own fault, such as running out of
//! sockets, is never said of a target ([`Probed::Unable`]). *Does not*: decide when a target is
//! checked, or what follows from it.
//!
//! Why a check is needed at all: an API server that cannot be reached says nothing of the services
//! behind it, and one that can be says nothing of the way to them.

mod connection;
mod deadline;
mod dns;
mod grpc;
mod http;
mod sessions;
mod settings;
mod tcp;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::model::{CheckKind, Member, Shard, is_metadata_service, one_line};
use connection::Way;
pub use deadline::{Deadline, Fault};
use sessions::Sessions;
pub use settings::{Settings, Timing};

/// One thing to check, however many shards have it in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// What is asked.
    pub kind: Arc<CheckKind>,
    /// Where.
    pub address: SocketAddr,
    /// When, and what its thresholds are.
    pub timing: Timing,
}

impl Target {
    /// How long the first checks of many targets that come at once may take. By then something is
    /// to be known of each, and the others come again meanwhile. Over TLS the first is dearer than
    /// those that take up its session: 30,000 every 10 s are then still within one core.
    #[must_use]
    pub fn first_within(&self) -> Duration {
        self.timing.interval * if self.kind.is_over_tls() { 3 } else { 1 }
    }
}

/// How a check went.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whether the target answered as it should.
    pub outcome: Probed,
    /// What it said of its load in `X-Load`, 0 to 1: of a passed HTTP check only.
    pub load: Option<f64>,
}

/// What a check found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// A good answer.
    Passed,
    /// None, or another one; and why, for people, in a line of some 200 letters at most.
    Failed(Arc<str>),
    /// Nothing, by a fault of ours: no free socket, no route, no trusted authority. It says
    /// nothing of the target.
    Unable(Arc<str>),
    /// Nothing: an answer may have come, but no processor was free to read it in time. The next
    /// check may fare better.
    Late(Arc<str>),
}

/// As many addresses of a shard are checked: load balancers have a few, and all shards have the
/// checks at a time in common. A shard fails where all that are checked do.
pub const MOST_TARGETS: usize = 16;

/// How much is told of a failure, letters. Targets have a say in it: by the message of a gRPC
/// status, by the names in a certificate. It goes into ballots, logs and Events.
const MOST_TOLD: usize = 200;

fn told(why: &str) -> Arc<str> {
    one_line(why, MOST_TOLD).into()
}

/// The targets of a shard of the cluster `member`: each of its addresses, or the one that its
/// check names; the first [`MOST_TARGETS`] in the order of addresses. None where it is not checked
/// by its own or its cluster's wish, has no port to check, or only addresses of metadata services.
/// Whether the shard is served does not matter here.
#[must_use]
pub fn targets(shard: &Shard, settings: &Settings, member: &Member) -> Vec<Target> {
    let Some((check, timing)) = settings.check_of(shard, member) else { return Vec::new() };
    let port = match (check.port, &*check.kind) {
        (Some(port), _) => port.get(),
        (None, CheckKind::Dns(_)) => dns::PORT,
        (None, _) => match shard.ports.tcp() {
            Some(port) => port,
            None => return Vec::new(),
        },
    };
    let addresses = check.address.as_ref().map_or(&*shard.addresses, std::slice::from_ref);
    let target =
        |ip| Target { kind: check.kind.clone(), address: SocketAddr::new(ip, port), timing };
    // Also where `allowNets` lets such an address be published.
    let asked = addresses.iter().copied().filter(|address| !is_metadata_service(*address));
    asked.take(MOST_TARGETS).map(target).collect()
}

/// What a check leaves behind for the next one of the same target: nothing but a TLS session, and
/// that only of what is asked over TLS.
#[derive(Debug, Default)]
pub struct Memory(Option<Sessions>);

impl Memory {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Notes that a check begins.
    fn begin(&mut self) {
        self.0.iter_mut().for_each(Sessions::begin);
    }

    /// Notes that it has not passed.
    fn failed(&mut self) {
        self.0.iter_mut().for_each(|sessions| sessions.failed(Instant::now()));
    }

    /// The sessions of the target called `name` at `address`, and of no other.
    fn sessions(&mut self, name: &ServerName<'static>, address: SocketAddr) -> &mut Sessions {
        let fresh = || Sessions::new(name.clone(), address);
        let sessions = self.0.take().filter(|sessions| sessions.are_of(name, address));
        self.0.insert(sessions.unwrap_or_else(fresh))
    }
}

/// Performs checks, a bounded number at a time.
#[derive(Debug)]
pub struct Prober {
    permits: Semaphore,
    tls: tls::Configs,
}

impl Prober {
    /// A prober by the limits and with the trusted authorities of `settings`.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            permits: Semaphore::new(settings.concurrency.get()),
            tls: tls::Configs::new(settings.authorities.clone()),
        }
    }

    /// Checks `target` once, as soon as it is its turn; its time-out counts from there. `memory` is
    /// what the check before left behind, and then what this one does. May be dropped at any time.
    pub async fn probe(&self, target: &Target, memory: &mut Memory) -> Report {
        // Never closed, so that there always is a permit in the end.
        let _permit = self.permits.acquire().await.ok();
        memory.begin();
        let outcome = match self.ask(target, memory).await {
            Ok(load) => return Report { outcome: Probed::Passed, load },
            Err(Fault::Target(why)) => Probed::Failed(told(&why)),
            Err(Fault::Ours(why)) => Probed::Unable(told(&why)),
            Err(Fault::Late(why)) => Probed::Late(told(&why)),
        };
        // Whatever was wrong with the target, the next check sees its certificate.
        if matches!(outcome, Probed::Failed(_)) {
            memory.failed();
        }
        Report { outcome, load: None }
    }

    /// The load that a good answer tells of. What takes kilobytes is made when it begins, so that
    /// thousands of checks that wait for their turn take little.
    async fn ask(&self, target: &Target, memory: &mut Memory) -> Result<Option<f64>, Fault> {
        let (address, deadline) = (target.address, Deadline::after(target.timing.timeout));
        let mut way = Way { address, deadline, configs: &self.tls, memory };
        let without_load = match &*target.kind {
            CheckKind::Tcp => tcp::connect(address, &mut way.deadline).await.map(drop),
            CheckKind::Http(check) => return Box::pin(http::ask(check, way)).await,
            CheckKind::Grpc(check) => Box::pin(grpc::ask(check, way)).await,
            CheckKind::Dns(check) => Box::pin(dns::ask(check, address, &mut way.deadline)).await,
        };
        without_load.map(|()| None)
    }
}

#[cfg(test)]
mod tests;
