//! The whole of it: a directory in, views out.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::cluster::{AddressScope, ApiSettings, Export, Namespaces};
use crate::model::Label;
use crate::telemetry::Telemetry;

fn start(directory: &Path) -> (Feed, Arc<Notify>) {
    let wake = Arc::new(Notify::new());
    let settings = Settings {
        name: Label::parse("one").unwrap(),
        source: Source::Manifests(directory.to_owned()),
        export: Export::All,
        namespaces: Namespaces::default(),
        addresses: AddressScope::Any,
        allow_nets: [].into(),
        internal: crate::cluster::InternalAddresses::LeftOut,
        api: ApiSettings::default(),
        confirm: Duration::from_secs(300),
    };
    let shared = Shared {
        apex: DomainName::parse("example.com").unwrap(),
        resolver: ResolverSettings::default(),
        wake: wake.clone(),
        remembered: Arc::default(),
        pool: Arc::default(),
        ballots: Arc::default(),
        tasks: Telemetry::new("example.com").tasks().clone(),
    };
    (spawn(settings, shared), wake)
}

/// Waits for the next view as a publisher does; bounded, lest a fault hang the test.
async fn next(feed: &mut Feed, wake: &Notify) -> Update {
    timeout(Duration::from_secs(30), async {
        loop {
            wake.notified().await;
            if feed.view.has_changed().expect("the task lives") {
                break feed.view.borrow_and_update().clone().expect("a view");
            }
        }
    })
    .await
    .expect("a view in time")
}

fn service(address: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: web}}, \
         spec: {{externalIPs: [{address}]}}}}\n"
    )
}

#[tokio::test]
async fn a_directory_becomes_views() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("manifests");
    let (mut feed, wake) = start(&directory);
    assert!(feed.view.borrow().is_none(), "nothing is known yet");
    let staging = home.path().join("staging");
    fs::create_dir(&staging).unwrap();
    fs::write(staging.join("a.yaml"), service("192.0.2.1")).unwrap();
    fs::rename(staging, &directory).unwrap();
    let first = next(&mut feed, &wake).await;
    assert_eq!(first.view.shards.len(), 1);
    fs::write(home.path().join("new"), service("192.0.2.2")).unwrap();
    fs::rename(home.path().join("new"), directory.join("a.yaml")).unwrap();
    let second = next(&mut feed, &wake).await;
    assert!(second.changed_at > first.changed_at);
    let addresses = &second.view.shards.iter().next().unwrap().shard.addresses;
    assert_eq!(**addresses, ["192.0.2.2".parse::<std::net::IpAddr>().unwrap()]);
}

#[tokio::test]
async fn a_dropped_feed_ends_its_task() {
    let home = tempfile::tempdir().unwrap();
    let (feed, wake) = start(home.path());
    let Feed { mut view, _task: task, .. } = feed;
    timeout(Duration::from_secs(30), wake.notified()).await.expect("an empty view");
    view.mark_unchanged();
    drop(task);
    let closed = timeout(Duration::from_secs(30), view.changed()).await.expect("in time");
    assert!(closed.is_err(), "the sender is gone");
}

/// However often a task fails before its first view, the next begins with that of the earlier run.
#[test]
fn what_an_earlier_run_knew_is_kept_until_there_is_a_view() {
    let (sender, _feed) = watch::channel(None);
    let known = Arc::new(ClusterView::default());
    let views = Views { sender, known: Arc::new(Mutex::new(Some(known.clone()))) };
    for _ in 0..2 {
        assert!(views.clone().last().is_some_and(|last| Arc::ptr_eq(&last, &known)));
    }
    let view = Arc::new(ClusterView::default());
    views.send(Update { view: view.clone(), changed_at: Instant::now() });
    assert!(views.last().is_some_and(|last| Arc::ptr_eq(&last, &view)));
    assert_eq!(Arc::strong_count(&known), 1, "it is let go");
}
