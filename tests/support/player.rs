//! Plays scenarios: the real binary, and each step against it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::PAUSE;
use super::client::{BOTH, Client, Over};
use super::dns::{self, Query, Reply};
use super::scenario::{Ask, Change, Expected, FileChange, ORIGIN, Scenario, Serial, Step};
use super::server::{Server, Until, User};
use super::upstream::Upstream;

/// Where that lies which the files of a scenario hold.
pub(crate) trait Backing {
    /// How long anything that must come true may take.
    const PATIENCE: Duration;

    /// Whether an answer that shows a part of a change may come before the rest of it, as objects
    /// travel one by one.
    const PIECEMEAL: bool;

    /// A configuration of the scenario with sources of this kind.
    fn config(&self, text: &str) -> String;

    /// Lays out what there is at first, with `directory` as that of the server. Tells as whom the
    /// server runs, and how far it can come.
    fn begin(&mut self, directory: &Path, scenario: &Scenario) -> (User, Until);

    /// Makes a change.
    fn change(&mut self, directory: &Path, change: &FileChange);
}

/// Plays `scenario` over `backing`.
pub(crate) fn play<B: Backing>(
    (scenario, steps): &(Scenario, Vec<Step>),
    backing: B,
) -> Result<(), String> {
    let mut run = Run::start(scenario, backing);
    for (index, step) in steps.iter().enumerate() {
        run.step(step).map_err(|why| {
            let number = index + 1;
            format!("step {number}, {step:?}:\n{why}\n--- log ---\n{}", run.server.log())
        })?;
    }
    Ok(())
}

/// A scenario being played.
struct Run<B> {
    server: Server,
    backing: B,
    upstream: Option<Upstream>,
    /// Whether something has changed that the server may not have seen yet.
    unsettled: bool,
    /// Whether anything has changed since the start.
    changed: bool,
    serial: Option<u32>,
}

impl<B: Backing> Run<B> {
    fn start(scenario: &Scenario, mut backing: B) -> Self {
        let directory = tempfile::tempdir().expect("room for files");
        let (user, until) = backing.begin(directory.path(), scenario);
        let upstream = scenario.upstream.clone().map(Upstream::start);
        let address = upstream.as_ref().map(|upstream| upstream.address);
        let config = backing.config(&scenario.config);
        let server = Server::start(directory, &config, address, user, until);
        // Host names are resolved behind the first answer.
        let unsettled = upstream.is_some() || until == Until::Up;
        Self { server, backing, upstream, unsettled, changed: false, serial: None }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Ask(ask, expected) => {
                let server = &self.server;
                let check = || ask_and_check(server, ask, expected);
                // Tables of scopes follow a change by themselves, after what is answered.
                let later = self.changed && (B::PIECEMEAL || expected.scope.is_some());
                if self.unsettled || later { eventually::<B, _>(check) } else { check() }?;
                self.unsettled = false;
                Ok(())
            }
            Step::Rotate(ask, lead) => self.rotate(ask, lead),
            Step::Send(octets, reply) => self.send(octets, *reply),
            Step::Change(change) => {
                self.change(change);
                self.unsettled = true;
                self.changed = true;
                Ok(())
            }
            Step::Metric { selector, is, above } => eventually::<B, _>(|| {
                let value = self.server.metric(selector);
                let holds = is.is_none_or(|is| value == is) && above.is_none_or(|low| value > low);
                if holds { Ok(()) } else { Err(format!("it is {value}")) }
            }),
            Step::Http { path, status, contains, lacks } => eventually::<B, _>(|| {
                let page = self.server.get(path)?;
                let holds = page.status == *status
                    && contains.iter().all(|text| page.body.contains(text))
                    && !lacks.iter().any(|text| page.body.contains(text));
                if holds { Ok(()) } else { Err(format!("{} {}", page.status, page.body)) }
            }),
            Step::Log(text) => {
                let holds = || self.server.log().contains(text);
                eventually::<B, _>(|| if holds() { Ok(()) } else { Err("not logged".into()) })
            }
            Step::Serial(became) => self.serial(*became),
            Step::Exit(status) => match self.server.ended().code() {
                Some(code) if code == *status => Ok(()),
                code => Err(format!("exit status {code:?}")),
            },
        }
    }

    /// Equals take turns at the head of answers: asks until each has stood there.
    fn rotate(&self, ask: &Ask, lead: &[String]) -> Result<(), String> {
        for over in &ask.over {
            let mut missing: Vec<&String> = lead.iter().collect();
            for _ in 0..lead.len() * 4 {
                let reply = client(&self.server, ask).ask(*over, &ask.query)?;
                missing.retain(|record| reply.answer().first() != Some(*record));
            }
            if !missing.is_empty() {
                return Err(format!("never first over {over:?}: {missing:?}"));
            }
        }
        Ok(())
    }

    fn send(&self, octets: &[u8], expected: Option<u16>) -> Result<(), String> {
        let probe = Query { id: 0x7072, ..Query::new(ORIGIN, "SOA") };
        for over in BOTH {
            let text = |error: std::io::Error| error.to_string();
            let client = self.server.client();
            let Some(rcode) = expected else {
                let first = client.first_reply_after(over, octets, &probe).map_err(text)?;
                if first[..2] == probe.id.to_be_bytes() {
                    continue;
                }
                return Err(format!("a reply came over {over:?}: {first:02x?}"));
            };
            let reply = Reply::parse(&client.exchange(over, octets).map_err(text)?)?;
            if reply.rcode() != rcode || reply.bytes[..2] != octets[..2] {
                return Err(format!("over {over:?}: {reply}"));
            }
        }
        Ok(())
    }

    fn serial(&mut self, became: Serial) -> Result<(), String> {
        let ask = |server: &Server| -> Result<u32, String> {
            let reply = server.client().ask(Over::Udp, &Query::new(ORIGIN, "SOA"))?;
            let answer = reply.answer();
            let serial = answer.first().and_then(|soa| soa.split(' ').nth(5)?.parse().ok());
            serial.ok_or_else(|| format!("no serial in {answer:?}"))
        };
        let before = self.serial;
        let check = || {
            let now = ask(&self.server)?;
            let holds = match (became, before) {
                (Serial::Noted, _) => true,
                (Serial::Same, Some(before)) => now == before,
                (Serial::Grew, Some(before)) => now > before,
                (_, None) => return Err("no serial was noted".into()),
            };
            if holds { Ok(now) } else { Err(format!("{now} after {before:?}")) }
        };
        let unsettled = self.unsettled && became == Serial::Grew;
        self.serial = Some(if unsettled { eventually::<B, _>(check) } else { check() }?);
        Ok(())
    }

    fn change(&mut self, change: &Change) {
        match change {
            Change::Files(change) => self.backing.change(&self.server.path(""), change),
            Change::Config(config) => self.server.configure(&self.backing.config(config)),
            Change::Upstream(hosts) => {
                self.upstream.as_ref().expect("an upstream").set(hosts.clone());
            }
            Change::Signal(name) => self.server.signal(name),
        }
    }
}

