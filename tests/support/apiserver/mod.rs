//! A small Kubernetes API server: real HTTP/1.1 over loopback, lists in pages, chunked watches with
//! bookmarks, and faults on demand. One thread a connection; it ends with its owner.
//!
//! It follows the API concepts page of the Kubernetes documentation: resource versions, `limit` and
//! `continue`, `allowWatchBookmarks`, `sendInitialEvents`, 410 Gone.

pub(crate) mod http;
mod store;
mod write;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_rustls::rustls;

use http::{Connection, Request};
pub(crate) use store::Gone;
use store::{Event, Store};

/// How a server treats `sendInitialEvents`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Streaming {
    /// It sends all objects, then a bookmark that says so.
    Supported,
    /// 422, as where the feature is off.
    Refused,
    /// It opens the stream and ends it with an error, as over an old etcd.
    Incapable,
    /// It sends what it has and never says that it is all, as before Kubernetes 1.27.
    Unknown,
}

/// What goes wrong with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This status, with `Retry-After` where there are seconds.
    Status(u16, Option<u32>),
    /// Half of the list, then the connection breaks.
    Half,
    /// The stream breaks as soon as it is open.
    Drop,
    /// Nothing more is sent, and the connection stays.
    Stall,
}

/// A running server.
pub(crate) struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
    tls: Option<Mutex<Arc<rustls::ServerConfig>>>,
}

struct State {
    store: Store,
    streaming: Streaming,
    /// By plural, or `*`.
    faults: Vec<(String, Fault)>,
    /// The version of ServiceExport that it knows.
    exports: Option<&'static str>,
    token: Option<String>,
    /// Streams of an earlier epoch are cut.
    epoch: u64,
    requests: Vec<String>,
}

impl ApiServer {
    /// A server at a port that the system chose.
    pub(crate) fn start() -> Self {
        Self::bind("127.0.0.1:0".parse().expect("an address"), None)
    }

    /// The same over TLS with a certificate for 127.0.0.1.
    pub(crate) fn start_tls(certificate: &str) -> Self {
        let tls = Mutex::new(http::tls(certificate));
        Self::bind("127.0.0.1:0".parse().expect("an address"), Some(tls))
    }

    /// One at an address that is ours alone.
    pub(crate) fn start_at(address: SocketAddr) -> Self {
        Self::bind(address, None)
    }

