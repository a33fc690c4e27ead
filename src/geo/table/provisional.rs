//! Tables for clusters that have just been registered or taken away.

use std::collections::{HashMap, HashSet};

use super::{Clients, Code, GeoTable, Orders};
use crate::geo::order::{Ranked, Site};
use crate::model::{ClusterId, Label};

impl GeoTable {
    /// A table of all of `sites` until one is compiled, from that of all clusters `before` and
    /// their sites. Clusters keep their places in its orders, by name; those that it does not know
    /// come last, each by itself, in the order of the registry.
    ///
    /// No two clusters share a class, as what will be alike is not known yet.
    pub(in crate::geo) fn provisional(before: Option<(&Self, &[Site])>, sites: &[Site]) -> Self {
        let ids: HashMap<&Label, ClusterId> =
            sites.iter().enumerate().map(|(at, site)| (&site.name, ClusterId::new(at))).collect();
        let renamed = before.and_then(|(table, old)| table.renamed(old, &ids));
        let (orders, clients, unknown, own, grid) = renamed.unwrap_or_else(|| {
            let all = (0..sites.len()).map(|at| Ranked::new(ClusterId::new(at), true));
            let none = HashMap::new();
            (Orders::one(all.collect()), Clients::Alike(Code(0)), Code(0), none, 0.0)
        });
        let own = |at: usize| own.get(&ClusterId::new(at)).copied().unwrap_or(unknown);
        Self {
            own: (0..sites.len()).map(own).collect(),
            // Ids fit 15 bits.
            classes: (0..sites.len()).map(|at| at as u16).collect(),
            own_differs: true,
            orders,
            clients,
            unknown,
            grid,
            lists: 0,
        }
    }

    /// The parts of a table whose clusters stood at `old`, by the ids that their names have now;
    /// `None` where the orders would take too much memory.
    fn renamed(&self, old: &[Site], ids: &HashMap<&Label, ClusterId>) -> Option<Renamed> {
        let new_id = |old_id: ClusterId| ids.get(&old[old_id.index()].name).copied();
        let mut added = ids.clone();
        let known: HashSet<&Label> = old.iter().map(|site| &site.name).collect();
        added.retain(|name, _| !known.contains(name));
        let mut added: Vec<ClusterId> = added.into_values().collect();
        added.sort_unstable();
        let mut orders = Orders::default();
        let mut order = Vec::new();
        for code in 0..self.order_count() {
            order.clear();
            for group in self.order(Code(code as u16)).groups() {
                let kept = group.iter().filter_map(|ranked| new_id(ranked.cluster()));
                let mut kept: Vec<ClusterId> = kept.collect();
                kept.sort_unstable();
                order.extend(kept.iter().enumerate().map(|(at, &id)| Ranked::new(id, at == 0)));
            }
            order.extend(added.iter().map(|&id| Ranked::new(id, true)));
            orders.add(&order)?;
        }
        let own = self.own.iter().enumerate();
        let own = own.filter_map(|(at, code)| Some((new_id(ClusterId::new(at))?, *code)));
        Some((orders, self.clients.clone(), self.unknown, own.collect(), self.grid))
    }
}

/// Orders, who gets which, that of unknown clients, those of clients inside clusters, the grid.
type Renamed = (Orders, Clients, Code, HashMap<ClusterId, Code>, super::Grid);
