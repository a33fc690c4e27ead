//! Queries of a batch on their way to their answers.

use super::mmsg::{Cursor, Datagram, Inbox};
use crate::answer::{Ahead, Found};
use crate::snapshot::Snapshot;

/// How many queries behind one another their steps are: answering so many takes some times as long
/// as memory, so that what one step asks for is there for the next.
const APART: usize = 2;

/// Behind how many others a query is answered that is being read: it takes three steps between.
const WAY: usize = 4 * APART;

/// Queries on their way at once.
const LENGTH: usize = (WAY + 1).next_power_of_two();

/// What is read of queries ahead of their answers.
pub(super) type Aheads = [Ahead; LENGTH];

/// What was found of queries on their way.
pub(super) struct Finds<'s> {
    snapshot: &'s Snapshot,
    places: [Found<'s>; LENGTH],
}

impl<'s> Finds<'s> {
    /// Of queries that are answered from a snapshot.
    pub(super) fn of(snapshot: &'s Snapshot) -> Self {
        Self { snapshot, places: [Found::nothing(snapshot); LENGTH] }
    }
}

/// The queries of a batch, of which each has what its answer reads fetched while those before it are
/// answered.
pub(super) struct Line<'i, 'a> {
    inbox: &'i Inbox,
    /// Datagrams received.
    count: usize,
    /// Where in them the next query is.
    at: Cursor,
    ahead: &'a mut Aheads,
    queries: [Datagram<'i>; LENGTH],
    /// Queries taken from the inbox so far.
    taken: usize,
    /// Steps of the line so far: each takes a query and brings those before it on.
    steps: usize,
}

impl<'i, 'a> Line<'i, 'a> {
    /// Of so many datagrams that were received, with room for what will be read of queries.
    pub(super) fn new((inbox, count): (&'i Inbox, usize), ahead: &'a mut Aheads) -> Self {
        let queries = [Datagram::default(); LENGTH];
        Self { inbox, count, at: Cursor::default(), ahead, queries, taken: 0, steps: 0 }
    }

    /// The next query, with what was read of it ahead and what was found of it.
    #[inline]
    pub(super) fn next<'s>(
        &mut self,
        finds: &mut Finds<'s>,
    ) -> Option<(&Datagram<'i>, &Ahead, Found<'s>)> {
        let snapshot = finds.snapshot;
        loop {
            if let Some(query) = self.inbox.next(&mut self.at, self.count) {
                let place = self.taken % LENGTH;
                self.taken += 1;
                self.queries[place] = query;
                self.ahead[place].read(query.octets);
                self.ahead[place].fetch_directory(snapshot);
            }
            if let Some(place) = self.before(APART) {
                self.ahead[place].fetch_near(snapshot);
            }
            if let Some(place) = self.before(2 * APART) {
                finds.places[place] = self.ahead[place].fetch_found(snapshot);
            }
            if let Some(place) = self.before(3 * APART) {
                finds.places[place].fetch_behind();
            }
            let ready = self.before(WAY);
            self.steps += 1;
            if let Some(place) = ready {
                return Some((&self.queries[place], &self.ahead[place], finds.places[place]));
            }
            if self.steps > self.taken + WAY {
                return None;
            }
        }
    }

    /// The place of the query that was taken so many steps before, if one was.
    #[inline]
    fn before(&self, steps: usize) -> Option<usize> {
        // Wraps around to more than there are.
        let query = self.steps.wrapping_sub(steps);
        (query < self.taken).then_some(query % LENGTH)
    }

    /// How many queries [`Self::next`] has not given.
    pub(super) fn left(mut self) -> usize {
        let given = self.steps.saturating_sub(WAY);
        let behind = std::iter::from_fn(|| self.inbox.next(&mut self.at, self.count)).count();
        self.taken + behind - given.min(self.taken)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;
    use crate::server::udp::{Bound, Reception};
    use crate::snapshot::testing::Fixture;
    use crate::telemetry::Family;

    /// However many come and wherever one stops: each comes once and in order, or is left.
    #[test]
    fn every_query_comes_or_is_left() {
        let snapshot = Fixture::new().build();
        let bound = Bound { family: Family::V4, wildcard: false };
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (from, to) = (socket(), socket());
        for count in [1, APART, WAY, WAY + 1, LENGTH, LENGTH + 1, 60] {
            for stop in [0, 1, count / 2, count] {
                let mut inbox = Inbox::new(bound, Reception::Single, 512);
                for query in 0..count {
                    from.send_to(&[query as u8], to.local_addr().unwrap()).unwrap();
                }
                // Loopback has delivered what was sent.
                let received = inbox.receive(to.as_fd()).unwrap();
                assert_eq!(received, count);
                let mut ahead = Aheads::default();
                let mut line = Line::new((&inbox, received), &mut ahead);
                let mut finds = Finds::of(&snapshot);
                for expected in 0..stop {
                    // What was found of those on their way may be forgotten.
                    if expected == stop / 2 {
                        finds = Finds::of(&snapshot);
                    }
                    let (query, ..) = line.next(&mut finds).expect("one more");
                    assert_eq!(query.octets, [expected as u8]);
                }
                if stop == count {
                    assert!(line.next(&mut finds).is_none());
                }
                assert_eq!(line.left(), count - stop, "{stop} of {count}");
            }
        }
    }

    /// Another snapshot may come in between: then nothing is found of what was on its way.
    #[test]
    fn each_query_comes_with_what_was_found_of_it() {
        let names = ["web", "api", "db", "mail", "shop"];
        let fixture = Fixture::new().cluster("a", "eu", &[], None);
        let snapshot = names.iter().fold(fixture, |fixture, name| {
            fixture.shard(0, &format!("ns/{name}"), &["192.0.2.1"], 1, Default::default())
        });
        let snapshot = snapshot.build();
        let bound = Bound { family: Family::V4, wildcard: false };
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (from, to) = (socket(), socket());
        let wire = |labels: &[&str]| -> Vec<u8> {
            labels.iter().flat_map(|l| [&[l.len() as u8], l.as_bytes()].concat()).collect()
        };
        let key = |query: usize| wire(&[names[query % names.len()], "ns"]);
        for query in 0..60 {
            let head = [0, query as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            let end = wire(&["fed", "svc", "example", "com", ""]);
            let query = [&head[..], &key(query), &end, &[0, 1, 0, 1]].concat();
            from.send_to(&query, to.local_addr().unwrap()).unwrap();
        }
        let mut inbox = Inbox::new(bound, Reception::Single, 512);
        assert_eq!(inbox.receive(to.as_fd()).unwrap(), 60);
        let mut ahead = Aheads::default();
        let mut line = Line::new((&inbox, 60), &mut ahead);
        let mut finds = Finds::of(&snapshot);
        for query in 0..60 {
            if query == 30 {
                finds = Finds::of(&snapshot);
            }
            let (_, _, found) = line.next(&mut finds).expect("one more");
            // Those that had taken the third step by then, two steps and more before.
            let forgotten = (30..30 + WAY - 2 * APART).contains(&query);
            let expected = (!forgotten).then(|| key(query));
            assert_eq!(found.key(), expected.as_deref(), "{query}");
        }
    }
}
