//! `meridian serve`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use meridian::answer::answer_ahead;
use meridian::cluster::lastgood::{self, LastGood, Wanted};
use meridian::config::Config;
use meridian::explain::{Request, drill, explain};
use meridian::geo;
use meridian::health::{Standing, votes};
use meridian::model::Label;
use meridian::publisher::{Handle, Progress, Publisher};
use meridian::server::{HttpState, RunningDns, Sockets, raise_open_files};
use meridian::snapshot::SnapshotCell;
use meridian::tasks::keep;
use meridian::telemetry::{Outcome, Readiness, Reload, Task, Telemetry, state};
use rustix::process::{getpriority_process, setpriority_process};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use super::federation::{Geography, Running};
use super::reload::Reloader;

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    log_to_stderr();
    let config = Config::load(path)?;
    for warning in &config.warnings {
        warn!(file = %path.display(), "{warning}");
    }
    if let Err(error) = raise_open_files() {
        warn!(%error, "the limit of open files cannot be raised");
    }
    // What `serve` itself starts, the UDP workers among it, keeps the priority of the process.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(background())
        .build()?;
    runtime.block_on(serve(path, config))
}

/// How much nicer the threads of the runtime are, which read clusters, build snapshots, check, write,
/// and serve TCP and HTTP, than those that answer over UDP, which get nine times their share of a
/// processor that both want (sched(7)): a datagram that waits too long is lost, while a change that
/// waits is built in together with the next. Checks and probes that run out of time while no processor
/// was free for them tell nothing.
const NICER: i32 = 10;

/// Has the thread that calls it stand behind those that answer. The nice value is one of threads, in
/// spite of POSIX (sched(7)), and a thread has it from the one that started it.
fn background() -> impl Fn() + Send + Sync {
    let nice = getpriority_process(None).unwrap_or(0) + NICER;
    move || {
        if let Err(error) = setpriority_process(None, nice) {
            warn!(%error, "threads that do not answer cannot be given a lower priority");
        }
    }
}

