//! The one value that answers come from, and the one swap.

/// How this server names itself to those who ask, and its UDP limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Answer to CH TXT `version.bind` and `version.server`; refused where `None`.
    pub version: Option<String>,
    /// Answer to CH TXT `id.server` and `hostname.bind`; refused where `None`.
    pub id: Option<String>,
    /// NSID (RFC 5001), sent where asked for.
    pub nsid: Option<Box<[u8]>>,
    /// The largest UDP reply and the EDNS buffer size announced, octets (512 to 4096).
    pub udp_payload: u16,
}

/// Everything that answers depend on; immutable, replaced as a whole.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts published snapshots, from 1.
    pub generation: u64,
}

/// The swap: zone, health and geography always agree.
#[derive(Debug)]
pub struct SnapshotCell(arc_swap::ArcSwap<Snapshot>);

impl SnapshotCell {
    /// A cell that holds `first`.
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        Self(arc_swap::ArcSwap::from_pointee(first))
    }

    /// The current snapshot; lock-free. A UDP worker loads once a batch.
    pub fn load(&self) -> arc_swap::Guard<std::sync::Arc<Snapshot>> {
        self.0.load()
    }
}
