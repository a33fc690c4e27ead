//! Tables until others are compiled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::{World, world};
use crate::geo::{Compiled, Geography, PodNetworks, Site};
use crate::model::{ClusterSet, Label};

fn geography(compiled: Compiled) -> Geography {
    let pods = Arc::new(PodNetworks::default());
    Geography { compiled: compiled.into(), pods, conflicts: Vec::new().into() }
}

/// The names of clusters in the order for a client, and the scope.
fn ranked(geography: &Geography, client: IpAddr) -> (Vec<Label>, u8) {
    let ranking = geography.rank(geography.compiled.whole(), Some(client), client);
    let order = ranking.order.expect("an order").ranked().iter();
    let sites = &geography.compiled.sites;
    (order.map(|r| sites[r.cluster().index()].name.clone()).collect(), ranking.scope)
}

fn old_and_new() -> impl Strategy<Value = (World, Vec<Site>, Vec<Site>)> {
    let kept = proptest::collection::vec(any::<(bool, bool)>(), 12);
    (world(), kept, any::<bool>()).prop_map(|(world, kept, turned)| {
        let part = |keep: &dyn Fn(usize) -> bool| {
            let sites = world.sites.iter().enumerate();
            sites.filter(|(at, _)| keep(*at)).map(|(_, site)| site.clone()).collect::<Vec<_>>()
        };
        let old = part(&|at| kept[at].0);
        let mut new = part(&|at| kept[at].1);
        if turned {
            new.reverse();
        }
        (world, old, new)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn scopes_are_never_wider_and_known_clusters_keep_their_order(
        (world, old, new) in old_and_new(),
        picks in proptest::collection::vec(any::<proptest::sample::Index>(), 12),
        random in proptest::collection::vec(any::<u128>(), 6),
    ) {
        let atlas = Arc::new(world.atlas());
        let before = geography(Compiled::new(atlas.clone(), old.clone().into()));
        let between = Compiled::provisional(Some(&before.compiled), &atlas, new.clone().into());
        let between = geography(between);
        let after = geography(Compiled::new(atlas.clone(), new.clone().into()));
        let borders = world.borders();
        let random = random.into_iter().flat_map(|bits| -> [IpAddr; 2] {
            [Ipv4Addr::from(bits as u32).into(), Ipv6Addr::from(bits).into()]
        });
        for client in picks.iter().map(|pick| borders[pick.index(borders.len())]).chain(random) {
            let (order, scope) = ranked(&between, client);
            prop_assert!(scope >= ranked(&before, client).1, "{client}/{scope}");
            prop_assert!(scope >= ranked(&after, client).1, "{client}/{scope}");
            let known = |name: &Label| old.iter().any(|site| site.name == *name);
            let stays = |name: &Label| new.iter().any(|site| site.name == *name);
            let (mut kept, added): (Vec<_>, Vec<_>) = order.into_iter().partition(known);
            let mut expected = ranked(&before, client).0;
            expected.retain(stays);
            // Within a group of equals ids decide, which may have changed their order.
            if new.is_sorted_by_key(|site| world.sites.iter().position(|s| s.name == site.name)) {
                prop_assert_eq!(&kept, &expected);
            }
            kept.sort();
            expected.sort();
            prop_assert_eq!(kept, expected);
            prop_assert_eq!(added.len(), new.iter().filter(|site| !known(&site.name)).count());
        }
        let all = ClusterSet::first(new.len());
        prop_assert!(new.len() < 2 || !between.compiled.are_alike(&all));
    }
}
