//! The HTTP pages: `/metrics`, `/livez`, `/readyz`, `/state`, `/explain`, `/drill`.
//!
//! Made for one scraper, two probes and a few people, not for the public: few connections, and
//! nothing here runs on a thread that answers queries.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::STOP_LIMIT;
use super::stop::{Stop, StopSource};
use crate::explain::{Request, drill};
use crate::telemetry::{Readiness, Telemetry};

/// Connections at once; more wait in the backlog.
const MAX_CONNECTIONS: usize = 64;

/// Pages made by walking over the whole federation at once: `/state` of a hundred thousand services
/// is some tens of megabytes while it is made.
const MAX_WALKS: usize = 2;

/// How long a client may take for a request's header, idle time before it included: a scraper
/// that asks every 15 s keeps its connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may last, so that clients that never read do not hold all places.
const CONNECTION_LIFE: Duration = Duration::from_secs(300);

/// Pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the pages show. Made by others: this module only carries it.
#[derive(Clone)]
pub struct HttpState {
    /// `/metrics`.
    pub telemetry: Telemetry,
    /// `/readyz`.
    pub readiness: watch::Receiver<Readiness>,
    /// Makes `/state`; may take long.
    pub state: Arc<dyn Fn() -> Value + Send + Sync>,
    /// Makes `/explain`; an error is a question that has no answer, in words for who asked.
    pub explain: Arc<dyn Fn(Request) -> Result<Value, String> + Send + Sync>,
    /// Makes `/drill`; may take long. An error is a drill that cannot be held, in words.
    pub drill: Arc<dyn Fn(drill::Request) -> Result<Value, String> + Send + Sync>,
}

impl fmt::Debug for HttpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpState").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// The HTTP socket, bound.
#[derive(Debug)]
pub struct HttpSocket {
    address: SocketAddr,
    listener: TcpListener,
}

/// The HTTP pages, served. Stops when dropped; [`Self::stop`] waits for the end.
#[derive(Debug)]
pub struct RunningHttp {
    stop: StopSource,
    task: JoinHandle<()>,
}

impl HttpSocket {
    pub(super) fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// The address bound, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the pages from now on. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the runtime does not take the socket.
    pub fn serve(self, state: HttpState) -> io::Result<RunningHttp> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let stop = StopSource::new();
        let task = tokio::spawn(listen(listener, routes(state), stop.stop()));
        Ok(RunningHttp { stop, task })
    }
}

impl RunningHttp {
    /// Stops: requests begun are answered, then all is closed. Returns after 5 s at most; what has
    /// not ended by then is abandoned.
    pub async fn stop(self) {
        drop(self.stop);
        let abort = self.task.abort_handle();
        if timeout(STOP_LIMIT, self.task).await.is_err() {
            abort.abort();
            tracing::warn!("some HTTP connections did not stop in time; abandoned");
        }
    }
}

//--- Connections ---

async fn listen(listener: tokio::net::TcpListener, routes: Router, mut stop: Stop) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            // The semaphore is never closed, so that there always is a place in the end.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.wait() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(stream, routes.clone(), stop.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection.await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept an HTTP connection");
                tokio::select! { () = stop.wait() => break, () = sleep(ACCEPT_PAUSE) => {} }
            }
        }
    }
    drop(listener);
    // Whoever does not read is cut off when the whole stop takes too long.
    while connections.join_next().await.is_some() {}
}

/// One connection. That it failed is the client's to know.
async fn serve(stream: TcpStream, routes: Router, mut stop: Stop) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.wait() => {}
        () = sleep(CONNECTION_LIFE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(STOP_LIMIT, connection).await;
}

//--- Pages ---

fn routes(state: HttpState) -> Router {
    let shared = Shared { state, walks: Arc::new(Semaphore::new(MAX_WALKS)) };
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/state", get(state_page))
        .route("/explain", get(explain))
        .route("/drill", get(drill_page))
        .with_state(shared)
}

#[derive(Clone)]
struct Shared {
    state: HttpState,
    walks: Arc<Semaphore>,
}

impl Shared {
    /// Does heavy work beside the runtime's threads, a few pieces at once.
    async fn walk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&HttpState) -> T + Send + 'static,
    ) -> Result<T, Response> {
        // Never closed, so that there always is a permit in the end. It goes along with the work,
        // which a client that goes away does not end.
        let permit = Arc::clone(&self.walks).acquire_owned().await.ok();
        let state = self.state.clone();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&state)
        });
        task.await.map_err(|error| {
            tracing::error!(%error, "an HTTP page failed by a fault of ours");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        })
    }
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    let readiness = shared.state.readiness.borrow().clone();
    let status = match readiness {
        Readiness::Ready => StatusCode::OK,
        Readiness::NotReady(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, readiness.to_string())
}

async fn metrics(State(shared): State<Shared>) -> Result<Response, Response> {
    let text = shared.walk(|state| state.telemetry.render()).await?;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn state_page(State(shared): State<Shared>) -> Result<Response, Response> {
    // Turned to text there too: that is the greater part of the work.
    let body = shared.walk(|state| (state.state)().to_string()).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// A page that is refused for what was asked.
fn refuse(reason: String) -> Response {
    (StatusCode::BAD_REQUEST, reason + "\n").into_response()
}

async fn drill_page(
    State(shared): State<Shared>,
    raw: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Value>, Response> {
    let Query(raw) = raw.map_err(|rejection| refuse(rejection.body_text()))?;
    if let Some((other, _)) = raw.iter().find(|(key, _)| key != "cluster") {
        return Err(refuse(format!("unknown parameter '{other}': only cluster= is known")));
    }
    let names: Vec<&str> = raw.iter().map(|(_, name)| name.as_str()).collect();
    let request = drill::Request::parse(&names).map_err(|error| refuse(error.to_string()))?;
    shared.walk(|state| (state.drill)(request)).await?.map(Json).map_err(refuse)
}

async fn explain(
    State(shared): State<Shared>,
    raw: Result<Query<RawExplain>, QueryRejection>,
) -> Result<Json<Value>, Response> {
    let Query(raw) = raw.map_err(|rejection| refuse(rejection.body_text()))?;
    let request = raw.request().map_err(refuse)?;
    shared.walk(|state| (state.explain)(request)).await?.map(Json).map_err(refuse)
}

/// The parameters of `/explain` as text.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawExplain {
    name: Option<String>,
    #[serde(rename = "type")]
    qtype: Option<String>,
    client: Option<String>,
}

impl RawExplain {
    fn request(&self) -> Result<Request, String> {
        let name = self.name.as_deref().ok_or("name= is missing: the name to ask for")?;
        let client = self.client.as_deref().ok_or(
            "client= is missing: an address or a prefix, such as 192.0.2.7 or 192.0.2.0/24",
        )?;
        let qtype = self.qtype.as_deref().unwrap_or("A");
        Request::parse(name, qtype, client).map_err(|error| error.to_string())
    }
}