    fn bind(address: SocketAddr, tls: Option<Mutex<Arc<rustls::ServerConfig>>>) -> Self {
        let state = State {
            store: Store::default(),
            streaming: Streaming::Supported,
            faults: Vec::new(),
            exports: Some("v1beta1"),
            token: None,
            epoch: 0,
            requests: Vec::new(),
        };
        let shared = Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
            tls,
        };
        let mut server = Self { address, shared: Arc::new(shared), accepting: None };
        server.listen();
        server
    }

    fn listen(&mut self) {
        let listener = TcpListener::bind(self.address).expect("a free port");
        self.address = listener.local_addr().expect("bound");
        self.shared.stopped.store(false, SeqCst);
        let shared = self.shared.clone();
        self.accepting = Some(thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.stopped.load(SeqCst) {
                    return;
                }
                let shared = shared.clone();
                thread::spawn(move || serve(stream, &shared));
            }
        }));
    }

    /// Takes it down: connections break, and new ones are refused.
    pub(crate) fn stop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            thread.join().expect("the server does not panic");
        }
    }

    /// Brings it up again at the same address, with all its objects.
    pub(crate) fn restart(&mut self) {
        self.listen();
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A kubeconfig for it; `user` is the user's YAML.
    pub(crate) fn kubeconfig(&self, user: &str) -> String {
        let authority = if self.shared.tls.is_some() {
            format!(", certificate-authority-data: {}", http::base64(http::AUTHORITY.as_bytes()))
        } else {
            String::new()
        };
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: '{}'{authority}}}}}]\n\
             users: [{{name: test, user: {{{user}}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.url()
        )
    }

    /// Adds or replaces an object.
    pub(crate) fn put(&self, plural: &str, object: Value) {
        self.change(|state| state.store.put(plural, object));
    }

    /// Removes an object; `namespace` is empty where the kind has none.
    pub(crate) fn delete(&self, plural: &str, namespace: &str, name: &str) {
        self.change(|state| state.store.delete(plural, namespace, name));
    }

    /// All objects of a kind, in the order of their names.
    pub(crate) fn objects(&self, plural: &str) -> Vec<Value> {
        self.shared.state().store.all(plural)
    }

    /// How it treats `sendInitialEvents`.
    pub(crate) fn streaming(&self, streaming: Streaming) {
        self.change(|state| state.streaming = streaming);
    }

    /// The version of ServiceExport that it knows.
    pub(crate) fn exports(&self, version: Option<&'static str>) {
        self.change(|state| state.exports = version);
    }

    /// Only requests with this token are served from now on.
    pub(crate) fn token(&self, token: &str) {
        self.change(|state| state.token = Some(token.to_owned()));
    }

    /// From now on this goes wrong with requests for `plural`, `*` for all kinds.
    pub(crate) fn fault(&self, plural: &str, fault: Fault) {
        self.change(|state| state.faults.push((plural.to_owned(), fault)));
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.change(|state| state.faults.clear());
    }

    /// Breaks all streams.
    pub(crate) fn cut(&self) {
        self.change(|state| state.epoch += 1);
    }

    /// Forgets the history: streams end, and where they were is 410, as an event or as a status.
    pub(crate) fn forget(&self, gone: Gone) {
        self.change(|state| {
            state.store.forget(gone);
            state.epoch += 1;
        });
    }

    /// Uses another certificate for new connections.
    pub(crate) fn certificate(&self, certificate: &str) {
        let tls = self.shared.tls.as_ref().expect("a server with TLS");
        *tls.lock().expect("no panic under it") = http::tls(certificate);
    }

    /// `METHOD PATH?QUERY` of every request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state());
        self.shared.changed.notify_all();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if self.accepting.is_some() {
            self.stop();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }
}

impl State {
    fn fault(&self, plural: &str) -> Option<Fault> {
        let hit = |(of, _): &&(String, Fault)| of == plural || of == "*";
        self.faults.iter().find(hit).map(|(_, fault)| *fault)
    }
}

/// Serves one connection until either side ends it.
fn serve(stream: TcpStream, shared: &Shared) {
    let tls = shared.tls.as_ref().map(|tls| tls.lock().expect("no panic under it").clone());
    let Some(mut connection) = Connection::new(stream, tls) else { return };
    while !shared.is_stopped() {
        match connection.request() {
            // It may have been stopped while the connection was idle.
            Ok(Some(_)) if shared.is_stopped() => return,
            Ok(Some(request)) if answer(&mut connection, &request, shared).is_ok() => {}
            _ => return,
        }
    }
}

/// The connection is broken, on purpose or not.
struct Broken;

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

fn answer(connection: &mut Connection, request: &Request, shared: &Shared) -> Result<(), Broken> {
    // What is changed has a name behind its kind.
    let parts = usize::from(matches!(&*request.method, "PATCH" | "DELETE"));
    let plural = request.path.rsplit('/').nth(parts).unwrap_or_default();
    let (refusal, exports) = {
        let mut state = shared.state();
        state.requests.push(format!("{} {}?{}", request.method, request.path, request.query));
        let expected = state.token.as_ref().map(|token| format!("Bearer {token}"));
        let refusal = if expected.is_some() && request.header("authorization") != expected {
            Some((401, None))
        } else if let Some(Fault::Status(code, retry)) = state.fault(plural) {
            Some((code, retry))
        } else {
            None
        };
        (refusal, state.exports)
    };
    if let Some((code, retry)) = refusal {
        return Ok(connection.status(code, "told to", retry)?);
    }
    let known = |version: &str| exports == Some(version);
    match request.path.strip_prefix("/apis/multicluster.x-k8s.io") {
        Some("") if exports.is_some() => {
            let version = exports.unwrap_or_default();
            let named = json!({"groupVersion": format!("multicluster.x-k8s.io/{version}"),
                               "version": version});
            let group = json!({"kind": "APIGroup", "apiVersion": "v1",
                               "name": "multicluster.x-k8s.io", "versions": [named]});
            return Ok(connection.json(&group)?);
        }
        Some(rest) if !rest.split('/').nth(1).is_some_and(known) => {
            return Ok(connection.status(404, "the server could not find it", None)?);
        }
        _ => {}
    }
    match &*request.method {
        "POST" => return create(connection, request, plural, shared),
        "PATCH" => return write::patch(connection, request, plural, shared),
        "DELETE" => return write::remove(connection, request, plural, shared),
        _ => {}
    }
    match (plural, request.parameter("watch").as_deref()) {
        ("readyz", _) => Ok(connection.text("ok")?),
        (_, Some("true")) => watch(connection, request, plural, shared),
        _ => list(connection, request, plural, shared),
    }
}

/// Creates the object that a request holds, in the namespace of its path.
fn create(
    connection: &mut Connection,
    request: &Request,
    plural: &str,
    shared: &Shared,
) -> Result<(), Broken> {
    let object: Value = serde_json::from_slice(&request.body).expect("an object");
    let namespace = request.path.split('/').skip_while(|part| *part != "namespaces").nth(1);
    if object["metadata"]["namespace"].as_str() != namespace {
        let why = "the namespace of the object does not match that of the request";
        return Ok(connection.status(400, why, None)?);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut state = shared.state();
    if state.store.get(plural, namespace.unwrap_or_default(), name).is_some() {
        drop(state);
        return Ok(connection.status(409, "it exists", None)?);
    }
    if request.parameter("dryRun").is_none() {
        state.store.put(plural, object.clone());
    }
    drop(state);
    shared.changed.notify_all();
    Ok(connection.written(&object)?)
}

fn list(
    connection: &mut Connection,
    request: &Request,
    plural: &str,
    shared: &Shared,
) -> Result<(), Broken> {
    let (fault, list) = {
        let state = shared.state();
        (state.fault(plural), state.store.list(plural, request))
    };
    match fault {
        Some(Fault::Half) => Err(connection.half(&list)?),
        Some(Fault::Drop) => Err(Broken),
        Some(Fault::Stall) => stall(shared, || shared.state().fault(plural).is_none()),
        _ => Ok(connection.json(&list)?),
    }
}

/// Says nothing until `over`, then breaks.
fn stall(shared: &Shared, over: impl Fn() -> bool) -> Result<(), Broken> {
    while !shared.is_stopped() && !over() {
        thread::sleep(Duration::from_millis(20));
    }
    Err(Broken)
}

fn watch(
    connection: &mut Connection,
    request: &Request,
    plural: &str,
    shared: &Shared,
) -> Result<(), Broken> {
    let state = shared.state();
    let epoch = state.epoch;
    let asks_all = request.parameter("sendInitialEvents").as_deref() == Some("true");
    if asks_all && state.streaming == Streaming::Refused {
        drop(state);
        let why = "sendInitialEvents: Forbidden: the WatchList feature gate is off";
        return Ok(connection.status(422, why, None)?);
    }
    if asks_all && state.streaming == Streaming::Incapable {
        drop(state);
        let why = "the required storage feature RequestWatchProgress is disabled";
        return Ok(connection.error(500, why)?);
    }
    let from = request.parameter("resourceVersion").unwrap_or_default();
    // Zero and nothing mean "from what there is", with all of it first.
    let fresh = matches!(from.as_str(), "" | "0");
    let mut at: u64 = from.parse().unwrap_or_default();
    let fault = state.fault(plural);
    let mut events = Vec::new();
    if fresh {
        events = state.store.initial(plural, request);
        at = state.store.version;
        if asks_all && state.streaming == Streaming::Supported {
            events.push(Event::end_of_initial(plural, at));
        }
    } else if at < state.store.oldest {
        let gone = state.store.gone;
        drop(state);
        return Ok(connection.gone(gone)?);
    }
    drop(state);
    connection.begin_chunks()?;
    if fault == Some(Fault::Half) {
        events.truncate(events.len() / 2);
    }
    events.iter().try_for_each(|event| connection.chunk(&event.line()))?;
    match fault {
        Some(Fault::Half | Fault::Drop) => return Err(Broken),
        Some(Fault::Stall) => return stall(shared, || shared.state().epoch != epoch),
        _ => {}
    }
    follow(connection, request, plural, shared, (epoch, at))
}

/// Sends what happens after `at`, until the time asked for is over or the stream is cut.
fn follow(
    connection: &mut Connection,
    request: &Request,
    plural: &str,
    shared: &Shared,
    (epoch, mut at): (u64, u64),
) -> Result<(), Broken> {
    let seconds = request.parameter("timeoutSeconds").and_then(|text| text.parse().ok());
    let deadline = Instant::now() + Duration::from_secs(seconds.unwrap_or(300));
    loop {
        let state = shared.state();
        if shared.is_stopped() || state.epoch != epoch {
            return Err(Broken);
        }
        if state.fault(plural) == Some(Fault::Stall) {
            drop(state);
            return stall(shared, || shared.state().epoch != epoch);
        }
        let events = state.store.since(plural, request, at);
        at = state.store.version;
        if events.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                connection.chunk(&Event::bookmark(plural, at).line())?;
                return Ok(connection.end_chunks()?);
            }
            let slice = left.min(Duration::from_millis(100));
            let waited = shared
                .changed
                .wait_timeout(state, slice)
                .map(|(state, _)| state)
                .unwrap_or_else(|poisoned| poisoned.into_inner().0);
            drop(waited);
            continue;
        }
        drop(state);
        events.iter().try_for_each(|event| connection.chunk(&event.line()))?;
    }
}
