//! The real binary as a child process.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use super::client::Client;
use super::{PATIENCE, PAUSE};

/// How often other ports are tried where another process took those chosen.
const PORT_TRIES: usize = 8;

/// A user that owns nothing, on every Linux.
const NOBODY: u32 = 65_534;

/// As whom the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// As the test.
    Same,
    /// As one who may not read what others forbid; only where the test runs as root that differs.
    Unprivileged,
}

/// How far the server must have come before [`Server::start`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// It answers DNS.
    Ready,
    /// It shows its HTTP pages.
    Up,
}

/// A running server with its directory; killed and removed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    directory: Arc<TempDir>,
    pub(crate) dns: SocketAddr,
    http: SocketAddr,
    upstream: Option<SocketAddr>,
    log: Arc<Mutex<String>>,
}

/// A page over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Server {
    /// Starts the server over the files of `directory`, with `$DNS`, `$HTTP` and `$UPSTREAM` in
    /// the text of its configuration replaced by addresses.
    pub(crate) fn start(
        directory: TempDir,
        config: &str,
        upstream: Option<SocketAddr>,
        user: User,
        until: Until,
    ) -> Self {
        let directory = Arc::new(directory);
        let binary = executable(directory.path(), user);
        let mut server = Self::launch(&directory, config, upstream, &binary, user);
        for _ in 0..PORT_TRIES {
            match server.wait(until) {
                Ok(()) => return server,
                Err(()) if server.log().contains("cannot listen on") => {
                    server = Self::launch(&directory, config, upstream, &binary, user);
                }
                Err(()) => break,
            }
        }
        panic!("the server did not start: {:?}\n{}", server.get("/readyz"), server.log());
    }

    fn launch(
        directory: &Arc<TempDir>,
        config: &str,
        upstream: Option<SocketAddr>,
        binary: &Path,
        user: User,
    ) -> Self {
        let (dns, http) = free_ports();
        let path = directory.path().join("meridian.yaml");
        fs::write(&path, render(config, dns, http, upstream)).expect("writable");
        let mut command = Command::new(binary);
        command.args(["serve", "--config"]).arg(&path).env("RUST_LOG", "info");
        command.env("NO_COLOR", "1").stdout(Stdio::null()).stderr(Stdio::piped());
        if user == User::Unprivileged && is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.spawn().expect("the binary runs");
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, shared) = (child.stderr.take().expect("piped"), log.clone());
        // Ends with the child, whose end closes the pipe.
        thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let mut log = shared.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, directory: directory.clone(), dns, http, upstream, log }
    }

    fn wait(&mut self, until: Until) -> Result<(), ()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.child.try_wait().expect("a child").is_some() {
                // What it last said is still in the pipe for a moment.
                thread::sleep(PAUSE);
                return Err(());
            }
            let path = if until == Until::Ready { "/readyz" } else { "/livez" };
            if self.get(path).is_ok_and(|page| page.status == 200) {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        Err(())
    }

    /// A client at 127.0.0.1.
    pub(crate) fn client(&self) -> Client {
        Client::of(self.dns)
    }

    /// The directory with the configuration and the clusters.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    /// Replaces the configuration at one stroke.
    pub(crate) fn configure(&self, config: &str) {
        let text = render(config, self.dns, self.http, self.upstream);
        replace(&self.path("meridian.yaml"), &text);
    }

    /// All that was logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a signal by name, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(status.success(), "{kill}");
    }

    /// The names and nice values of its threads.
    pub(crate) fn threads(&self) -> Vec<(String, i64)> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let tasks =
            fs::read_dir(tasks).expect("it runs").map(|task| task.expect("readable").path());
        // A thread may have ended since.
        let stats = tasks.filter_map(|task| fs::read_to_string(task.join("stat")).ok());
        let thread = |stat: String| {
            // proc_pid_stat(5): the name stands in parentheses, and the nice value is field 19.
            let (before, after) = stat.rsplit_once(')').expect("a name");
            let name = before.split_once('(').expect("a name").1.to_owned();
            let nice = after.split_whitespace().nth(19 - 3).expect("a nice value");
            (name, nice.parse().expect("a number"))
        };
        stats.map(thread).collect()
    }

    /// Waits for the server to end by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            thread::sleep(PAUSE);
        }
        panic!("the server did not end:\n{}", self.log());
    }

    /// Fetches an HTTP page.
    pub(crate) fn get(&self, path: &str) -> Result<Page, String> {
        let text = |error: std::io::Error| error.to_string();
        let mut stream = TcpStream::connect_timeout(&self.http, PATIENCE).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).map_err(text)?;
        let mut page = String::new();
        stream.read_to_string(&mut page).map_err(text)?;
        let (head, body) = page.split_once("\r\n\r\n").ok_or("no HTTP")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Page { status: status.ok_or("no status")?, body: body.to_owned() })
    }

    /// The sum of the series of a metric, written as in Prometheus, that have the labels named.
    pub(crate) fn metric(&self, selector: &str) -> f64 {
        let page = self.get("/metrics").expect("metrics").body;
        let (name, labels) = selector.split_once('{').unwrap_or((selector, "}"));
        let labels: Vec<&str> = labels
            .trim_end_matches('}')
            .split(',')
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect();
        let series = page.lines().filter(|line| !line.starts_with('#'));
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, has) = series.split_once('{').unwrap_or((series, ""));
            let all = found == name && labels.iter().all(|label| has.contains(label));
            all.then(|| value.parse::<f64>().expect("a number"))
        };
        series.filter_map(value).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a file beside `path` and puts it in its place.
pub(crate) fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("writable");
    fs::rename(&beside, path).expect("renamed");
}

fn render(config: &str, dns: SocketAddr, http: SocketAddr, upstream: Option<SocketAddr>) -> String {
    let quoted = |address: SocketAddr| format!("\"{address}\"");
    let text = config.replace("$DNS", &quoted(dns)).replace("$HTTP", &quoted(http));
    match upstream {
        Some(upstream) => text.replace("$UPSTREAM", &quoted(upstream)),
        None => text,
    }
}

/// A port that is free over UDP and TCP, and another one for HTTP.
fn free_ports() -> (SocketAddr, SocketAddr) {
    loop {
        let http = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let dns = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = dns.local_addr().expect("bound");
        if UdpSocket::bind(address).is_ok() {
            return (address, http.local_addr().expect("bound"));
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|data| data.uid() == 0)
}

/// The binary where `user` may run it: the directory that it was built in may be closed to others.
fn executable(directory: &Path, user: User) -> PathBuf {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_meridian"));
    if user == User::Same || !is_root() {
        return built;
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("ours");
    let copy = directory.join("meridian");
    fs::copy(&built, &copy).expect("room for a copy");
    copy
}
