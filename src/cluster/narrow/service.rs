//! Services.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::annotations::Annotations;
use super::{Admission, ObjectId, Rules, Unnamed, has_federate_label, names};
use crate::cluster::{Export, InternalAddresses};
use crate::model::{
    DomainName, Internal, Label, Port, Ports, Protocol, Refusal, ServiceKey, Shard, ShardParts,
};

/// A Service, narrowed.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cluster) struct NarrowService {
    /// Which Service.
    pub(in crate::cluster) id: ObjectId,
    /// `namespace/name` as the cluster writes it, for reports.
    pub(in crate::cluster) name: Box<str>,
    /// What is federated; `None` where it is not exported.
    pub(in crate::cluster) export: Option<Box<ExportedService>>,
    /// What cannot be served as asked.
    pub(in crate::cluster) reasons: Vec<Box<str>>,
}

/// The federated part of a Service.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cluster) struct ExportedService {
    /// Its key in the federation.
    pub(in crate::cluster) key: ServiceKey,
    /// The shard as the Service alone makes it: no endpoints, no resolved addresses.
    pub(in crate::cluster) shard: Shard,
    /// Which of its endpoints count as ready.
    pub(in crate::cluster) readiness: Readiness,
}

/// Which endpoints of a Service count as ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cluster) enum Readiness {
    /// Those whose condition says so.
    #[default]
    Conditions,
    /// All, by `publishNotReadyAddresses`.
    Ignored,
}

impl Rules {
    /// Narrows a Service.
    ///
    /// # Errors
    /// [`Unnamed`].
    pub(in crate::cluster) fn service(&self, object: &Service) -> Result<NarrowService, Unnamed> {
        let (namespace, name) = names(&object.metadata)?;
        let mut reasons = Vec::new();
        let export = match self.admission(namespace) {
            _ if !self.wants(object) => None,
            Admission::Admitted => self.export(object, namespace, name, &mut reasons),
            Admission::LeftOut => None,
            Admission::NotGiven => {
                // Where all are exported this holds for most, and is what the operator wrote.
                if self.export != Export::All {
                    let reason = format!(
                        "is not exported: namespace {namespace} is not among the 'namespaces' of \
                         this cluster"
                    );
                    reasons.push(reason.into());
                }
                None
            }
        };
        Ok(NarrowService {
            id: self.id(namespace, name),
            name: format!("{namespace}/{name}").into(),
            export,
            reasons,
        })
    }

    /// Whether a Service is opted in. One that is being deleted is not: its load balancer goes
    /// away while finalizers still hold the object.
    fn wants(&self, object: &Service) -> bool {
        let opted_in = match self.export {
            Export::Label => has_federate_label(&object.metadata),
            // Which of them are exported is known only beside the ServiceExports.
            Export::ServiceExport | Export::All => true,
        };
        opted_in && object.metadata.deletion_timestamp.is_none()
    }

    fn export(
        &self,
        object: &Service,
        namespace: &str,
        name: &str,
        reasons: &mut Vec<Box<str>>,
    ) -> Option<Box<ExportedService>> {
        let spec = object.spec.as_ref();
        if spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
            reasons.push("a Service of type ExternalName has no endpoints to federate".into());
            return None;
        }
        let labels = Label::from_kubernetes(namespace).zip(Label::from_kubernetes(name));
        let Some((namespace_label, name_label)) = labels else {
            reasons.push("no DNS label can be made of its name; rename it".into());
            return None;
        };
        let key = self.pool().key(ServiceKey::new(&namespace_label, &name_label));
        if (key.namespace(), key.name()) != (namespace, name) {
            reasons.push(format!("its name is no DNS label: it is served as {key}").into());
        }
        let mut annotations = Annotations::new(object.metadata.annotations.as_ref());
        let mut addresses = Addresses::new(self, reasons);
        addresses.collect(object, &mut annotations);
        let Addresses { addresses, hostnames, refused, .. } = addresses;
        let addresses = sorted(addresses);
        let options = annotations.options(self, &addresses);
        let ports = Ports::new(ports(spec, reasons).into(), tcp_port(spec));
        let shard = ShardParts {
            addresses: (*addresses).into(),
            hostnames: sorted(hostnames),
            ttl_cap: None,
            ports: self.pool().ports(ports),
            endpoints: Default::default(),
            options,
            refused: refused.into(),
            internal: self.internal_addresses(spec, reasons).map(Box::new),
        };
        reasons.extend(annotations.into_reasons());
        let all = spec.and_then(|spec| spec.publish_not_ready_addresses) == Some(true);
        let readiness = if all { Readiness::Ignored } else { Readiness::Conditions };
        Some(Box::new(ExportedService { key, shard: shard.into(), readiness }))
    }
}

impl Rules {
    /// How pods of the cluster reach a Service, where that is kept; the pods of a headless one
    /// are told by its slices. `None` also where it has no address in the cluster yet.
    fn internal_addresses(
        &self,
        spec: Option<&ServiceSpec>,
        reasons: &mut Vec<Box<str>>,
    ) -> Option<Internal> {
        if self.internal == InternalAddresses::LeftOut {
            return None;
        }
        let spec = spec?;
        let listed = spec.cluster_ips.as_deref().filter(|all| !all.is_empty());
        // `clusterIP` is the first of `clusterIPs`; objects written by hand may have it alone.
        let texts = listed.unwrap_or(spec.cluster_ip.as_slice());
        if texts.first().is_some_and(|text| text == HEADLESS) {
            return Some(Internal::Headless(Box::default()));
        }
        let mut addresses = Vec::new();
        for text in texts.iter().filter(|text| !text.is_empty()) {
            let read = text.parse().map_err(|_| "is no IP address");
            match read.and_then(|address| self.usable_inside(address)) {
                Ok(address) => addresses.push(address),
                Err(reason) => reasons.push(format!("clusterIP {text} {reason}").into()),
            }
        }
        (!addresses.is_empty()).then(|| Internal::ClusterIp(sorted(addresses)))
    }
}

