//! Where clusters stand, and what is doubtful about it.

use super::{Inputs, places};
use crate::geo::{Clients, Geography, NetworkRule, Site, ambiguities_of, coordinates_of};
use crate::model::{Report, Topology};

/// Where clusters are, as names and distances see it.
pub(super) fn sites(inputs: &Inputs) -> Vec<Site> {
    let members = inputs.federation.members.iter().zip(&inputs.views);
    members
        .map(|(member, view)| {
            let topologies = places(member, view.as_deref());
            let by_name = |t: &Topology| coordinates_of(naming(t)?);
            let coordinates = member.location.or_else(|| topologies.iter().find_map(by_name));
            Site { name: member.name.clone(), topologies, coordinates }
        })
        .collect()
}

/// The name by which a place is found in the table of cloud regions: that of its region, else that
/// of its availability zone.
fn naming(topology: &Topology) -> Option<&str> {
    let zone = topology.zone.as_ref().map(|zone| zone.as_str());
    let names = [Some(topology.region.as_str()), zone];
    names.into_iter().flatten().find(|name| coordinates_of(name).is_some())
}

/// What is doubtful about places: clusters whose coordinates are unknown or guessed, pod networks
/// that two clusters claim, rules that no database serves.
pub(super) fn reports(inputs: &Inputs, sites: &[Site], geography: &Geography) -> Vec<Report> {
    let members = inputs.federation.members.iter().zip(sites);
    let clusters =
        members.filter(|(member, _)| member.location.is_none()).filter_map(|(_, site)| {
            Some(Report {
                subject: format!("Cluster {}", site.name).into(),
                reason: doubt(site)?.into(),
            })
        });
    let name = |id: crate::model::ClusterId| &sites[id.index()].name;
    let pods = geography.conflicts.iter().map(|conflict| {
        let [one, other] = conflict.clusters.map(name);
        Report {
            subject: format!("Clusters {one} and {other}").into(),
            reason: conflict.describe([one, other]).into(),
        }
    });
    let rules = &inputs.federation.networks;
    let by_system = rules.iter().find(|rule| matches!(rule.clients(), Clients::System(_)));
    let unserved = by_system.filter(|_| !inputs.atlas.knows_systems());
    clusters.chain(pods).chain(unserved.map(no_systems)).collect()
}

/// Why the coordinates of a site without configured ones are doubtful.
fn doubt(site: &Site) -> Option<String> {
    if site.coordinates.is_none() {
        let region = &site.topologies.first()?.region;
        return Some(format!(
            "its region '{region}' is in no table of cloud regions, so it sorts last: give it its \
             'location'"
        ));
    }
    let name = site.topologies.iter().find_map(naming)?;
    let (taken, others) = ambiguities_of(name)?;
    let others: Vec<String> = others.iter().map(ToString::to_string).collect();
    Some(format!(
        "its region is taken to be {taken}, but there is {} too: give it its 'location'",
        others.join(" and ")
    ))
}

fn no_systems(rule: &NetworkRule) -> Report {
    Report {
        subject: "geo.networks".into(),
        reason: format!(
            "no database tells autonomous systems, so the rule for {} has no effect: add an ASN \
             database to geo.databases",
            rule.clients()
        )
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use super::doubt;
    use crate::geo::{Site, coordinates_of};
    use crate::model::{Label, Topology};

    fn site(region: &str) -> Site {
        let region = Label::parse(region).expect("a label");
        let coordinates = coordinates_of(region.as_str());
        let topologies = [Topology { region: region.clone(), zone: None }].into();
        Site { name: region, topologies, coordinates }
    }

    #[test]
    fn doubts() {
        let unknown = doubt(&site("cellar")).expect("nobody knows it");
        assert!(unknown.starts_with("its region 'cellar' is in no table"), "{unknown}");
        let twice = doubt(&site("me-central-1")).expect("of two providers");
        assert!(twice.contains("of aws") && twice.contains("of alibaba"), "{twice}");
        assert_eq!(doubt(&site("us-central1")), None);
    }
}
