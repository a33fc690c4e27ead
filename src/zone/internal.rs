//! The zone `F.svc.<clusterDomain>` of one cluster, which its DNS server forwards: the
//! same services as D, under the names that pods use.

use std::collections::BTreeSet;

use super::Settings;
use super::levels::{Level, Levels};
use super::service::Service;
use super::statics::StaticNode;
use super::tree::{Lookup, Zone};
use crate::model::{ClusterId, DomainName, Label, Report, Topology};
use crate::wire::QuestionName;

/// TTL of everything in the zone, seconds: pods are to be led elsewhere as soon as their own
/// cluster has no ready endpoint, and CoreDNS, which forwards to us, gives its own names as long.
pub const INTERNAL_TTL: u32 = 5;

/// Where an instance sits.
#[derive(Clone, Debug, PartialEq)]
pub struct InternalSettings {
    /// The cluster, as it is registered.
    pub cluster: Label,
    /// The apex, `F.svc.<clusterDomain>`; neither within D nor above it.
    pub apex: DomainName,
    /// The availability zone of the instance, where clients are led to that zone's names.
    pub zone: Option<Label>,
}

/// The zone of cluster-internal names, compiled; its names are those of [`Zone::services`].
#[derive(Debug, PartialEq)]
pub struct InternalZone {
    apex: DomainName,
    apex_labels: usize,
    /// The cluster; `None` while none of this name is registered.
    home: Option<ClusterId>,
    /// Where names lead that are not answered with addresses of the cluster.
    level: Level,
    nameservers: StaticNode,
}

impl InternalZone {
    /// Finds the instance's own place among those of the registered clusters, and says where
    /// there is none such.
    pub(super) fn compile(
        settings: &Settings,
        internal: &InternalSettings,
        levels: &Levels,
        clusters: &[(Label, BTreeSet<Topology>)],
    ) -> (Self, Option<Report>) {
        let index = clusters.iter().position(|(name, _)| *name == internal.cluster);
        let home = index.map(ClusterId::new);
        let zone = home.zip(internal.zone.as_ref()).and_then(|(home, label)| {
            only(levels.all().filter(|level| match level {
                Level::Zone(id) => {
                    let zone = levels.availability_zone(*id);
                    zone.label == *label && zone.clusters.contains(home)
                }
                _ => false,
            }))
        });
        let region = home.and_then(|home| {
            only(levels.all().filter(|level| match level {
                Level::Region(id) => levels.region(*id).clusters.contains(home),
                _ => false,
            }))
        });
        let report = match (&internal.zone, home, zone) {
            (_, None, _) => Some(format!(
                "no cluster '{}' is registered: every name leads to the global one",
                internal.cluster
            )),
            (Some(label), Some(_), None) => Some(format!(
                "cluster '{}' has no availability zone '{label}': names lead one level higher",
                internal.cluster
            )),
            _ => None,
        };
        let report = report.map(|reason| Report {
            subject: format!("zone {}", internal.apex).into(),
            reason: reason.into(),
        });
        let zone = Self {
            apex: internal.apex.clone(),
            apex_labels: internal.apex.labels().count(),
            home,
            level: zone.or(region).unwrap_or(Level::Global),
            nameservers: StaticNode::of_nameservers(settings),
        };
        (zone, report)
    }

    /// The apex.
    #[must_use]
    pub fn apex(&self) -> &DomainName {
        &self.apex
    }

    /// The cluster whose pods ask, while it is registered.
    #[must_use]
    pub fn home(&self) -> Option<ClusterId> {
        self.home
    }

    /// The apex's records but for the SOA.
    #[must_use]
    pub fn nameservers(&self) -> &StaticNode {
        &self.nameservers
    }

    /// How many labels of `name` stand in front of the apex; `None` outside of the zone.
    #[must_use]
    pub fn contains(&self, name: &QuestionName) -> Option<usize> {
        name.within(self.apex.wire(), self.apex_labels)
    }

    /// What stands at `name`, of whose labels `above` stand in front of the apex. The level of a
    /// service's name is the one that leads elsewhere, see [`Self::leads_to`].
    #[must_use]
    pub fn lookup<'z, L>(
        &'z self,
        zone: &'z Zone<L>,
        name: &QuestionName,
        above: usize,
    ) -> Lookup<'z> {
        match above {
            0 => Lookup::Static(&self.nameservers),
            // The apex stands in the place of `F.svc.D`, where no cluster names a shard.
            _ => zone.below_federation(name, above, self.level),
        }
    }

    /// The level of D that the name of a service leads to, with `prefix` octets of port labels in
    /// front: the instance's own, or the next above whose name is short enough to exist. `None`
    /// where there is none.
    #[must_use]
    pub fn leads_to<L>(&self, zone: &Zone<L>, service: &Service, prefix: usize) -> Option<Level> {
        let mut level = self.level;
        while !zone.fits_behind(service, level, prefix) {
            level = zone.levels().up(level)?;
        }
        Some(level)
    }
}

/// The item of an iterator that has no second.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    items.next().filter(|_| items.next().is_none())
}

#[cfg(test)]
mod tests;
