//! Pods of headless services, in the cluster that the instance sits in.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use crate::cluster::narrow::{ObjectId, PodAddress, Readiness};

/// The addresses of pods by slice. Empty in all other clusters, so that there it costs nothing.
#[derive(Debug, Default)]
pub(super) struct Pods(HashMap<ObjectId, Box<[PodAddress]>, RandomState>);

impl Pods {
    /// Takes in what a slice says now.
    pub(super) fn put(&mut self, slice: ObjectId, pods: Box<[PodAddress]>) {
        if pods.is_empty() {
            self.0.remove(&slice);
        } else {
            self.0.insert(slice, pods);
        }
    }

    /// What a slice says.
    pub(super) fn of(&self, slice: ObjectId) -> Box<[PodAddress]> {
        self.0.get(&slice).cloned().unwrap_or_default()
    }

    /// Forgets a slice.
    pub(super) fn remove(&mut self, slice: ObjectId) {
        self.0.remove(&slice);
    }

    /// The addresses of the ready pods of some slices, sorted, each once.
    pub(super) fn ready(
        &self,
        slices: impl Iterator<Item = ObjectId>,
        readiness: Readiness,
    ) -> Box<[IpAddr]> {
        let pods = slices.filter_map(|slice| self.0.get(&slice)).flatten();
        let ready = pods.filter(|pod| pod.ready || readiness == Readiness::Ignored);
        let mut addresses: Vec<IpAddr> = ready.map(|pod| pod.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.into()
    }
}
