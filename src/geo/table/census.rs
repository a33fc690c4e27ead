//! How much of the Internet gets which order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Clients, Code, GeoTable};
use crate::geo::atlas::{Atlas, PlaceId, PlaceRef};
use crate::geo::order::Order;

/// Address space whose clients get one order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share<'g> {
    /// The order.
    pub order: Order<'g>,
    /// IPv4 addresses.
    pub v4: u128,
    /// IPv6 addresses.
    pub v6: u128,
}

/// All addresses of one place.
#[derive(Clone, Copy)]
struct Extent {
    place: PlaceId,
    first: u128,
    addresses: u128,
}

impl GeoTable {
    /// The address space of each order. Only what some source places counts, as nearly all of
    /// IPv6 is used by no one; in a family of which nothing is placed, all that is not reserved.
    /// IPv6 addresses that embed IPv4 addresses do not count.
    pub(in crate::geo) fn census(&self, atlas: &Atlas) -> Vec<Share<'_>> {
        let places = atlas.places();
        let v4 = places.iter_v4().map(|(start, place)| (start.into(), place));
        let v4 = extents(atlas, v4, u32::MAX.into());
        // They come from IPv4 ranges, so all their bits are in the lower 32.
        let v4 = self.sizes(atlas, &v4, |first| Ipv4Addr::from(first as u32).into());
        let v6 = extents(atlas, places.iter_v6(), u128::MAX);
        let v6 = self.sizes(atlas, &v6, |first| Ipv6Addr::from(first).into());
        let sizes = v4.into_iter().zip(v6).enumerate();
        let shares = sizes.map(|(code, (v4, v6))| {
            // A table holds fewer orders than sixteen bits can tell apart.
            Share { order: self.order(Code(code as u16)), v4, v6 }
        });
        shares.filter(|share| share.v4 > 0 || share.v6 > 0).collect()
    }

    /// How many addresses get each order.
    fn sizes(
        &self,
        atlas: &Atlas,
        extents: &[Extent],
        address: impl Fn(u128) -> IpAddr,
    ) -> Vec<u128> {
        let mut sizes = vec![0_u128; self.order_count()];
        let mut nowhere = 0_u128;
        for extent in extents {
            match atlas.place(extent.place) {
                PlaceRef::Block(_) => {}
                PlaceRef::Unknown => nowhere = nowhere.saturating_add(extent.addresses),
                // All of a place get the same.
                PlaceRef::Rule(_) | PlaceRef::Point(..) => {
                    let Code(code) = match &self.clients {
                        Clients::Alike(code) => *code,
                        Clients::ByNetwork(networks) => networks.lookup(address(extent.first)).0,
                    };
                    sizes[usize::from(code)] += extent.addresses;
                }
            }
        }
        if sizes.iter().all(|size| *size == 0) {
            sizes[usize::from(self.unknown.0)] = nowhere;
        }
        sizes
    }
}

/// The addresses of each place that has any, from ascending ranges up to the `last` address.
fn extents(
    atlas: &Atlas,
    ranges: impl Iterator<Item = (u128, PlaceId)>,
    last: u128,
) -> Vec<Extent> {
    let mut extents: Vec<Option<Extent>> = vec![None; atlas.place_count()];
    let mut ranges = ranges.peekable();
    while let Some((first, place)) = ranges.next() {
        // All of IPv6 is one address more than there are numbers.
        let end = ranges.peek().map_or(last, |(next, _)| next - 1);
        let addresses = (end - first).saturating_add(1);
        let extent = &mut extents[place.index()];
        let known = extent.get_or_insert(Extent { place, first, addresses: 0 });
        known.addresses = known.addresses.saturating_add(addresses);
    }
    extents.into_iter().flatten().collect()
}
