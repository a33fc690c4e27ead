//! Our own ballot in the home cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{KEY, LABEL, Office};
use crate::cluster::home::Instance;
use crate::cluster::kube::{describe, fault_of};
use crate::cluster::link::Fault;
use crate::health::votes::Ballot;
use crate::model::Report;

/// The least time from one writing to the next: many changes within it are one.
const PACE: Duration = Duration::from_millis(250);

/// After a failure; a heartbeat or a change comes sooner or later too.
const AGAIN: Duration = Duration::from_secs(2);

/// How long one writing may take.
const LIMIT: Duration = Duration::from_secs(5);

/// By whom the fields of the object are managed.
const MANAGER: &str = "meridian";

/// Writes every ballot that `office` is given into `namespace`, for ever; tells `renew` where the
/// credentials are refused.
pub(in crate::cluster) async fn write(
    office: Arc<Office>,
    client: Client,
    namespace: Arc<str>,
    renew: Arc<Notify>,
) {
    let instance = Instance::from_environment();
    let mut own = office.own.subscribe();
    own.mark_changed();
    // The sender is the office's, which we hold.
    while own.changed().await.is_ok() {
        let Some(ballot) = own.borrow_and_update().clone() else { continue };
        match put(&client, &namespace, &ballot, &instance).await {
            Ok(0) => office.wrote(None),
            Ok(omitted) => office.wrote(Some(Report {
                subject: format!("ballot of {ballot}").into(),
                reason: format!("{omitted} shards that fail do not fit in, and are not voted on")
                    .into(),
            })),
            Err((fault, reason)) => {
                let reason = format!("it cannot be written to namespace {namespace}: {reason}");
                let subject = format!("ballot of {ballot}").into();
                office.wrote(Some(Report { subject, reason: reason.into() }));
                if fault == Fault::Unauthorized {
                    renew.notify_one();
                }
                own.mark_changed();
                sleep(AGAIN).await;
            }
        }
        sleep(PACE).await;
    }
}

/// Returns how many shards did not fit.
async fn put(
    client: &Client,
    namespace: &str,
    ballot: &Ballot,
    instance: &Instance,
) -> Result<usize, (Fault, String)> {
    let encoded = ballot.encode().map_err(|error| (Fault::Refused, error.to_string()))?;
    let name = format!("meridian-ballot-{}", ballot.instance);
    let object = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
            // It goes with the pod, whose successor has another name.
            owner_references: instance.owner(namespace).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(KEY.to_owned(), encoded.text)])),
        ..ConfigMap::default()
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    // Made or changed by one request, whatever is there.
    let (how, object) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&object));
    match timeout(LIMIT, api.patch(&name, &how, &object)).await {
        Ok(Ok(_)) => Ok(encoded.omitted),
        Ok(Err(error)) => Err((fault_of(&error), describe(&error))),
        Err(_) => Err((Fault::Unreachable, format!("no answer within {} s", LIMIT.as_secs()))),
    }
}
