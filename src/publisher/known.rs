//! The last view of each cluster, which outlives its feed.

use std::sync::Arc;

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

    /// Of each cluster the view that its feed has, else the last one of the same name and source.
    pub(super) fn views(
        &mut self,
        feeds: &[Arc<Feed>],
        members: &[Member],
        membership: Membership,
    ) -> Vec<Option<View>> {
        let views: Vec<_> =
            feeds.iter().zip(members).map(|(feed, member)| self.view(feed, member)).collect();
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

    fn view(&self, feed: &Feed, member: &Member) -> Option<View> {
        if let Some(update) = &*feed.view.borrow() {
            return Some(View { view: update.view.clone(), reading: Reading::Read });
        }
        let same = |known: &&KnownView| known.name == member.name && known.source == feed.source;
        let known = self.0.views.iter().find(same)?;
        Some(View { view: known.view.clone(), reading: Reading::LastKnownGood })
    }

    /// What was last served.
    pub(super) fn all(&self) -> &LastGood {
        &self.0
    }
}
