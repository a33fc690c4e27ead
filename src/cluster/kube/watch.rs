//! Follows one kind: kube's watcher, with what it leaves to us.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::{self, DefaultBackoff, Event as WatcherEvent, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::board::Board;
use super::fault;
use super::observe::Observer;
use crate::cluster::feed::Batch;
use crate::cluster::link::{Fault, Kind};
use crate::cluster::narrow::{ObjectId, Rules, Scope};
use crate::cluster::state::Change;

/// Events that are handed on together at most: a view is made for each batch, and a page of a
/// list is 500 objects.
const TOGETHER: usize = 512;

/// How long a stream that should send all objects may be silent before we list them instead: a
/// server that does not know `sendInitialEvents` sends what it has and never says that it is all.
const QUIET: Duration = Duration::from_secs(10);

/// After so many streams that broke before all objects had come, they are listed in pages.
const BROKEN_STREAMS: u8 = 2;

/// An object, narrowed or not.
pub(in crate::cluster) enum Narrowed<T> {
    /// It could be read.
    Value(T),
    /// It could not, and nothing is changed by it.
    Skipped {
        /// Which object, where even that is known.
        id: Option<ObjectId>,
        /// Why, for people.
        reason: String,
    },
}

/// Where what happened goes to.
pub(in crate::cluster) struct Outlet<T, E> {
    /// The channel.
    pub(in crate::cluster) batches: mpsc::Sender<Batch<E>>,
    /// What it takes.
    pub(in crate::cluster) wrap: fn(Change<T>) -> E,
}

/// Follows one kind.
pub(in crate::cluster) struct Follow<T, E> {
    /// Of what.
    pub(in crate::cluster) kind: Kind,
    /// Whether it has namespaces.
    pub(in crate::cluster) scope: Scope,
    /// Selectors and time-out.
    pub(in crate::cluster) config: watcher::Config,
    /// For the identity of objects.
    pub(in crate::cluster) rules: Arc<Rules>,
    /// Where it is told how this fares.
    pub(in crate::cluster) board: Arc<Board>,
    /// Where events go.
    pub(in crate::cluster) outlet: Outlet<T, E>,
    /// Of the client's requests.
    pub(in crate::cluster) observer: Observer,
    /// Told when the credentials are refused.
    pub(in crate::cluster) renew: Arc<Notify>,
}

/// How all objects are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    /// As the beginning of the watch.
    Streamed,
    /// In pages, before the watch.
    Paged,
}

/// Why a stream is left.
enum Leave {
    /// Nobody listens any more.
    Done,
    /// To begin anew with this way of listing.
    Restart(Lists),
    /// The server does not know the kind.
    Missing,
}

/// How far the list of one stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Awaited,
    Begun,
    Complete,
}

