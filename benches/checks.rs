//! What active checks cost: CPU time and memory of 30,000 checks every 10 s.
//!
//!     cargo bench --bench checks
//!     cargo bench --bench checks -- tcp https      # these alone
//!
//! Prints tables for `docs/health.md`. The targets are on loopback and in another process. There
//! the kernel does the targets' part of a handshake in the time of who asks, so that a network
//! costs less than what is measured here.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use meridian::health::check::{Memory, Probed, Prober, Settings, Target, Timing};
use meridian::model::Check;
use tokio::task::JoinSet;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

#[path = "support/targets.rs"]
mod targets;

const CHECKS: usize = 30_000;
const PERIOD: Duration = Duration::from_secs(10);

/// How long a server is looked at: some periods, so that what begins them does not count.
const WATCHED: Duration = Duration::from_secs(30);

fn main() {
    if std::env::args().any(|argument| argument == targets::ROLE) {
        targets::serve();
    }
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let is_wanted = |kind: &str| wanted.is_empty() || wanted.iter().any(|name| name == kind);
    let targets = Targets::start();
    println!("{CHECKS} checks in {PERIOD:?}, {} targets each answer at once", targets.ports.len());
    println!("\nthe prober alone, and beside it the process of the targets:\n");
    println!("| check | CPU of one core | a check | memory in use | failed | CPU of the targets |");
    println!("|---|---|---|---|---|---|");
    for (kind, _) in targets.ports.iter().filter(|(kind, _)| is_wanted(kind)) {
        probe(kind, &targets);
    }
    println!("\nthe whole server, with one service for each target:\n");
    println!(
        "| checks | a second | CPU of one core | not passed at first | and later | memory in use |\n\
         |---|---|---|---|---|---|"
    );
    let idle = Served::by("off", |_| "tcp:1".to_owned());
    idle.row("none", None);
    for kind in ["tcp", "http", "https", "grpc"].into_iter().filter(|kind| is_wanted(kind)) {
        let port = targets.port(kind);
        // The same address, but another target for each service.
        let served = Served::by("always", |index| match kind {
            "tcp" => format!("tcp:{port} rise={} fall={}", index / 1000 + 1, index % 1000 + 1),
            "http" => format!("http:{port}/{index}"),
            "https" => format!("https:{port}/{index} host=shop.example.com"),
            _ => format!("grpc:{port}/s{index}"),
        });
        served.row(kind, Some(&idle));
    }
}

/// The process with all targets; it ends with this one.
struct Targets {
    process: Child,
    /// By what a check of them is called.
    ports: Vec<(String, u16)>,
}

impl Targets {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this one");
        let mut command = Command::new(program);
        command.arg(targets::ROLE).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("starts");
        let told = BufReader::new(process.stdout.take().expect("piped"));
        let lines = told.lines().map(|line| line.expect("text"));
        let ports = lines.take(targets::KINDS.len()).map(|line| {
            let (kind, port) = line.split_once(' ').expect("a kind and a port");
            (kind.to_owned(), port.parse().expect("a port"))
        });
        Self { ports: ports.collect(), process }
    }

    fn port(&self, kind: &str) -> u16 {
        self.ports.iter().find(|(name, _)| name == kind).expect("one of them").1
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Measures [`CHECKS`] of one kind, evenly over [`PERIOD`], and prints a row; another one of what
/// is asked over TLS, once sessions are taken up.
fn probe(kind: &str, targets: &Targets) {
    let text = match kind {
        "https" => "https/ host=shop.example.com",
        "dns" => "dns/www.example.com",
        kind => kind,
    };
    let check: Check = text.parse().expect("a check");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, targets.port(kind)));
    let target = Target { kind: check.kind, address, timing: Timing::default() };
    let authority = CertificateDer::from_pem_slice(targets::AUTHORITY.as_bytes()).expect("PEM");
    let concurrency = NonZeroUsize::new(1024).expect("not zero");
    let settings = Settings { authorities: [authority].into(), concurrency, ..Settings::default() };
    let prober = Arc::new(Prober::new(&settings));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    // What is made once does not count.
    let first = runtime.block_on(prober.probe(&target, &mut Memory::default()));
    assert_eq!(first.outcome, Probed::Passed, "{kind}");
    let all = All { prober, target, memories: Arc::default(), failures: Arc::default() };
    let measure = |what: &str, rounds: u32| {
        let (before, beside) = (cpu(), cpu_of(&targets.process.id().to_string()));
        for _ in 0..rounds {
            runtime.block_on(all.round());
        }
        let used = (cpu() - before) / rounds;
        let beside = (cpu_of(&targets.process.id().to_string()) - beside) / rounds;
        let share = |used: Duration| used.as_secs_f64() / PERIOD.as_secs_f64() * 100.0;
        let each = used / CHECKS as u32;
        let memory = memory("self") >> 20;
        // Those that ran out of time, where they need more than the one core that this has.
        let failures = std::mem::take(&mut *all.failures.lock().expect("whole"));
        let (used, beside) = (share(used), share(beside));
        println!(
            "| {what} | {used:.0} % | {each:.0?} | {memory} MiB | {failures} | {beside:.0} % |"
        );
    };
    if kind == "https" {
        measure("https, at first", 1);
        // As long as it takes until every certificate has been seen once more.
        measure("https, from then on", 6);
    } else {
        measure(kind, 1);
    }
}

/// As many targets as [`CHECKS`], which all are the same one, each with what its last check left
/// behind.
struct All {
    prober: Arc<Prober>,
    target: Target,
    memories: Arc<Mutex<Vec<Memory>>>,
    failures: Arc<Mutex<u64>>,
}

