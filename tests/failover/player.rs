//! What runs within a namespace: this program once more, told what to do by its standard input. Its
//! end, also that of a parent that was killed, ends it and all that it started.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use serde_json::Value;

use crate::support::apiserver::ApiServer;
use crate::support::client::{Client, Over};
use crate::support::dns::Query;
use crate::support::{PATIENCE, PAUSE};

/// Where an instance answers, on a loopback of its own.
pub(crate) const DNS: &str = "127.0.0.1:53";
/// Where it shows its pages.
pub(crate) const HTTP: &str = "127.0.0.1:9153";

/// Plays what the arguments say, if they say so.
pub(crate) fn play() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["play-cluster", api, balancer] => cluster(api, balancer),
        ["play-instance", config, log, name] => instance(config, log, name),
        _ => return false,
    }
    true
}

/// Commands until nobody gives any more.
fn commands() -> impl Iterator<Item = String> {
    io::stdin().lock().lines().map_while(Result::ok)
}

/// One line for who started this; where that is gone, this ends soon too.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// An API server and a load balancer. `put PLURAL OBJECT` and `balancer up` or `balancer down`, each
/// answered by `done`.
fn cluster(api: &str, balancer: &str) {
    let api = ApiServer::start_at(api.parse().expect("an address"));
    let address: SocketAddr = balancer.parse().expect("an address");
    let mut balancer = Some(Balancer::start(address));
    for command in commands() {
        let mut words = command.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("put"), Some(plural), Some(object)) => {
                api.put(plural, serde_json::from_str(object).expect("JSON"));
            }
            (Some("balancer"), Some("up"), None) => balancer = Some(Balancer::start(address)),
            (Some("balancer"), Some("down"), None) => drop(balancer.take()),
            _ => panic!("no command: {command}"),
        }
        say("done");
    }
}

/// A load balancer: it takes every connection and ends it.
struct Balancer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Balancer {
    fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("nobody else is here");
        let stopped = Arc::new(AtomicBool::new(false));
        let flag = stopped.clone();
        let accept = move || {
            let streams = listener.incoming().map_while(Result::ok);
            streams.take_while(|_| !flag.load(SeqCst)).for_each(drop);
        };
        Self { address, stopped, accepting: Some(thread::spawn(accept)) }
    }
}

impl Drop for Balancer {
    /// From here on connections are refused.
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.accepting.take() {
            thread.join().expect("it does not panic");
        }
    }
}

/// A server, killed when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An instance, and a resolver beside it that keeps nothing: `answer ADDRESSES` whenever the answer
/// for `name` is another. `state` is answered by `state` with the page in one line.
fn instance(config: &str, log: &str, name: &str) {
    let log = File::create(log).expect("writable");
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_meridian")));
    command.args(["serve", "--config", config]).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let _server = Server(command.spawn().expect("the binary runs"));
    let query = Query::new(name, "A");
    // Ends with the process.
    thread::spawn(move || {
        let client = Client::of(DNS.parse().expect("an address"));
        let mut before = None;
        loop {
            let now = resolve(&client, &query);
            if before.as_ref() != Some(&now) {
                say(&format!("answer {now}"));
                before = Some(now);
            }
            thread::sleep(PAUSE);
        }
    });
    for command in commands() {
        assert_eq!(command, "state");
        say(&format!("state {}", state().unwrap_or_default()));
    }
}

/// The addresses of an answer; none where there is no answer.
fn resolve(client: &Client, query: &Query) -> String {
    let Ok(reply) = client.ask(Over::Udp, query) else { return String::new() };
    let data = |record: String| record.rsplit(' ').next().unwrap_or_default().to_owned();
    let addresses: BTreeSet<String> = reply.answer().into_iter().map(data).collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

fn state() -> Option<Value> {
    let address = HTTP.parse().expect("an address");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET /state HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    serde_json::from_str(page.split_once("\r\n\r\n")?.1).ok()
}
