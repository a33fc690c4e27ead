//! Checks of real targets on loopback, which fail in every way that targets fail.

mod support;
mod targets;
mod tcp;
