//! `meridian explain`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use meridian::config::Config;
use meridian::explain::{Explanation, Request, explain};

use super::federation;

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

/// How long a running server may take to explain; it needs milliseconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Prints the explanation as a table.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let request = Request::parse(&arguments.name, &arguments.qtype, &arguments.client)?;
    let explanation = match &arguments.config {
        Some(path) => {
            let cell = federation::read_once(Config::load(path)?)?;
            federation::expect_complete(&cell.load())?;
            explain(&cell.load(), &request)
        }
        None => ask(arguments, &request)?,
    };
    super::print(&explanation.to_string());
    Ok(())
}

/// Asks a running server over HTTP.
fn ask(arguments: &Arguments, request: &Request) -> anyhow::Result<Explanation> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        // The server is asked directly, whatever proxy the environment names.
        .proxy(None)
        .http_status_as_error(false)
        .build()
        .into();
    let server = arguments.server;
    let mut response = agent
        .get(format!("http://{server}/explain"))
        .query("name", request.name.to_string())
        .query("type", format!("TYPE{}", request.qtype))
        .query("client", request.client.to_string())
        .call()
        .with_context(|| {
            format!("no server answers at http://{server}: is it running? else give --config FILE")
        })?;
    let body = response.body_mut().read_to_string().context("reading the server's reply")?;
    if !response.status().is_success() {
        bail!("http://{server}/explain: {}: {}", response.status(), body.trim());
    }
    serde_json::from_str(&body).context("the server's reply is no explanation")
}
