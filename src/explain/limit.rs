//! What keeps a scope from being wider.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::answer::{Choice, Eligible, LocatedBy, ranking, visit};
use crate::geo::{Geography, Ranking};
use crate::model::ClusterId;
use crate::snapshot::Snapshot;
use crate::zone::Service;

/// How many networks beside the client's are looked at. Tables have at most millions, of which the
/// first few nearly always tell; nobody waits for the others.
const LOOKS: usize = 10_000;

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Question<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) service: &'s Service,
    pub(super) client: IpAddr,
}

/// All that an answer depends on: clusters with the numbers of their groups, and whose address.
type Outcome = (Vec<(ClusterId, u16)>, LocatedBy);

impl<'s> Question<'s> {
    /// The order for the client at an address.
    pub(super) fn rank(&self, eligible: &Eligible<'_>, client: IpAddr) -> Ranking<'s> {
        ranking(self.snapshot, self.service, eligible, (Some(client), self.client))
    }

    /// The clusters of an order that the policy takes.
    pub(super) fn taken(&self, ranking: &Ranking<'_>, eligible: &Eligible<'_>) -> Outcome {
        let beside = self.snapshot.geography.compiled.beside();
        let choice = Choice { service: self.service, beside };
        let mut taken = Vec::new();
        let _ = visit(ranking, eligible, choice, 0, |id, group| {
            taken.push((id, group));
            None::<()>
        });
        (taken, ranking.by)
    }

    /// The neighbouring network where clients get something else, and why; `None` where the client
    /// makes no difference.
    pub(super) fn limit(&self, ranked: &Ranking<'_>, eligible: &Eligible<'_>) -> Option<String> {
        let beside = Geography::neighbour(self.client, ranked.scope)?;
        if ranked.unit.is_some() {
            return Some(format!("{beside} beside it: a hash of the network has a say"));
        }
        let own = self.taken(ranked, eligible);
        let mut next = beside.network();
        for _ in 0..LOOKS {
            let other = self.rank(eligible, next);
            if self.taken(&other, eligible) != own {
                let located = self.snapshot.geography.locate(next);
                let (place, source) = (located.place, located.source);
                return Some(format!("{beside} beside it, where {next} is {place} (by {source})"));
            }
            let network = IpNet::new(next, other.scope).ok()?;
            match after(network).filter(|address| beside.contains(address)) {
                Some(address) => next = address,
                None => break,
            }
        }
        Some(format!("{beside} beside it, which is told apart until tables are compiled"))
    }
}

/// The address behind a network; `None` behind the last.
fn after(network: IpNet) -> Option<IpAddr> {
    match network.broadcast() {
        IpAddr::V4(last) => Some(std::net::Ipv4Addr::from(u32::from(last).checked_add(1)?).into()),
        IpAddr::V6(last) => Some(std::net::Ipv6Addr::from(u128::from(last).checked_add(1)?).into()),
    }
}
