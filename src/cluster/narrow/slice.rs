//! EndpointSlices.

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::{Admission, ObjectId, Rules, Unnamed, has_federate_label, label, names};
use crate::cluster::{Export, InternalAddresses};

/// An EndpointSlice, narrowed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cluster) struct NarrowSlice {
    /// Which slice.
    pub(in crate::cluster) id: ObjectId,
    /// The Service it belongs to, by its label; `None` where it has none.
    pub(in crate::cluster) service: Option<ObjectId>,
    /// Its endpoints.
    pub(in crate::cluster) endpoints: Box<[EndpointMark]>,
    /// Where its pods are reached within the cluster; empty unless that is kept.
    pub(in crate::cluster) pods: Box<[PodAddress]>,
    /// Whether a watch by label would see it.
    pub(in crate::cluster) federate: FederateLabel,
}

/// Whether a slice carries the label by which it would be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum FederateLabel {
    /// It does, or no label is asked for.
    Satisfied,
    /// `meridian.dev/federate: "true"` is asked for and missing.
    Missing,
}

/// Where one endpoint is reached within its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct PodAddress {
    /// Its address.
    pub(in crate::cluster) address: IpAddr,
    /// Whether its conditions call it ready.
    pub(in crate::cluster) ready: bool,
}

/// One endpoint in four octets: a hash of who it is, whose lowest bit is its readiness.
///
/// Endpoints are told apart within one service alone. Of a thousand two collide by chance once in four
/// thousand services, and one endpoint of that service is not counted. The hash has a fixed seed, so that
/// all instances count alike; who chooses endpoints that collide makes a service of their own smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cluster) struct EndpointMark(u32);

impl EndpointMark {
    fn new(identity: u64, ready: bool) -> Self {
        // All bits of a hash are as good as each other.
        Self(identity as u32 & !1 | u32::from(ready))
    }

    /// It as a number.
    pub(in crate::cluster) fn bits(self) -> u32 {
        self.0
    }

    /// The mark whose [`Self::bits`] these are.
    pub(in crate::cluster) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Who it is: equal for the same endpoint in several slices.
    pub(in crate::cluster) fn identity(self) -> u32 {
        self.0 >> 1
    }

    /// Whether its conditions call it ready.
    pub(in crate::cluster) fn is_ready(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The label that names a slice's Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl Rules {
    /// Narrows an EndpointSlice of any address type: even where its addresses are host names,
    /// its endpoints are ready or not.
    ///
    /// # Errors
    /// [`Unnamed`].
    pub(in crate::cluster) fn slice(&self, object: &EndpointSlice) -> Result<NarrowSlice, Unnamed> {
        let (namespace, name) = names(&object.metadata)?;
        let service = label(&object.metadata, SERVICE_NAME).filter(|service| !service.is_empty());
        // Of what is never exported nothing is kept.
        let service = service.filter(|_| self.admission(namespace) == Admission::Admitted);
        let endpoints = || object.endpoints.iter().flatten();
        let pods: Box<_> = match self.internal {
            InternalAddresses::Kept => endpoints().filter_map(|e| self.pod_address(e)).collect(),
            InternalAddresses::LeftOut => Box::default(),
        };
        let federate = match self.export {
            Export::Label if !has_federate_label(&object.metadata) => FederateLabel::Missing,
            Export::Label | Export::ServiceExport | Export::All => FederateLabel::Satisfied,
        };
        Ok(NarrowSlice {
            id: self.id(namespace, name),
            service: service.map(|service| self.id(namespace, service)),
            endpoints: endpoints()
                .map(|endpoint| EndpointMark::new(Self::identity(endpoint), is_ready(endpoint)))
                .collect(),
            pods,
            federate,
        })
    }

    /// The first address of an endpoint, as "no semantics are defined for additional addresses"
    /// (the API's words). Host names are passed over, and so is what the API refuses: addresses
    /// that reach no further than a host or a link.
    fn pod_address(&self, endpoint: &Endpoint) -> Option<PodAddress> {
        let address = endpoint.addresses.first()?.parse().ok()?;
        let address = self.usable_inside(address).ok()?;
        Some(PodAddress { address, ready: is_ready(endpoint) })
    }

    /// Who an endpoint is, the same in the IPv4 and the IPv6 slice of its Service: the object
    /// behind it, else its host name (of which the API says that equal ones are fungible), else
    /// its node and address.
    fn identity(endpoint: &Endpoint) -> u64 {
        let hasher = FixedState::with_seed(0);
        if let Some(target) = &endpoint.target_ref {
            if let Some(uid) = target.uid.as_deref().filter(|uid| !uid.is_empty()) {
                return hasher.hash_one(("uid", uid));
            }
            if target.name.is_some() {
                return hasher.hash_one(("object", &target.kind, &target.namespace, &target.name));
            }
        }
        match endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty()) {
            Some(hostname) => hasher.hash_one(("hostname", hostname)),
            None => hasher.hash_one(("address", &endpoint.node_name, endpoint.addresses.first())),
        }
    }
}

/// Whether an endpoint takes new traffic. `ready` already says "serving and not terminating", and
/// the API adds: "a nil value should be interpreted as true". The other two conditions tell how
/// an endpoint that is not ready goes down; they make none ready.
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}
