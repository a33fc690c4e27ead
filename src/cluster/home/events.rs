//! Kubernetes Events (`events.k8s.io/v1`) in the home cluster.
//!
//! Nobody waits for them, and there are never many: what cannot be written at once waits in a short
//! queue, what does not fit in there is counted and left out. The log tells all of it too. Of all
//! instances that see a change the first writes the Event; the others find its name taken.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, Error};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::instance::{Instance, reference};
use super::name::{Named, Names};
use super::{Registered, SecretName};
use crate::cluster::kube::{describe, fault_of};
use crate::cluster::link::Fault;
use crate::model::{DomainName, Label};
use crate::telemetry::EventCounts;

/// Something that people are to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The cluster that it is about, if it is one.
    pub cluster: Option<Label>,
    /// What went from which state to which, without the reason: instances that tell of the same say
    /// the same.
    pub what: String,
    /// In one word, which machines may look for: at most 128 letters.
    pub reason: &'static str,
    /// Whether to look at it.
    pub severity: Severity,
    /// What happened and why.
    pub note: String,
}

/// Whether something is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// No.
    Normal,
    /// Yes.
    Warning,
}

/// As the API has it.
impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        })
    }
}

/// Events that may wait to be written: five publications' worth.
const WAITING: usize = 100;

/// Events that are written without a pause; more follow one a [`PACE`]. They are kept for an hour by
/// default, so that at most 3,700 of an instance lie in etcd at a time.
const AT_ONCE: u32 = 100;

/// The pause between two Events where many have been written.
const PACE: Duration = Duration::from_secs(1);

/// How long writing one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The status for a name that is there already (`AlreadyExists`).
const TAKEN: u16 = 409;

/// The API refuses a longer `note`.
const LONGEST_NOTE: usize = 1024;

/// Whose Events these are, by the rules for label keys.
const CONTROLLER: &str = "meridian.dev/meridian";

/// Where notices are put.
#[derive(Clone, Debug)]
pub(super) struct Outbox {
    sender: mpsc::Sender<(Timestamp, Notice)>,
    counts: Arc<EventCounts>,
    /// Whether it has been told that some were left out.
    told: Arc<AtomicBool>,
}

/// Writes what is put into the outbox.
#[derive(Clone)]
pub(super) struct Poster {
    /// Of whichever client is the newest.
    queue: Arc<Mutex<Queue>>,
    counts: Arc<EventCounts>,
    registered: watch::Receiver<Option<Arc<Registered>>>,
    instance: Arc<Instance>,
}

/// What waits to be written, and the names of what was.
struct Queue {
    notices: mpsc::Receiver<(Timestamp, Notice)>,
    names: Names,
}

/// What became of an Event that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// It is there.
    Here,
    /// Another instance had written it.
    Elsewhere,
}

/// An outbox, and who empties it; clusters of `registered` have Secrets to write beside. `apex` is
/// the zone of the federation.
pub(super) fn channel(
    apex: DomainName,
    registered: watch::Receiver<Option<Arc<Registered>>>,
) -> (Outbox, Poster) {
    let (sender, notices) = mpsc::channel(WAITING);
    let counts = Arc::new(EventCounts::default());
    let poster = Poster {
        queue: Arc::new(Mutex::new(Queue { notices, names: Names::new(apex) })),
        counts: counts.clone(),
        registered,
        instance: Arc::new(Instance::from_environment()),
    };
    (Outbox { sender, counts, told: Arc::default() }, poster)
}

impl Outbox {
    pub(super) fn post(&self, notice: Notice) {
        if self.sender.try_send((Timestamp::now(), notice)).is_err() {
            self.counts.dropped();
            if !self.told.swap(true, Relaxed) {
                warn!("changes come faster than Events are written; some have only a line here");
            }
        }
    }

    pub(super) fn counts(&self) -> &Arc<EventCounts> {
        &self.counts
    }
}

/// How many Events may be written: [`AT_ONCE`] at once, and one more each [`PACE`].
struct Allowance {
    spare: u32,
    /// Up to when those that came by have been counted.
    counted: Instant,
}

impl Allowance {
    fn full(now: Instant) -> Self {
        Self { spare: AT_ONCE, counted: now }
    }

    /// Takes one at `now`; returns for how long it has to wait.
    fn take(&mut self, now: Instant) -> Duration {
        let fresh = now.saturating_duration_since(self.counted).as_secs() / PACE.as_secs();
        let fresh = u32::try_from(fresh).unwrap_or(u32::MAX);
        self.counted += PACE.saturating_mul(fresh);
        self.spare = self.spare.saturating_add(fresh).min(AT_ONCE);
        match self.spare.checked_sub(1) {
            Some(left) => {
                self.spare = left;
                Duration::ZERO
            }
            None => {
                // The next one that comes is this one's, and counts for no other.
                self.counted += PACE;
                self.counted.saturating_duration_since(now)
            }
        }
    }
}

