//! Scenario files: how they are written.
//!
//! A scenario is a configuration, the files of its clusters, and steps. Names without a final dot
//! are relative to [`ORIGIN`]; a record is written `owner TTL type data`, `@` is the origin. What
//! the files hold may as well lie in API servers, one for each directory that a cluster has for its
//! `manifests`, unless the scenario says that only files will do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::client::{BOTH, Over};
use super::dns::{self, Opt, Query};
use super::manifests::Content;
use super::upstream::Hosts;

/// The domain of the federation in every scenario.
pub(crate) const ORIGIN: &str = "example.com.";

/// A file of `tests/scenarios`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Scenario {
    /// What it shows, for people.
    #[serde(rename = "about")]
    _about: String,
    /// The configuration as a user would write it, with `$DNS`, `$HTTP` and `$UPSTREAM` for
    /// addresses.
    pub(crate) config: String,
    /// Why it is played with files alone, where it means nothing beside API servers.
    pub(crate) only_files: Option<String>,
    /// Directories, with the files of each.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, BTreeMap<String, Content>>,
    /// Host names that the upstream resolver knows.
    pub(crate) upstream: Option<Hosts>,
    /// Directories that the server may not read at first; it is then not ready.
    #[serde(default)]
    pub(crate) unreadable: Vec<String>,
    pub(crate) steps: Vec<RawStep>,
}

/// One step: exactly one of its verbs, with what belongs to it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct RawStep {
    /// `NAME TYPE [+subnet=PREFIX] [+source=ADDRESS] [+edns] [+bufsize=N] [+do] [+nsid]
    /// [+class=CH] [+norec] [+udp] [+tcp]`, over both transports unless told otherwise.
    ask: Option<String>,
    rcode: Option<String>,
    flags: Option<String>,
    answer: Option<Vec<Group>>,
    /// TTL of the SOA record in the authority section, and its owner, the origin unless told.
    soa: Option<u32>,
    soa_of: Option<String>,
    additional: Option<BTreeSet<String>>,
    scope: Option<u8>,
    ede: Option<u16>,

    /// As `ask`: each record of `lead` stands first in some answer.
    rotate: Option<String>,
    lead: Option<Vec<String>>,

    /// Octets in hexadecimal; `reply` is an RCODE or `none`.
    send: Option<String>,
    reply: Option<String>,

    /// Files to write in place, by path.
    write: Option<BTreeMap<String, Content>>,
    /// Files to write beside their place and rename.
    replace: Option<BTreeMap<String, Content>>,
    /// Paths to rename, old to new.
    rename: Option<BTreeMap<String, String>>,
    /// Files or directories to delete.
    delete: Option<Vec<String>>,
    /// Directories to lay out as a ConfigMap mount does, or whose next content to swap in.
    config_map: Option<BTreeMap<String, BTreeMap<String, Content>>>,
    /// Directories that become readable.
    allow: Option<Vec<String>>,
    /// A new configuration.
    config: Option<String>,
    /// New host names for the upstream resolver.
    upstream: Option<Hosts>,
    /// A signal by name.
    signal: Option<String>,

    /// A metric with labels; the sum of its series becomes `is`, or becomes more than `above`.
    metric: Option<String>,
    is: Option<f64>,
    above: Option<f64>,

    /// A path, and what its page becomes.
    http: Option<String>,
    status: Option<u16>,
    contains: Option<Vec<String>>,
    lacks: Option<Vec<String>>,

    /// A text that the log comes to hold.
    log: Option<String>,
    /// What became of the SOA serial since the last such step.
    serial: Option<Serial>,
    /// The exit status with which the server ends.
    exit: Option<i32>,
}

/// Records at one place of an answer: one, or several in any order.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Group {
    One(String),
    Equals(Vec<String>),
}

/// What became of the SOA serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Serial {
    /// Only remembers it.
    Noted,
    Same,
    Grew,
}

/// A step that makes sense.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Ask(Ask, Expected),
    Rotate(Ask, Vec<String>),
    Send(Vec<u8>, Option<u16>),
    Change(Change),
    Metric { selector: String, is: Option<f64>, above: Option<f64> },
    Http { path: String, status: u16, contains: Vec<String>, lacks: Vec<String> },
    Log(String),
    Serial(Serial),
    Exit(i32),
}

/// Something outside the server that changes.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Files(FileChange),
    Config(String),
    Upstream(Hosts),
    Signal(String),
}

/// What changes in directories.
#[derive(Clone, Debug)]
pub(crate) enum FileChange {
    Write(BTreeMap<String, Content>),
    Replace(BTreeMap<String, Content>),
    Rename(BTreeMap<String, String>),
    Delete(Vec<String>),
    ConfigMap(BTreeMap<String, BTreeMap<String, Content>>),
    Allow(Vec<String>),
}