/// Logs are lines on standard error; `RUST_LOG` chooses which, `info` by default. kube logs every
/// attempt that fails; we log each change of how an API server answers, with the same reason.
fn log_to_stderr() {
    let usual = "info,kube_client=off,kube_runtime=off";
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

async fn serve(path: &Path, config: Config) -> anyhow::Result<()> {
    // Signals are caught before anything runs, so that none is lost.
    let mut signals = Signals::new()?;
    let sockets = Sockets::bind(&config.server)?;
    let internal = config.federation.internal.as_ref().map(|internal| internal.apex.to_string());
    let telemetry =
        Telemetry::for_zones(&config.federation.domain.to_string(), internal.as_deref());
    let wake = Arc::new(Notify::new());
    let remembered = remembered(&config).await?;
    let (running, first) =
        Running::start(&config, &wake, remembered.clone(), None, telemetry.tasks());
    let geography = running.geography().clone();
    let atlas = geography.atlas.clone();
    let (publisher, handle) = Publisher::new(
        first,
        &remembered.views,
        atlas,
        running.overrides(),
        wake.clone(),
        telemetry.clone(),
    );
    drop(remembered);
    let publishing = tokio::spawn(publisher.run(config.publisher.clone()));
    let Handle { cell, mut progress, reloads, standings, checks, ballots } = handle;
    let office = running.ballots().clone();
    let carry = move || {
        let (office, ballots) = (office.clone(), ballots.clone());
        async move { office.carry(ballots).await }
    };
    let _carrying = keep(Task::Ballots, telemetry.tasks(), carry);
    let (readiness, readiness_seen) = watch::channel(Readiness::NotReady(Vec::new()));
    let http = match sockets.http {
        Some(http) => Some(http.serve(pages(
            &cell,
            &telemetry,
            readiness_seen,
            standings,
            checks,
            geography.clone(),
        ))?),
        None => None,
    };
    let reloader = Reloader::new(path, config.clone(), running, wake, telemetry.clone(), reloads);
    let reloading = tokio::spawn(reloader.run(signals.hangup.take()));
    let counting = tokio::spawn(count_databases(geography.status.clone(), telemetry.clone()));
    let mut tasks = Tasks { publishing, reloading, counting };

    let dns = tokio::select! {
        started = start(&mut progress, &readiness) => {
            started?;
            sockets.dns.serve(&cell, &telemetry, answer_ahead).context("starting DNS")?
        }
        () = signals.end() => return tasks.end().await,
        died = tasks.died() => bail!(died),
    };
    readiness.send_replace(Readiness::Ready);
    info!(serial = cell.load().serial, "answering DNS");
    let outcome = answer_until_told(dns, &mut signals, &mut tasks, &readiness, &config).await;
    if let Some(http) = http {
        http.stop().await;
    }
    tasks.end().await?;
    outcome
}

/// The last known good state, read off the async threads.
async fn remembered(config: &Config) -> anyhow::Result<Arc<LastGood>> {
    let Some(path) = config.publisher.last_known_good.clone() else { return Ok(Arc::default()) };
    let config = config.clone();
    let load = move || {
        let wanted = Wanted {
            clusters: &config.sources,
            home: config.home.as_ref().map(|home| home.identity()),
            registered: &|name, source| config.common.settings(name, source),
            apex: &config.federation.domain,
        };
        lastgood::load(&path, &wanted)
    };
    let state = spawn_blocking(load).await.context("reading the last known good state")?;
    Ok(Arc::new(state))
}

/// Keeps readiness in step with the publisher until DNS may be answered.
async fn start(
    progress: &mut watch::Receiver<Progress>,
    readiness: &watch::Sender<Readiness>,
) -> anyhow::Result<()> {
    loop {
        match &*progress.borrow_and_update() {
            Progress::Started => return Ok(()),
            Progress::Waiting(missing) => {
                readiness.send_replace(Readiness::NotReady(missing.clone()));
            }
        }
        progress.changed().await.context("the publisher ended")?;
    }
}

/// Answers until a signal; then is not ready at once, answers on for the drain period, and stops.
async fn answer_until_told(
    mut dns: RunningDns,
    signals: &mut Signals,
    tasks: &mut Tasks,
    readiness: &watch::Sender<Readiness>,
    config: &Config,
) -> anyhow::Result<()> {
    let died = tokio::select! {
        () = signals.end() => None,
        // A server that answers in part only is worse than one that is restarted.
        died = dns.died() => Some(died),
        died = tasks.died() => Some(died),
    };
    readiness.send_replace(Readiness::NotReady(vec!["stopping".to_owned()]));
    if let Some(died) = died {
        dns.stop().await;
        bail!(died);
    }
    let drain = config.server.drain;
    info!(?drain, "not ready any more; answering on for the drain period");
    tokio::select! {
        () = sleep(drain) => {}
        // Told twice: at once.
        () = signals.end() => {}
    }
    dns.stop().await;
    info!("stopped");
    Ok(())
}

/// What the HTTP pages show.
fn pages(
    cell: &Arc<SnapshotCell>,
    telemetry: &Telemetry,
    readiness: watch::Receiver<Readiness>,
    standings: watch::Receiver<Vec<(Label, Standing)>>,
    checks: watch::Receiver<votes::Status>,
    geography: Arc<Geography>,
) -> HttpState {
    let (for_state, for_explain, for_drill) = (cell.clone(), cell.clone(), cell.clone());
    HttpState {
        telemetry: telemetry.clone(),
        readiness,
        state: Arc::new(move || {
            let (standings, databases) = (standings.borrow(), geography.status.borrow());
            state::of(&for_state.load(), &standings, &databases, &checks.borrow())
        }),
        explain: Arc::new(move |request: Request| {
            let explanation = explain(&for_explain.load(), &request);
            serde_json::to_value(explanation).map_err(|error| error.to_string())
        }),
        drill: Arc::new(move |request: drill::Request| {
            let found = drill::drill(&Arc::clone(&for_drill.load()), &request);
            serde_json::to_value(found.map_err(|error| error.to_string())?)
                .map_err(|error| error.to_string())
        }),
    }
}

/// Counts what becomes of databases, until nobody reads them any more.
async fn count_databases(mut status: watch::Receiver<geo::watch::Status>, telemetry: Telemetry) {
    let mut failures = 0;
    while status.changed().await.is_ok() {
        let now = status.borrow_and_update().failures;
        let outcome = if now > failures { Outcome::Failure } else { Outcome::Success };
        telemetry.reloaded(Reload::Database, outcome);
        failures = now;
    }
}

/// Tasks that run as long as the server does and cannot begin anew.
struct Tasks {
    publishing: JoinHandle<()>,
    reloading: JoinHandle<()>,
    counting: JoinHandle<()>,
}

impl Tasks {
    /// Waits until one ends that should not, and says which.
    async fn died(&mut self) -> String {
        tokio::select! {
            _ = &mut self.publishing => "the publisher ended".to_owned(),
            _ = &mut self.reloading => "the reloader ended".to_owned(),
            _ = &mut self.counting => "reading of databases ended".to_owned(),
        }
    }
}

impl Tasks {
    /// Ends the publisher, which then keeps what it served for the next start. The reloader holds
    /// the one sender that keeps it going.
    async fn end(self) -> anyhow::Result<()> {
        self.counting.abort();
        self.reloading.abort();
        if self.publishing.is_finished() {
            return Ok(());
        }
        self.publishing.await.context("the publisher failed while it ended")
    }
}

/// Signals that the server obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("catching signals");
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: Some(catch(SignalKind::hangup())?),
        })
    }

    /// Waits for SIGTERM or SIGINT.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
