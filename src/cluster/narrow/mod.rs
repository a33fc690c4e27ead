//! The border: Kubernetes objects in, plain narrowed values out.
//!
//! *Owns*: every reading of a k8s-openapi type, one file a kind, and the rules by which objects
//! are judged. *Guarantees*: a narrowed value holds only what DNS needs, and only addresses that
//! may be published; what an object asks for in vain is a reason for people, never an error.
//! *Does not*: know of other objects; that is [`super::state`].

mod address;
mod annotations;
mod node;
mod service;
mod slice;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Export, InternalAddresses};
use crate::model::{DomainName, ServiceKey};

pub(super) use node::NarrowNode;
pub(super) use service::{ExportedService, NarrowService, Readiness};
pub(super) use slice::{EndpointMark, FederateLabel, NarrowSlice, PodAddress};

/// Which object of its kind: a hash of namespace and name as they are written.
///
/// Eight octets in place of two strings: an index entry an object is what counts at 100,000
/// services. The hash is keyed at random for each [`Rules`], so that nobody can choose names that
/// collide; by chance, a million objects collide once in tens of millions of starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ObjectId(u64);

/// What the objects of one cluster are judged by.
#[derive(Debug)]
pub(super) struct Rules {
    export: Export,
    allow_nets: Arc<[IpNet]>,
    apex: DomainName,
    internal: InternalAddresses,
    hasher: RandomState,
}

impl Rules {
    /// Rules for a cluster of the federation whose zone is `apex`.
    pub(super) fn new(export: Export, allow_nets: Arc<[IpNet]>, apex: DomainName) -> Self {
        let internal = InternalAddresses::LeftOut;
        Self { export, allow_nets, apex, internal, hasher: RandomState::new() }
    }

    /// The same rules with what they say of cluster-internal addresses.
    pub(super) fn with_internal(self, internal: InternalAddresses) -> Self {
        Self { internal, ..self }
    }

    /// The identity of an object; `namespace` is empty for kinds that have none.
    pub(super) fn id(&self, namespace: &str, name: &str) -> ObjectId {
        ObjectId(self.hasher.hash_one((namespace, name)))
    }

    /// The identity of the Service that is written exactly as `key`.
    pub(super) fn id_of_key(&self, key: &ServiceKey) -> ObjectId {
        self.id(key.namespace(), key.name())
    }

    /// Whether `address` may be published; a v4-mapped address is returned as the IPv4 address
    /// that it stands for.
    ///
    /// # Errors
    /// The reason for people.
    pub(super) fn publishable(&self, address: IpAddr) -> Result<IpAddr, &'static str> {
        address::publishable(address, &self.allow_nets)
    }

    /// Whether pods of the cluster itself may be told `address`: one of another kind than those
    /// that reach no further than a host or a link.
    ///
    /// # Errors
    /// The reason for people.
    fn usable_inside(&self, address: IpAddr) -> Result<IpAddr, &'static str> {
        address::publishable(address, &self.allow_nets)
    }
}

/// An object that has no `metadata.name`: no API server gives one out, but files may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the object has no metadata.name; give it one")]
pub(super) struct Unnamed;

/// Namespace and name of an object; a namespaced object without one is in `default`, as kubectl
/// would put it there.
fn names(metadata: &ObjectMeta) -> Result<(&str, &str), Unnamed> {
    let name = metadata.name.as_deref().filter(|name| !name.is_empty()).ok_or(Unnamed)?;
    let namespace = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    Ok((namespace.unwrap_or("default"), name))
}

/// The label that opts a Service in, and that its EndpointSlices inherit.
const FEDERATE: &str = "meridian.dev/federate";

/// Whether an object carries `meridian.dev/federate: "true"`.
fn has_federate_label(metadata: &ObjectMeta) -> bool {
    label(metadata, FEDERATE) == Some("true")
}

/// The value of a label of `metadata`.
fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests;
