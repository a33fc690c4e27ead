//! `meridian check`.

use std::path::Path;

use meridian::config::Config;
use meridian::health::overrides::watch;

/// Reads a configuration file and says what is wrong with it, or what is in it.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    for warning in &config.warnings {
        super::complain(&anyhow::anyhow!("{}:{warning}", path.display()));
    }
    if let Some(overrides) = &config.overrides {
        watch::load(overrides)?;
    }
    super::print(&format!(
        "{}: federation {} in {}, {} clusters",
        path.display(),
        config.federation.federation,
        config.federation.domain,
        config.members.len()
    ));
    Ok(())
}
