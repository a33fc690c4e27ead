//! Whole-server scenarios: one test for each file of `tests/scenarios`, against the real binary,
//! each question over UDP and over TCP.

#[allow(dead_code, reason = "each black-box test uses its part of it")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;

use support::client::{Client, Over};
use support::dns::{self, Query, Reply};
use support::manifests::Content;
use support::scenario::{Ask, Change, Expected, ORIGIN, Scenario, Serial, Step};
use support::server::{Server, Until, User, replace};
use support::upstream::Upstream;
use support::{PATIENCE, PAUSE};

fn main() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("tests/scenarios is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenarios in {}", directory.display());
    let trial = |path: PathBuf| {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        Trial::test(name, move || run(&path).map_err(Failed::from))
    };
    libtest_mimic::run(&Arguments::from_args(), files.into_iter().map(trial).collect()).exit();
}

fn run(path: &Path) -> Result<(), String> {
    let (scenario, steps) = Scenario::load(path)?;
    let mut run = Run::start(&scenario);
    for (index, step) in steps.iter().enumerate() {
        run.step(step).map_err(|why| {
            let number = index + 1;
            format!("step {number}, {step:?}:\n{why}\n--- log ---\n{}", run.server.log())
        })?;
    }
    Ok(())
}

/// A scenario being played.
struct Run {
    server: Server,
    upstream: Option<Upstream>,
    /// Whether something has changed that the server may not have seen yet.
    unsettled: bool,
    /// Whether anything has changed since the start.
    changed: bool,
    serial: Option<u32>,
}

impl Run {
    fn start(scenario: &Scenario) -> Self {
        let directory = tempfile::tempdir().expect("room for files");
        lay_out(&directory, &scenario.files);
        for name in &scenario.unreadable {
            set_mode(&directory.path().join(name), 0o000);
        }
        let upstream = scenario.upstream.clone().map(Upstream::start);
        let address = upstream.as_ref().map(|upstream| upstream.address);
        let (user, until) = if scenario.unreadable.is_empty() {
            (User::Same, Until::Ready)
        } else {
            (User::Unprivileged, Until::Up)
        };
        let server = Server::start(directory, &scenario.config, address, user, until);
        // Host names are resolved behind the first answer.
        let unsettled = upstream.is_some() || until == Until::Up;
        Self { server, upstream, unsettled, changed: false, serial: None }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Ask(ask, expected) => {
                let server = &self.server;
                let check = || ask_and_check(server, ask, expected);
                // Tables of scopes follow a change by themselves, after what is answered.
                let awaited = self.unsettled || (self.changed && expected.scope.is_some());
                if awaited { eventually(check) } else { check() }?;
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
            Step::Metric { selector, is, above } => eventually(|| {
                let value = self.server.metric(selector);
                let holds = is.is_none_or(|is| value == is) && above.is_none_or(|low| value > low);
                if holds { Ok(()) } else { Err(format!("it is {value}")) }
            }),
            Step::Http { path, status, contains, lacks } => eventually(|| {
                let page = self.server.get(path)?;
                let holds = page.status == *status
                    && contains.iter().all(|text| page.body.contains(text))
                    && !lacks.iter().any(|text| page.body.contains(text));
                if holds { Ok(()) } else { Err(format!("{} {}", page.status, page.body)) }
            }),
            Step::Log(text) => {
                let holds = || self.server.log().contains(text);
                eventually(|| if holds() { Ok(()) } else { Err("not logged".into()) })
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
        for over in support::client::BOTH {
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
        self.serial = Some(if unsettled { eventually(check) } else { check() }?);
        Ok(())
    }

    fn change(&self, change: &Change) {
        let path = |relative: &str| self.server.path(relative);
        match change {
            Change::Write(files) => {
                for (name, content) in files {
                    fs::write(path(name), content.text()).expect("writable");
                }
            }
            Change::Replace(files) => {
                files.iter().for_each(|(name, content)| replace(&path(name), &content.text()));
            }
            Change::Rename(names) => {
                for (old, new) in names {
                    fs::rename(path(old), path(new)).expect("renamed");
                }
            }
            Change::Delete(names) => {
                for path in names.iter().map(|name| path(name)) {
                    let is_directory = path.is_dir();
                    let remove = if is_directory { fs::remove_dir_all } else { fs::remove_file };
                    remove(&path).expect("deleted");
                }
            }
            Change::ConfigMap(directories) => {
                directories.iter().for_each(|(name, files)| swap_config_map(&path(name), files));
            }
            Change::Allow(names) => names.iter().for_each(|name| set_mode(&path(name), 0o755)),
            Change::Config(config) => self.server.configure(config),
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
fn eventually<T>(check: impl Fn() -> Result<T, String>) -> Result<T, String> {
    let deadline = Instant::now() + PATIENCE;
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

fn lay_out(directory: &TempDir, files: &BTreeMap<String, BTreeMap<String, Content>>) {
    for (name, files) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(&path).expect("a new directory");
        for (file, content) in files {
            fs::write(path.join(file), content.text()).expect("writable");
        }
    }
}

/// Puts files into a directory as Kubernetes mounts a ConfigMap: in a directory of their own, which
/// the link `..data` names, with a link beside it for each file; one rename changes them all.
fn swap_config_map(directory: &Path, files: &BTreeMap<String, Content>) {
    let number = fs::read_dir(directory).expect("a directory").count();
    let generation = format!("..generation_{number}");
    fs::create_dir(directory.join(&generation)).expect("a new directory");
    for (name, content) in files {
        fs::write(directory.join(&generation).join(name), content.text()).expect("writable");
    }
    symlink(&generation, directory.join("..data_tmp")).expect("a new link");
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("renamed");
    for name in files.keys() {
        let link = directory.join(name);
        if !link.is_symlink() {
            symlink(format!("..data/{name}"), link).expect("a new link");
        }
    }
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let stale = entry.path().is_symlink() && !entry.path().exists();
        if stale {
            fs::remove_file(entry.path()).expect("ours");
        }
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}
