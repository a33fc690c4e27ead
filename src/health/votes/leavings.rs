//! What instances that are gone have left behind. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ballot::Ballot;
use crate::model::Label;

/// A ballot of our own cluster that has not been seen to be renewed for so long, while ours was, was
/// left behind and is removed: twice the longest heartbeat that a lease allows.
pub const LEFT_BEHIND: Duration = Duration::from_secs(3600);

/// When the ballots of our own cluster were last seen to be renewed, on our own clock.
#[derive(Debug, Default)]
pub struct Leavings {
    seen: BTreeMap<Box<str>, Seen>,
}

#[derive(Debug)]
struct Seen {
    run: u64,
    renewal: u64,
    at: Instant,
}

impl Leavings {
    /// Takes in the `ballots` that can be read at `now`; returns the instances of our own cluster
    /// whose ballots were left behind. Where ours is not seen to be renewed either, what is read is
    /// old, and nothing is. One that is returned is not again for as long.
    pub fn look<'b>(
        &mut self,
        own: &Ballot,
        ballots: impl IntoIterator<Item = &'b Arc<Ballot>>,
        now: Instant,
    ) -> Vec<Label> {
        let mut before = std::mem::take(&mut self.seen);
        for ballot in ballots.into_iter().filter(|ballot| ballot.voter == own.voter) {
            let Ballot { run, renewal, .. } = **ballot;
            let known = before.remove(&ballot.instance);
            let same = known.filter(|known| (known.run, known.renewal) == (run, renewal));
            let at = same.map_or(now, |known| known.at);
            self.seen.insert(ballot.instance.clone(), Seen { run, renewal, at });
        }
        let Some(ours) = self.seen.get(&own.instance).map(|seen| seen.at) else {
            return Vec::new();
        };
        let mut left = Vec::new();
        for (instance, seen) in &mut self.seen {
            if ours.saturating_duration_since(seen.at) > LEFT_BEHIND {
                seen.at = now;
                // What has another name than an instance can have was not written by one.
                left.extend(Label::parse(instance));
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(voter: &str, instance: &str, renewal: u64) -> Arc<Ballot> {
        let (voter, instance) = (Label::parse(voter).expect("a label"), instance.into());
        Arc::new(Ballot { voter, instance, run: 1, renewal, sights: Arc::default() })
    }

    #[test]
    fn what_is_not_renewed_while_ours_is_was_left_behind() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut leavings = Leavings::default();
        let mut look = |ours, living, seconds| {
            let all = [
                ballot("eu", "own", ours),
                ballot("eu", "gone", 7),
                ballot("eu", "living", living),
                ballot("us", "gone", 7),
            ];
            let left = leavings.look(&all[0], &all, at(seconds));
            left.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let none: [String; 0] = [];
        assert_eq!(look(1, 1, 0), none);
        assert_eq!(look(2, 2, 3600), none);
        assert_eq!(look(3, 3, 3601), ["gone"], "those of other clusters are theirs to remove");
        assert_eq!(look(4, 4, 3605), none, "it cannot be removed, and is not tried all the time");
        assert_eq!(look(5, 5, 7201), none);
        assert_eq!(look(6, 6, 7202), ["gone"]);
        // Nothing new is read of anyone.
        assert_eq!(look(6, 6, 20_000), none);
    }
}
