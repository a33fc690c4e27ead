//! Bytes to query, answer to bytes.