/// A query and who sends it.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) query: Query,
    pub(crate) source: Option<IpAddr>,
    pub(crate) over: Vec<Over>,
}

/// What a reply must be; what is not said must be empty.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) rcode: u16,
    pub(crate) flags: Vec<String>,
    pub(crate) answer: Vec<Vec<String>>,
    /// Owner, TTL and type of the SOA record in the authority section.
    pub(crate) soa: Option<String>,
    pub(crate) additional: BTreeSet<String>,
    pub(crate) scope: Option<u8>,
    pub(crate) ede: Option<u16>,
}

impl Scenario {
    /// All files of scenarios with their names, in order.
    pub(crate) fn all() -> Vec<(String, PathBuf)> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
            .expect("tests/scenarios is there")
            .map(|entry| entry.expect("readable").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "no scenarios in {}", directory.display());
        let name = |path: &Path| path.file_stem().expect("a file").to_string_lossy().into_owned();
        files.into_iter().map(|path| (name(&path), path)).collect()
    }

    /// The directories that are those of clusters at some time.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &String> {
        let later = self.steps.iter().filter_map(|step| step.config.as_ref());
        let configs: Vec<&String> = std::iter::once(&self.config).chain(later).collect();
        let named = move |name: &String| {
            let source = format!("{{manifests: {name}}}");
            configs.iter().any(|config| config.contains(&source))
        };
        self.files.keys().filter(move |name| named(name))
    }

    /// Reads a file.
    pub(crate) fn load(path: &Path) -> Result<(Self, Vec<Step>), String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let scenario: Self = serde_saphyr::from_str(&text).map_err(|error| error.to_string())?;
        let steps = scenario.steps.iter().enumerate();
        let steps = steps.map(|(index, raw)| {
            raw.clone().read().map_err(|why| format!("step {}: {why}", index + 1))
        });
        let steps = steps.collect::<Result<_, _>>()?;
        Ok((scenario, steps))
    }
}

impl RawStep {
    fn read(mut self) -> Result<Step, String> {
        let mut steps = Vec::new();
        let ask = self.ask.take().map(|text| Ask::parse(&text)).transpose()?;
        let rotate = self.rotate.take().map(|text| Ask::parse(&text)).transpose()?;
        let expected = self.expected()?;
        match (ask, expected) {
            (Some(ask), Some(expected)) => steps.push(Step::Ask(ask, expected)),
            (None, None) => {}
            _ => return Err("`ask` and what is expected go together".into()),
        }
        match (rotate, self.lead.take()) {
            (Some(ask), Some(lead)) => {
                let lead = lead.iter().map(|text| record(text)).collect::<Result<_, _>>()?;
                steps.push(Step::Rotate(ask, lead));
            }
            (None, None) => {}
            _ => return Err("`rotate` and `lead` go together".into()),
        }
        match (self.send.take(), self.reply.take()) {
            (Some(hex), Some(reply)) => {
                let reply = if reply == "none" { None } else { Some(rcode(&reply)?) };
                steps.push(Step::Send(octets(&hex)?, reply));
            }
            (None, None) => {}
            _ => return Err("`send` and `reply` go together".into()),
        }
        steps.extend(self.watched()?);
        steps.extend(self.change().into_iter().map(Step::Change));
        match <[Step; 1]>::try_from(steps) {
            Ok([step]) => Ok(step),
            Err(steps) => Err(format!("has {} verbs, not one", steps.len())),
        }
    }

    /// What is said of the reply to `ask`, where anything is.
    fn expected(&mut self) -> Result<Option<Expected>, String> {
        let said = self.rcode.is_some()
            || self.flags.is_some()
            || self.answer.is_some()
            || self.soa.is_some()
            || self.additional.is_some()
            || self.scope.is_some()
            || self.ede.is_some();
        if !said {
            return Ok(None);
        }
        let rcode = self.rcode.take().map_or(Ok(dns::NOERROR), |text| rcode(&text))?;
        let authoritative = matches!(rcode, dns::NOERROR | dns::NXDOMAIN);
        let flags = self.flags.take().unwrap_or(if authoritative { "aa" } else { "" }.into());
        let group = |group: Group| match group {
            Group::One(text) => record(&text).map(|one| vec![one]),
            Group::Equals(texts) => texts.iter().map(|text| record(text)).collect(),
        };
        Ok(Some(Expected {
            rcode,
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            answer: self
                .answer
                .take()
                .into_iter()
                .flatten()
                .map(group)
                .collect::<Result<_, _>>()?,
            soa: self.soa.take().map(|ttl| {
                let owner = self.soa_of.take().unwrap_or_else(|| ORIGIN.to_owned());
                format!("{owner} {ttl} SOA ")
            }),
            additional: self
                .additional
                .take()
                .into_iter()
                .flatten()
                .map(|text| record(&text))
                .collect::<Result<_, _>>()?,
            scope: self.scope.take(),
            ede: self.ede.take(),
        }))
    }

