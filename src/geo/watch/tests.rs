//! Databases that come, go and break, driven look by look.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;

use super::{Channels, Loader, Status, run};
use crate::geo::testing::{Tree, city, database, label, rule};
use crate::geo::{Atlas, Embedded, Settings, Target};

fn bytes(latitude: f64) -> Vec<u8> {
    database(Tree::V4, "City", &[("1.0.0.0/8", city(latitude, 0.0))])
}

fn place(atlas: &Atlas) -> String {
    atlas.locate("1.2.3.4".parse().expect("an address")).place.to_string()
}

/// Puts a file in place in one step, as a careful updater does.
fn replace(file: &Path, bytes: &[u8]) {
    let aside = file.with_extension("new");
    fs::write(&aside, bytes).expect("written");
    fs::rename(aside, file).expect("renamed");
}

fn settings(files: &[&Path]) -> Settings {
    let networks = vec![rule("9.0.0.0/8", Target::Cluster(label("home")))];
    let databases = files.iter().map(|file| file.to_path_buf()).collect();
    Settings { databases, embedded: Embedded::Off, networks }
}

#[test]
fn a_replacement_takes_effect_and_a_broken_one_does_not() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("city.mmdb");
    replace(&file, &bytes(1.0));
    let mut loader = Loader::new(settings(&[&file]));
    let first = loader.refresh().expect("an atlas");
    assert_eq!(place(&first), "1.00,0.00");
    assert!(loader.refresh().is_none(), "nothing is new");

    replace(&file, &bytes(22.0));
    assert!(loader.refresh().is_none(), "it might still be being written");
    assert_eq!(place(&loader.refresh().expect("an atlas")), "22.00,0.00");

    let whole = bytes(33.0);
    replace(&file, &whole[..whole.len() / 2]);
    assert!(loader.refresh().is_none() && loader.refresh().is_none());
    let status = loader.status();
    assert_eq!(status.failures, 1, "tried once, not at every look");
    assert!(status.databases[0].error.as_ref().expect("an error").contains("cut short"));
    assert_eq!(status.databases[0].loaded.as_ref().expect("the old one").places, 1);

    fs::remove_file(&file).expect("removed");
    assert!(loader.refresh().is_none() && loader.refresh().is_none());
    assert_eq!(loader.status().failures, 2);

    replace(&file, &bytes(4.0));
    assert!(loader.refresh().is_none());
    assert_eq!(place(&loader.refresh().expect("an atlas")), "4.00,0.00");
    let status = loader.status();
    assert_eq!((status.databases[0].error.as_ref(), status.failures), (None, 2));
}

#[test]
fn other_permissions_are_reason_to_try_again() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("city.mmdb");
    replace(&file, b"no database");
    let mut loader = Loader::new(settings(&[&file]));
    assert!(loader.refresh().is_some() && loader.refresh().is_none());
    assert_eq!(loader.status().failures, 1);
    let changed = || {
        let data = fs::metadata(&file).expect("there");
        (data.ctime(), data.ctime_nsec())
    };
    let before = changed();
    // The file system's clock ticks every few milliseconds.
    for _ in 0..10_000 {
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("changed");
        if changed() != before {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(loader.refresh().is_none() && loader.refresh().is_none());
    assert_eq!(loader.status().failures, 2, "tried again");
}

#[test]
fn what_is_missing_at_the_start_keeps_nothing_else_back() {
    let dir = TempDir::new().expect("a directory");
    let (good, missing) = (dir.path().join("good.mmdb"), dir.path().join("missing.mmdb"));
    replace(&good, &bytes(1.0));
    let mut loader = Loader::new(settings(&[&missing, &good]));
    let atlas = loader.refresh().expect("an atlas");
    assert_eq!(place(&atlas), "1.00,0.00");
    assert_eq!(
        atlas.locate("9.1.1.1".parse().expect("an address")).place.to_string(),
        "cluster home"
    );
    assert!(
        loader.status().databases[0].error.as_ref().expect("missing").contains("cannot be read")
    );

    replace(&missing, &bytes(2.0));
    assert!(loader.refresh().is_none());
    assert_eq!(place(&loader.refresh().expect("an atlas")), "2.00,0.00");
}

#[test]
fn other_settings_keep_what_is_loaded() {
    let dir = TempDir::new().expect("a directory");
    let (one, two) = (dir.path().join("one.mmdb"), dir.path().join("two.mmdb"));
    replace(&one, &bytes(1.0));
    replace(&two, &bytes(2.0));
    let mut loader = Loader::new(settings(&[&one]));
    let before = loader.refresh().expect("an atlas");
    loader.configure(settings(&[&two, &one]));
    let after = loader.refresh().expect("an atlas");
    assert_eq!(place(&after), "2.00,0.00");
    assert!(Arc::ptr_eq(&before.databases()[0], &after.databases()[1]), "not read again");
    loader.configure(settings(&[]));
    assert_eq!(place(&loader.refresh().expect("an atlas")), "unknown");
    loader.configure(Settings::default());
    let source = loader.refresh().expect("an atlas").locate("1.2.3.4".parse().expect("v4")).source;
    assert_eq!(source.to_string(), "embedded table", "used unless it is off");
    assert!(loader.status().embedded.is_some_and(|table| table.attribution.contains("DB-IP")));
}

#[test]
fn publishes_and_ends_with_the_settings() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("city.mmdb");
    replace(&file, &bytes(1.0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(async {
        let (settings_sender, settings_receiver) = watch::channel(settings(&[&file]));
        let (atlas, mut atlases) = watch::channel(None);
        let (status, statuses) = watch::channel(Status::default());
        let running = tokio::spawn(run(settings_receiver, Channels { atlas, status }));
        let published = atlases.wait_for(Option::is_some).await.expect("published").clone();
        assert_eq!(place(&published.expect("an atlas")), "1.00,0.00");
        assert!(statuses.borrow().databases[0].loaded.is_some());
        settings_sender.send(settings(&[])).expect("still running");
        atlases.changed().await.expect("published again");
        assert!(atlases.borrow_and_update().as_ref().expect("an atlas").databases().is_empty());
        drop(settings_sender);
        running.await.expect("ended by itself");
    });
}
