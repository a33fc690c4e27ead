//! Which shards are served.

/// Thresholds of the federation.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Ready endpoints below which a shard is not served, unless its Service says otherwise.
    pub min_ready: u32,
}
