//! Instructions in user mode that the whole server takes for a query, counted by callgrind: the
//! same on every machine, whatever else it does.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;

use super::SizeArguments;
use super::api::Api;
use super::ask::{Pace, Plan, ask};
use super::files::{Files, fresh};
use super::queries::{Expect, Kind, Queries};
use super::serve::{Meridian, binary};
use super::sockets::Sources;

#[derive(Args)]
pub(crate) struct Instructions {
    /// Where to put files.
    directory: PathBuf,
    #[command(flatten)]
    size: SizeArguments,
    /// The server.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Seconds of each kind.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

impl Instructions {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        fresh(&self.directory)?;
        let size = self.size.size();
        let files = Files::new(self.directory.canonicalize()?, size);
        files.write_database()?;
        let apis = Api::all(size)?;
        let urls = apis.iter().map(Api::url).collect();
        let server = Meridian::start_counted(&binary(self.binary.clone())?, files.clone(), urls)?;
        server.until_up(size.clusters)?;
        // What it does beside answering would be counted too.
        server.until_idle()?;
        let pid = server.process.id();
        println!("| kind | user instructions a query, whole server |\n|---|---|");
        for kind in [Kind::Ecs, Kind::Plain, Kind::Nx] {
            let queries = Queries::make(kind, size, super::QUERIES, None);
            let plan = Plan {
                server: server.dns,
                sources: Sources::Many(1_024),
                // As many wait together as fill a batch, whose own cost is shared as under load.
                pace: Pace::Closed(192),
                expect: Expect::Exact,
                warm: Duration::ZERO,
                measured: Duration::from_secs(self.seconds),
                pid: None,
            };
            // The first time valgrind translates what runs.
            control(pid, &["--instr=on"])?;
            ask(&plan, &queries)?;
            control(pid, &["--zero"])?;
            let report = ask(&plan, &queries)?;
            let name = format!("{kind:?}");
            control(pid, &[&format!("--dump={name}")])?;
            let counted = counted(&files, pid)?;
            let (each, answered) = (counted / report.answered.max(1) as f64, report.answered);
            println!("| {name} | {each:.0} ({answered} replies, {} lost) |", report.lost);
        }
        Ok(())
    }
}

/// Tells callgrind in a process what to do.
fn control(pid: u32, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("callgrind_control").args(arguments).arg(pid.to_string()).output()?;
    anyhow::ensure!(output.status.success(), "callgrind_control {arguments:?} failed");
    Ok(())
}

/// The total of the newest dump.
fn counted(files: &Files, pid: u32) -> anyhow::Result<f64> {
    let mut newest = None;
    for entry in fs::read_dir(&files.directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(&format!("callgrind.out.{pid}.")) {
            let modified = fs::metadata(&path)?.modified()?;
            newest = newest.max(Some((modified, path)));
        }
    }
    let (_, path) = newest.context("callgrind has written nothing")?;
    let text = fs::read_to_string(path)?;
    let totals = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Ok(totals.context("callgrind's file has no totals")?.trim().parse()?)
}
