//! Text forms of the options that the configuration and Service annotations share.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::Arc;

use super::{DomainName, Drain, Label, MinReady, Policy, WhenNoneHealthy, one_line};

/// Why a text is no value of an option; says what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' {fault}")]
pub struct InvalidOption {
    text: String,
    fault: String,
}

/// How much is repeated of a text that is no value, letters: an annotation may have 256 KiB.
const MOST_TOLD: usize = 200;

impl InvalidOption {
    pub(super) fn new(text: &str, fault: impl Into<String>) -> Self {
        Self { text: one_line(text, MOST_TOLD), fault: fault.into() }
    }
}

/// `all`, `nearest: N` with N from 1 to 65535, `region`, `weighted` or `weighted: N`, or
/// `failover: CLUSTER, CLUSTER ...`; spaces round colons and commas do not matter.
impl FromStr for Policy {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        let (key, rest) = match text.split_once(':') {
            Some((key, rest)) => (key.trim(), Some(rest.trim())),
            None => (text.trim(), None),
        };
        let count = |rest: &str| {
            rest.parse::<NonZeroU16>().map_err(|_| {
                let fault = format!("is no policy: after '{key}:' comes 1 to 65535");
                InvalidOption::new(text, fault)
            })
        };
        match (key, rest) {
            ("all", None) => Ok(Self::All),
            ("region", None) => Ok(Self::Region),
            ("nearest", Some(rest)) => count(rest).map(Self::Nearest),
            ("weighted", None) => Ok(Self::Weighted(NonZeroU16::MIN)),
            ("weighted", Some(rest)) => count(rest).map(Self::Weighted),
            ("failover", Some(rest)) => failover(text, rest).map(Self::Failover),
            _ => Err(InvalidOption::new(
                text,
                "is no policy: write 'all', 'nearest: N', 'region', 'weighted' or \
                 'failover: CLUSTER, CLUSTER'",
            )),
        }
    }
}

/// The clusters of a failover, the first choice first.
fn failover(text: &str, names: &str) -> Result<Arc<[Label]>, InvalidOption> {
    let mut clusters = Vec::new();
    for name in names.split(',').map(str::trim) {
        let label = Label::from_kubernetes(name).ok_or_else(|| {
            InvalidOption::new(text, format!("names a cluster '{name}', which none can be called"))
        })?;
        if clusters.contains(&label) {
            return Err(InvalidOption::new(text, format!("names cluster '{label}' twice")));
        }
        clusters.push(label);
    }
    Ok(clusters.into())
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Nearest(count) => write!(f, "nearest: {count}"),
            Self::Region => f.write_str("region"),
            Self::Weighted(NonZeroU16::MIN) => f.write_str("weighted"),
            Self::Weighted(count) => write!(f, "weighted: {count}"),
            Self::Failover(clusters) => {
                let names: Vec<&str> = clusters.iter().map(Label::as_str).collect();
                write!(f, "failover: {}", names.join(", "))
            }
        }
    }
}

/// A number, or a whole percentage such as `50%`.
impl FromStr for MinReady {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        let number = |text: &str| text.parse::<u32>().ok();
        let read = match text.strip_suffix('%') {
            None => number(text).map(Self::Count),
            Some(share) => {
                let share = number(share.trim_end()).filter(|share| *share <= 100);
                share.map(|share| Self::Percent(share as u8))
            }
        };
        read.ok_or_else(|| {
            let fault = "is no count of endpoints: write a number from 0 to 4294967295, or 0% to \
                         100% of the service's";
            InvalidOption::new(text, fault)
        })
    }
}

impl fmt::Display for MinReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(share) => write!(f, "{share}%"),
        }
    }
}

/// `true`: at once; `planned`; `false`: not at all.
impl FromStr for Drain {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match text {
            "false" => Ok(Self::No),
            "true" => Ok(Self::AtOnce),
            "planned" => Ok(Self::Planned),
            _ => Err(InvalidOption::new(text, "is no drain: write 'true', 'planned' or 'false'")),
        }
    }
}

/// `nothing`, `all`, addresses separated by commas, or a domain name of at least two labels.
///
/// A name of one label is refused, because it is far more often a misspelt keyword; so is one
/// that ends in digits only, because no top-level domain does (RFC 1123 §2.1) and it is a
/// misspelt address.
impl FromStr for WhenNoneHealthy {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match text.trim() {
            "nothing" => return Ok(Self::Nothing),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let items: Vec<&str> = text.split(',').map(str::trim).collect();
        let is_address = |item: &&str| item.parse::<IpAddr>().is_ok();
        match &items[..] {
            [name] if !is_address(name) => fallback_name(name).map(Self::Name),
            _ => fallback_addresses(text, &items).map(Self::Addresses),
        }
    }
}

fn fallback_name(text: &str) -> Result<DomainName, InvalidOption> {
    let fail = |fault: &str| {
        Err(InvalidOption::new(
            text,
            format!("{fault}: write 'nothing', 'all', addresses, or a host name with its domain"),
        ))
    };
    let name = match DomainName::parse(text) {
        Ok(name) => name,
        Err(error) => return fail(&format!("is no answer ({error})")),
    };
    match name.labels().last() {
        Some(last) if last.iter().all(u8::is_ascii_digit) => fail("is no address"),
        Some(_) if name.labels().nth(1).is_some() => Ok(name),
        _ => fail("has no domain"),
    }
}

