//! The comparison: all servers up at once, asked in turn in rounds, medians of all rounds.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;

use super::SizeArguments;
use super::api::Api;
use super::ask::Report;
use super::files::{Files, fresh};
use super::histogram::median;
use super::peers::Peer;
use super::process::{Process, free_address, pin, proportional_memory, until_answered};
use super::queries::{Expect, Kind, Queries};
use super::serve::{CLIENT_CPU, Meridian, SERVER_CPU, ask, binary};

#[derive(Args)]
pub(crate) struct Compare {
    /// Where to put files.
    directory: PathBuf,
    #[command(flatten)]
    size: SizeArguments,
    /// The server.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Rounds in which all are asked in turn.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Seconds that each is asked in each round.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measure Meridian and the echo only.
    #[arg(long)]
    alone: bool,
    /// Beside these; all unless told.
    #[arg(long, value_delimiter = ',', conflicts_with = "alone")]
    peers: Vec<Peer>,
}

/// How long a server may take to start.
const START: Duration = Duration::from_secs(180);

/// Ports of a forwarder that reuses its sockets.
const FEW: usize = 8;

/// A server that is measured.
struct Server {
    name: &'static str,
    address: SocketAddr,
    expect: Expect,
    pid: u32,
    /// Seconds from its start to its first answer, and megabytes then; not of the echo.
    start: Option<(f64, f64)>,
    _process: Process,
}

/// What is asked in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Load {
    Ecs,
    Plain,
    Nx,
    /// ECS, from few ports.
    Few,
    /// The same, and what comes together is taken together.
    Whole,
    /// ECS, at half of what the server could do.
    Half,
}

impl Load {
    const ALL: [Self; 6] = [Self::Ecs, Self::Plain, Self::Nx, Self::Few, Self::Whole, Self::Half];

    fn title(self) -> &'static str {
        match self {
            Self::Ecs => "ECS",
            Self::Plain => "Plain: names of all levels, no EDNS",
            Self::Nx => "NXDOMAIN",
            Self::Few => {
                "ECS from 8 ports that are used again (forwarders), not comparable with the others"
            }
            Self::Whole => {
                "The same, with trains of replies cut by nobody, as where a network card cuts them"
            }
            Self::Half => "ECS at half of the full load: latency",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Nx => "nx",
            Self::Ecs | Self::Few | Self::Whole | Self::Half => "ecs",
        }
    }
}

impl Compare {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let size = self.size.size();
        fresh(&self.directory)?;
        let files = Files::new(self.directory.canonicalize()?, size);
        files.write_database()?;
        println!("### {} services x {} clusters\n\n{}\n", size.services, size.clusters, machine());
        let apis = Api::all(size)?;
        let start = |files: Files, name| {
            let urls = apis.iter().map(Api::url).collect();
            let meridian = Meridian::start(&binary(self.binary.clone())?, files, urls)?;
            meridian.until_up(size.clusters)?;
            meridian.until_idle()?;
            Server::of(meridian, name)
        };
        let mut servers = vec![
            self.echo(&files)?,
            start(files.clone(), "**Meridian**")?,
            start(files.with_offload()?, "Meridian, `udpReceiveOffload`")?,
        ];
        let all = self.peers.is_empty() && !self.alone;
        for peer in if all { &Peer::ALL[..] } else { &self.peers } {
            match self.start(*peer, &files) {
                Ok(server) => servers.push(server),
                Err(error) => println!("{} is left out: {error}\n", peer.name()),
            }
        }
        for server in &servers {
            pin(server.pid, SERVER_CPU)?;
        }
        starts(&servers);
        let found = self.rounds(&servers)?;
        for load in Load::ALL {
            table(load, &servers, &found);
        }
        let raw: Vec<_> = found
            .iter()
            .map(|((load, server), reports)| (format!("{load:?}"), servers[*server].name, reports))
            .collect();
        fs::write(files.path("rounds.json"), serde_json::to_vec(&raw)?)?;
        Ok(())
    }

    /// The yardstick, whose replies are as long as Meridian's with ECS.
    fn echo(&self, files: &Files) -> anyhow::Result<Server> {
        let address = free_address()?;
        let arguments = ["echo", &address.to_string(), "--octets=160"];
        let program = std::env::current_exe()?;
        let process = Process::start(program, &arguments, &files.path("echo.log"))?;
        let (pid, query) = (process.id(), super::queries::plain("example.com"));
        until_answered(address, &query, START, |_| true)?;
        let (name, expect) = ("batched echo", Expect::Echo);
        Ok(Server { name, address, expect, pid, start: None, _process: process })
    }

    fn start(&self, peer: Peer, files: &Files) -> anyhow::Result<Server> {
        let address = free_address()?;
        let launch = peer.prepare(files, address)?;
        let arguments: Vec<&str> = launch.arguments.iter().map(String::as_str).collect();
        let log = files.path(&format!("{peer:?}.log"));
        let began = Instant::now();
        let process = Process::start(launch.program, &arguments, &log)?;
        let (pid, queries) = (process.id(), Queries::make(Kind::Ecs, files.size, 1, None));
        let (name, expect) = (peer.name(), peer.expect());
        until_answered(address, queries.wire(0), START, |reply| {
            queries.check(0, reply, expect).is_ok()
        })?;
        let start = Some((began.elapsed().as_secs_f64(), proportional_memory(pid)?));
        Ok(Server { name, address, expect, pid, start, _process: process })
    }

    fn rounds(&self, servers: &[Server]) -> anyhow::Result<BTreeMap<(Load, usize), Vec<Report>>> {
        let mut found: BTreeMap<(Load, usize), Vec<Report>> = BTreeMap::new();
        for round in 0..self.rounds {
            for load in Load::ALL {
                for turn in 0..servers.len() {
                    // Each round begins with another server.
                    let at = (turn + round) % servers.len();
                    let full = found.get(&(Load::Ecs, at)).and_then(|reports| reports.last());
                    let report = self.ask(&servers[at], load, full.map_or(0.0, |full| full.qps))?;
                    found.entry((load, at)).or_default().push(report);
                }
            }
        }
        Ok(found)
    }

    fn ask(&self, server: &Server, load: Load, full: f64) -> anyhow::Result<Report> {
        let expect = match server.expect {
            Expect::Exact => "exact",
            Expect::Set => "set",
            Expect::Some => "some",
            Expect::Echo => "echo",
        };
        let mut arguments = vec![
            server.address.to_string(),
            format!("--kind={}", load.kind()),
            format!("--expect={expect}"),
            format!("--services={}", self.size.services),
            format!("--clusters={}", self.size.clusters),
            format!("--seconds={}", self.seconds),
            format!("--pid={}", server.pid),
        ];
        match load {
            Load::Few => arguments.extend(["--few".to_owned(), format!("--ports={FEW}")]),
            Load::Whole => {
                let whole = ["--few".to_owned(), "--whole".to_owned(), format!("--ports={FEW}")];
                arguments.extend(whole);
            }
            Load::Half => arguments.push(format!("--rate={}", (full / 2.0).floor())),
            _ => {}
        }
        ask(Some(CLIENT_CPU), &arguments)
    }
}

