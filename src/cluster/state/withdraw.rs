//! Objects that vanish: decided on together, then removed, kept, or put back.

use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use foldhash::fast::RandomState;

use super::ClusterState;
use super::guard::{Object, Removed, Verdict};
use super::hosts::HostAnswer;
use super::lists::Were;
use crate::model::{Buckets, Report, ServiceKey};

impl ClusterState {
    /// Takes in that a list lacks an object that was known. Of what was never shown nothing can be
    /// withdrawn.
    pub(super) fn lose(&mut self, object: Object, were: Were) {
        match were {
            Were::Shown => self.guard.vanished(object),
            Were::NeverShown => _ = self.remove(object),
        }
    }

    /// Decides on what has vanished up to `now`, and gives up what was kept long enough.
    pub(super) fn settle_vanished(&mut self, now: Instant) {
        for object in self.guard.confirmed(now) {
            self.remove(object);
        }
        if self.guard.pending().next().is_some() {
            let lost = self.lost_shards(self.guard.pending());
            let shown = self.services.shown();
            // Before anything is shown nothing can be withdrawn.
            let shards = shown.map_or(usize::MAX, Buckets::len);
            let is_shown = |key: &ServiceKey| {
                shown.is_some_and(|b| b.find(key.hash()).any(|entry| entry.key == *key))
            };
            match self.guard.decide(&lost, shards, is_shown, now) {
                Verdict::Withdraw(objects) => {
                    for object in objects {
                        let shard = self.shard_of(object).filter(|key| lost.contains(key));
                        if let Some(removed) = self.remove(object) {
                            self.guard.withdrew(removed, shard, now);
                        }
                    }
                }
                Verdict::Hold(back) => back.into_iter().for_each(|removed| self.put_back(removed)),
            }
        }
    }

    /// The shards that have no Service, or no endpoint slice left, without `objects` and what
    /// else has vanished.
    fn lost_shards(
        &self,
        objects: impl Iterator<Item = Object>,
    ) -> HashSet<ServiceKey, RandomState> {
        objects
            .filter(|object| match *object {
                Object::Service(_) | Object::Export(_) => true,
                Object::Slice(id) => {
                    let mut siblings = self.services.siblings(id);
                    siblings.all(|slice| self.guard.is_gone(Object::Slice(slice)))
                }
            })
            .filter_map(|object| self.shard_of(object))
            .collect()
    }

    /// The shard that an object is part of.
    fn shard_of(&self, object: Object) -> Option<ServiceKey> {
        let service = match object {
            Object::Service(id) | Object::Export(id) => id,
            Object::Slice(id) => self.services.service_of(id)?,
        };
        self.services.shard(service).map(|(key, _)| key.clone())
    }

    fn remove(&mut self, object: Object) -> Option<Removed> {
        match object {
            Object::Service(id) => {
                let Some(service) = self.services.narrowed(id) else {
                    // Known, but not exported: nothing is shown of it.
                    self.delete_service(id);
                    return None;
                };
                let names = service.export.iter().flat_map(|export| export.shard.hostnames());
                let resolved = names
                    .filter_map(|host| Some((host.clone(), self.hosts.resolution(host)?.clone())));
                let resolved = resolved.collect();
                self.delete_service(id);
                Some(Removed::Service(service, resolved))
            }
            Object::Slice(id) => {
                let slice = self.services.narrowed_slice(id)?;
                self.delete_slice(id);
                Some(Removed::Slice(slice))
            }
            Object::Export(id) => {
                let export = self.exports.as_ref()?.narrowed(id)?;
                self.delete_export(id);
                Some(Removed::Export(export))
            }
        }
    }

    fn put_back(&mut self, removed: Removed) {
        match removed {
            Removed::Slice(slice) => self.put_slice(slice),
            Removed::Export(export) => self.put_export(export),
            Removed::Service(service, resolved) => {
                self.put_service(service);
                for (hostname, resolution) in resolved {
                    let answer = HostAnswer::Resolved {
                        addresses: resolution.addresses,
                        ttl: resolution.ttl,
                    };
                    for id in self.hosts.answered(&hostname, answer) {
                        self.refresh(id);
                    }
                }
            }
        }
    }

    /// Brings what the view tells of the guard up to date.
    pub(super) fn tell_withheld(&mut self) {
        // Both are asked.
        if !(self.guard.take_untold() | self.absent.take_untold()) {
            return;
        }
        let withheld = self.lost_shards(self.guard.held()).len() + self.absent.len();
        if withheld == self.withheld {
            return;
        }
        let told = |count: usize| match count {
            0 => BTreeSet::new(),
            _ => BTreeSet::from([Report {
                subject: "most of the cluster's shards".into(),
                reason: format!(
                    "vanished at one stroke, or since the last run, which is rarely meant; unless \
                     they come back they are kept for {:?} (withdrawal.confirm)",
                    self.guard.confirm()
                )
                .into(),
            }]),
        };
        let (before, after) = (told(self.withheld), told(withheld));
        self.reports.replace(&before, &after);
        self.withheld = withheld;
        self.dirty = true;
    }
}
