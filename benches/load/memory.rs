//! What the server holds once it has started, and what it took to get there.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use super::SizeArguments;
use super::api::Api;
use super::files::{Files, NOBODY, STATE, fresh};
use super::model::Size;
use super::serve::{Meridian, binary};

#[derive(Args)]
pub(crate) struct Memory {
    /// Where to put files.
    directory: PathBuf,
    #[command(flatten)]
    size: SizeArguments,
    /// The server.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Starts of each kind.
    #[arg(long, default_value_t = 2)]
    runs: usize,
}

/// How long the last known good state may take to be written.
const PATIENCE: Duration = Duration::from_secs(120);

impl Memory {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        println!("| services x clusters | started from | resident MB | peak MB |");
        println!("|---|---|---|---|");
        let size = self.size.size();
        let one = Size { services: 1, ..size };
        for _ in 0..self.runs {
            self.measure(one, From::State)?;
            self.measure(size, From::State)?;
            self.measure(size, From::Apis)?;
        }
        Ok(())
    }

    fn measure(&self, size: Size, from: From) -> anyhow::Result<()> {
        fresh(&self.directory)?;
        let files = Files::new(self.directory.canonicalize()?, size);
        files.write_database()?;
        let urls = match from {
            From::State => {
                files.write_state()?;
                vec![NOBODY.to_owned(); size.clusters]
            }
            From::Apis => Api::all(size)?.iter().map(Api::url).collect(),
        };
        let began = SystemTime::now();
        let server = Meridian::start(&binary(self.binary.clone())?, files, urls)?;
        if let From::Apis = from {
            server.until_up(size.clusters)?;
        }
        // To write the state is part of what a start costs.
        until_written(&server, began)?;
        server.until_idle()?;
        let (resident, peak) = server.memory()?;
        let (Size { services, clusters }, from) = (size, from.title());
        println!("| {services} x {clusters} | {from} | {resident:.0} | {peak:.0} |");
        Ok(())
    }
}

/// What a server starts from.
#[derive(Clone, Copy)]
enum From {
    /// The last known good state, while no API server is there.
    State,
    /// API servers, with nothing on disk.
    Apis,
}

impl From {
    fn title(self) -> &'static str {
        match self {
            Self::State => "the last known good state",
            Self::Apis => "API servers",
        }
    }
}

/// Waits until the server has written what it serves.
fn until_written(server: &Meridian, began: SystemTime) -> io::Result<()> {
    let (path, deadline) = (server.files.path(STATE), Instant::now() + PATIENCE);
    while Instant::now() < deadline {
        if fs::metadata(&path).and_then(|file| file.modified()).is_ok_and(|then| then > began) {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the last known good state is not written"))
}
