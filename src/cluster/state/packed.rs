//! Services that may be wanted later, in as few octets as they need.

use serde::{Deserialize, Serialize};

use crate::cluster::lastgood::record::{Invalid, Port, Shard};
use crate::cluster::narrow::{ExportedService, NarrowService, ObjectId, Readiness, Rules};
use crate::model::{Label, Ports, ServiceKey};

/// A Service, packed: it takes a tenth of what it takes in the open.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

/// Why a Service does not come back as it was packed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damaged {
    #[error("it cannot be decoded: {0}")]
    Decode(#[from] postcard::Error),
    #[error("it holds what cannot be: {0}")]
    Invalid(#[from] Invalid),
}

#[derive(Serialize, Deserialize)]
struct Content<'a> {
    /// Where it is not what the key says.
    #[serde(borrow)]
    name: Option<&'a str>,
    reasons: Vec<&'a str>,
    #[serde(borrow)]
    export: Option<Export<'a>>,
}

#[derive(Serialize, Deserialize)]
struct Export<'a> {
    ignores_readiness: bool,
    #[serde(borrow)]
    ports: Vec<Port<'a>>,
    #[serde(borrow)]
    shard: Shard<'a>,
}

impl Packed {
    pub(super) fn of(service: &NarrowService) -> Self {
        let NarrowService { name, export, reasons, .. } = service;
        let same = export.as_ref().is_some_and(|export| **name == *export.key.to_string());
        let content = Content {
            name: (!same).then_some(name),
            reasons: reasons.iter().map(|reason| &**reason).collect(),
            export: export.as_deref().map(|ExportedService { key, shard, readiness }| Export {
                ignores_readiness: *readiness == Readiness::Ignored,
                ports: shard.ports.named().iter().map(Port::of).collect(),
                shard: Shard::of(key, shard, 0),
            }),
        };
        // Memory takes it all, and postcard refuses only what has no known length: there is none.
        Self(postcard::to_stdvec(&content).expect("plain values").into())
    }

    /// The Service as it was packed; `id` and `rules` are those of then.
    ///
    /// # Errors
    /// [`Damaged`], by a fault of ours: one Service must not end the task of its whole cluster.
    pub(super) fn unpack(&self, id: ObjectId, rules: &Rules) -> Result<NarrowService, Damaged> {
        Ok(Self::read(postcard::from_bytes(&self.0)?, id, rules)?)
    }

    /// One that nothing can be made of.
    #[cfg(test)]
    pub(super) fn damaged() -> Self {
        Self([0xff; 20].into())
    }

    fn read(content: Content<'_>, id: ObjectId, rules: &Rules) -> Result<NarrowService, Invalid> {
        let Content { name, reasons, export } = content;
        let export = export.map(|packed| {
            let named = packed.ports.iter().map(Port::read).collect::<Result<_, _>>()?;
            let ports = rules.pool().ports(Ports::new(named, packed.shard.tcp_port()));
            let key = rules.pool().key(packed.shard.key()?);
            let shard = packed.shard.read(ports, rules)?;
            let readiness = match packed.ignores_readiness {
                true => Readiness::Ignored,
                false => Readiness::Conditions,
            };
            Ok::<_, Invalid>(Box::new(ExportedService { key, shard, readiness }))
        });
        let export = export.transpose()?;
        let key = || export.as_ref().map(|export| export.key.to_string());
        let name = name.map(str::to_owned).or_else(key).unwrap_or_default().into();
        let reasons = reasons.into_iter().map(Box::from).collect();
        Ok(NarrowService { id, name, export, reasons })
    }

    /// How many octets it takes on the heap.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Shard<'_> {
    fn key(&self) -> Result<ServiceKey, Invalid> {
        let (namespace, name) = self.names();
        Ok(ServiceKey::new(&Label::parse(namespace)?, &Label::parse(name)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Export as Mode;
    use crate::model::DomainName;

    fn rules() -> Arc<Rules> {
        let apex = DomainName::parse("example.com").unwrap();
        Arc::new(Rules::new(Mode::ServiceExport, [].into(), apex))
    }

    fn service(rules: &Rules, name: &str, annotations: Value, spec: Value) -> NarrowService {
        let object = serde_json::from_value(json!({
            "metadata": {"namespace": "production", "name": name, "annotations": annotations},
            "spec": spec,
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.net"}]}},
        }));
        rules.service(&object.unwrap()).unwrap()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let rules = rules();
        let plain = json!({"type": "ClusterIP", "ports": [{"name": "http", "port": 80}]});
        let more = json!({"ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53,
                          "protocol": "UDP"}], "publishNotReadyAddresses": true});
        let options = json!({"meridian.dev/ttl": "20", "meridian.dev/policy": "nearest: 2",
                             "meridian.dev/addresses": "no address, 192.0.2.7"});
        // Written anew it is longer than an annotation may be.
        let check = format!(r#"http:80 contains="'{}""#, r"\d".repeat(480));
        let checked = json!({"meridian.dev/check": check});
        let services = [
            service(&rules, "checked", checked, plain.clone()),
            service(&rules, "web", json!({}), plain),
            service(&rules, "Not_A_Label", options, more),
            service(&rules, "elsewhere", json!({}), json!({"type": "ExternalName"})),
        ];
        let checked = &services[0].export.as_ref().unwrap().shard;
        assert!(checked.options().unwrap().check.as_ref().unwrap().to_string().len() > 1000);
        for service in services {
            assert_eq!(Packed::of(&service).unpack(service.id, &rules).unwrap(), service);
        }
    }

    #[test]
    fn what_is_damaged_is_told() {
        let rules = rules();
        let fault = Packed::damaged().unpack(rules.id("ns", "web"), &rules).unwrap_err();
        assert!(matches!(fault, Damaged::Decode(_)), "{fault}");
    }

    /// Most Services of a cluster are such: without an address, with a port or two.
    #[test]
    fn an_ordinary_service_takes_few_octets() {
        let rules = rules();
        let spec = json!({"type": "ClusterIP", "ports": [{"name": "http", "port": 8080}]});
        let object = serde_json::from_value(json!({
            "metadata": {"namespace": "production", "name": "checkout-frontend"}, "spec": spec,
        }));
        let service = rules.service(&object.unwrap()).unwrap();
        let packed = Packed::of(&service);
        assert!(packed.len() <= 64, "{} octets", packed.len());
    }
}