fn client(server: &Server, ask: &Ask) -> Client {
    let client = server.client();
    Client { source: ask.source.unwrap_or(client.source), ..client }
}

/// Looks until `check` holds; gives its last complaint when it never does.
fn eventually<B: Backing, T>(check: impl Fn() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + B::PATIENCE;
    loop {
        let outcome = check();
        if outcome.is_ok() || Instant::now() > deadline {
            return outcome;
        }
        thread::sleep(PAUSE);
    }
}

fn ask_and_check(server: &Server, ask: &Ask, expected: &Expected) -> Result<(), String> {
    for over in &ask.over {
        let reply = client(server, ask).ask(*over, &ask.query)?;
        check(ask, expected, &reply).map_err(|why| format!("over {over:?}, {why}:\n{reply}"))?;
    }
    Ok(())
}

fn check(ask: &Ask, expected: &Expected, reply: &Reply) -> Result<(), &'static str> {
    let mut flags = expected.flags.clone();
    if ask.query.flags & 0x100 != 0 {
        flags.push("rd".into());
    }
    if reply.rcode() != expected.rcode {
        return Err("another RCODE");
    }
    if reply.flags() != flags {
        return Err("other flags");
    }
    let mut answer = reply.answer().into_iter();
    for group in &expected.answer {
        let mut found: Vec<String> = answer.by_ref().take(group.len()).collect();
        let mut group = group.clone();
        found.sort();
        group.sort();
        if !same(&found, &group) {
            return Err("another answer");
        }
    }
    if answer.next().is_some() {
        return Err("more in the answer");
    }
    let authority: Vec<String> = reply.authority();
    match (&authority[..], &expected.soa) {
        ([], None) => {}
        ([one], Some(soa)) if starts_with(one, soa) => {}
        _ => return Err("another authority section"),
    }
    let mut additional = reply.additional();
    additional.sort();
    if !same(&additional, &expected.additional.iter().cloned().collect::<Vec<_>>()) {
        return Err("another additional section");
    }
    if reply.opt.is_some() != ask.query.opt.is_some() {
        return Err("EDNS where there is none in the query, or none where there is");
    }
    if reply.scope() != expected.scope {
        return Err("another scope");
    }
    let error = reply.option(dns::EXTENDED_ERROR);
    if error != expected.ede.map(u16::to_be_bytes).as_ref().map(|code| &code[..]) {
        return Err("another extended error");
    }
    Ok(())
}

/// Equal but for the case of names (RFC 4343).
fn same(one: &[String], other: &[String]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.eq_ignore_ascii_case(b))
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
