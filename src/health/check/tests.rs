//! Checks of real targets on loopback, which fail in every way that targets fail.

mod dns;
mod grpc;
mod http;
mod support;
mod targets;
mod tcp;
mod tls;
