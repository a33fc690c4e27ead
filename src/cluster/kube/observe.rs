//! A layer of the client that sees what kube's watcher does not tell.
//!
//! The watcher opens a watch again without a word, so that after a failure nobody would know when
//! all is well; it drops the header `Retry-After`; and it opens a stream that ends at once again
//! and again without a pause. Here all three are seen to.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tower::{Layer, Service};

use crate::cluster::link::Kind;

/// The least time between two openings of one watch.
const PACE: Duration = Duration::from_secs(1);

/// The longest that a server may make us wait by `Retry-After`: whoever asks for more is mistaken
/// or hostile, and asking every ten minutes harms nobody.
const LONGEST_HOLD: Duration = Duration::from_secs(600);

/// What is seen of the requests of one client.
#[derive(Clone, Debug, Default)]
pub(in crate::cluster) struct Observer(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    opened: [Opened; 6],
    hold: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Opened {
    told: Notify,
    last: Mutex<Option<Instant>>,
}

impl Observer {
    /// Waits until a watch of `kind` has been opened that nobody has waited for yet.
    pub(in crate::cluster) async fn opened(&self, kind: Kind) {
        self.0.opened[kind as usize].told.notified().await;
    }

    /// How long the server still wants us to wait.
    pub(in crate::cluster) fn hold(&self) -> Duration {
        let until = *lock(&self.0.hold);
        until.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default()
    }

    /// When a watch of `kind` may be opened.
    fn due(&self, kind: Kind) -> Option<Instant> {
        lock(&self.0.opened[kind as usize].last).map(|last| last + PACE)
    }

    fn note<B>(&self, watched: Option<Kind>, response: &Response<B>) {
        let status = response.status();
        if status.is_success()
            && let Some(kind) = watched
        {
            let opened = &self.0.opened[kind as usize];
            *lock(&opened.last) = Some(Instant::now());
            opened.told.notify_one();
        }
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            // RFC 9110 §10.2.3 has seconds or a date; API servers send seconds.
            let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            if let Some(seconds) = after.and_then(|text| text.trim().parse::<u64>().ok()) {
                let hold = Duration::from_secs(seconds).min(LONGEST_HOLD);
                *lock(&self.0.hold) = Some(Instant::now() + hold);
            }
        }
    }
}

/// The values are replaced whole, so they are good even after a panic under the lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kind whose watch `request` opens.
fn watched<B>(request: &Request<B>) -> Option<Kind> {
    let uri = request.uri();
    if !uri.query().unwrap_or_default().split('&').any(|pair| pair == "watch=true") {
        return None;
    }
    match uri.path().rsplit('/').next()? {
        "services" => Some(Kind::Service),
        "endpointslices" => Some(Kind::EndpointSlice),
        "nodes" => Some(Kind::Node),
        "serviceexports" => Some(Kind::ServiceExport),
        "secrets" => Some(Kind::Secret),
        "configmaps" => Some(Kind::ConfigMap),
        _ => None,
    }
}

impl<S> Layer<S> for Observer {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observer: self.clone() }
    }
}

/// A client that is observed.
pub(in crate::cluster) struct Observed<S> {
    inner: S,
    observer: Observer,
}

impl<S, A, B> Service<Request<A>> for Observed<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let observer = self.observer.clone();
        let watched = watched(&request);
        let due = watched.and_then(|kind| observer.due(kind));
        // The inner future sends nothing before it is polled.
        let response = self.inner.call(request);
        Box::pin(async move {
            if let Some(due) = due {
                sleep_until(due).await;
            }
            let response = response.await?;
            observer.note(watched, &response);
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_are_told_from_lists() {
        let of = |uri: &str| watched(&Request::builder().uri(uri).body(()).unwrap());
        assert_eq!(of("/api/v1/services?watch=true&timeoutSeconds=1"), Some(Kind::Service));
        let slices = "/apis/discovery.k8s.io/v1/endpointslices?labelSelector=a&watch=true";
        assert_eq!(of(slices), Some(Kind::EndpointSlice));
        assert_eq!(of("/api/v1/services?limit=500"), None);
        assert_eq!(of("/api/v1/pods?watch=true"), None);
    }

    #[test]
    fn a_server_may_ask_to_wait_but_not_for_ever() {
        let asks = |text: &str| {
            let observer = Observer::default();
            let response = Response::builder().status(StatusCode::TOO_MANY_REQUESTS);
            observer.note(None, &response.header(RETRY_AFTER, text).body(()).unwrap());
            observer.hold()
        };
        assert_eq!(Observer::default().hold(), Duration::ZERO);
        assert_eq!(asks("soon"), Duration::ZERO);
        assert!(asks("300") > Duration::ZERO && asks("300") <= Duration::from_secs(300));
        assert!(asks("86400") <= LONGEST_HOLD);
    }
}
