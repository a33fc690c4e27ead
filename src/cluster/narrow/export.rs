//! ServiceExports of the Multi-Cluster Services API.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{ObjectId, Rules, Unnamed, names};

/// A ServiceExport, narrowed: it says by its name alone which Service it exports.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cluster) struct NarrowExport {
    /// Which Service, and so which export.
    pub(in crate::cluster) id: ObjectId,
    /// `namespace/name` as the cluster writes it, for reports.
    pub(in crate::cluster) name: Box<str>,
    /// Whether it is in force.
    pub(in crate::cluster) wish: Wish,
}

/// Whether an export is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) enum Wish {
    /// It is.
    Export,
    /// It is being deleted: finalizers may hold the object, but the wish is withdrawn.
    Withdrawn,
}

impl Rules {
    /// Narrows a ServiceExport; `v1beta1` and `v1alpha1` are alike in what counts here. The
    /// optional `spec.exportedLabels` and `exportedAnnotations` are for consumers of
    /// ServiceImports; annotations for us stand on the Service.
    ///
    /// # Errors
    /// [`Unnamed`].
    pub(in crate::cluster) fn service_export(
        &self,
        metadata: &ObjectMeta,
    ) -> Result<NarrowExport, Unnamed> {
        let (namespace, name) = names(metadata)?;
        let wish = match metadata.deletion_timestamp {
            None => Wish::Export,
            Some(_) => Wish::Withdrawn,
        };
        let id = self.id(namespace, name);
        Ok(NarrowExport { id, name: format!("{namespace}/{name}").into(), wish })
    }
}