    /// Steps that look at something else than DNS.
    fn watched(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        if let Some(selector) = self.metric.take() {
            let (is, above) = (self.is.take(), self.above.take());
            if is.is_some() == above.is_some() {
                return Err("a metric has `is` or `above`".into());
            }
            steps.push(Step::Metric { selector, is, above });
        }
        if let Some(path) = self.http.take() {
            steps.push(Step::Http {
                path,
                status: self.status.take().unwrap_or(200),
                contains: self.contains.take().unwrap_or_default(),
                lacks: self.lacks.take().unwrap_or_default(),
            });
        }
        steps.extend(self.log.take().map(Step::Log));
        steps.extend(self.serial.take().map(Step::Serial));
        steps.extend(self.exit.take().map(Step::Exit));
        let left = [self.is.is_some(), self.above.is_some(), self.status.is_some()];
        if left.contains(&true) || self.contains.is_some() || self.lacks.is_some() {
            return Err("says what something is, and not what".into());
        }
        Ok(steps)
    }

    fn change(self) -> Vec<Change> {
        let files = [
            self.write.map(FileChange::Write),
            self.replace.map(FileChange::Replace),
            self.rename.map(FileChange::Rename),
            self.delete.map(FileChange::Delete),
            self.config_map.map(FileChange::ConfigMap),
            self.allow.map(FileChange::Allow),
        ];
        let others = [
            self.config.map(Change::Config),
            self.upstream.map(Change::Upstream),
            self.signal.map(Change::Signal),
        ];
        let files = files.map(|change| change.map(Change::Files));
        files.into_iter().chain(others).flatten().collect()
    }
}

impl Ask {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (Some(name), Some(qtype)) = (words.next(), words.next()) else {
            return Err(format!("'{text}' is no question: NAME TYPE"));
        };
        let mut ask =
            Self { query: Query::new(&absolute(name), qtype), source: None, over: BOTH.to_vec() };
        let query = &mut ask.query;
        for word in words {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let bad = || format!("'{word}' is no option of a question");
            match key {
                "+norec" => query.flags = 0,
                "+udp" => ask.over = vec![Over::Udp],
                "+tcp" => ask.over = vec![Over::Tcp],
                "+source" => ask.source = Some(value.parse().map_err(|_| bad())?),
                "+class" if value == "CH" => query.qclass = 3,
                "+edns" | "+subnet" | "+bufsize" | "+do" | "+nsid" => {
                    let mut opt = query.opt.take().unwrap_or_default();
                    match key {
                        "+subnet" => opt = opt.subnet(value),
                        "+bufsize" => opt.payload = value.parse().map_err(|_| bad())?,
                        "+do" => opt.flags |= Opt::DO,
                        "+nsid" => opt = opt.with(dns::NSID, &[]),
                        _ => {}
                    }
                    query.opt = Some(opt);
                }
                _ => return Err(bad()),
            }
        }
        Ok(ask)
    }
}

fn absolute(name: &str) -> String {
    match name {
        "@" => ORIGIN.into(),
        _ if name.ends_with('.') => name.into(),
        _ => format!("{name}.{ORIGIN}"),
    }
}

/// A record with absolute names and single spaces.
fn record(text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [owner, ttl, rtype, data @ ..] = &words[..] else {
        return Err(format!("'{text}' is no record: OWNER TTL TYPE DATA"));
    };
    ttl.parse::<u32>().map_err(|_| format!("'{ttl}' is no TTL"))?;
    let mut data: Vec<String> = data.iter().map(|word| (*word).to_owned()).collect();
    if let (true, Some(last)) = (matches!(*rtype, "CNAME" | "NS" | "SRV" | "MX"), data.last_mut()) {
        *last = absolute(last);
    }
    Ok(format!("{} {ttl} {rtype} {}", absolute(owner), data.join(" ")))
}

fn rcode(text: &str) -> Result<u16, String> {
    let known = [
        ("NOERROR", dns::NOERROR),
        ("FORMERR", dns::FORMERR),
        ("SERVFAIL", dns::SERVFAIL),
        ("NXDOMAIN", dns::NXDOMAIN),
        ("NOTIMP", dns::NOTIMP),
        ("REFUSED", dns::REFUSED),
        ("BADVERS", dns::BADVERS),
    ];
    let found = known.iter().find(|(name, _)| *name == text);
    found.map(|(_, code)| *code).ok_or_else(|| format!("'{text}' is no RCODE"))
}

fn octets(hex: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2);
        text.and_then(|text| u8::from_str_radix(text, 16).ok())
    };
    let octets: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    octets.ok_or_else(|| format!("'{hex}' is not hexadecimal"))
}
