//! Orders by example and against the rule spelt out.

use proptest::prelude::*;

use super::{Order, Ranker, Site};
use crate::geo::testing::{at, label, site, sites};
use crate::geo::{Target, distance_km};
use crate::model::ClusterSet;

/// The names of an order's clusters, groups apart.
fn names(sites: &[Site], order: &[super::Ranked]) -> Vec<Vec<String>> {
    let name = |ranked: &super::Ranked| sites[ranked.cluster().index()].name.to_string();
    Order(order).groups().map(|group| group.iter().map(name).collect()).collect()
}

fn toward(sites: &[Site], target: &Target) -> Vec<Vec<String>> {
    names(sites, &Ranker::new(sites, &ClusterSet::first(sites.len())).toward(target))
}

/// Two zones of one region, a cluster further off, one without coordinates.
fn federation() -> Vec<Site> {
    vec![
        site("fra-a", &[("eu", Some("eu-a"))], Some((50.1, 8.7))),
        site("fra-b", &[("eu", Some("eu-b"))], Some((50.1, 8.7))),
        site("ams-a", &[("eu", Some("eu-a"))], Some((52.4, 4.9))),
        site("nyc", &[("us", Some("us-a"))], Some((40.7, -74.0))),
        site("lost", &[("eu", None)], None),
    ]
}

#[test]
fn by_distance() {
    let order = toward(&federation(), &Target::Coordinates(at(52.5, 13.4)));
    assert_eq!(order, [vec!["fra-a", "fra-b"], vec!["ams-a"], vec!["nyc"], vec!["lost"]]);
}

#[test]
fn own_cluster_then_its_zone_then_its_region() {
    let order = toward(&federation(), &Target::Cluster(label("ams-a")));
    assert_eq!(order, [["ams-a"], ["fra-a"], ["fra-b"], ["lost"], ["nyc"]]);
}

#[test]
fn all_of_the_clients_zone_or_region_are_equal() {
    let zone = Target::Zone { region: None, zone: label("eu-a") };
    let order = toward(&federation(), &zone);
    assert_eq!(order, [vec!["fra-a", "ams-a"], vec!["fra-b"], vec!["lost"], vec!["nyc"]]);
    let order = toward(&federation(), &Target::Region(label("eu")));
    assert_eq!(order, [vec!["fra-a", "fra-b", "ams-a", "lost"], vec!["nyc"]]);
}

#[test]
fn a_zone_name_may_need_its_region() {
    let mut sites = federation();
    sites.push(site("sfo", &[("us", Some("eu-a"))], Some((37.8, -122.4))));
    let zone = Target::Zone { region: Some(label("us")), zone: label("eu-a") };
    let order = toward(&sites, &zone);
    assert_eq!(order[..2], [["sfo"], ["nyc"]]);
}

#[test]
fn a_region_without_clusters_stands_where_its_cloud_says() {
    let order = toward(&federation(), &Target::Region(label("us-west1")));
    assert_eq!(order[0], ["nyc"]);
    // Of a region that nothing is known of, as of an unknown client: the registry's order.
    let order = toward(&federation(), &Target::Region(label("nowhere")));
    assert_eq!(order, [vec!["fra-a", "fra-b"], vec!["ams-a"], vec!["nyc"], vec!["lost"]]);
}

proptest! {
    #[test]
    fn distance_never_falls_and_each_cluster_comes_once(
        sites in sites(),
        members in proptest::collection::btree_set(0usize..12, 0..12),
        (lat, lon) in (-90.0..=90.0, -180.0..=180.0),
    ) {
        let members: ClusterSet = members
            .into_iter()
            .filter(|at| *at < sites.len())
            .map(crate::model::ClusterId::new)
            .collect();
        let client = at(lat, lon);
        let order = Ranker::new(&sites, &members).near(client);
        prop_assert_eq!(order.iter().map(|r| r.cluster()).collect::<ClusterSet>(), members);
        let distance = |ranked: &super::Ranked| {
            let point = sites[ranked.cluster().index()].coordinates;
            point.map_or(f64::INFINITY, |point| distance_km(client, point))
        };
        for pair in order.windows(2) {
            let (near, far) = (distance(&pair[0]), distance(&pair[1]));
            prop_assert!(near <= far + 0.001 || near == far);
            let together = sites[pair[0].cluster().index()].coordinates
                == sites[pair[1].cluster().index()].coordinates;
            prop_assert_eq!(together, !pair[1].starts_group());
        }
    }
}
