//! Joins views, builds and swaps snapshots.
