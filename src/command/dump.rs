//! `meridian dump`.

use std::path::Path;

use meridian::config::Config;
use meridian::explain::dump;

use super::federation;

/// Reads every source once and prints the zones.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let cell = federation::read_once(config)?;
    federation::expect_complete(&cell.load())?;
    let mut text = String::new();
    dump::dump(&cell.load(), &mut text)?;
    super::print(text.trim_end());
    Ok(())
}
