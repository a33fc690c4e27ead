//! This process, as the downward API tells it.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// The pod that this runs in, as far as it is known.
#[derive(Debug)]
pub(in crate::cluster) struct Instance {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    uid: Option<String>,
}

impl Instance {
    /// By `POD_NAME`, `POD_NAMESPACE` and `POD_UID`, which the manifests in `deploy/` set.
    pub(in crate::cluster) fn from_environment() -> Self {
        let read = |key| std::env::var(key).ok().filter(|value| !value.is_empty());
        Self {
            // A container has the name of its pod as its host's.
            name: read("POD_NAME").or_else(|| read("HOSTNAME")).unwrap_or("meridian".to_owned()),
            namespace: read("POD_NAMESPACE"),
            uid: read("POD_UID"),
        }
    }

    /// The pod, where all is known of it: `kubectl describe` finds Events by the uid.
    pub(super) fn reference(&self) -> Option<ObjectReference> {
        let (namespace, uid) = (self.namespace.as_deref()?, self.uid.as_deref()?);
        Some(reference("Pod", namespace, &self.name, uid))
    }

    /// The pod as the owner of an object in `namespace`, which then goes with it; `None` where it
    /// is in another, or not known well enough.
    pub(in crate::cluster) fn owner(&self, namespace: &str) -> Option<OwnerReference> {
        let uid = self.uid.clone().filter(|_| self.namespace.as_deref() == Some(namespace))?;
        Some(OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: self.name.clone(),
            uid,
            ..OwnerReference::default()
        })
    }
}

/// An object of the core API.
pub(super) fn reference(kind: &str, namespace: &str, name: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        uid: (!uid.is_empty()).then(|| uid.to_owned()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_owns_what_is_beside_it() {
        let text = |text: &str| Some(text.to_owned());
        let pod = Instance { name: "m-0".into(), namespace: text("meridian"), uid: text("u") };
        assert_eq!(pod.owner("meridian").map(|owner| owner.uid), text("u"));
        assert_eq!(pod.owner("other"), None, "owners must be in the same namespace");
        let unknown = Instance { uid: None, ..pod };
        assert_eq!((unknown.owner("meridian"), unknown.reference()), (None, None));
    }
}
