//! Which replies of a batch leave as one train: one datagram for the kernel, which cuts it into
//! its cars at the very end (`UDP_SEGMENT`, udp(7)).
//!
//! Nearly all that a reply costs is its way through the kernel, and a train takes it once. Only
//! forwarders and load generators send many queries at once from one port; with a port for each
//! query, as resolvers have it, every train has one car, and finding that out is all it costs.

use super::packet::{Asked, Peer};
use super::{BATCH, Segmentation};

/// The longest reply that travels in a train, octets: a car that does not fit the way's MTU is
/// refused, where a datagram alone would be fragmented. This fits every way that carries IPv6
/// (1280 octets, RFC 8200 §5), beside both headers.
const CAR: usize = 1232;

/// The longest train, octets: a datagram as the kernel takes it (65,535 with the IPv4 header, and
/// less with other headers on the way).
const TRAIN: usize = 64_000;

/// Slots in which the last train of a peer is found: four for each reply, so that few meet. Where
/// two peers meet, the older one's next reply begins another train.
const SLOTS: usize = 4 * BATCH;

// A slot holds the number of a train and one more, and cars of a train are as many at most. The
// number of a slot is some bits.
const _: () = assert!(BATCH < 256 && SLOTS.is_power_of_two());

/// The trains of one batch.
#[derive(Debug)]
pub(super) struct Trains {
    segmentation: Segmentation,
    trains: [Train; BATCH],
    count: usize,
    /// One more than the last train of the peers that fall on the slot; 0 for none.
    slots: [u8; SLOTS],
    /// The reply that follows in the same train.
    next: [u8; BATCH],
}

/// Replies of one length to one peer from one address; the last may be shorter.
#[derive(Clone, Copy, Debug, Default)]
struct Train {
    first: u8,
    last: u8,
    cars: u8,
    /// Whether the last car may have others behind it.
    open: bool,
    /// Octets of each car but the last.
    car: u16,
    octets: u16,
}

/// Where a reply goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination {
    /// To whom.
    pub(super) peer: Peer,
    /// From which address; none where the socket has but one.
    pub(super) asked: Option<Asked>,
    /// Octets of the reply.
    pub(super) len: usize,
}

impl Trains {
    pub(super) fn new(segmentation: Segmentation) -> Self {
        Self {
            segmentation,
            trains: [Train::default(); BATCH],
            count: 0,
            slots: [0; SLOTS],
            next: [0; BATCH],
        }
    }

    /// Makes trains of these replies. Every reply is in exactly one.
    pub(super) fn make(&mut self, replies: &[Destination]) {
        self.count = 0;
        if self.segmentation == Segmentation::Absent || replies.len() < 2 {
            (0..replies.len()).for_each(|reply| self.begin(reply, replies[reply].len, false));
            return;
        }
        self.slots = [0; SLOTS];
        for (reply, destination) in replies.iter().enumerate() {
            let slot = (destination.peer.mix() >> (u64::BITS - SLOTS.trailing_zeros())) as usize;
            let last = usize::from(self.slots[slot]);
            if last > 0 && self.join(last - 1, reply, replies) {
                continue;
            }
            self.begin(reply, destination.len, destination.len <= CAR);
            self.slots[slot] = self.count as u8;
        }
    }

    fn begin(&mut self, reply: usize, len: usize, open: bool) {
        let (at, octets) = (reply as u8, len as u16);
        self.trains[self.count] = Train { first: at, last: at, cars: 1, open, car: octets, octets };
        self.count += 1;
    }

    /// Puts a reply at the end of a train that goes the same way, if it can take it.
    fn join(&mut self, train: usize, reply: usize, replies: &[Destination]) -> bool {
        let train = &mut self.trains[train];
        let (head, own) = (&replies[usize::from(train.first)], &replies[reply]);
        let octets = usize::from(train.octets) + own.len;
        let fits = train.open && own.len <= usize::from(train.car) && octets <= TRAIN;
        if !fits || head.peer != own.peer || head.asked != own.asked {
            return false;
        }
        // The kernel cuts at multiples of one length: only the last car may be shorter.
        train.open = own.len == usize::from(train.car);
        self.next[usize::from(train.last)] = reply as u8;
        train.last = reply as u8;
        train.cars += 1;
        train.octets = octets as u16;
        true
    }

