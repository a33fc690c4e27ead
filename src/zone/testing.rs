//! What tests of zones have in common.

use std::num::NonZeroU16;

use super::{Settings, SoaSettings};
use crate::model::{DomainName, Label, Policy, Ties, WhenNoneHealthy};

/// Settings of the federation `fed` over `example.com`, without name servers.
pub(super) fn settings() -> Settings {
    let name = |text| DomainName::parse(text).expect("a name");
    Settings {
        federation: Label::parse("fed").expect("a label"),
        domain: name("example.com"),
        nameservers: Vec::new(),
        soa: SoaSettings { rname: name("root.example.net"), refresh: 2, retry: 1, expire: 3 },
        ttl: 180,
        negative_ttl: 60,
        unhealthy_ttl: 5,
        unsettled_ttl: None,
        max_addresses: NonZeroU16::MIN,
        policy: Policy::All,
        ties: Ties::Rotate,
        when_none_healthy: WhenNoneHealthy::Nothing,
        records: Vec::new(),
        internal: None,
    }
}