impl Poster {
    /// Writes by `client` for ever; tells `renew` where its credentials are refused.
    pub(super) async fn run(self, client: Client, renew: Arc<Notify>) {
        let mut queue = self.queue.lock().await;
        let Queue { notices, names } = &mut *queue;
        let mut failing = false;
        let mut allowance = Allowance::full(Instant::now());
        while let Some((at, notice)) = notices.recv().await {
            sleep(allowance.take(Instant::now())).await;
            let event = self.event(&notice, at, client.default_namespace());
            match write(&client, event, &notice.what, names).await {
                Ok(written) => {
                    match written {
                        Written::Here => self.counts.written(),
                        Written::Elsewhere => self.counts.shared(),
                    }
                    if std::mem::take(&mut failing) {
                        info!("Events are written again");
                    }
                }
                Err((fault, reason)) => {
                    self.counts.failed();
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%fault, reason, "Events cannot be written; changes are told here only");
                    }
                    if fault == Fault::Unauthorized {
                        renew.notify_one();
                    }
                }
            }
        }
    }

    /// The Event of what was seen at `at`, but for its name: beside the Secret that registers the cluster that it is about, else
    /// beside this pod, else beside its namespace, by default `home`.
    fn event(&self, notice: &Notice, at: Timestamp, home: &str) -> Event {
        let secret = notice.cluster.as_ref().and_then(|name| {
            let registered = self.registered.borrow();
            let clusters = registered.iter().flat_map(|registered| &registered.clusters);
            clusters.into_iter().find(|c| c.member.name == *name).map(|c| c.secret.clone())
        });
        let (regarding, related) = match (secret, self.instance.reference()) {
            (Some(secret), pod) => (secret.reference(), pod),
            (None, Some(pod)) => (pod, None),
            (None, None) => (namespace(self.instance.namespace.as_deref().unwrap_or(home)), None),
        };
        Event {
            metadata: ObjectMeta {
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(at)),
            action: Some("Judge".to_owned()),
            reason: Some(notice.reason.to_owned()),
            type_: Some(notice.severity.to_string()),
            note: Some(shortened(&notice.note)),
            regarding: Some(regarding),
            related,
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.name.clone()),
            ..Event::default()
        }
    }
}

/// Writes an Event about `what`, unless another instance has.
async fn write(
    client: &Client,
    mut event: Event,
    what: &str,
    names: &mut Names,
) -> Result<Written, (Fault, String)> {
    let at = event.event_time.as_ref().map_or_else(Timestamp::now, |time| time.0);
    let Named { name, earlier } = names.next(what, at);
    if let Some(earlier) = earlier {
        event.metadata.name = Some(earlier);
        // Asks whether the name is taken, by the right that we have.
        let asking = PostParams { dry_run: true, ..PostParams::default() };
        if create(client, &event, &asking).await == Ok(Written::Elsewhere) {
            names.was_earlier(what);
            return Ok(Written::Elsewhere);
        }
    }
    event.metadata.name = Some(name);
    create(client, &event, &PostParams::default()).await
}

async fn create(
    client: &Client,
    event: &Event,
    parameters: &PostParams,
) -> Result<Written, (Fault, String)> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    match timeout(LIMIT, api.create(parameters, event)).await {
        Ok(Ok(_)) => Ok(Written::Here),
        Ok(Err(Error::Api(status))) if status.code == TAKEN => Ok(Written::Elsewhere),
        Ok(Err(error)) => Err((fault_of(&error), describe(&error))),
        Err(_) => Err((Fault::Unreachable, format!("no answer within {} s", LIMIT.as_secs()))),
    }
}

/// At most [`LONGEST_NOTE`] octets of a text.
fn shortened(text: &str) -> String {
    // Position 0 is a boundary of every text.
    let ends = (0..=text.len().min(LONGEST_NOTE)).rev();
    let end = ends.into_iter().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}

impl SecretName {
    fn reference(&self) -> ObjectReference {
        reference("Secret", &self.namespace, &self.name, &self.uid)
    }
}

/// A namespace, said to be within itself: the API wants an Event and what it regards in the same.
fn namespace(name: &str) -> ObjectReference {
    reference("Namespace", name, name, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always more than may be written wait.
    #[test]
    fn a_flood_is_written_at_the_pace() {
        let start = Instant::now();
        let mut allowance = Allowance::full(start);
        let mut now = start;
        let mut next = |now: &mut Instant| {
            *now += allowance.take(*now);
            (*now - start).as_secs()
        };
        let written: Vec<u64> = (0..160).map(|_| next(&mut now)).collect();
        assert!(written[..100].iter().all(|at| *at == 0), "at once");
        assert_eq!(written[100..], (1..=60).collect::<Vec<_>>(), "one a second");
        now += Duration::from_secs(10_000);
        let later: Vec<u64> = (0..101).map(|_| next(&mut now)).collect();
        assert_eq!((later[99], later[100]), (10_060, 10_061), "no more than that is saved up");
    }

    #[test]
    fn notes_are_cut_where_a_letter_ends() {
        assert_eq!(shortened("short"), "short");
        let long = "ä".repeat(LONGEST_NOTE);
        assert_eq!(shortened(&long), "ä".repeat(LONGEST_NOTE / 2));
        let odd = format!("a{long}");
        assert_eq!(shortened(&odd).len(), LONGEST_NOTE - 1);
    }
}
