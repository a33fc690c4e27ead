//! Checks of the addresses behind a cluster: the only file of this module that does I/O.
//!
//! An API server that cannot be reached says nothing of the services behind it. So while it cannot
//! be, and only then, a few of the cluster's load balancers are connected to: where any accepts,
//! the cluster is still of use.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::health::{Outcome, Settings, judge};
use crate::model::{BUCKETS, ClusterView};

/// From one round to the next: three failures of [`TIMEOUT`] fit within the default grace.
pub const PERIOD: Duration = Duration::from_secs(5);

/// How long a connection may take: a handshake round the globe takes 0.3 s, and a lost first packet
/// is sent again after 1 s (RFC 6298 §2.1).
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// Addresses of a cluster that are tried in a round. Each round tries others, so that a few load
/// balancers that are gone do not speak for all.
pub const SAMPLE: usize = 8;

/// Connections attempted at a time over all clusters.
pub const CONCURRENCY: usize = 64;

/// Up to [`SAMPLE`] distinct addresses with TCP ports of shards that are served by themselves,
/// others for each `round`. Empty where no shard has a TCP port.
#[must_use]
pub fn targets(view: &ClusterView, settings: &Settings, round: usize) -> Vec<SocketAddr> {
    // An odd step meets every bucket before it comes back to the first.
    const STEP: usize = 1_237;
    let mut targets = Vec::with_capacity(SAMPLE);
    for offset in 0..BUCKETS {
        let bucket = view.shards.bucket((round.wrapping_mul(STEP) + offset) % BUCKETS);
        for shard in bucket.iter().map(|entry| &*entry.shard) {
            let Some(port) = shard.tcp_port else { continue };
            if judge(shard, settings).is_err() {
                continue;
            }
            for address in shard.addresses.iter().map(|ip| SocketAddr::new(*ip, port)) {
                if !targets.contains(&address) {
                    targets.push(address);
                }
                if targets.len() == SAMPLE {
                    return targets;
                }
            }
        }
    }
    targets
}

/// Connects to all `targets`, at least one: passed as soon as any accepts.
pub async fn connect(targets: Vec<SocketAddr>, permits: Arc<Semaphore>) -> Outcome {
    let mut attempts = JoinSet::new();
    for target in targets {
        let permits = permits.clone();
        attempts.spawn(async move {
            // Never closed, so that there always is a permit in the end.
            let _permit = permits.acquire_owned().await.ok();
            match timeout(TIMEOUT, TcpStream::connect(target)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("{target}: {error}")),
                Err(_) => Err(format!("{target}: no answer within {TIMEOUT:?}")),
            }
        });
    }
    let mut last = String::from("nothing to connect to");
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(())) => return Outcome::Passed,
            Ok(Err(reason)) => last = reason,
            // A fault of ours says nothing against the cluster; the others decide.
            Err(error) => tracing::error!(%error, "a check failed by a fault of ours"),
        }
    }
    Outcome::Failed(last.into())
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, TcpListener};

    use super::*;
    use crate::model::{Buckets, Endpoints, Label, ServiceKey, ServiceOptions, Shard, ShardEntry};

    fn entry(index: u8, ready: u32, tcp_port: Option<u16>, drain: bool) -> ShardEntry {
        let label = |text: &str| Label::parse(text).expect("a label");
        let shard = Shard {
            addresses: [IpAddr::from([127, 0, 1, index])].into(),
            tcp_port,
            endpoints: Endpoints { ready, total: 1 },
            options: Some(Box::new(ServiceOptions { drain, ..ServiceOptions::default() })),
            ..Shard::default()
        };
        let key = ServiceKey::new(&label("ns"), &label(&format!("s{index}")));
        ShardEntry::new(key, Arc::new(shard))
    }

    fn view(entries: Vec<ShardEntry>) -> ClusterView {
        ClusterView { shards: Buckets::from_items(entries), ..ClusterView::default() }
    }

    #[test]
    fn only_what_is_served_and_has_a_tcp_port_is_tried() {
        let view = view(vec![
            entry(1, 1, Some(80), false),
            entry(2, 0, Some(80), false),
            entry(3, 1, Some(80), true),
            entry(4, 1, None, false),
        ]);
        let expected: SocketAddr = "127.0.1.1:80".parse().expect("an address");
        assert_eq!(targets(&view, &Settings::default(), 7), [expected]);
    }

    #[test]
    fn rounds_try_others_and_each_in_turn() {
        let view = view((0..200).map(|i| entry(i, 1, Some(80), false)).collect());
        let tried: std::collections::BTreeSet<_> = (0..400)
            .flat_map(|round| {
                let targets = targets(&view, &Settings::default(), round);
                assert_eq!(targets.len(), SAMPLE);
                targets
            })
            .collect();
        assert_eq!(tried.len(), 200, "every address has its turn");
    }

    #[tokio::test]
    async fn one_that_accepts_is_enough_and_none_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let open = listener.local_addr().expect("bound");
        let closed = TcpListener::bind("127.0.0.2:0").expect("a port").local_addr().expect("bound");
        let permits = Arc::new(Semaphore::new(1));
        assert_eq!(connect(vec![closed, open], permits.clone()).await, Outcome::Passed);
        match connect(vec![closed], permits).await {
            Outcome::Failed(reason) => assert!(reason.contains(&closed.to_string()), "{reason}"),
            Outcome::Passed => panic!("nobody listens there"),
        }
    }
}