impl<T, E> Follow<T, E> {
    /// Follows `api` until nobody listens, or the API server does not know the kind, which is told
    /// to the board. What went wrong is tried again for ever.
    pub(in crate::cluster) async fn run<K>(self, api: Api<K>, narrow: impl Fn(K) -> Narrowed<T>)
    where
        K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        let _ = self.until_missing(&api, &narrow, Unknown::Retry).await;
    }

    /// The same, but returns [`Gone`] where the API server does not know the kind and `unknown`
    /// says so.
    pub(super) async fn until_missing<K>(
        &self,
        api: &Api<K>,
        narrow: &impl Fn(K) -> Narrowed<T>,
        unknown: Unknown,
    ) -> Result<(), Gone>
    where
        K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    {
        let mut lists = Lists::Streamed;
        let mut backoff = DefaultBackoff::default();
        loop {
            let config = match lists {
                Lists::Streamed => self.config.clone().streaming_lists(),
                Lists::Paged => self.config.clone(),
            };
            self.board.listing(self.kind);
            let stream = pin!(watcher(api.clone(), config));
            match self.stream(stream, lists, narrow, &mut backoff, unknown).await {
                Leave::Done => return Ok(()),
                Leave::Restart(next) => {
                    if next != lists {
                        debug!(kind = %self.kind, "this API server lists in pages");
                    }
                    lists = next;
                }
                Leave::Missing => return Err(Gone),
            }
        }
    }

    async fn stream<K: Resource>(
        &self,
        mut stream: impl Stream<Item = watcher::Result<WatcherEvent<K>>> + Unpin,
        lists: Lists,
        narrow: &impl Fn(K) -> Narrowed<T>,
        backoff: &mut DefaultBackoff,
        unknown: Unknown,
    ) -> Leave {
        let mut progress = Progress::Awaited;
        let mut broken = 0;
        let mut ahead = None;
        loop {
            let item = match ahead.take() {
                Some(item) => item,
                None => tokio::select! {
                    // First, so that an error that follows has the last word.
                    biased;
                    () = self.observer.opened(self.kind) => {
                        match progress {
                            Progress::Complete => self.board.watching(self.kind),
                            Progress::Awaited | Progress::Begun => self.board.listing(self.kind),
                        }
                        continue;
                    }
                    item = next(&mut stream, lists, progress) => match item {
                        Next::Item(item) => item,
                        Next::Quiet => return Leave::Restart(Lists::Paged),
                        Next::Ended => return Leave::Restart(lists),
                    },
                },
            };
            match item {
                Ok(WatcherEvent::Init) if progress == Progress::Begun => {
                    progress = Progress::Awaited;
                    ahead = Some(Ok(WatcherEvent::Init));
                    broken += 1;
                    if broken >= BROKEN_STREAMS && lists == Lists::Streamed {
                        return Leave::Restart(Lists::Paged);
                    }
                    let reason = "the list broke off before it was complete";
                    self.board.failed(self.kind, Fault::Unreachable, reason);
                    self.pause(backoff).await;
                }
                Ok(event) => {
                    let (batch, rest) = self.gather(event, &mut stream, narrow, &mut progress);
                    if self.outlet.batches.send(batch).await.is_err() {
                        return Leave::Done;
                    }
                    if progress == Progress::Complete {
                        *backoff = DefaultBackoff::default();
                        broken = 0;
                    }
                    ahead = rest;
                }
                Err(error) if lists == Lists::Streamed && refuses_list(&error, progress) => {
                    return Leave::Restart(Lists::Paged);
                }
                Err(error) => {
                    let fault = fault::of_watch(&error);
                    self.board.failed(self.kind, fault, &fault::describe_watch(&error));
                    match fault {
                        Fault::Missing if unknown == Unknown::Return => return Leave::Missing,
                        Fault::Unauthorized => self.renew.notify_one(),
                        _ => {}
                    }
                    self.pause(backoff).await;
                    // The watcher would ask for the forgotten place in the history for ever.
                    if fault == Fault::Expired {
                        return Leave::Restart(lists);
                    }
                }
            }
        }
    }

    /// Waits as long as the attempts so far, or the server, ask for.
    async fn pause(&self, backoff: &mut DefaultBackoff) {
        // The backoff has no end.
        let own = backoff.next().unwrap_or(QUIET);
        sleep(own.max(self.observer.hold())).await;
    }

    /// Takes an event with those that are there already; what may call for a pause, an error or
    /// the beginning of another list, is given back.
    fn gather<K: Resource>(
        &self,
        first: WatcherEvent<K>,
        stream: &mut (impl Stream<Item = watcher::Result<WatcherEvent<K>>> + Unpin),
        narrow: &impl Fn(K) -> Narrowed<T>,
        progress: &mut Progress,
    ) -> (Batch<E>, Option<watcher::Result<WatcherEvent<K>>>) {
        let mut batch = Batch { events: Vec::new(), at: Instant::now() };
        let mut event = first;
        self.board.alive();
        loop {
            match &event {
                WatcherEvent::Init => *progress = Progress::Begun,
                WatcherEvent::InitDone => *progress = Progress::Complete,
                _ => {}
            }
            batch.events.extend(self.change(event, narrow).map(self.outlet.wrap));
            if batch.events.len() >= TOGETHER {
                return (batch, None);
            }
            event = match stream.next().now_or_never().flatten() {
                None => return (batch, None),
                Some(Ok(event)) if !matches!(event, WatcherEvent::Init) => event,
                Some(other) => return (batch, Some(other)),
            };
        }
    }

    /// What an event changes, where anything.
    fn change<K: Resource>(
        &self,
        event: WatcherEvent<K>,
        narrow: &impl Fn(K) -> Narrowed<T>,
    ) -> Option<Change<T>> {
        let read = |object: K| {
            let name = title(object.meta());
            let id = self.rules.id_of(object.meta(), self.scope).ok();
            let narrowed = narrow(object);
            match &narrowed {
                Narrowed::Value(_) => self.board.readable(self.kind, &name),
                Narrowed::Skipped { reason, .. } => {
                    self.board.unreadable(self.kind, &name, reason);
                }
            }
            (narrowed, id)
        };
        match event {
            WatcherEvent::Init => Some(Change::Init),
            WatcherEvent::InitDone => {
                self.board.listed(self.kind);
                Some(Change::InitDone)
            }
            WatcherEvent::InitApply(object) => match read(object) {
                (Narrowed::Value(value), _) => Some(Change::InitApply(value)),
                (Narrowed::Skipped { id, .. }, known) => id.or(known).map(Change::InitKeep),
            },
            WatcherEvent::Apply(object) => match read(object).0 {
                Narrowed::Value(value) => Some(Change::Apply(value)),
                Narrowed::Skipped { .. } => None,
            },
            WatcherEvent::Delete(object) => {
                self.board.readable(self.kind, &title(object.meta()));
                self.rules.id_of(object.meta(), self.scope).ok().map(Change::Delete)
            }
        }
    }
}

/// What to do about a kind that the API server does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unknown {
    /// Try again.
    Retry,
    /// Return.
    Return,
}

/// The API server does not know the kind.
pub(super) struct Gone;

/// What came of waiting for a stream.
enum Next<I> {
    /// An item.
    Item(I),
    /// Silence, where all objects should come.
    Quiet,
    /// The end, which a watcher has not.
    Ended,
}

/// Whether an error means that all objects cannot be had as the beginning of a watch. What comes in
/// the midst of them may pass, but listing them makes progress either way.
fn refuses_list(error: &watcher::Error, progress: Progress) -> bool {
    fault::refuses_streaming(error)
        || (progress != Progress::Complete && fault::cannot_stream(error))
}

async fn next<I>(
    stream: &mut (impl Stream<Item = I> + Unpin),
    lists: Lists,
    progress: Progress,
) -> Next<I> {
    let item = if lists == Lists::Streamed && progress != Progress::Complete {
        match timeout(QUIET, stream.next()).await {
            Ok(item) => item,
            Err(_) => return Next::Quiet,
        }
    } else {
        stream.next().await
    };
    item.map_or(Next::Ended, Next::Item)
}

/// `namespace/name`, as far as they are there.
fn title(metadata: &ObjectMeta) -> String {
    let name = metadata.name.as_deref().unwrap_or("without a name");
    match metadata.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}
