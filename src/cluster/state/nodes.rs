//! Nodes: where the cluster stands, and its pod networks.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::reports::Reports;
use crate::cluster::narrow::{NarrowNode, ObjectId};
use crate::model::{Label, Report, Topology};

/// The nodes of one cluster.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: HashMap<ObjectId, NarrowNode>,
    topologies: Arc<BTreeSet<Topology>>,
    networks: Arc<BTreeSet<IpNet>>,
    shown: BTreeSet<Report>,
}

impl Nodes {
    /// All regions and zones ever seen: an autoscaler that empties a zone must not delete names.
    pub(super) fn topologies(&self) -> Arc<BTreeSet<Topology>> {
        self.topologies.clone()
    }

    /// The pod networks of the present nodes.
    pub(super) fn networks(&self) -> Arc<BTreeSet<IpNet>> {
        self.networks.clone()
    }

    /// The nodes that are known.
    pub(super) fn ids(&self) -> impl Iterator<Item = ObjectId> {
        self.nodes.keys().copied()
    }

    /// Adds, changes and removes nodes; sets `dirty` where that shows. Nodes report their status
    /// every few minutes, and none of it is kept: most calls change nothing.
    pub(super) fn change(
        &mut self,
        items: impl IntoIterator<Item = NarrowNode>,
        gone: impl IntoIterator<Item = ObjectId>,
        reports: &mut Reports,
        dirty: &mut bool,
    ) {
        let mut changed = false;
        for id in gone {
            changed |= self.nodes.remove(&id).is_some();
        }
        for node in items {
            if self.nodes.get(&node.id) == Some(&node) {
                continue;
            }
            changed = true;
            if let Some(topology) = &node.topology
                && !self.topologies.contains(topology)
            {
                Arc::make_mut(&mut self.topologies).insert(topology.clone());
                *dirty = true;
            }
            self.nodes.insert(node.id, node);
        }
        if !changed {
            return;
        }
        let networks: BTreeSet<IpNet> =
            self.nodes.values().flat_map(|node| node.networks.iter().copied()).collect();
        if *self.networks != networks {
            self.networks = Arc::new(networks);
            *dirty = true;
        }
        let told = self.reports();
        *dirty |= reports.replace(&self.shown, &told);
        self.shown = told;
    }

    /// What the nodes have to report: labels that are not used, and values that fall together.
    fn reports(&self) -> BTreeSet<Report> {
        let mut reports = BTreeSet::new();
        let mut written: BTreeMap<&Label, BTreeSet<&str>> = BTreeMap::new();
        for node in self.nodes.values() {
            let subject = || format!("Node {}", node.name).into_boxed_str();
            reports.extend(
                node.reasons
                    .iter()
                    .map(|reason| Report { subject: subject(), reason: reason.clone() }),
            );
            for (value, label) in &node.changed {
                written.entry(label).or_default().insert(value);
            }
        }
        // A value that needs no change falls together with those that are changed to it.
        let places = self.nodes.values().filter_map(|node| {
            let topology = node.topology.as_ref()?;
            Some((node, [Some(&topology.region), topology.zone.as_ref()]))
        });
        for (node, labels) in places {
            for label in labels.into_iter().flatten() {
                let unchanged = !node.changed.iter().any(|(_, made)| made == label);
                if unchanged && let Some(values) = written.get_mut(label) {
                    values.insert(label.as_str());
                }
            }
        }
        reports.extend(written.into_iter().filter(|(_, values)| values.len() > 1).map(
            |(label, values)| {
                let values: Vec<&str> = values.into_iter().collect();
                Report {
                    subject: format!("Nodes' topology label {label}").into(),
                    reason: format!("{} share this one DNS label", values.join(", ")).into(),
                }
            },
        ));
        reports
    }
}
