//! `meridian explain`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use meridian::config::Config;
use meridian::explain::{Request, explain};

use super::{ask, federation};

/// What to explain, and whom to ask.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The name asked for.
    name: String,
    /// The client: an address, or the prefix that a resolver would send for it.
    #[arg(long, value_name = "ADDR[/LEN]")]
    client: String,
    /// The record type.
    #[arg(long = "type", value_name = "TYPE", default_value = "A")]
    qtype: String,
    /// Read this configuration and its sources instead of asking a running server.
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    config: Option<PathBuf>,
    /// The HTTP address of the running server.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9153")]
    server: SocketAddr,
}

/// Prints the explanation as a table.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let request = Request::parse(&arguments.name, &arguments.qtype, &arguments.client)?;
    let explanation = match &arguments.config {
        Some(path) => {
            let cell = federation::read_once(Config::load(path)?)?;
            federation::expect_complete(&cell.load())?;
            explain(&cell.load(), &request)
        }
        None => {
            let (name, client) = (request.name.to_string(), request.client.to_string());
            let qtype = format!("TYPE{}", request.qtype);
            let query = [("name", &*name), ("type", &qtype), ("client", &client)];
            ask::page(arguments.server, "explain", &query)?
        }
    };
    super::print(&explanation.to_string());
    Ok(())
}
