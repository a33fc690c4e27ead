//! `meridian serve`, the binary itself, started from files and looked at from outside.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ask::Report;
use super::files::Files;
use super::process::{
    Process, free_address, memory, on, on_processor, pin_threads, until_answered,
};
use super::queries::{Expect, Kind, Queries};

/// Where the parts run: the server and what it serves from share nothing with the client.
pub(crate) const SERVER_CPU: usize = 0;

/// The client's processor.
pub(crate) const CLIENT_CPU: usize = 1;

/// How long a start may take: that of a million services in sixteen clusters, and twice that.
const PATIENCE: Duration = Duration::from_secs(240);

/// A running server.
pub(crate) struct Meridian {
    pub(crate) process: Process,
    pub(crate) dns: SocketAddr,
    http: SocketAddr,
    apis: Vec<String>,
    pub(crate) files: Files,
    /// From its start to its first answer.
    pub(crate) first: Duration,
}

impl Meridian {
    /// Starts it over the files, with the API server of each cluster, and waits until it answers a
    /// query as it should.
    pub(crate) fn start(binary: &Path, files: Files, apis: Vec<String>) -> io::Result<Self> {
        Self::launch(&[binary.display().to_string()], files, apis)
    }

    /// The same within callgrind, which counts nothing yet.
    pub(crate) fn start_counted(
        binary: &Path,
        files: Files,
        apis: Vec<String>,
    ) -> io::Result<Self> {
        let out = format!("--callgrind-out-file={}/callgrind.out.%p", files.directory.display());
        let command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", &out];
        let binary = binary.display().to_string();
        let command: Vec<String> = command.map(String::from).into_iter().chain([binary]).collect();
        Self::launch(&command, files, apis)
    }

    fn launch(command: &[String], files: Files, apis: Vec<String>) -> io::Result<Self> {
        let (dns, http) = (free_address()?, free_address()?);
        let config = files.write_config(dns, http, &apis, &[])?.display().to_string();
        let log = files.path("log");
        let queries = Queries::make(Kind::Ecs, files.size, 1, None);
        let start = Instant::now();
        let mut arguments: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
        arguments.extend(["serve", "--config", &config]);
        let process = Process::start(&command[0], &arguments, &log)?;
        until_answered(dns, queries.wire(0), PATIENCE, |reply| {
            queries.check(0, reply, Expect::Exact).is_ok()
        })?;
        let first = start.elapsed();
        Ok(Self { process, dns, http, apis, files, first })
    }

    /// Resident memory now and at its peak, megabytes.
    pub(crate) fn memory(&self) -> io::Result<(f64, f64)> {
        memory(self.process.id())
    }

    /// Waits until `count` clusters have been read and are current.
    pub(crate) fn until_up(&self, count: usize) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let page = get(self.http, "/metrics").unwrap_or_default();
            let up = |line: &&str| {
                line.starts_with("meridian_cluster_state") && line.ends_with("state=\"up\"} 1")
            };
            if page.lines().filter(up).count() >= count {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "clusters are not up"))
    }

    /// Waits until it has nothing to do but to answer: after a start tables are compiled, the last
    /// known good state is written, and what is old is freed.
    pub(crate) fn until_idle(&self) -> io::Result<()> {
        const LOOK: Duration = Duration::from_millis(500);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let before = on_processor(self.process.id())?;
            std::thread::sleep(LOOK);
            let used = on_processor(self.process.id())?.saturating_sub(before);
            // A twentieth of a processor, which probes and scans of files stay below.
            if u128::from(used) * 20 < LOOK.as_nanos() {
                return Ok(());
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the server is never idle"))
    }

    /// How many snapshots it has published.
    pub(crate) fn generation(&self) -> io::Result<u64> {
        let page = get(self.http, "/metrics")?;
        let line = page.lines().find_map(|l| l.strip_prefix("meridian_snapshot_generation "));
        let number = line.and_then(|number| number.trim().parse().ok());
        number.ok_or_else(|| io::Error::other("no generation among the metrics"))
    }

    /// Has the threads that answer over UDP run on one processor only; the others have all.
    pub(crate) fn pin_workers(&self, processor: usize) -> io::Result<()> {
        pin_threads(self.process.id(), "udp-", processor)
    }

    /// Drains clusters by its configuration.
    pub(crate) fn drain(&self, clusters: &[usize]) -> io::Result<()> {
        self.files.write_config(self.dns, self.http, &self.apis, clusters)?;
        self.process.signal("HUP")
    }
}

/// A page over HTTP.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// Runs `load ask` as a process of its own on the client's processor.
pub(crate) fn ask(cpu: Option<usize>, arguments: &[String]) -> anyhow::Result<Report> {
    let mut command = on(cpu, std::env::current_exe()?);
    let output = command.arg("ask").args(arguments).arg("--json").output()?;
    if !output.status.success() {
        anyhow::bail!("load ask: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The binary beside this one, unless told.
pub(crate) fn binary(told: Option<PathBuf>) -> io::Result<PathBuf> {
    match told {
        Some(path) => path.canonicalize(),
        // `target/release/examples/load` and `target/release/meridian`.
        None => std::env::current_exe()?.with_file_name("../meridian").canonicalize(),
    }
}