fn fallback_addresses(text: &str, items: &[&str]) -> Result<Arc<[IpAddr]>, InvalidOption> {
    let mut addresses = Vec::with_capacity(items.len());
    for item in items {
        let address: IpAddr = item.parse().map_err(|_| {
            InvalidOption::new(text, format!("holds '{item}', which is no address"))
        })?;
        if let Some(kind) = unusable_address(address) {
            return Err(InvalidOption::new(text, format!("holds {address}, {kind}")));
        }
        if addresses.contains(&address) {
            return Err(InvalidOption::new(text, format!("holds {address} twice")));
        }
        addresses.push(address);
    }
    Ok(addresses.into())
}

/// Why no host can have `address`, or `None` where one can.
#[must_use]
pub fn unusable_address(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("which stands for no host"),
        _ if address.is_multicast() => Some("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Some("an IPv4-mapped address: write the IPv4 address")
        }
        _ => None,
    }
}

/// Where clouds tell a machine who it is and hand it credentials, whoever asks: AWS, Google, Azure
/// and most others at 169.254.169.254, AWS for containers at 169.254.170.2, AWS and Google over
/// IPv6, Azure's platform, Alibaba.
const METADATA: [IpAddr; 6] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// Whether the metadata service of a cloud answers at `address`: no check goes there, as it would
/// ask on behalf of our own machine.
#[must_use]
pub fn is_metadata_service(address: IpAddr) -> bool {
    METADATA.contains(&address.to_canonical())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use crate::model::{DomainName, Drain, MinReady, Policy, WhenNoneHealthy};

    #[test]
    fn policies() {
        assert_eq!("all".parse(), Ok(Policy::All));
        let two = Policy::Nearest(NonZeroU16::new(2).expect("not zero"));
        for text in ["nearest:2", "nearest: 2", " nearest : 2 "] {
            assert_eq!(text.parse().as_ref(), Ok(&two), "{text:?}");
        }
        assert_eq!("weighted".parse(), Ok(Policy::Weighted(NonZeroU16::MIN)));
        for text in ["all", "nearest: 2", "region", "weighted", "weighted: 2", "failover: b, a"] {
            assert_eq!(text.parse::<Policy>().map(|p| p.to_string()).as_deref(), Ok(text));
        }
        for bad in [
            "",
            "All",
            "nearest",
            "nearest:",
            "nearest: 0",
            "nearest: 65536",
            "nearest: -1",
            "all: 1",
            "region: eu",
            "weighted:",
            "weighted: 0",
            "failover",
            "failover:",
            "failover: a,",
            "failover: a, b, A",
        ] {
            assert!(bad.parse::<Policy>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn counts_and_shares_of_endpoints() {
        assert_eq!("2".parse(), Ok(MinReady::Count(2)));
        assert_eq!("50%".parse(), Ok(MinReady::Percent(50)));
        assert_eq!("50 %".parse(), Ok(MinReady::Percent(50)));
        for bad in ["", "%", "-1", "101%", "0.5", "12.5%", "4294967296", "50%%"] {
            assert!(bad.parse::<MinReady>().is_err(), "{bad:?} must be refused");
        }
        let needed = |text: &str, total| text.parse::<MinReady>().expect("valid").needed(total);
        assert_eq!((needed("0", 9), needed("3", 0)), (0, 3));
        assert_eq!([needed("50%", 4), needed("50%", 5), needed("100%", 7)], [2, 3, 7]);
        assert_eq!(needed("1%", u32::MAX), 42_949_673, "no overflow");
        // No share of nothing is served without an endpoint, unless it is asked for.
        assert_eq!((needed("50%", 0), needed("0%", 9), needed("0%", 0)), (1, 0, 0));
    }

    #[test]
    fn drains() {
        assert_eq!("planned".parse(), Ok(Drain::Planned));
        assert_eq!(("true".parse(), "false".parse()), (Ok(Drain::AtOnce), Ok(Drain::No)));
        assert!("yes".parse::<Drain>().is_err() && "".parse::<Drain>().is_err());
    }

    #[test]
    fn answers_when_none_is_healthy() {
        assert_eq!("nothing".parse(), Ok(WhenNoneHealthy::Nothing));
        assert_eq!("all".parse(), Ok(WhenNoneHealthy::All));
        let name = DomainName::parse("sorry.example.net").expect("valid");
        assert_eq!("sorry.example.net.".parse(), Ok(WhenNoneHealthy::Name(name)));
        let addresses = ["192.0.2.1".parse().expect("v4"), "2001:db8::1".parse().expect("v6")];
        assert_eq!(
            "192.0.2.1, 2001:db8::1".parse(),
            Ok(WhenNoneHealthy::Addresses(addresses.into()))
        );
    }

    #[test]
    fn misspelt_keywords_and_addresses_are_no_names() {
        for bad in [
            "",
            "Nothing",
            "none",
            "1.2.3",
            "192.0.2.300",
            "a.example,b.example",
            "0.0.0.0",
            "192.0.2.1,",
            "192.0.2.1,192.0.2.1",
            "224.0.0.1",
            "::",
            "::ffff:192.0.2.1",
            "a..b",
        ] {
            assert!(bad.parse::<WhenNoneHealthy>().is_err(), "{bad:?} must be refused");
        }
    }
}