impl All {
    /// Checks each once, evenly over [`PERIOD`].
    async fn round(&self) {
        self.memories.lock().expect("whole").resize_with(CHECKS, Memory::default);
        let (start, mut begun, mut running) = (Instant::now(), 0, JoinSet::new());
        let mut tick = tokio::time::interval(Duration::from_millis(2));
        while begun < CHECKS {
            tick.tick().await;
            let elapsed = start.elapsed().as_secs_f64() / PERIOD.as_secs_f64();
            let due = ((elapsed * CHECKS as f64) as usize).min(CHECKS);
            for index in begun..due {
                let (prober, target) = (self.prober.clone(), self.target.clone());
                let (memories, failures) = (self.memories.clone(), self.failures.clone());
                running.spawn(async move {
                    let mut memory = std::mem::take(&mut memories.lock().expect("whole")[index]);
                    if prober.probe(&target, &mut memory).await.outcome != Probed::Passed {
                        *failures.lock().expect("whole") += 1;
                    }
                    memories.lock().expect("whole")[index] = memory;
                });
            }
            begun = due;
            while running.try_join_next().is_some() {}
        }
        running.join_all().await;
    }
}

/// A server with as many services as [`CHECKS`], looked at for a while.
struct Served {
    checks_a_second: f64,
    share: f64,
    /// How many did not pass in the first round, and in the time that counts.
    failed: [f64; 2],
    memory: u64,
}

impl Served {
    fn by(mode: &str, check: impl Fn(usize) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let http = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
        let http = http.expect("a port").port();
        fs::create_dir(folder.path().join("c")).expect("made");
        fs::write(folder.path().join("c/services.json"), services(check)).expect("written");
        fs::write(folder.path().join("ca.pem"), targets::AUTHORITY).expect("written");
        let seconds = PERIOD.as_secs();
        let config = format!(
            "federation: {{name: f, domain: example.com, nameservers: [{{name: ns.example.net}}], \
             export: all, minReady: 0, allowNets: [127.0.0.0/8]}}\n\
             listen: {{dns: ['127.0.0.1:0'], http: '127.0.0.1:{http}'}}\n\
             clusters: [{{name: c, source: {{manifests: c}}}}]\n\
             health: {{checks: {{mode: {mode}, interval: {seconds}s, authorities: [ca.pem]}}}}\n"
        );
        let file = folder.path().join("meridian.yaml");
        fs::write(&file, config).expect("written");
        let mut server = Server::start(&file);
        let ready = format!("http://127.0.0.1:{http}/readyz");
        let begun = Instant::now();
        while ureq::get(&ready).call().is_err() {
            assert!(begun.elapsed() < Duration::from_secs(120), "it does not become ready");
            sleep(Duration::from_millis(100));
        }
        // Until every target has had its first check.
        sleep(PERIOD);
        let metrics = format!("http://127.0.0.1:{http}/metrics");
        let (before, used) = (checks(&metrics), server.cpu());
        sleep(WATCHED);
        let (after, used) = (checks(&metrics), server.cpu() - used);
        let seconds = WATCHED.as_secs_f64();
        let served = Self {
            checks_a_second: (after.0 - before.0) / seconds,
            share: used.as_secs_f64() / seconds * 100.0,
            failed: [before.1, after.1 - before.1],
            memory: memory(&server.0.id().to_string()),
        };
        server.end();
        served
    }

    fn row(&self, what: &str, idle: Option<&Self>) {
        let Self { checks_a_second, share, failed: [first, later], memory } = self;
        let more = idle.map_or(String::new(), |idle| {
            format!(" ({} MiB more than without)", memory.saturating_sub(idle.memory) >> 20)
        });
        let memory = memory >> 20;
        println!(
            "| {what} | {checks_a_second:.0} | {share:.0} % | {first} | {later} | {memory} MiB{more} |"
        );
    }
}

struct Server(Child);

impl Server {
    fn start(config: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meridian"));
        command.arg("serve").arg("--config").arg(config).env("RUST_LOG", "warn");
        Self(command.spawn().expect("starts"))
    }

    fn cpu(&mut self) -> Duration {
        assert!(self.0.try_wait().expect("a child").is_none(), "the server has ended");
        cpu_of(&self.0.id().to_string())
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn services(check: impl Fn(usize) -> String) -> String {
    let items = (0..CHECKS).map(|index| {
        serde_json::json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": format!("s{index}"),
                "namespace": "n",
                "annotations": {"meridian.dev/check": check(index)},
            },
            "spec": {"ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}},
        })
    });
    let items: Vec<_> = items.collect();
    serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// Checks so far, and those that did not pass.
fn checks(metrics: &str) -> (f64, f64) {
    let mut text = String::new();
    let mut reply = ureq::get(metrics).call().expect("metrics");
    reply.body_mut().as_reader().read_to_string(&mut text).expect("text");
    let samples = text.lines().filter_map(|line| line.strip_prefix("meridian_checks_total{"));
    let samples = samples.map(|sample| {
        let (labels, count) = sample.split_once("} ").expect("a sample");
        (labels.contains("\"passed\""), count.parse::<f64>().expect("a number"))
    });
    samples.fold((0.0, 0.0), |(all, bad), (passed, count)| {
        (all + count, if passed { bad } else { bad + count })
    })
}

fn cpu() -> Duration {
    cpu_of("self")
}

/// CPU time of a process, from `/proc/PID/stat`: user and system, in hundredths of a second.
fn cpu_of(process: &str) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    // Behind the name, which may hold anything, in brackets.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks =
        fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks"));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Resident memory of a process, octets.
fn memory(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}
