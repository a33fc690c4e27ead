//! The whole server, measured from outside: `cargo run --release --example load -- --help`.
//!
//! Shares nothing with the server but names and the format of the last known good state. What is
//! measured, and how to read it, is in `docs/performance.md`.

mod api;
mod ask;
mod changes;
mod compare;
mod echo;
mod files;
mod growth;
mod histogram;
mod instructions;
mod memory;
mod mmdb;
mod model;
mod peers;
mod process;
mod queries;
mod serve;
mod sockets;

use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use ask::{Pace, Plan, Report, ask};
use files::{Files, NOBODY, fresh};
use model::{REGIONS, Size};
use process::stand_in_front;
use queries::{Expect, Kind, Queries};
use sockets::Sources;

/// Measures name servers.
#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Send every datagram back: what the kernel alone costs.
    Echo {
        address: SocketAddrV4,
        /// Octets of a reply, at least.
        #[arg(long, default_value_t = 0)]
        octets: usize,
    },
    /// Ask a server, check its replies, count.
    Ask(Ask),
    /// Write configuration, database and last known good state of a federation.
    Federation {
        directory: PathBuf,
        #[command(flatten)]
        size: SizeArguments,
        #[arg(long, default_value = "127.0.0.1:5300")]
        dns: SocketAddr,
        #[arg(long, default_value = "127.0.0.1:9153")]
        http: SocketAddr,
    },
    /// Compare with other servers and the echo.
    Compare(compare::Compare),
    /// Change a running federation: how soon changes are answered, and what they cost.
    Changes(changes::Changes),
    /// Count instructions with callgrind.
    Instructions(instructions::Instructions),
    /// Measure federations of several sizes.
    Growth(growth::Growth),
    /// What it holds after a start, and at its peak.
    Memory(memory::Memory),
}

#[derive(Args, Clone, Copy)]
struct SizeArguments {
    /// Services, each in every cluster.
    #[arg(long, default_value_t = 100_000)]
    services: usize,
    /// Clusters.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=REGIONS.len() as i64))]
    clusters: u16,
}

impl SizeArguments {
    fn size(self) -> Size {
        Size { services: self.services, clusters: self.clusters.into() }
    }
}

#[derive(Args)]
struct Ask {
    server: SocketAddr,
    #[arg(long, default_value = "ecs")]
    kind: Kind,
    #[arg(long, default_value = "exact")]
    expect: Expect,
    #[command(flatten)]
    size: SizeArguments,
    /// Source ports, each with 32 addresses; with --few as many ports of one address.
    #[arg(long, default_value_t = 1_024)]
    ports: usize,
    /// A burst of queries from each port, as forwarders send them.
    #[arg(long)]
    few: bool,
    /// With --few: take trains of replies whole.
    #[arg(long, requires = "few")]
    whole: bool,
    /// One query at a time from each port, by plain sockets: for servers that are not on loopback.
    #[arg(long, conflicts_with = "few")]
    single: bool,
    /// Queries a second, whatever becomes of them; otherwise as fast as the server answers.
    #[arg(long)]
    rate: Option<f64>,
    /// Queries on their way at a time, without --rate. As many fit the buffers that sockets usually
    /// have.
    #[arg(long, default_value_t = 192)]
    window: usize,
    /// Seconds that are measured.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The server's process, to tell its processor time.
    #[arg(long)]
    pid: Option<u32>,
    /// One of so many services may lack shards, as they change.
    #[arg(long)]
    changing: Option<usize>,
    /// A line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Different queries, asked in turn: enough that no cache of the processor holds their answers.
const QUERIES: usize = 200_000;

/// Before anything is measured.
const WARM: Duration = Duration::from_millis(300);

impl Ask {
    fn run(self) -> anyhow::Result<()> {
        let mut queries = Queries::make(self.kind, self.size.size(), QUERIES, self.changing);
        let sources = match (self.few, self.single) {
            (true, _) => Sources::Few { ports: self.ports, whole: self.whole },
            (_, true) => Sources::Single(self.ports),
            _ => Sources::Many(self.ports),
        };
        if self.few {
            queries.sort_by_length();
        }
        let plan = Plan {
            server: self.server,
            sources,
            pace: self.rate.map_or(Pace::Closed(self.window), Pace::Open),
            expect: self.expect,
            warm: WARM,
            measured: Duration::from_secs_f64(self.seconds),
            pid: self.pid,
        };
        stand_in_front();
        let report = ask(&plan, &queries).context("asking (many sources need CAP_NET_RAW)")?;
        match self.json {
            true => println!("{}", serde_json::to_string(&report)?),
            false => table(&report),
        }
        Ok(())
    }
}

fn table(report: &Report) {
    let Report { qps, answered, lost, wrong, mixed, .. } = report;
    let Report { p50, p99, p999, max, octets, .. } = report;
    let cpu = report.cpu.map_or("-".to_owned(), |cpu| format!("{cpu:.2}"));
    println!(
        "| qps | cpu us/q | p50 us | p99 us | p99.9 us | max us | octets | answered | lost | wrong | mixed |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    println!(
        "| {qps:.0} | {cpu} | {p50:.0} | {p99:.0} | {p999:.0} | {max:.0} | {octets:.0} | {answered} \
         | {lost} | {wrong} | {mixed} |"
    );
    if let Some(why) = &report.why {
        println!("the first wrong reply: {why}");
    }
}

fn main() -> anyhow::Result<()> {
    match Command::parse().what {
        What::Echo { address, octets } => echo::echo(address, octets)?,
        What::Ask(ask) => ask.run()?,
        What::Compare(compare) => compare.run()?,
        What::Changes(changes) => changes.run()?,
        What::Instructions(instructions) => instructions.run()?,
        What::Growth(growth) => growth.run()?,
        What::Memory(memory) => memory.run()?,
        What::Federation { directory, size, dns, http } => {
            fresh(&directory)?;
            let files = Files::new(directory.canonicalize()?, size.size());
            files.write_database()?;
            let nobody = vec![NOBODY.to_owned(); files.size.clusters];
            let config = files.write_config(dns, http, &nobody, &[])?;
            files.write_state()?;
            println!("{}", config.display());
        }
    }
    Ok(())
}
