//! ServiceExports, in the version that the API server has.

use std::time::Duration;

use hyper::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup;
use kube::Api;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, PartialObjectMeta};
use tokio::time::sleep;

use super::watch::{Narrowed, Unknown};
use super::{Session, fault};
use crate::cluster::feed::Batch;
use crate::cluster::link::{Fault, Kind};
use crate::cluster::narrow::Scope;
use crate::cluster::state::{Change, Event};

/// The API group of the Multi-Cluster Services API.
const GROUP: &str = "multicluster.x-k8s.io";

/// Its versions, the preferred one first.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];

/// How often a server without the group is asked whether it has it now: somebody installs the CRD
/// and does not want to wait long.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// Follows ServiceExports for ever.
pub(super) async fn follow(session: Session) {
    loop {
        match version(&session).await {
            Ok(Some(version)) => {
                let resource = ApiResource::from_gvk_with_plural(
                    &GroupVersionKind::gvk(GROUP, version, "ServiceExport"),
                    "serviceexports",
                );
                let api: Api<PartialObjectMeta<DynamicObject>> =
                    Api::all_with(session.connection.client.clone(), &resource);
                let rules = session.rules.clone();
                let narrow = |object: PartialObjectMeta<DynamicObject>| match rules
                    .service_export(&object.metadata)
                {
                    Ok(export) => Narrowed::Value(export),
                    Err(unnamed) => Narrowed::Skipped { id: None, reason: unnamed.to_string() },
                };
                let follow =
                    session.clone().start(Kind::ServiceExport, Scope::Namespaced, Event::Export);
                if follow.until_missing(&api, &narrow, Unknown::Return).await.is_ok() {
                    return;
                }
            }
            Ok(None) => {
                let reason = "the API server does not know ServiceExports: install the CRD \
                              serviceexports.multicluster.x-k8s.io to export anything";
                session.board.failed(Kind::ServiceExport, Fault::Missing, reason);
                // A server that never had the kind exports nothing, which is known and not merely
                // unread; one that had it keeps what it had. Whether it had is not remembered
                // beyond this run of the task: what the run before served is then guarded.
                if !session.board.ever_listed(Kind::ServiceExport) {
                    session.board.nothing_to_list(Kind::ServiceExport);
                    let events = [Change::Init, Change::InitDone].map(Event::Export).into();
                    let batch = Batch { events, at: std::time::Instant::now() };
                    if session.batches.send(batch).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                let fault = fault::of(&error);
                session.board.failed(Kind::ServiceExport, fault, &fault::describe(&error));
                if fault == Fault::Unauthorized {
                    session.renew.notify_one();
                }
            }
        }
        sleep(ASK_AGAIN.max(session.connection.observer.hold())).await;
    }
}

/// The version to ask for; `None` where the server has none that we know.
async fn version(session: &Session) -> Result<Option<&'static str>, kube::Error> {
    let path = format!("/apis/{GROUP}");
    let request = Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    match session.connection.client.request::<APIGroup>(request).await {
        Ok(group) => {
            let has = |version: &&str| group.versions.iter().any(|v| v.version == *version);
            Ok(VERSIONS.into_iter().find(has))
        }
        Err(error) if fault::of(&error) == Fault::Missing => Ok(None),
        Err(error) => Err(error),
    }
}