/// `clusterIP` of a headless Service.
const HEADLESS: &str = "None";

/// The addresses of one Service as they are gathered.
struct Addresses<'a> {
    rules: &'a Rules,
    reasons: &'a mut Vec<Box<str>>,
    addresses: Vec<IpAddr>,
    hostnames: Vec<Box<str>>,
    refused: Vec<Refusal>,
}

impl<'a> Addresses<'a> {
    fn new(rules: &'a Rules, reasons: &'a mut Vec<Box<str>>) -> Self {
        Self { rules, reasons, addresses: Vec::new(), hostnames: Vec::new(), refused: Vec::new() }
    }

    fn collect(&mut self, object: &Service, annotations: &mut Annotations<'_>) {
        let balancer = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        for entry in balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten() {
            // An entry with both means the same load balancer twice; the IP needs no look-up.
            match (entry.ip.as_deref(), entry.hostname.as_deref()) {
                (Some(ip), _) if !ip.is_empty() => self.ip(ip),
                (_, Some(host)) if !host.is_empty() => self.ip_or_host(host),
                _ => {}
            }
        }
        let external = object.spec.as_ref().and_then(|spec| spec.external_ips.as_ref());
        external.into_iter().flatten().for_each(|ip| self.ip(ip));
        let listed = annotations.text("addresses").unwrap_or_default();
        listed
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .for_each(|item| self.ip_or_host(item));
    }

    fn ip(&mut self, text: &str) {
        match text.parse() {
            Ok(address) => self.address(address, text),
            Err(_) => self.refuse(text, "is no IP address"),
        }
    }

    fn ip_or_host(&mut self, text: &str) {
        if let Ok(address) = text.parse() {
            return self.address(address, text);
        }
        match DomainName::parse(text) {
            Err(_) => self.refuse(text, "is neither an IP address nor a host name"),
            Ok(name) if name.labels().next().is_none() => {
                self.refuse(text, "is the root, which has no addresses");
            }
            Ok(name) if name.is_within(&self.rules.apex) => {
                // It would resolve to our own answer, which is made of what it resolves to.
                self.refuse(text, "is a name of the federation's own zone");
                self.reasons.push(
                    format!("{text} is a name of the federation's own zone and is not resolved")
                        .into(),
                );
            }
            Ok(name) => {
                let text = name.to_string();
                self.hostnames.push(text.strip_suffix('.').unwrap_or(&text).into());
            }
        }
    }

    fn address(&mut self, address: IpAddr, text: &str) {
        match self.rules.publishable(address) {
            Ok(address) => self.addresses.push(address),
            Err(reason) => self.refuse(text, reason),
        }
    }

    fn refuse(&mut self, text: &str, reason: &str) {
        let refusal = Refusal { address: text.into(), reason: reason.into() };
        if !self.refused.contains(&refusal) {
            self.refused.push(refusal);
        }
    }
}

/// The longest name of a port: in a label of 63 octets (RFC 1035 §2.3.4) an underscore comes
/// first (RFC 2782).
const MAX_PORT_NAME: usize = Label::MAX_LEN - 1;

/// The named ports; those without a name have no SRV record.
fn ports(spec: Option<&ServiceSpec>, reasons: &mut Vec<Box<str>>) -> Vec<Port> {
    let all = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    let named = all.filter_map(|port| {
        let name = port.name.as_deref().filter(|name| !name.is_empty())?;
        let read = read_port(name, port);
        if read.is_none() {
            let reason = format!(
                "port '{name}' is left out: its name must be a DNS label of at most \
                 {MAX_PORT_NAME} octets, its protocol TCP, UDP or SCTP, its number from 1 to 65535"
            );
            reasons.push(reason.into());
        }
        read
    });
    let mut ports: Vec<Port> = named.collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// The first TCP port, also where it has no name, as a Service's only port need not.
fn tcp_port(spec: Option<&ServiceSpec>) -> Option<u16> {
    let mut ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
    ports.find_map(|port| match transport(port) {
        Some((Protocol::Tcp, number)) => Some(number),
        _ => None,
    })
}

fn read_port(name: &str, port: &ServicePort) -> Option<Port> {
    let (protocol, number) = transport(port)?;
    let name = Label::parse(name).ok().filter(|name| name.as_str().len() <= MAX_PORT_NAME)?;
    Some(Port { name, protocol, number })
}

fn transport(port: &ServicePort) -> Option<(Protocol, u16)> {
    let protocol = match port.protocol.as_deref() {
        // The API's default.
        None | Some("" | "TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) => return None,
    };
    let number = u16::try_from(port.port).ok().filter(|&number| number > 0)?;
    Some((protocol, number))
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Box<[T]> {
    items.sort_unstable();
    items.dedup();
    items.into()
}
