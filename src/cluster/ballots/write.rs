//! Our own ballot in the home cluster, and those that others of it have left behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{KEY, LABEL, Office, RENEWAL};
use crate::cluster::home::Instance;
use crate::cluster::kube::{describe, fault_of};
use crate::cluster::link::Fault;
use crate::health::votes::{Ballot, Leavings, Renewal, Sights};
use crate::model::Report;

/// The least time from one writing to the next: many changes within it are one.
const PACE: Duration = Duration::from_millis(250);

/// After a failure; a heartbeat or a change comes sooner or later too.
const AGAIN: Duration = Duration::from_secs(2);

/// How long one writing may take.
const LIMIT: Duration = Duration::from_secs(5);

/// By whom the fields of the object are managed.
const MANAGER: &str = "meridian";

/// Who writes.
struct Writer {
    api: Api<ConfigMap>,
    namespace: Arc<str>,
    instance: Instance,
    written: Option<Written>,
}

/// The object as we last left it.
struct Written {
    run: u64,
    sights: Arc<Sights>,
    omitted: usize,
    /// Its `resourceVersion`.
    version: String,
}

/// What has gone wrong, and the code of the answer where there was one.
type Failed = (Fault, Option<u16>, String);

/// Writes every ballot that `office` is given into `namespace`, for ever, and removes those of
/// instances that are gone; tells `renew` where the credentials are refused.
pub(in crate::cluster) async fn write(
    office: Arc<Office>,
    client: Client,
    namespace: Arc<str>,
    renew: Arc<Notify>,
) {
    let api = Api::namespaced(client, &namespace);
    let instance = Instance::from_environment();
    let mut writer = Writer { api, namespace, instance, written: None };
    let mut leavings = Leavings::default();
    let mut own = office.own.subscribe();
    own.mark_changed();
    // The sender is the office's, which we hold.
    while own.changed().await.is_ok() {
        let Some(ballot) = own.borrow_and_update().clone() else { continue };
        match writer.put(&ballot).await {
            Ok(0) => office.wrote(None),
            Ok(omitted) => office.wrote(Some(Report {
                subject: format!("ballot of {ballot}").into(),
                reason: format!("{omitted} shards that fail do not fit in, and are not voted on")
                    .into(),
            })),
            Err((fault, _, reason)) => {
                let namespace = &writer.namespace;
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
        let heard = office.heard.borrow().ballots.clone();
        for gone in leavings.look(&ballot, &heard, Instant::now()) {
            writer.remove(&name(gone.as_str())).await;
        }
        sleep(PACE).await;
    }
}

/// What the object of an instance is called.
pub(super) fn name(instance: &str) -> String {
    format!("meridian-ballot-{instance}")
}

impl Writer {
    /// Writes the ballot: all of it where it says something else than before, else only that it is
    /// renewed. Returns how many shards did not fit.
    async fn put(&mut self, ballot: &Ballot) -> Result<usize, Failed> {
        let written = self.written.take();
        let same = |written: &Written| written.run == ballot.run && written.sights == ballot.sights;
        let written = match written.filter(same) {
            Some(written) => match self.renew(ballot, &written).await {
                Ok(version) => Written { version, ..written },
                // Somebody has removed or changed it.
                Err((_, Some(404 | 409), _)) => self.apply(ballot).await?,
                Err(failed) => {
                    self.written = Some(written);
                    return Err(failed);
                }
            },
            None => self.apply(ballot).await?,
        };
        Ok(self.written.insert(written).omitted)
    }

    /// Writes that the ballot is renewed into the object, if it is as we have left it.
    async fn renew(&self, ballot: &Ballot, written: &Written) -> Result<String, Failed> {
        let renewal = Renewal { run: ballot.run, renewal: ballot.renewal }.to_string();
        let changed = json!({"metadata": {
            "resourceVersion": written.version,
            "annotations": {RENEWAL: renewal},
        }});
        self.patch(ballot, &PatchParams::default(), &Patch::Merge(changed)).await
    }

    /// Makes or changes the object by one request, whatever is there.
    async fn apply(&self, ballot: &Ballot) -> Result<Written, Failed> {
        let encoded = ballot.encode().map_err(|e| (Fault::Refused, None, e.to_string()))?;
        let object = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name(&ballot.instance)),
                namespace: Some(self.namespace.to_string()),
                labels: Some(BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())])),
                // It goes with the pod, whose successor has another name.
                owner_references: self.instance.owner(&self.namespace).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(KEY.to_owned(), encoded.text)])),
            ..ConfigMap::default()
        };
        let how = PatchParams::apply(MANAGER).force();
        let version = self.patch(ballot, &how, &Patch::Apply(&object)).await?;
        let (run, sights) = (ballot.run, ballot.sights.clone());
        Ok(Written { run, sights, omitted: encoded.omitted, version })
    }

    /// Returns the version of the object as it is then.
    async fn patch<P: serde::Serialize + std::fmt::Debug>(
        &self,
        ballot: &Ballot,
        how: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<String, Failed> {
        let name = name(&ballot.instance);
        match timeout(LIMIT, self.api.patch(&name, how, patch)).await {
            Ok(Ok(object)) => Ok(object.metadata.resource_version.unwrap_or_default()),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => {
                let reason = format!("no answer within {} s", LIMIT.as_secs());
                Err((Fault::Unreachable, None, reason))
            }
        }
    }

    /// Removes what an instance has left behind. One that is there after all writes again: its next
    /// renewal finds nothing.
    async fn remove(&self, name: &str) {
        let gone = timeout(LIMIT, self.api.delete(name, &DeleteParams::default())).await;
        match gone.map(|gone| gone.map_err(|error| failed(&error))) {
            Ok(Ok(_) | Err((_, Some(404), _))) => {
                info!(name, "removed the ballot of an instance that is gone");
            }
            Ok(Err((fault, _, reason))) => {
                warn!(name, %fault, reason, "the ballot of an instance that is gone stays");
            }
            Err(_) => warn!(name, "the ballot of an instance that is gone stays: no answer"),
        }
    }
}

