//! The text of a manifest file to narrowed objects.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::narrow::{
    NarrowExport, NarrowNode, NarrowService, NarrowSlice, ObjectId, Rules, Unnamed,
};

/// Why a file is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where, from 1.
    pub(super) line: Option<u64>,
    /// What is wrong.
    pub(super) reason: String,
}

/// An object and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Located {
    /// Its first line, from 1.
    pub(super) line: u64,
    /// `Kind namespace/name`, for people.
    pub(super) name: Box<str>,
    /// What it says.
    pub(super) object: Object,
}

/// A narrowed object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    /// A Service.
    Service(NarrowService),
    /// An EndpointSlice.
    Slice(NarrowSlice),
    /// A Node.
    Node(NarrowNode),
    /// A ServiceExport.
    Export(NarrowExport),
}

/// Kind and identity of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum ObjectKey {
    /// A Service.
    Service(ObjectId),
    /// An EndpointSlice.
    Slice(ObjectId),
    /// A Node.
    Node(ObjectId),
    /// A ServiceExport.
    Export(ObjectId),
}

impl Object {
    /// What it is replaced by.
    pub(super) fn key(&self) -> ObjectKey {
        match self {
            Self::Service(service) => ObjectKey::Service(service.id),
            Self::Slice(slice) => ObjectKey::Slice(slice.id),
            Self::Node(node) => ObjectKey::Node(node.id),
            Self::Export(export) => ObjectKey::Export(export.id),
        }
    }
}

/// Reads all documents of a file; `None` where there are none. JSON is read as the YAML that it is,
/// which keeps its lines too.
///
/// # Errors
/// The first [`Fault`]; a file is in force whole or not at all.
pub(super) fn parse(bytes: &[u8], rules: &Rules) -> Result<Option<Vec<Located>>, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| Fault {
        line: Some(1 + bytes[..error.valid_up_to()].iter().filter(|&&b| b == b'\n').count() as u64),
        reason: "the text is not UTF-8".into(),
    })?;
    let documents: Vec<Spanned<Document>> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| Fault {
            line: error.location().map(|location| location.line()),
            reason: error.without_snippet().to_string(),
        })?;
    if documents.is_empty() {
        return Ok(None);
    }
    let mut objects = Vec::new();
    for Spanned { value: Document { fields, items }, referenced, .. } in documents {
        match items {
            None => objects.extend(read(fields, referenced.line(), rules)?),
            Some(items) => {
                let list = Header::of(&fields);
                list.check_whole(referenced.line())?;
                for Spanned { value: item, referenced, .. } in items {
                    // Anything else is an item of some other kind's own list.
                    let Value::Object(mut item) = item else { continue };
                    list.complete(&mut item);
                    objects.extend(read(item, referenced.line(), rules)?);
                }
            }
        }
    }
    Ok(Some(objects))
}

/// A file is as large as its cluster, so the budgets that guard against large input do not apply;
/// those against deep nesting and alias bombs stay. Only `true` and `false` are booleans (YAML 1.2
/// §10.3.2): `on`, `no` or `y` without quotes is the text that it looks like, as a name may.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_documents: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
            max_total_comment_bytes: usize::MAX,
            max_buffered_comment_events: usize::MAX,
        },
    }
}

/// A document: an object, or a list of objects where it has `items`.
struct Document {
    fields: Map<String, Value>,
    items: Option<Vec<Spanned<Value>>>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a Kubernetes object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
                let mut document = Document { fields: Map::new(), items: None };
                while let Some(key) = map.next_key::<String>()? {
                    if key == "items" {
                        let items: Option<Vec<Spanned<Value>>> = map.next_value()?;
                        document.items = Some(items.unwrap_or_default());
                    } else {
                        document.fields.insert(key, map.next_value()?);
                    }
                }
                Ok(document)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// What an object says it is.
struct Header<'a> {
    api_version: &'a str,
    kind: &'a str,
}

impl<'a> Header<'a> {
    fn of(fields: &'a Map<String, Value>) -> Self {
        let text = |key| fields.get(key).and_then(Value::as_str).unwrap_or_default();
        Self { api_version: text("apiVersion"), kind: text("kind") }
    }

    /// Refuses what has `items` and is no list: kubectl writes `kind: List` after the items, so the
    /// file ends too early.
    fn check_whole(&self, line: u64) -> Result<(), Fault> {
        match (self.api_version, self.kind) {
            ("" | "v1" | "discovery.k8s.io/v1", kind) if !kind.ends_with("List") => {
                let reason = "this has items, but its kind is no List: is the file cut short?";
                Err(Fault { line: Some(line), reason: reason.into() })
            }
            _ => Ok(()),
        }
    }

    /// Tells an item of this list what it is: API servers leave that out in a `ServiceList`, as
    /// it follows from the list's kind.
    fn complete(&self, item: &mut Map<String, Value>) {
        if let Some(kind) = self.kind.strip_suffix("List").filter(|kind| !kind.is_empty()) {
            item.entry("kind").or_insert_with(|| kind.into());
            item.entry("apiVersion").or_insert_with(|| self.api_version.into());
        }
    }
}

/// Reads one object; `None` for kinds that have nothing to do with us.
fn read(fields: Map<String, Value>, line: u64, rules: &Rules) -> Result<Option<Located>, Fault> {
    let Header { api_version, kind } = Header::of(&fields);
    let read: fn(Value, &Rules) -> Result<Object, String> = match (api_version, kind) {
        ("v1", "Service") => |value, rules| narrow(value, Object::Service, |o| rules.service(&o)),
        ("discovery.k8s.io/v1", "EndpointSlice") => {
            |value, rules| narrow(value, Object::Slice, |o| rules.slice(&o))
        }
        ("v1", "Node") => |value, rules| narrow(value, Object::Node, |o| rules.node(&o)),
        ("multicluster.x-k8s.io/v1beta1" | "multicluster.x-k8s.io/v1alpha1", "ServiceExport") => {
            |value, rules| {
                narrow(value, Object::Export, |o: ServiceExport| rules.service_export(&o.metadata))
            }
        }
        ("" | "v1" | "discovery.k8s.io/v1", "") if !fields.is_empty() => {
            let reason = "this is no Kubernetes object: it has no kind".into();
            return Err(Fault { line: Some(line), reason });
        }
        _ => return Ok(None),
    };
    let name = title(kind, &fields);
    match read(Value::Object(fields), rules) {
        Ok(object) => Ok(Some(Located { line, name, object })),
        Err(why) => Err(Fault { line: Some(line), reason: format!("{name}: {why}") }),
    }
}

/// A ServiceExport of either version, as far as it counts.
#[derive(Deserialize)]
struct ServiceExport {
    metadata: ObjectMeta,
}

fn narrow<K: DeserializeOwned, N>(
    value: Value,
    wrap: fn(N) -> Object,
    narrow: impl FnOnce(K) -> Result<N, Unnamed>,
) -> Result<Object, String> {
    let object = serde_path_to_error::deserialize(value).map_err(|error| error.to_string())?;
    narrow(object).map(wrap).map_err(|error| error.to_string())
}

/// `Kind namespace/name` as far as they are there.
fn title(kind: &str, fields: &Map<String, Value>) -> Box<str> {
    let text = |key| fields.get("metadata")?.get(key)?.as_str();
    match (text("namespace"), text("name").unwrap_or("without a name")) {
        (Some(namespace), name) => format!("{kind} {namespace}/{name}").into(),
        (None, name) => format!("{kind} {name}").into(),
    }
}
