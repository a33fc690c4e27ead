//! What becomes of files that change, break or go.

use std::os::unix::fs::symlink;

use super::*;

#[test]
fn edits_renames_replacements_and_deletions() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.look();
    directory.write("a.yaml", &service("web", "192.0.2.2"));
    assert_eq!(directory.look(), Changed::Nothing, "it may still be written to");
    assert_eq!(directory.look(), Changed::View);
    assert_eq!(directory.services(), ["web 192.0.2.2"]);

    fs::rename(directory.path("a.yaml"), directory.path("b.yaml")).unwrap();
    assert_eq!(directory.settle(), Changed::Nothing, "the object is the same");
    assert_eq!(directory.services(), ["web 192.0.2.2"]);

    directory.write("new.tmp", &service("web", "192.0.2.3"));
    fs::rename(directory.path("new.tmp"), directory.path("b.yaml")).unwrap();
    assert_eq!(directory.settle(), Changed::View);
    assert_eq!(directory.services(), ["web 192.0.2.3"]);

    // Deleted and written anew between two looks, or seen as gone by one: it never vanishes.
    fs::remove_file(directory.path("b.yaml")).unwrap();
    assert_eq!(directory.look(), Changed::Nothing);
    directory.write("b.yaml", &service("web", "192.0.2.3"));
    assert_eq!(directory.settle(), Changed::Nothing);

    fs::remove_file(directory.path("b.yaml")).unwrap();
    assert_eq!(directory.settle(), Changed::View);
    assert!(directory.services().is_empty());
}

#[test]
fn a_file_that_is_always_being_written_is_read_in_the_end() {
    let mut directory = Directory::new();
    directory.write("a.yaml", "");
    directory.look();
    let mut looks = 0;
    let mut text = service("web", "192.0.2.1");
    while directory.services().is_empty() {
        text.push_str("# more\n");
        directory.write("a.yaml", &text);
        directory.look();
        looks += 1;
        assert!(looks <= RESTLESS_LOOKS + 1);
    }
}

#[test]
fn a_bad_file_keeps_its_last_good_content_and_touches_no_other() {
    let mut directory = Directory::new();
    directory.write("bad.yaml", "kind: Service\n  x: [\n");
    directory.write("web.yaml", &service("web", "192.0.2.1"));
    assert_eq!(directory.look(), Changed::Nothing, "it may be half written");
    assert_eq!(directory.look(), Changed::View, "it holds nothing else up");
    assert_eq!(directory.services(), ["web 192.0.2.1"]);
    let reports = directory.reports();
    assert!(reports.len() == 1 && reports[0].starts_with("bad.yaml:2: "), "{reports:?}");
    assert!(reports[0].ends_with("nothing of this file is in force"), "{reports:?}");

    let wrong_type = format!(
        "{}---\n{}  ports:\n  - port: http\n",
        service("api", "192.0.2.5"),
        service("web", "192.0.2.9")
    );
    directory.write("web.yaml", &wrong_type);
    directory.write("other.yaml", &service("other", "192.0.2.2"));
    fs::remove_file(directory.path("bad.yaml")).unwrap();
    directory.settle();
    assert_eq!(directory.services(), ["other 192.0.2.2", "web 192.0.2.1"]);
    let reports = directory.reports();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].starts_with("web.yaml:8: Service web: spec.ports[0].port: "), "{reports:?}");
    assert!(reports[0].ends_with("its last good content stays in force"), "{reports:?}");

    directory.write("web.yaml", &service("web", "192.0.2.9"));
    directory.settle();
    assert_eq!(directory.services(), ["other 192.0.2.2", "web 192.0.2.9"]);
    assert!(directory.reports().is_empty());
}

#[test]
fn a_file_that_is_half_written_at_the_start_is_waited_for() {
    let mut directory = Directory::new();
    directory.write("a.yaml", "apiVersion: v1\nitems:\n");
    directory.write("b.yaml", &service("api", "192.0.2.2"));
    assert_eq!(directory.look(), Changed::Nothing);
    assert!(directory.state.view().is_none(), "absence is not known yet");
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    assert_eq!(directory.look(), Changed::View);
    assert_eq!(directory.services(), ["api 192.0.2.2", "web 192.0.2.1"]);
    assert!(directory.reports().is_empty());

    let mut directory = Directory::new();
    directory.write("b.yaml", &service("api", "192.0.2.2"));
    let mut text = String::from("{");
    for look in 0.. {
        assert!(look <= RESTLESS_LOOKS, "not for ever");
        text.push(' ');
        directory.write("a.yaml", &text);
        if directory.look() == Changed::View {
            break;
        }
    }
    assert_eq!(directory.services(), ["api 192.0.2.2"]);
}