impl Server {
    fn of(meridian: Meridian, name: &'static str) -> anyhow::Result<Self> {
        let pid = meridian.process.id();
        Ok(Self {
            name,
            address: meridian.dns,
            expect: Expect::Exact,
            pid,
            start: Some((meridian.first.as_secs_f64(), proportional_memory(pid)?)),
            _process: meridian.process,
        })
    }
}

fn starts(servers: &[Server]) {
    println!("| server | first answer after, s | memory then, MB |\n|---|---|---|");
    for server in servers {
        if let Some((seconds, megabytes)) = server.start {
            println!("| {} | {seconds:.1} | {megabytes:.0} |", server.name);
        }
    }
    println!();
}

fn table(load: Load, servers: &[Server], found: &BTreeMap<(Load, usize), Vec<Report>>) {
    println!("**{}**\n", load.title());
    match load {
        Load::Half => {
            println!(
                "| server | queries/s | p50 us | p99 us | p99.9 us | usual p99.9 us | lost | wrong |"
            )
        }
        _ => println!(
            "| server | queries/s | cpu us each | in user mode | beyond the echo | of the echo | of Meridian | busy | lost | wrong |"
        ),
    }
    println!(
        "|---|---|---|---|---|---|---|---|{}",
        if load == Load::Half { "" } else { "---|---|" }
    );
    for (at, server) in servers.iter().enumerate() {
        let reports = &found[&(load, at)];
        let of = |field: fn(&Report) -> f64| median(reports.iter().map(field).collect());
        let lost: u64 = reports.iter().map(|report| report.lost).sum();
        let wrong: u64 = reports.iter().map(|report| report.wrong).sum();
        let why = reports.iter().find_map(|report| report.why.clone());
        let wrong = why.map_or(wrong.to_string(), |why| format!("{wrong} ({why})"));
        // Of each round's pair, as what disturbs a round disturbs both.
        let beside = |other: usize, compare: fn(f64, f64) -> f64| {
            let pairs = reports.iter().zip(&found[&(load, other)]);
            median(pairs.filter_map(|(own, other)| Some(compare(own.cpu?, other.cpu?))).collect())
        };
        let ratio = |other| beside(other, |own, other| own / other);
        let (name, qps) = (server.name, of(|report| report.qps));
        if load == Load::Half {
            let [p50, p99] = [of(|r| r.p50), of(|r| r.p99)];
            let [p999, usual] = [of(|r| r.p999), of(|r| r.usual)];
            println!(
                "| {name} | {qps:.0} | {p50:.0} | {p99:.0} | {p999:.0} | {usual:.0} | {lost} | {wrong} |"
            );
        } else {
            let cpu = of(|report| report.cpu.unwrap_or_default());
            let busy = 100.0 * of(|report| report.busy.unwrap_or_default());
            let user = of(|report| report.user.unwrap_or_default());
            println!(
                "| {name} | {qps:.0} | {cpu:.2} | {user:.2} | {:.2} | {:.2} | {:.2} | {busy:.0} % | {lost} | {wrong} |",
                beside(0, |own, echo| own - echo),
                ratio(0),
                ratio(1)
            );
        }
    }
    println!();
}

/// Processor, kernel and versions.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<&str> = info
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text =
        format!("{} x {}, Linux {}", models.len(), models.first().unwrap_or(&"?"), kernel.trim());
    let query = ["-W", "-f", "; ${Package} ${Version}"];
    if let Ok(output) = Command::new("dpkg-query").args(query).args(Peer::PACKAGES).output() {
        text += &String::from_utf8_lossy(&output.stdout);
    }
    text
}
