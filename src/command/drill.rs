//! `meridian drill`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use meridian::config::Config;
use meridian::explain::drill::{Drill, Request, drill};

use super::{ask, federation};

/// What to take out, and whom to ask.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// A cluster to take out; several are taken out together.
    #[arg(long = "cluster", value_name = "NAME", required = true)]
    clusters: Vec<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Read this configuration and its sources instead of asking a running server.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    config: Option<PathBuf>,
    /// The HTTP address of the running server.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9153")]
    server: SocketAddr,
}

/// Prints what would happen.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let request = Request::parse(&arguments.clusters)?;
    let found: Drill = match &arguments.config {
        Some(path) => {
            let cell = federation::read_once(Config::load(path)?)?;
            federation::expect_complete(&cell.load())?;
            drill(&cell.load(), &request)?
        }
        None => {
            let query = request.clusters.iter().map(|name| ("cluster", name.as_str()));
            ask::page(arguments.server, "drill", &query.collect::<Vec<_>>())?
        }
    };
    let text =
        if arguments.json { serde_json::to_string_pretty(&found)? } else { found.to_string() };
    super::print(&text);
    Ok(())
}