    /// Each train: the length of its cars, and its replies in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u16, Cars<'_>)> {
        let cars = |train: &Train| Cars { next: &self.next, at: train.first, left: train.cars };
        self.trains[..self.count].iter().map(move |train| (train.car, cars(train)))
    }
}

/// The replies of a train.
#[derive(Clone, Debug)]
pub(super) struct Cars<'a> {
    next: &'a [u8; BATCH],
    at: u8,
    left: u8,
}

impl Cars<'_> {
    /// The first reply; every train has one.
    pub(super) fn first(&self) -> usize {
        self.at.into()
    }
}

impl Iterator for Cars<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let at = usize::from(self.at);
        self.at = self.next[at];
        Some(at)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Cars<'_> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(segmentation: Segmentation, replies: &[Destination]) -> Vec<Vec<usize>> {
        let mut trains = Trains::new(segmentation);
        trains.make(replies);
        trains.iter().map(|(_, cars)| cars.collect()).collect()
    }

    fn to(port: u16, len: usize) -> Destination {
        Destination { peer: Peer::default().with_port(port), asked: None, len }
    }

    #[test]
    fn replies_to_one_peer_travel_together_until_a_shorter_one() {
        let replies =
            [to(1, 100), to(2, 80), to(1, 100), to(1, 90), to(1, 90), to(2, 81), to(1, 90)];
        let trains = made(Segmentation::Present, &replies);
        assert_eq!(trains, [vec![0, 2, 3], vec![1], vec![4, 6], vec![5]]);
    }

    #[test]
    fn without_segmentation_each_travels_alone() {
        let replies = [to(1, 100), to(1, 100)];
        assert_eq!(made(Segmentation::Absent, &replies), [[0], [1]]);
    }

    #[test]
    fn replies_too_long_for_some_ways_travel_alone() {
        let replies = [to(1, CAR + 1), to(1, CAR + 1), to(1, CAR), to(1, CAR)];
        assert_eq!(made(Segmentation::Present, &replies), [vec![0], vec![1], vec![2, 3]]);
    }

    #[test]
    fn a_train_has_an_end() {
        let replies = [to(1, CAR); BATCH];
        let trains = made(Segmentation::Present, &replies);
        let lens: Vec<usize> = trains.iter().map(Vec::len).collect();
        assert_eq!(lens, [TRAIN / CAR, BATCH - TRAIN / CAR]);
    }

    proptest! {
        /// Whatever the batch: every reply is in one train, trains go one way from one address,
        /// and no car but the last is shorter.
        #[test]
        fn trains_are_true(
            batch in prop::collection::vec((0u16..6, 0u32..3, 20usize..24), 0..=BATCH)
        ) {
            let replies: Vec<Destination> = batch
                .iter()
                .map(|&(port, asked, len)| Destination {
                    asked: (asked > 0).then(|| Asked::test(asked)),
                    ..to(port, len)
                })
                .collect();
            let mut trains = Trains::new(Segmentation::Present);
            trains.make(&replies);
            let mut seen = Vec::new();
            for (length, cars) in trains.iter() {
                let cars: Vec<usize> = cars.collect();
                let first = replies[cars[0]];
                prop_assert!(cars.iter().all(|&i| replies[i].peer == first.peer));
                prop_assert!(cars.iter().all(|&i| replies[i].asked == first.asked));
                let (last, others) = cars.split_last().expect("at least one");
                prop_assert!(others.iter().all(|&i| replies[i].len == usize::from(length)));
                prop_assert!(replies[*last].len <= usize::from(length));
                seen.extend(cars);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..replies.len()).collect::<Vec<_>>());
        }
    }
}
