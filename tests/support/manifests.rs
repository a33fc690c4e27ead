//! Kubernetes objects from a compact form.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde_json::{Value, json};

/// What a file holds.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// This text.
    Text(String),
    /// These objects, as `kubectl` would write them.
    Objects(Vec<Object>),
}

/// A Service with its EndpointSlice, a ServiceExport, or a Node. A real API server takes all of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Object {
    /// `namespace/name` of a Service.
    service: Option<String>,
    /// Addresses of its load balancer.
    ips: Vec<String>,
    /// Host names of its load balancer.
    hostnames: Vec<String>,
    external_ips: Vec<String>,
    /// `spec.clusterIPs`; `None` alone for a headless one.
    cluster_ips: Vec<String>,
    /// Ready endpoints; one unless told otherwise.
    ready: Option<u32>,
    /// Endpoints that are not ready.
    unready: u32,
    publish_not_ready_addresses: bool,
    /// `name: number` or `name/PROTOCOL: number`.
    ports: BTreeMap<String, u16>,
    /// Without the prefix `meridian.dev/`.
    annotations: BTreeMap<String, String>,
    /// Not opted in.
    private: bool,

    /// `namespace/name` of a ServiceExport.
    export: Option<String>,

    /// Name of a Node.
    node: Option<String>,
    region: Option<String>,
    zone: Option<String>,
    /// Under the labels of old clusters.
    beta_labels: bool,
    pod_cidr: Option<String>,
}

impl Content {
    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Objects(_) => {
                let list = json!({"apiVersion": "v1", "kind": "List", "items": self.objects()});
                serde_saphyr::to_string(&list).expect("plain values")
            }
        }
    }

    /// The objects; of a text the one that it is.
    pub(crate) fn objects(&self) -> Vec<Value> {
        match self {
            Self::Text(text) => {
                vec![serde_saphyr::from_str(text).unwrap_or_else(|why| {
                    panic!("no object, which only files may hold, say `onlyFiles`: {why}\n{text}")
                })]
            }
            Self::Objects(objects) => objects.iter().flat_map(Object::expand).collect(),
        }
    }
}

/// A text within an object; empty where there is none.
pub(crate) fn text_of<'v>(object: &'v Value, path: &str) -> &'v str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

impl Object {
    fn expand(&self) -> Vec<Value> {
        match (&self.service, &self.node, &self.export) {
            (Some(key), None, None) => self.service_and_slice(key),
            (None, Some(name), None) => vec![self.expand_node(name)],
            (None, None, Some(key)) => {
                let (namespace, name) = key.split_once('/').expect("namespace/name");
                vec![json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport",
                            "metadata": {"namespace": namespace, "name": name}})]
            }
            _ => panic!("an object is a service, a node or an export: {self:?}"),
        }
    }

    fn service_and_slice(&self, key: &str) -> Vec<Value> {
        let (namespace, name) = key.split_once('/').expect("namespace/name");
        let mut labels = json!({"app": name});
        if !self.private {
            labels["meridian.dev/federate"] = "true".into();
        }
        let annotations = self.annotations.iter();
        let annotations: BTreeMap<String, &String> =
            annotations.map(|(key, value)| (format!("meridian.dev/{key}"), value)).collect();
        let ips = self.ips.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"}));
        let hosts = self.hostnames.iter().map(|host| json!({"hostname": host}));
        let ingress: Vec<Value> = ips.chain(hosts).collect();
        let headless = self.cluster_ips.first().is_some_and(|first| first == "None");
        let kind = if headless { "ClusterIP" } else { "LoadBalancer" };
        let dual = self.cluster_ips.len() > 1;
        let families = if dual { "RequireDualStack" } else { "SingleStack" };
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"namespace": namespace, "name": name, "labels": labels,
                         "annotations": annotations},
            "spec": {"type": kind, "selector": {"app": name}, "ports": self.ports(),
                     "externalIPs": self.external_ips, "ipFamilyPolicy": families,
                     "clusterIP": self.cluster_ips.first(), "clusterIPs": self.cluster_ips,
                     "publishNotReadyAddresses": self.publish_not_ready_addresses},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        labels["kubernetes.io/service-name"] = name.into();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "addressType": "IPv4",
            "metadata": {"namespace": namespace, "name": format!("{name}-abcde"),
                         "labels": labels},
            "endpoints": self.endpoints(name),
        });
        vec![service, slice]
    }

    fn ports(&self) -> Vec<Value> {
        if self.ports.is_empty() {
            // An API server wants one. This one has no SRV record, and nothing checks it.
            return vec![json!({"protocol": "UDP", "port": 53})];
        }
        let port = |(key, number): (&String, &u16)| {
            let (name, protocol) = key.split_once('/').unwrap_or((key, "TCP"));
            json!({"name": name, "protocol": protocol, "port": number})
        };
        self.ports.iter().map(port).collect()
    }

    fn endpoints(&self, name: &str) -> Vec<Value> {
        let ready = self.ready.unwrap_or(1);
        let endpoint = |index: u32| {
            json!({
                "addresses": [format!("10.244.0.{}", index + 1)],
                "conditions": {"ready": index < ready},
                "targetRef": {"kind": "Pod", "name": format!("{name}-{index}"),
                              "uid": format!("{name}-{index}")},
            })
        };
        (0..ready + self.unready).map(endpoint).collect()
    }

    fn expand_node(&self, name: &str) -> Value {
        let prefix = if self.beta_labels {
            "failure-domain.beta.kubernetes.io"
        } else {
            "topology.kubernetes.io"
        };
        let mut labels = json!({"kubernetes.io/hostname": name});
        for (key, value) in [("region", &self.region), ("zone", &self.zone)] {
            if let Some(value) = value {
                labels[format!("{prefix}/{key}")] = value.as_str().into();
            }
        }
        let networks: Vec<&String> = self.pod_cidr.iter().collect();
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels},
            "spec": {"podCIDR": self.pod_cidr, "podCIDRs": networks},
        })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrObjects;

        impl<'de> Visitor<'de> for TextOrObjects {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the text of a file, or a list of objects")
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Content, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(Content::Objects)
            }
        }

        deserializer.deserialize_any(TextOrObjects)
    }
}
