//! Networks laid over one another.
//!
//! *Owns*: [`paint`], which makes ranges of nested networks, and [`overlay`], which lays ranges
//! over others. *Guarantees*: strictly ascending, gap-free ranges from zero. *Does not*: merge equal
//! neighbours; the lists that take the ranges do.

use ipnet::IpNet;

/// The first and the last address of a network as numbers of its family.
pub(super) fn bounds(network: IpNet) -> (u128, u128) {
    match network {
        IpNet::V4(net) => (u32::from(net.network()).into(), u32::from(net.broadcast()).into()),
        IpNet::V6(net) => (net.network().into(), net.broadcast().into()),
    }
}

/// The ranges of networks of one family: each address has the value of the longest network that
/// holds it, of two that are the same the earlier one's, and `outside` where there is none.
pub(super) fn paint<V: Copy>(
    networks: impl IntoIterator<Item = (IpNet, V)>,
    outside: V,
) -> Vec<(u128, V)> {
    let mut end = u128::MAX;
    let mut networks: Vec<(u128, u128, V)> = networks
        .into_iter()
        .map(|(network, value)| {
            if let IpNet::V4(_) = network {
                end = u32::MAX.into();
            }
            let (first, last) = bounds(network);
            (first, last, value)
        })
        .collect();
    // Networks nest or stand apart, so in this order each comes after those that hold it.
    networks.sort_by_key(|&(first, last, _)| (first, std::cmp::Reverse(last)));
    networks.dedup_by_key(|&mut (first, last, _)| (first, last));

    let mut ranges = vec![(0, outside)];
    // Enclosing and enclosed network may begin alike; the enclosed one comes later and counts.
    let mut around: Vec<(u128, V)> = Vec::new();
    for (first, last, value) in networks {
        leave(&mut around, Some(first), outside, &mut ranges);
        ranges.pop_if(|(start, _)| *start == first);
        ranges.push((first, value));
        around.push((last, value));
    }
    leave(&mut around, None, outside, &mut ranges);
    ranges.pop_if(|(start, _)| *start > end);
    ranges
}

/// Ends the networks that end before `until` (all, where there is none).
fn leave<V: Copy>(
    around: &mut Vec<(u128, V)>,
    until: Option<u128>,
    outside: V,
    ranges: &mut Vec<(u128, V)>,
) {
    while let Some((last, _)) = around.pop_if(|(last, _)| until.is_none_or(|until| *last < until)) {
        if let Some(after) = last.checked_add(1) {
            ranges.pop_if(|(start, _)| *start == after);
            ranges.push((after, around.last().map_or(outside, |(_, value)| *value)));
        }
    }
}

/// Ranges that may be laid over or under others.
pub(super) type Layer<'a, V> = Box<dyn Iterator<Item = (u128, V)> + 'a>;

/// Lays `top` over `bottom`: the value of `bottom` shows where `top` is `clear`.
pub(super) fn overlay<'a, V: Copy + Eq + 'a>(
    top: Layer<'a, V>,
    bottom: Layer<'a, V>,
    clear: V,
) -> Layer<'a, V> {
    let (mut top, mut bottom) = (top.peekable(), bottom.peekable());
    let (mut above, mut below) = (clear, clear);
    Box::new(std::iter::from_fn(move || {
        let start = match (top.peek(), bottom.peek()) {
            (Some((a, _)), Some((b, _))) => *a.min(b),
            (Some((start, _)), None) | (None, Some((start, _))) => *start,
            (None, None) => return None,
        };
        if let Some((_, value)) = top.next_if(|(at, _)| *at == start) {
            above = value;
        }
        if let Some((_, value)) = bottom.next_if(|(at, _)| *at == start) {
            below = value;
        }
        Some((start, if above == clear { below } else { above }))
    }))
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::{bounds, overlay, paint};

    /// Networks inside 10.0.0.0/24, so that they nest and touch often.
    fn networks() -> impl Strategy<Value = Vec<(IpNet, u8)>> {
        let network = (any::<u8>(), 22u8..=32, 1u8..5).prop_map(|(host, len, value)| {
            let text = format!("10.0.0.{host}/{len}");
            (text.parse::<IpNet>().expect("a network").trunc(), value)
        });
        proptest::collection::vec(network, 0..12)
    }

    fn value_at(ranges: &[(u128, u8)], key: u128) -> u8 {
        ranges.iter().rev().find(|(start, _)| *start <= key).expect("begins at zero").1
    }

    fn longest(networks: &[(IpNet, u8)], key: u128) -> u8 {
        let holding = networks.iter().rev().filter(|(network, _)| {
            let (first, last) = bounds(*network);
            (first..=last).contains(&key)
        });
        holding.max_by_key(|(network, _)| network.prefix_len()).map_or(0, |(_, value)| *value)
    }

    proptest! {
        #[test]
        fn the_longest_network_wins_and_layers_show_through(
            top in networks(),
            bottom in networks(),
        ) {
            let (above, below) = (paint(top.clone(), 0), paint(bottom.clone(), 0));
            prop_assert!(above.is_sorted_by(|a, b| a.0 < b.0));
            let both: Vec<_> =
                overlay(Box::new(above.clone().into_iter()), Box::new(below.into_iter()), 0)
                    .collect();
            let base = u128::from(u32::from_be_bytes([10, 0, 0, 0]));
            for key in base - 2..base + 1100 {
                prop_assert_eq!(value_at(&above, key), longest(&top, key));
                let expected = match longest(&top, key) {
                    0 => longest(&bottom, key),
                    value => value,
                };
                prop_assert_eq!(value_at(&both, key), expected);
            }
        }
    }

    #[test]
    fn the_whole_space_is_a_network() {
        let all: IpNet = "::/0".parse().expect("a network");
        let one: IpNet = "ffff::/16".parse().expect("a network");
        let ranges = paint([(one, 2), (all, 1)], 0);
        assert_eq!(ranges, [(0, 1), (0xffff << 112, 2)]);
    }
}
