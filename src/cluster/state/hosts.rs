//! Host names of load balancers, who wants them, and what they resolved to.

use std::collections::HashMap;
use std::net::IpAddr;

use smallvec::SmallVec;

use crate::cluster::narrow::{ObjectId, Rules};
use crate::model::{Refusal, ShardParts};

/// What came of looking a host name up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum HostAnswer {
    /// Addresses, of both families.
    Resolved {
        /// The addresses.
        addresses: Box<[IpAddr]>,
        /// How long they may be believed, seconds.
        ttl: u32,
    },
    /// None; what was known before is kept.
    Failed {
        /// Why, for people.
        reason: Box<str>,
    },
}

/// A host name is to be resolved from now on, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum HostChange {
    /// Some service has it.
    Wanted(Box<str>),
    /// No service has it any longer.
    Unwanted(Box<str>),
}

/// The host names of one cluster.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    hosts: HashMap<Box<str>, Host>,
    /// How many of them have neither an answer nor a failure yet.
    untried: usize,
    changes: Vec<HostChange>,
    /// What host names that nobody has asked for yet resolved to in an earlier run.
    remembered: HashMap<Box<str>, Resolution>,
}

/// One host name.
#[derive(Debug, Default)]
struct Host {
    /// The services that have it: nearly always one.
    users: SmallVec<[ObjectId; 1]>,
    answer: Option<Resolution>,
    failure: Option<Box<str>>,
}

impl Host {
    fn is_untried(&self) -> bool {
        self.answer.is_none() && self.failure.is_none()
    }
}

/// What a host name resolved to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolution {
    /// The addresses.
    pub(super) addresses: Box<[IpAddr]>,
    /// Seconds.
    pub(super) ttl: u32,
}

impl Hosts {
    /// Notes what `hostname` resolved to in an earlier run: it counts until the first answer.
    pub(super) fn remember(&mut self, hostname: &str, resolution: Resolution) {
        self.remembered.insert(hostname.into(), resolution);
    }

    /// Notes that `user` has `hostname`.
    pub(super) fn claim(&mut self, hostname: &str, user: ObjectId) {
        let host = self.hosts.entry(hostname.into()).or_insert_with(|| {
            self.changes.push(HostChange::Wanted(hostname.into()));
            let host = Host { answer: self.remembered.remove(hostname), ..Host::default() };
            self.untried += usize::from(host.is_untried());
            host
        });
        if !host.users.contains(&user) {
            host.users.push(user);
        }
    }

    /// Notes that `user` has `hostname` no longer.
    pub(super) fn release(&mut self, hostname: &str, user: ObjectId) {
        let Some(host) = self.hosts.get_mut(hostname) else { return };
        host.users.retain(|other| *other != user);
        if host.users.is_empty() {
            self.untried -= usize::from(host.is_untried());
            self.hosts.remove(hostname);
            self.changes.push(HostChange::Unwanted(hostname.into()));
        }
    }

    /// Takes in an answer; returns the services that it changes. One for a name that nobody wants
    /// any longer changes nothing.
    pub(super) fn answered(
        &mut self,
        hostname: &str,
        answer: HostAnswer,
    ) -> SmallVec<[ObjectId; 1]> {
        let Some(host) = self.hosts.get_mut(hostname) else { return SmallVec::new() };
        let (resolution, failure) = match answer {
            HostAnswer::Resolved { mut addresses, ttl } => {
                addresses.sort_unstable();
                (Some(Resolution { addresses, ttl }), None)
            }
            HostAnswer::Failed { reason } => (host.answer.clone(), Some(reason)),
        };
        if host.answer == resolution && host.failure == failure {
            return SmallVec::new();
        }
        self.untried -= usize::from(host.is_untried());
        host.answer = resolution;
        host.failure = failure;
        host.users.clone()
    }

    /// What a host name last resolved to.
    pub(super) fn resolution(&self, hostname: &str) -> Option<&Resolution> {
        self.hosts.get(hostname)?.answer.as_ref()
    }

    /// Adds to a shard what its host names resolved to.
    pub(super) fn add_addresses(&self, parts: &mut ShardParts, rules: &Rules) {
        let mut addresses = parts.addresses.to_vec();
        let mut refused = std::mem::take(&mut parts.refused).into_vec();
        parts.ttl_cap = None;
        for resolution in parts.hostnames.iter().filter_map(|host| self.resolution(host)) {
            let cap = parts.ttl_cap.map_or(resolution.ttl, |cap| cap.min(resolution.ttl));
            parts.ttl_cap = Some(cap);
            for &address in &resolution.addresses {
                match rules.publishable(address) {
                    Ok(address) => addresses.push(address),
                    Err(reason) => {
                        let address = address.to_string().into();
                        let refusal = Refusal { address, reason: reason.into() };
                        if !refused.contains(&refusal) {
                            refused.push(refusal);
                        }
                    }
                }
            }
        }
        addresses.sort_unstable();
        addresses.dedup();
        parts.addresses = (*addresses).into();
        parts.refused = refused.into();
    }

    /// Why the last look-up of a host name failed, where it did.
    pub(super) fn failure(&self, hostname: &str) -> Option<&str> {
        self.hosts.get(hostname)?.failure.as_deref()
    }

    /// How many names have neither an answer nor a failure yet.
    pub(super) fn untried(&self) -> usize {
        self.untried
    }

    /// The names that became wanted or unwanted since the last call, in order.
    pub(super) fn take_changes(&mut self) -> Vec<HostChange> {
        std::mem::take(&mut self.changes)
    }
}
