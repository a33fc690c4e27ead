//! Options of a service, as the configuration and annotations write them.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::{DomainName, Policy, WhenNoneHealthy};

/// Why a text is no option; says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not allowed: {allowed}")]
pub struct InvalidOption {
    text: String,
    allowed: &'static str,
}

impl FromStr for Policy {
    type Err = InvalidOption;

    /// Reads `all` or `nearest: N`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidOption {
            text: text.to_owned(),
            allowed: "write 'all' or 'nearest: N' with N from 1 to 65535",
        };
        if text.trim() == "all" {
            return Ok(Self::All);
        }
        let (word, number) = text.split_once(':').ok_or_else(invalid)?;
        match (word.trim(), number.trim().parse::<NonZeroU16>()) {
            ("nearest", Ok(number)) => Ok(Self::Nearest(number)),
            _ => Err(invalid()),
        }
    }
}

impl FromStr for WhenNoneHealthy {
    type Err = InvalidOption;

    /// Reads `nothing`, `all`, a comma list of addresses, or a domain name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "nothing" => return Ok(Self::Nothing),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let addresses: Result<Vec<IpAddr>, _> =
            text.split(',').map(|part| part.trim().parse()).collect();
        if let Ok(mut addresses) = addresses {
            addresses.sort_unstable();
            addresses.dedup();
            return Ok(Self::Addresses(addresses.into()));
        }
        DomainName::parse(text.trim()).map(Self::Name).map_err(|_| InvalidOption {
            text: text.to_owned(),
            allowed: "write 'nothing', 'all', a comma list of IP addresses, or a domain name",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{NonZeroU16, Policy, WhenNoneHealthy};

    #[test]
    fn policies() {
        assert_eq!("all".parse(), Ok(Policy::All));
        let two = Policy::Nearest(NonZeroU16::new(2).unwrap());
        assert_eq!("nearest: 2".parse(), Ok(two));
        assert_eq!("nearest:2".parse(), Ok(two));
        for bad in ["", "nearest", "nearest: 0", "nearest: x", "some", "2"] {
            assert!(bad.parse::<Policy>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn what_stands_in_when_none_is_healthy() {
        assert_eq!("nothing".parse(), Ok(WhenNoneHealthy::Nothing));
        assert_eq!("all".parse(), Ok(WhenNoneHealthy::All));
        let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(
            "2001:db8::1, 192.0.2.1".parse(),
            Ok(WhenNoneHealthy::Addresses(addresses.into()))
        );
        let name = super::DomainName::parse("sorry.example.net").unwrap();
        assert_eq!("sorry.example.net.".parse(), Ok(WhenNoneHealthy::Name(name)));
        assert!("a b".parse::<WhenNoneHealthy>().is_err());
        assert!("".parse::<WhenNoneHealthy>().is_err());
    }
}
