//! Any octets into `answer()`, over a federation in which everything occurs.

#![no_main]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/dns.rs"]
mod dns;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/support/federation.rs"]
mod federation;
#[path = "../../tests/support/property.rs"]
mod property;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use meridian::snapshot::{Snapshot, build};

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let (clusters, identity) = federation::everything();
    federation::settle(build(None, federation::inputs(&clusters, identity, 1_700_000_000)))
});

fuzz_target!(|packet: &[u8]| property::check(&SNAPSHOT, packet, 0));