#[test]
fn a_file_that_is_cut_short_keeps_its_objects_until_it_is_deleted() {
    let mut directory = Directory::new();
    let item = "- apiVersion: v1\n  kind: Service\n  metadata: {name: NAME}\n  spec: \
                {externalIPs: [192.0.2.1]}\n";
    let items = format!("apiVersion: v1\nitems:\n{}", item.replace("NAME", "web"));
    let whole = format!("{items}{}kind: List\n", item.replace("NAME", "api"));
    directory.write("objects.yaml", &whole);
    directory.write("empty.yaml", "");
    directory.look();
    let both = ["api 192.0.2.1", "web 192.0.2.1"];
    assert_eq!(directory.services(), both);
    assert!(directory.reports().is_empty(), "a file that never held anything may be empty");

    for text in ["", "# nothing yet\n", &items, &whole[..whole.len() - 3]] {
        directory.write("objects.yaml", text);
        directory.settle();
        assert_eq!(directory.services(), both, "{text:?}");
        let reports = directory.reports();
        assert_eq!(reports.len(), 1, "{text:?}: {reports:?}");
        let told = if text.contains("items") { "is the file cut short?" } else { "is empty" };
        assert!(reports[0].contains(told), "{text:?}: {reports:?}");
        assert!(reports[0].contains("its last good content stays in force"), "{reports:?}");
    }
    directory.write("objects.yaml", &whole);
    directory.settle();
    assert!(directory.reports().is_empty());
    directory.write("objects.yaml", "");
    directory.settle();
    fs::remove_file(directory.path("objects.yaml")).unwrap();
    directory.settle();
    assert!(directory.reports().is_empty(), "gone with its fault");
}

#[test]
fn the_later_of_two_files_wins_and_the_earlier_comes_to_light_again() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.write("b.yaml", &service("web", "192.0.2.2"));
    directory.look();
    assert_eq!(directory.services(), ["web 192.0.2.2"]);
    let reports = directory.reports();
    assert!(reports.len() == 1 && reports[0].starts_with("a.yaml:1: Service web"), "{reports:?}");
    assert!(reports[0].contains("b.yaml"), "{reports:?}");
    directory.write("a.yaml", &service("web", "192.0.2.3"));
    directory.settle();
    assert_eq!(directory.services(), ["web 192.0.2.2"]);
    fs::remove_file(directory.path("b.yaml")).unwrap();
    directory.settle();
    assert_eq!(directory.services(), ["web 192.0.2.3"]);
    assert!(directory.reports().is_empty());
    let twice = format!("{}---\n{}", service("web", "192.0.2.4"), service("web", "192.0.2.5"));
    directory.write("a.yaml", &twice);
    directory.settle();
    assert_eq!(directory.services(), ["web 192.0.2.5"]);
    let expected = "a.yaml:1: Service web stands again in line 8; the later one is in force";
    assert_eq!(directory.reports(), [expected]);
}

#[test]
fn a_config_map_mount_is_swapped_as_a_whole() {
    let mut directory = Directory::new();
    let publish = |directory: &Directory, version: &str, files: &[(&str, String)]| {
        fs::create_dir(directory.path(version)).unwrap();
        for (name, text) in files {
            fs::write(directory.path(version).join(name), text).unwrap();
            let link = directory.path(name);
            if fs::symlink_metadata(&link).is_err() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        symlink(version, directory.path("..data_tmp")).unwrap();
        fs::rename(directory.path("..data_tmp"), directory.path("..data")).unwrap();
    };
    publish(&directory, "..1", &[("a.yaml", service("web", "192.0.2.1"))]);
    directory.look();
    assert_eq!(directory.services(), ["web 192.0.2.1"]);
    let files = [("a.yaml", service("web", "192.0.2.2")), ("b.yaml", service("api", "192.0.2.3"))];
    publish(&directory, "..2", &files);
    fs::remove_dir_all(directory.path("..1")).unwrap();
    directory.settle();
    assert_eq!(directory.services(), ["api 192.0.2.3", "web 192.0.2.2"]);
    assert!(directory.reports().is_empty());
}

#[test]
fn a_file_that_cannot_be_read_is_reported_and_touches_no_other() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.write("b.yaml", &service("api", "192.0.2.2"));
    directory.look();
    fs::remove_file(directory.path("a.yaml")).unwrap();
    symlink("a.yaml", directory.path("a.yaml")).unwrap();
    directory.write("b.yaml", &service("api", "192.0.2.3"));
    directory.settle();
    assert_eq!(directory.services(), ["api 192.0.2.3", "web 192.0.2.1"]);
    let reports = directory.reports();
    assert!(reports.len() == 1 && reports[0].starts_with("a.yaml: cannot be read"), "{reports:?}");
    fs::remove_file(directory.path("a.yaml")).unwrap();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.settle();
    assert!(directory.reports().is_empty());
}

#[test]
fn a_directory_that_is_gone_keeps_everything() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.look();
    let moved = directory.home.path().join("moved");
    fs::rename(directory.path(""), &moved).unwrap();
    assert_eq!(directory.settle(), Changed::View, "it is reported");
    assert_eq!(directory.services(), ["web 192.0.2.1"]);
    assert!(directory.reports()[0].contains("cannot be read"), "{:?}", directory.reports());
    fs::rename(moved, directory.path("")).unwrap();
    directory.settle();
    assert_eq!(directory.services(), ["web 192.0.2.1"]);
    assert!(directory.reports().is_empty());
}

#[test]
fn content_that_changes_without_its_metadata_is_seen() {
    let mut directory = Directory::new();
    directory.write("a.yaml", &service("web", "192.0.2.1"));
    directory.look();
    directory.write("a.yaml", &service("web", "192.0.2.2"));
    // As if the file system's clock had not ticked between the two.
    let listing = file::list(&directory.path("")).unwrap();
    for (name, stamp) in &listing {
        directory.scanner.files.get_mut(name).unwrap().pretend_stamp(stamp);
    }
    assert_eq!(directory.look(), Changed::View);
    assert_eq!(directory.services(), ["web 192.0.2.2"]);
}
