//! What DNS is not answered for yet.

use std::sync::Arc;

use super::Reload;
use crate::cluster::Feed;
use crate::model::{ClusterView, Member};
use crate::snapshot::{Membership, Snapshot};

/// What is still missing in `snapshot`, whose clusters are read as `config` says, for people; `placed`
/// says whether databases have been read.
pub(super) fn waiting(snapshot: &Snapshot, config: &Reload, placed: bool) -> Vec<String> {
    let members = snapshot.inputs.federation.members.iter();
    let members = members.zip(&snapshot.inputs.views).zip(&config.feeds);
    let mut missing: Vec<_> =
        members.filter_map(|((member, view), feed)| wanting(member, view.as_ref(), feed)).collect();
    if config.federation.membership == Membership::Awaited {
        missing.push("home: registered clusters not read yet".to_owned());
    }
    if !placed {
        missing.push("geography: databases not read yet".to_owned());
    } else if missing.is_empty() {
        missing.push("geography: tables not compiled yet".to_owned());
    }
    missing
}

fn wanting(member: &Member, view: Option<&Arc<ClusterView>>, feed: &Feed) -> Option<String> {
    let what = match view {
        None if feed.view.borrow().is_some() => "read, waits for the others".to_owned(),
        None => "not read yet".to_owned(),
        Some(view) if view.unresolved > 0 => {
            format!("{} host names of load balancers not looked up yet", view.unresolved)
        }
        Some(_) => return None,
    };
    Some(format!("cluster {}: {what}", member.name))
}
