//! Processes: started, watched, and ended by their ids.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process that ends with its owner.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program that writes what it has to say to `log`.
    pub(crate) fn start(
        program: impl AsRef<OsStr>,
        arguments: &[&str],
        log: &Path,
    ) -> io::Result<Self> {
        let log = fs::File::create(log)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: command.spawn()? })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal by name, such as `HUP`.
    pub(crate) fn signal(&self, name: &str) -> io::Result<()> {
        Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .status()
            .map(|_| ())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        while self.runs() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Where it has not ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs on one processor only, where one is named.
pub(crate) fn on(processor: Option<usize>, program: impl AsRef<OsStr>) -> Command {
    match processor {
        None => Command::new(program),
        Some(processor) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &processor.to_string()]).arg(program);
            command
        }
    }
}

/// Has the calling thread, and those it starts, take no processor from a client that times replies, nor
/// from the server: it plays what in truth is on other machines.
pub(crate) fn stand_back() {
    // One that is not nicer only makes figures worse.
    _ = rustix::process::setpriority_process(None, 19);
}

/// Has the calling thread give its processor to hardly any other: where a client that times replies
/// waits for one, that is not the server's delay.
pub(crate) fn stand_in_front() {
    // Needs CAP_SYS_NICE; without it, figures are only worse.
    _ = rustix::process::setpriority_process(None, -20);
}

/// Nanoseconds that all threads of a process that live, and of its children, were on a processor.
pub(crate) fn on_processor(pid: u32) -> io::Result<u64> {
    let mut nanoseconds = 0;
    for pid in tree(pid) {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may have ended meanwhile.
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            let first = text.split(' ').next().and_then(|number| number.parse::<u64>().ok());
            nanoseconds += first.unwrap_or(0);
        }
    }
    Ok(nanoseconds)
}

/// Clock ticks that a process and its children spent in user mode, and in the kernel.
pub(crate) fn modes(pid: u32) -> io::Result<[u64; 2]> {
    let mut modes = [0; 2];
    for pid in tree(pid) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // proc_pid_stat(5): behind the name in parentheses comes field 3; these are 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        for (mode, ticks) in modes.iter_mut().zip(fields.skip(14 - 3)) {
            *mode += ticks.parse::<u64>().unwrap_or(0);
        }
    }
    Ok(modes)
}

/// Resident memory of a process now and at its peak, megabytes (10^6).
pub(crate) fn memory(pid: u32) -> io::Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let kibibytes: f64 = line.split_whitespace().next().unwrap_or("0").parse().unwrap_or(0.0);
        kibibytes * 1024.0 / 1e6
    };
    Ok((field("VmRSS:"), field("VmHWM:")))
}

/// A process and all that it has started.
fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(pid) = found.get(at) {
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        at += 1;
    }
    found
}

/// Memory of a process and its children, megabytes, what they share counted once.
pub(crate) fn proportional_memory(pid: u32) -> io::Result<f64> {
    let mut kibibytes = 0.0;
    for pid in tree(pid) {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
        kibibytes += line.split_whitespace().next().unwrap_or("0").parse().unwrap_or(0.0);
    }
    Ok(kibibytes * 1024.0 / 1e6)
}

/// Has all threads of a process and its children run on one processor only.
pub(crate) fn pin(pid: u32, processor: usize) -> io::Result<()> {
    for pid in tree(pid) {
        taskset(&["-a", "-p", "-c", &processor.to_string(), &pid.to_string()])?;
    }
    Ok(())
}

/// Has the threads of a process whose names begin so run on one processor only.
pub(crate) fn pin_threads(pid: u32, names: &str, processor: usize) -> io::Result<()> {
    let mut any = false;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let task = task?;
        // A thread may have ended meanwhile.
        if fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with(names)) {
            any = true;
            taskset(&["-p", "-c", &processor.to_string(), &task.file_name().to_string_lossy()])?;
        }
    }
    match any {
        true => Ok(()),
        false => Err(io::Error::other(format!("process {pid} has no thread {names}*"))),
    }
}

fn taskset(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("taskset").args(arguments).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// An address on loopback whose port is free over TCP and UDP.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
}

/// Sends `query` again and again until `done` says that the reply is right; the time that took.
pub(crate) fn until_answered(
    server: SocketAddr,
    query: &[u8],
    limit: Duration,
    mut done: impl FnMut(&[u8]) -> bool,
) -> io::Result<Duration> {
    let start = Instant::now();
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    // Not connected, so that a server that is not there yet is no error.
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    let mut reply = [0; 4096];
    while start.elapsed() < limit {
        socket.send_to(query, server)?;
        if let Ok(len) = socket.recv(&mut reply)
            && done(&reply[..len])
        {
            return Ok(start.elapsed());
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer from {server} in {limit:?}")))
}
