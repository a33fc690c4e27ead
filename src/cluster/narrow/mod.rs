//! The border: Kubernetes objects in, plain narrowed values out.
//!
//! *Owns*: every reading of a k8s-openapi type, one file a kind, and the rules by which objects
//! are judged. *Guarantees*: a narrowed value holds only what DNS needs, and only addresses that
//! may be published; what an object asks for in vain is a reason for people, never an error.
//! *Does not*: know of other objects; that is [`super::state`].

mod address;
mod annotations;
mod export;
mod node;
mod service;
mod slice;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{AddressScope, Export, InternalAddresses, Namespaces};
use crate::model::{DomainName, Pool, ServiceKey};

pub(super) use export::{NarrowExport, Wish};
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

impl ObjectId {
    /// It as a number, all of whose bits are as random as each other.
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    /// The identity whose [`Self::bits`] these are.
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// What the objects of one cluster are judged by.
#[derive(Debug)]
pub(super) struct Rules {
    export: Export,
    namespaces: Namespaces,
    addresses: AddressScope,
    allow_nets: Arc<[IpNet]>,
    apex: DomainName,
    internal: InternalAddresses,
    hasher: RandomState,
    pool: Arc<Pool>,
}

/// Whether the Services of a namespace may be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    /// They may.
    Admitted,
    /// The operator's lists for all clusters leave it out.
    LeftOut,
    /// The operator did not give it to this cluster.
    NotGiven,
}

impl Rules {
    /// Rules for a cluster of the federation whose zone is `apex`.
    pub(super) fn new(export: Export, allow_nets: Arc<[IpNet]>, apex: DomainName) -> Self {
        Self {
            export,
            namespaces: Namespaces::default(),
            addresses: AddressScope::Any,
            allow_nets,
            apex,
            internal: InternalAddresses::LeftOut,
            hasher: RandomState::new(),
            pool: Arc::default(),
        }
    }

    /// The same rules with what they say of cluster-internal addresses.
    pub(super) fn with_internal(self, internal: InternalAddresses) -> Self {
        Self { internal, ..self }
    }

    /// The same rules with limits to namespaces and addresses.
    pub(super) fn limited_to(self, namespaces: Namespaces, addresses: AddressScope) -> Self {
        Self { namespaces, addresses, ..self }
    }

    /// The same rules, by which values are held in `pool`.
    pub(super) fn pooled(self, pool: Arc<Pool>) -> Self {
        Self { pool, ..self }
    }

    /// Where values that shards have in common are held.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What makes a Service federated.
    pub(super) fn export_mode(&self) -> Export {
        self.export
    }

    /// Whether the cluster may export what is in a namespace.
    pub(super) fn admits(&self, namespace: &str) -> bool {
        matches!(self.admission(namespace), Admission::Admitted)
    }

    fn admission(&self, namespace: &str) -> Admission {
        let Namespaces { given, include, exclude } = &self.namespaces;
        let lacks = |list: &Option<Arc<BTreeSet<Box<str>>>>| {
            list.as_ref().is_some_and(|list| !list.contains(namespace))
        };
        if lacks(given) {
            Admission::NotGiven
        } else if self.export == Export::All && (lacks(include) || exclude.contains(namespace)) {
            Admission::LeftOut
        } else {
            Admission::Admitted
        }
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
        address::publishable(address, self.addresses, &self.allow_nets)
    }

    /// Whether the operators let `address` be published, whatever it is.
    fn allows(&self, address: IpAddr) -> bool {
        self.allow_nets.iter().any(|net| net.contains(&address))
    }

    /// Whether pods of the cluster itself may be told `address`: one of another kind than those
    /// that reach no further than a host or a link.
    ///
    /// # Errors
    /// The reason for people.
    fn usable_inside(&self, address: IpAddr) -> Result<IpAddr, &'static str> {
        address::publishable(address, AddressScope::Any, &self.allow_nets)
    }
}

/// An object that has no `metadata.name`: no API server gives one out, but files may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the object has no metadata.name; give it one")]
pub(super) struct Unnamed;

impl Rules {
    /// The identity of any object, also of one of which nothing else can be read. `scope` says
    /// whether its kind has namespaces.
    pub(super) fn id_of(&self, metadata: &ObjectMeta, scope: Scope) -> Result<ObjectId, Unnamed> {
        let (namespace, name) = names(metadata)?;
        Ok(match scope {
            Scope::Cluster => self.id("", name),
            Scope::Namespaced => self.id(namespace, name),
        })
    }
}

/// Whether a kind has namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// It has none.
    Cluster,
    /// It has.
    Namespaced,
}

/// Namespace and name of an object; a namespaced object without one is in `default`, as kubectl
/// would put it there.
fn names(metadata: &ObjectMeta) -> Result<(&str, &str), Unnamed> {
    let name = metadata.name.as_deref().filter(|name| !name.is_empty()).ok_or(Unnamed)?;
    let namespace = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    Ok((namespace.unwrap_or("default"), name))
}

/// The label selector of watches where [`Export::Label`] is asked for.
pub(super) const FEDERATE_SELECTOR: &str = "meridian.dev/federate=true";

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