fn failed(error: &kube::Error) -> Failed {
    let code = match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    };
    (fault_of(error), code, describe(error))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::{Ready, ready};
    use std::sync::{Mutex, PoisonError};
    use std::task::{Context, Poll};

    use http::{Request, Response};
    use kube::client::Body;
    use tower::Service;

    use super::*;
    use crate::model::Label;

    /// An API server that notes what it is asked, and answers with these codes in turn, then with
    /// success.
    #[derive(Clone, Default)]
    struct Fake {
        asked: Arc<Mutex<Vec<String>>>,
        codes: Arc<Mutex<Vec<u16>>>,
    }

    impl Service<Request<Body>> for Fake {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let kind = request.headers().get("content-type").and_then(|kind| kind.to_str().ok());
            let kind = kind.unwrap_or("").trim_start_matches("application/");
            let name = request.uri().path().rsplit('/').next().unwrap_or_default();
            let asked = format!("{} {name} {kind}", request.method());
            self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            let code = self.codes.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let answer = match code {
                None => json!({"apiVersion": "v1", "kind": "ConfigMap",
                               "metadata": {"name": name, "resourceVersion": "7"}}),
                Some(code) => json!({"apiVersion": "v1", "kind": "Status", "status": "Failure",
                                     "message": "told to", "reason": "Test", "code": code}),
            };
            let response = Response::builder().status(code.unwrap_or(200));
            ready(Ok(response
                .body(Body::from(answer.to_string().into_bytes()))
                .expect("a response")))
        }
    }

    fn ballot(renewal: u64, judged: &[&str]) -> Ballot {
        let judged = judged.iter().map(|name| Label::parse(name).expect("a label")).collect();
        let sights = Arc::new(Sights { judged, ..Sights::default() });
        let voter = Label::parse("eu").expect("a label");
        Ballot { voter, instance: "one".into(), run: 1, renewal, sights }
    }

    #[test]
    fn all_of_a_ballot_is_written_only_where_it_says_something_else() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            let fake = Fake::default();
            let api = Api::namespaced(Client::new(fake.clone(), "m"), "m");
            let instance = Instance::from_environment();
            let mut writer = Writer { api, namespace: "m".into(), instance, written: None };
            let asked = || std::mem::take(&mut *fake.asked.lock().expect("whole"));
            let (apply, merge) = (
                "PATCH meridian-ballot-one apply-patch+yaml",
                "PATCH meridian-ballot-one merge-patch+json",
            );
            writer.put(&ballot(1, &[])).await.expect("written");
            writer.put(&ballot(2, &[])).await.expect("written");
            writer.put(&ballot(3, &[])).await.expect("written");
            assert_eq!(asked(), [apply, merge, merge]);
            writer.put(&ballot(4, &["x"])).await.expect("written");
            assert_eq!(asked(), [apply], "it says something else");
            for gone in [404, 409] {
                fake.codes.lock().expect("whole").push(gone);
                writer.put(&ballot(5, &["x"])).await.expect("written");
                assert_eq!(asked(), [merge, apply], "it is not as it was left");
            }
            fake.codes.lock().expect("whole").push(500);
            writer.put(&ballot(6, &["x"])).await.expect_err("refused");
            writer.put(&ballot(7, &["x"])).await.expect("written");
            assert_eq!(asked(), [merge, merge], "tried again");
            writer.remove(&name("gone")).await;
            assert_eq!(asked(), ["DELETE meridian-ballot-gone json"]);
        });
    }
}
