//! Objects with their history.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::http::Request;

/// How a server says that the place asked for is no longer in its history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gone {
    /// As an event of a stream that began well.
    #[default]
    Event,
    /// As the status of the response.
    Status,
}

/// Plural, namespace and name.
type Key = (String, String, String);

/// All objects and what happened to them.
#[derive(Default)]
pub(super) struct Store {
    pub(super) version: u64,
    /// Watches cannot begin before this.
    pub(super) oldest: u64,
    pub(super) gone: Gone,
    objects: BTreeMap<Key, Value>,
    history: Vec<Happening>,
}

struct Happening {
    version: u64,
    key: Key,
    before: Option<Value>,
    after: Option<Value>,
}

/// A line of a watch.
pub(super) struct Event(Value);

impl Event {
    fn new(kind: &str, object: Value) -> Self {
        Self(json!({"type": kind, "object": object}))
    }

    /// The bookmark that tells where the stream is.
    pub(super) fn bookmark(plural: &str, version: u64) -> Self {
        let (api_version, kind) = kind(plural);
        let metadata = json!({"resourceVersion": version.to_string()});
        let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        Self::new("BOOKMARK", object)
    }

    /// The bookmark that tells that all objects have been sent.
    pub(super) fn end_of_initial(plural: &str, version: u64) -> Self {
        let mut event = Self::bookmark(plural, version);
        event.0["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        event
    }

    /// As it is sent.
    pub(super) fn line(&self) -> String {
        format!("{}\n", self.0)
    }
}

/// `apiVersion` and `kind` of a plural.
fn kind(plural: &str) -> (&'static str, &'static str) {
    match plural {
        "services" => ("v1", "Service"),
        "endpointslices" => ("discovery.k8s.io/v1", "EndpointSlice"),
        "nodes" => ("v1", "Node"),
        "secrets" => ("v1", "Secret"),
        "configmaps" => ("v1", "ConfigMap"),
        "events" => ("events.k8s.io/v1", "Event"),
        "serviceexports" => ("multicluster.x-k8s.io/v1beta1", "ServiceExport"),
        other => panic!("no such kind: {other}"),
    }
}

/// Whether `object` is among those that `request` asks for, by namespace and label.
fn wanted(object: &Value, request: &Request) -> bool {
    let metadata = &object["metadata"];
    let mut parts = request.path.split('/').skip_while(|part| *part != "namespaces");
    let in_namespace = match parts.nth(1) {
        Some(namespace) => metadata["namespace"] == namespace,
        None => true,
    };
    let selector = request.parameter("labelSelector").unwrap_or_default();
    let labelled = selector.split(',').filter(|term| !term.is_empty()).all(|term| {
        let (key, value) = term.split_once('=').expect("only equality is asked for");
        metadata["labels"][key] == value
    });
    in_namespace && labelled
}

impl Store {
    pub(super) fn put(&mut self, plural: &str, mut object: Value) {
        let (api_version, kind) = kind(plural);
        self.version += 1;
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let key = (plural.to_owned(), text("namespace"), text("name"));
        let before = self.objects.insert(key.clone(), object.clone());
        self.happened(key, before, Some(object));
    }

    pub(super) fn delete(&mut self, plural: &str, namespace: &str, name: &str) {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        let before = self.objects.remove(&key).expect("an object that is there");
        self.version += 1;
        self.happened(key, Some(before), None);
    }

    pub(super) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(plural.to_owned(), namespace.to_owned(), name.to_owned()))
    }

    pub(super) fn all(&self, plural: &str) -> Vec<Value> {
        let all = self.objects.iter().filter(|((of, _, _), _)| of == plural);
        all.map(|(_, object)| object.clone()).collect()
    }

    fn happened(&mut self, key: Key, before: Option<Value>, after: Option<Value>) {
        self.history.push(Happening { version: self.version, key, before, after });
    }

    pub(super) fn forget(&mut self, gone: Gone) {
        // So that whoever has seen all is behind too.
        self.version += 1;
        self.oldest = self.version;
        self.gone = gone;
        self.history.clear();
    }

    fn of<'s>(&'s self, plural: &'s str, request: &'s Request) -> impl Iterator<Item = &'s Value> {
        let all = self.objects.iter().filter(move |((of, _, _), _)| of == plural);
        all.map(|(_, object)| object).filter(move |object| wanted(object, request))
    }

    /// A page of a list.
    pub(super) fn list(&self, plural: &str, request: &Request) -> Value {
        let number = |key: &str| request.parameter(key).and_then(|text| text.parse().ok());
        let skip: usize = number("continue").unwrap_or(0);
        let limit = number("limit").filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let all: Vec<&Value> = self.of(plural, request).collect();
        let page: Vec<&Value> = all.iter().skip(skip).take(limit).copied().collect();
        let mut metadata = json!({"resourceVersion": self.version.to_string()});
        if skip + page.len() < all.len() {
            metadata["continue"] = (skip + page.len()).to_string().into();
        }
        let (api_version, kind) = kind(plural);
        json!({"kind": format!("{kind}List"), "apiVersion": api_version, "metadata": metadata,
               "items": page})
    }

    /// All objects, as the first events of a watch.
    pub(super) fn initial(&self, plural: &str, request: &Request) -> Vec<Event> {
        self.of(plural, request).map(|object| Event::new("ADDED", object.clone())).collect()
    }

    /// What happened after `at`, as a watch with the selector of `request` sees it.
    pub(super) fn since(&self, plural: &str, request: &Request, at: u64) -> Vec<Event> {
        let fresh = self.history.iter().filter(|happening| happening.version > at);
        let seen = |object: &Option<Value>| {
            object.as_ref().filter(|object| wanted(object, request)).cloned()
        };
        let event = |happening: &Happening| match (seen(&happening.before), seen(&happening.after))
        {
            (None, None) => None,
            (None, Some(after)) => Some(Event::new("ADDED", after)),
            (Some(_), Some(after)) => Some(Event::new("MODIFIED", after)),
            (Some(mut before), None) => {
                before["metadata"]["resourceVersion"] = happening.version.to_string().into();
                Some(Event::new("DELETED", before))
            }
        };
        fresh.filter(|happening| happening.key.0 == plural).filter_map(event).collect()
    }
}
