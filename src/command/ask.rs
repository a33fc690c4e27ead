//! Asking a running server over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

/// How long a running server may take; it needs milliseconds, for a drill of a large federation
/// with a large database a second.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The longest reply, octets: a drill names every service that would be lost, which are hundreds of
/// thousands at most.
const MAX_BODY: u64 = 64 << 20;

/// What a page tells, asked with these parameters.
pub(super) fn page<T: DeserializeOwned>(
    server: SocketAddr,
    page: &str,
    query: &[(&str, &str)],
) -> anyhow::Result<T> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        // The server is asked directly, whatever proxy the environment names.
        .proxy(None)
        .http_status_as_error(false)
        .build()
        .into();
    let mut response = agent
        .get(format!("http://{server}/{page}"))
        .query_pairs(query.iter().copied())
        .call()
        .with_context(|| {
            format!("no server answers at http://{server}: is it running? else give --config FILE")
        })?;
    let body = response
        .body_mut()
        .with_config()
        .limit(MAX_BODY)
        .read_to_string()
        .context("reading the server's reply")?;
    if !response.status().is_success() {
        bail!("http://{server}/{page}: {}: {}", response.status(), body.trim());
    }
    serde_json::from_str(&body).with_context(|| format!("the server's reply is no {page}"))
}
