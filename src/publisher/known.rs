//! The last view of each cluster, which outlives its feed.

use std::sync::Arc;
use std::time::Instant;

use super::Reload;
use super::hold::Hold;
use crate::cluster::Feed;
use crate::cluster::lastgood::{KnownView, LastGood, Registry};
use crate::health::Reading;
use crate::model::{ClusterView, Member};
use crate::snapshot::Membership;

/// The view of a cluster that is served.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) view: Arc<ClusterView>,
    pub(super) reading: Reading,
}

/// What becomes of the views of sources of which nothing was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// They are used.
    Used,
    /// They are not there yet.
    Held,
}

/// What was last served: from disk, or from before the configuration changed. Views of clusters
/// that are configured no longer are dropped.
#[derive(Debug)]
pub(super) struct Known(LastGood);

impl Known {
    pub(super) fn new(views: &[KnownView], registry: Option<Arc<Registry>>) -> Self {
        Self(LastGood { views: views.to_vec(), registry, ..LastGood::default() })
    }

    /// What is registered now.
    pub(super) fn register(&mut self, registry: Option<Arc<Registry>>) {
        self.0.registry = registry;
    }

    /// Of each cluster of `config` the view that its feed has, else the last one of the same name
    /// and source; where nothing was known of it, none for as long as `hold` says.
    pub(super) fn views(&mut self, config: &Reload, hold: &mut Hold) -> Vec<Option<View>> {
        let Reload { feeds, federation, .. } = config;
        let (members, membership) = (&*federation.members, federation.membership);
        let (read, unread) = self.count_fresh(feeds, members);
        let all_read = unread == 0 && membership == Membership::Known;
        let fresh = hold.look(all_read, read > 0, Instant::now());
        let views = feeds.iter().zip(members);
        let views: Vec<_> = views.map(|(feed, member)| self.view(feed, member, fresh)).collect();
        let before = std::mem::take(&mut self.0.views);
        let registered = |known: &KnownView| members.iter().any(|m| m.name == known.name);
        let awaited = before.into_iter().filter(|known| !registered(known));
        let awaited: Vec<_> = match membership {
            // Their clusters may yet be registered.
            Membership::Awaited => awaited.collect(),
            Membership::Known => Vec::new(),
        };
        let members = members.iter().zip(feeds).zip(&views);
        self.0.views = members
            .filter_map(|((member, feed), view)| {
                let View { view, .. } = view.clone()?;
                Some(KnownView { name: member.name.clone(), source: feed.source.clone(), view })
            })
            .chain(awaited)
            .collect();
        views
    }

    fn view(&self, feed: &Feed, member: &Member, fresh: Fresh) -> Option<View> {
        let known = self.known(feed, member);
        match &*feed.view.borrow() {
            Some(update) if known.is_some() || fresh == Fresh::Used => {
                Some(View { view: update.view.clone(), reading: Reading::Read })
            }
            _ => Some(View { view: known?.view.clone(), reading: Reading::LastKnownGood }),
        }
    }

    fn known(&self, feed: &Feed, member: &Member) -> Option<&KnownView> {
        let mut all = self.0.views.iter();
        all.find(|known| known.name == member.name && known.source == feed.source)
    }

    /// Of how many clusters there is a view now where there was none, and of how many there is none
    /// at all.
    fn count_fresh(&self, feeds: &[Arc<Feed>], members: &[Member]) -> (usize, usize) {
        let unknown = feeds.iter().zip(members).filter(|(feed, m)| self.known(feed, m).is_none());
        let (read, unread): (Vec<_>, Vec<_>) =
            unknown.partition(|(feed, _)| feed.view.borrow().is_some());
        (read.len(), unread.len())
    }

    /// What was last served.
    pub(super) fn all(&self) -> &LastGood {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::cluster::Update;
    use crate::snapshot::testing::Fixture;

    fn update() -> Option<Update> {
        Some(Update { view: Arc::default(), changed_at: Instant::now() })
    }

    /// A federation of two clusters, and what makes their sources speak.
    fn two() -> (Reload, [watch::Sender<Option<Update>>; 2]) {
        let fixture = Fixture::new().cluster("a", "a", &[], None).cluster("b", "b", &[], None);
        let (senders, feeds): (Vec<_>, Vec<_>) = ["a", "b"]
            .map(|source| {
                let (sender, view) = watch::channel(None);
                (sender, Arc::new(Feed::told(source, view)))
            })
            .into_iter()
            .unzip();
        let federation = fixture.inputs().federation;
        let config = Reload { federation, feeds, home: None, registry: None };
        (config, senders.try_into().expect("two"))
    }

    fn readings(views: &[Option<View>]) -> Vec<Option<Reading>> {
        views.iter().map(|view| view.as_ref().map(|view| view.reading)).collect()
    }

    #[tokio::test]
    async fn what_is_read_first_waits_for_the_others() {
        let (config, [a, b]) = two();
        let (mut known, mut hold) = (Known::new(&[], None), Hold::default());
        assert_eq!(readings(&known.views(&config, &mut hold)), [None, None]);
        a.send_replace(update());
        assert_eq!(readings(&known.views(&config, &mut hold)), [None, None]);
        assert!(known.all().views.is_empty(), "what is not served is not kept");
        b.send_replace(update());
        assert_eq!(readings(&known.views(&config, &mut hold)), [Some(Reading::Read); 2]);
        assert_eq!(known.all().views.len(), 2);
    }

    #[tokio::test]
    async fn what_was_known_does_not_wait() {
        let (config, [a, _b]) = two();
        let name = config.federation.members[0].name.clone();
        let view = KnownView { name, source: "a".to_owned(), view: Arc::default() };
        let (mut known, mut hold) = (Known::new(&[view], None), Hold::default());
        let before = readings(&known.views(&config, &mut hold));
        assert_eq!(before, [Some(Reading::LastKnownGood), None]);
        a.send_replace(update());
        assert_eq!(readings(&known.views(&config, &mut hold)), [Some(Reading::Read), None]);
    }
}
