//! Objects of which one that cannot be read does not spoil those around it.
//!
//! As kube's `DeserializeGuard` does, but without a copy of each object in case that it cannot be
//! read: that was a sixth of all that a change costs.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMeta;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

/// An object, or why it is none.
#[derive(Clone, Debug)]
pub(super) struct Guarded<K>(pub(super) Result<K, Invalid>);

/// An object that cannot be read.
#[derive(Clone, Debug)]
pub(super) struct Invalid {
    /// Why, for people.
    pub(super) reason: String,
    /// What it is called.
    pub(super) metadata: ObjectMeta,
}

impl<'de, K: Resource + DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        match K::deserialize(&value) {
            Ok(object) => Ok(Self(Ok(object))),
            Err(error) => {
                let known =
                    PartialObjectMeta::<K>::deserialize(&value).map_err(D::Error::custom)?;
                let (reason, metadata) = (error.to_string(), known.metadata);
                Ok(Self(Err(Invalid { reason, metadata })))
            }
        }
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use kube::core::WatchEvent;

    use super::*;

    type Event = WatchEvent<Guarded<Service>>;

    fn object(spec: &str) -> String {
        let head =
            r#""apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"ns"}"#;
        format!(r#"{{{head},"spec":{spec}}}"#)
    }

    #[test]
    fn objects_are_read_whatever_comes_first() {
        let object = object(r#"{"type":"LoadBalancer"}"#);
        for event in [
            format!(r#"{{"type":"ADDED","object":{object}}}"#),
            format!(r#"{{"object":{object},"type":"ADDED"}}"#),
        ] {
            let Ok(Event::Added(Guarded(Ok(service)))) = serde_json::from_str(&event) else {
                panic!("{event}");
            };
            assert_eq!(service.metadata.name.as_deref(), Some("web"));
            let kind = service.spec.and_then(|spec| spec.type_);
            assert_eq!(kind.as_deref(), Some("LoadBalancer"));
        }
    }

    #[test]
    fn one_that_cannot_be_read_has_its_name_and_the_reason() {
        let list = format!("[{},{}]", object(r#"{"ports":7}"#), object("{}"));
        let read: Vec<Guarded<Service>> = serde_json::from_str(&list).expect("a list");
        let Guarded(Err(invalid)) = &read[0] else { panic!("it is none") };
        assert!(invalid.reason.contains("invalid type: integer `7`"), "{}", invalid.reason);
        assert_eq!(read[0].meta().namespace.as_deref(), Some("ns"));
        assert!(read[1].0.is_ok());
        let nameless = serde_json::from_str::<Guarded<Service>>(r#"{"metadata":7}"#);
        assert!(nameless.is_err());
    }
}
