//! Nodes.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use super::{ObjectId, Rules, Unnamed, label, names};
use crate::model::{Label, Topology};

/// A Node, narrowed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cluster) struct NarrowNode {
    /// Which node.
    pub(in crate::cluster) id: ObjectId,
    /// Its name, for reports.
    pub(in crate::cluster) name: Box<str>,
    /// Where it stands.
    pub(in crate::cluster) topology: Option<Topology>,
    /// Label values that had to be changed to make `topology`, with what they became.
    pub(in crate::cluster) changed: Box<[(Box<str>, Label)]>,
    /// Its pod networks.
    pub(in crate::cluster) networks: Box<[IpNet]>,
    /// What cannot be used.
    pub(in crate::cluster) reasons: Vec<Box<str>>,
}

const REGION: [&str; 2] =
    ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];

impl Rules {
    /// Narrows a Node.
    ///
    /// # Errors
    /// [`Unnamed`].
    pub(in crate::cluster) fn node(&self, object: &Node) -> Result<NarrowNode, Unnamed> {
        let (_, name) = names(&object.metadata)?;
        let mut reasons = Vec::new();
        let mut changed = Vec::new();
        let mut place = |keys: [&str; 2]| {
            let value = keys
                .iter()
                .find_map(|key| label(&object.metadata, key).filter(|value| !value.is_empty()))?;
            let made = Label::from_kubernetes(value);
            match &made {
                None => reasons
                    .push(format!("no DNS label can be made of its {} '{value}'", keys[0]).into()),
                Some(made) if made.as_str() != value => {
                    changed.push((value.into(), made.clone()));
                }
                Some(_) => {}
            }
            made
        };
        let (region, zone) = (place(REGION), place(ZONE));
        let topology = match (region, zone) {
            (Some(region), zone) => Some(Topology { region, zone }),
            (None, Some(zone)) => {
                let reason = format!("its zone {zone} is not used: it has no label {}", REGION[0]);
                reasons.push(reason.into());
                None
            }
            (None, None) => None,
        };
        let networks = pod_networks(object, &mut reasons);
        Ok(NarrowNode {
            id: self.id("", name),
            name: name.into(),
            topology,
            changed: changed.into(),
            networks,
            reasons,
        })
    }
}

/// `spec.podCIDRs`, of which `spec.podCIDR` is the first; old API servers write only the latter.
fn pod_networks(object: &Node, reasons: &mut Vec<Box<str>>) -> Box<[IpNet]> {
    let Some(spec) = &object.spec else { return Box::default() };
    let many = spec.pod_cidrs.as_deref().filter(|many| !many.is_empty());
    let texts = many.or(spec.pod_cidr.as_ref().map(std::slice::from_ref)).unwrap_or_default();
    let read = texts.iter().filter(|text| !text.is_empty()).filter_map(|text| {
        let network = text.parse::<IpNet>().ok().map(|network| network.trunc());
        if network.is_none() {
            reasons.push(format!("its pod network '{text}' is no CIDR prefix").into());
        }
        network
    });
    read.collect()
}
