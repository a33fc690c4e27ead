//! Meridian: an authoritative, geo-aware DNS server for federations of Kubernetes clusters.
//!
//! The modules are rows; each imports only from rows above it (held by `tests/architecture.rs`):
//! [`model`], [`wire`], [`zone`], [`health`], [`geo`], [`snapshot`], [`answer`] and [`explain`],
//! [`telemetry`], [`tasks`], [`cluster`], [`publisher`], [`server`], [`config`].

pub mod model;

pub mod wire;

pub mod zone;

pub mod health;

pub mod geo;

pub mod snapshot;

pub mod answer;
pub mod explain;

pub mod telemetry;

pub mod tasks;

pub mod cluster;

pub mod publisher;

pub mod server;

pub mod config;
