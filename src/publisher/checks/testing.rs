//! Federations to be checked, for tests.

use std::net::IpAddr;
use std::sync::Arc;

use super::Assignment;
use crate::health::check::{Probed, Report};
use crate::health::{self, Now};
use crate::model::{
    Buckets, CheckMode, ClusterView, Endpoints, Label, Ports, ServiceKey, ShardEntry, ShardParts,
};
use crate::snapshot::Federation;
use crate::snapshot::testing::{Fixture, label};

pub(super) fn key(name: &str) -> ServiceKey {
    ServiceKey::new(&label("n"), &label(name))
}

/// A shard of `n/NAME` with one ready endpoint at `addresses`, TCP port 80.
pub(super) fn shard(name: &str, addresses: &[&str]) -> ShardEntry {
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().expect("an address")).collect();
    let shard = ShardParts {
        addresses: (*addresses).into(),
        ports: Ports::new([].into(), Some(80)),
        endpoints: Endpoints { ready: 1, total: 1 },
        ..ShardParts::default()
    };
    ShardEntry::new(key(name), shard)
}

pub(super) fn view(shards: Vec<ShardEntry>) -> Arc<ClusterView> {
    Arc::new(ClusterView { shards: Buckets::from_items(shards), ..ClusterView::default() })
}

/// A federation of these clusters with these settings of health.
pub(super) fn federation(clusters: &[&str], health: health::Settings) -> Arc<Federation> {
    let fixture = clusters.iter().fold(Fixture::new(), |f, name| f.cluster(name, name, &[], None));
    let federation = Arc::into_inner(fixture.inputs().federation).expect("nobody else has it");
    Arc::new(Federation { health, ..federation })
}

/// Settings by which all shards are checked, or only those of suspects.
pub(super) fn checked(mode: CheckMode) -> health::Settings {
    let mut settings = health::Settings::default();
    settings.checks.mode = mode;
    settings
}

pub(super) fn assignment(
    federation: &Arc<Federation>,
    views: Vec<Arc<ClusterView>>,
    lost: &[bool],
) -> Arc<Assignment> {
    let views = views.into_iter().map(Some).collect();
    Arc::new(Assignment { federation: federation.clone(), views, lost: lost.to_vec() })
}

pub(super) fn passed() -> Report {
    Report { outcome: Probed::Passed, load: None }
}

pub(super) fn failed() -> Report {
    Report { outcome: Probed::Failed("refused".into()), load: None }
}

/// As where the machine has no address of the family.
pub(super) fn unable() -> Report {
    Report { outcome: Probed::Unable("no route".into()), load: None }
}

/// Seconds after `start`.
pub(super) fn at(start: std::time::Instant, seconds: u64) -> Now {
    Now { instant: start + std::time::Duration::from_secs(seconds), unix: seconds }
}

pub(super) fn names(names: &[&str]) -> Vec<Label> {
    names.iter().map(|name| label(name)).collect()
}
