//! What the operator says of clients.
//!
//! *Owns*: [`NetworkRule`], whom it is about ([`Clients`]) and where they are ([`Target`]).
//! *Guarantees*: a rule can be carried out. *Does not*: know which rule wins.

use std::fmt;

use ipnet::IpNet;

use super::space::{self, Block};
use crate::model::{Coordinates, Label};

/// Clients whom the operator places, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRule {
    clients: Clients,
    target: Target,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Those with an address in it.
    Network(IpNet),
    /// Those in networks of this autonomous system, as the databases of such have it.
    System(u32),
    /// Those whom the databases have in this country, or in this subdivision of it: the part of
    /// the ISO 3166-2 code behind the country's, or the English name.
    Land {
        /// The country.
        country: Country,
        /// The subdivision.
        subdivision: Option<Box<str>>,
    },
}

/// A country code, ISO 3166-1 alpha-2, upper case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The country with this code, in any case; `None` where it is none of two letters.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        let code: [u8; 2] = code.as_bytes().try_into().ok()?;
        let letters = code.iter().all(u8::is_ascii_alphabetic);
        letters.then(|| Self(code.map(|letter| letter.to_ascii_uppercase())))
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> &str {
        // Two ASCII letters by construction, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => write!(f, "network {network}"),
            Self::System(number) => write!(f, "autonomous system AS{number}"),
            Self::Land { country, subdivision: None } => write!(f, "country {country}"),
            Self::Land { country, subdivision: Some(part) } => {
                write!(f, "subdivision {part} of country {country}")
            }
        }
    }
}

impl NetworkRule {
    /// Clients in `network` are at `target`.
    ///
    /// # Errors
    /// [`InvalidRule`] where bits are set behind the prefix, which tells of a mistyped length, or
    /// where the network lies in IPv6 space whose addresses embed IPv4: those clients are placed
    /// by the IPv4 address.
    pub fn new(network: IpNet, target: Target) -> Result<Self, InvalidRule> {
        Self::of(Clients::Network(network), target)
    }

    /// These clients are at `target`.
    ///
    /// # Errors
    /// As [`NetworkRule::new`].
    pub fn of(clients: Clients, target: Target) -> Result<Self, InvalidRule> {
        if let Clients::Network(network) = clients {
            if network != network.trunc() {
                return Err(InvalidRule::HostBits { network, meant: network.trunc() });
            }
            let embedding = |block: &&Block| block.network.contains(&network);
            if let Some(&block) = space::EMBEDDING.iter().find(embedding) {
                return Err(InvalidRule::Embedding { network, block });
            }
        }
        Ok(Self { clients, target })
    }

    /// The clients.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The clients' network, where they are told by one.
    #[must_use]
    pub fn network(&self) -> Option<IpNet> {
        match self.clients {
            Clients::Network(network) => Some(network),
            Clients::System(_) | Clients::Land { .. } => None,
        }
    }

    /// Where they are.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }
}

/// Why a network cannot be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRule {
    /// Bits are set behind the prefix.
    #[error("{network} has bits set behind its prefix; write {meant} or a longer prefix")]
    HostBits {
        /// As written.
        network: IpNet,
        /// Without those bits.
        meant: IpNet,
    },
    /// Addresses in it embed IPv4 addresses.
    #[error("{network} lies in {block}, whose addresses embed IPv4; write the IPv4 network")]
    Embedding {
        /// As written.
        network: IpNet,
        /// The block that it lies in.
        block: Block,
    },
}

/// Where a network is.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// In this cluster.
    Cluster(Label),
    /// In this region.
    Region(Label),
    /// In this availability zone, of `region` where it is given, else of any region.
    Zone {
        /// The region, where the zone's name alone does not tell.
        region: Option<Label>,
        /// The availability zone.
        zone: Label,
    },
    /// At this point.
    Coordinates(Coordinates),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster(cluster) => write!(f, "cluster {cluster}"),
            Self::Region(region) => write!(f, "region {region}"),
            Self::Zone { region: Some(region), zone } => write!(f, "zone {zone}.{region}"),
            Self::Zone { region: None, zone } => write!(f, "zone {zone}"),
            Self::Coordinates(point) => write!(f, "{point}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NetworkRule, Target};
    use crate::geo::testing::label;

    #[test]
    fn networks_that_cannot_be_placed_say_why() {
        let refused = |text: &str| {
            let network = text.parse().expect("a network");
            NetworkRule::new(network, Target::Region(label("eu"))).expect_err("refused").to_string()
        };
        assert_eq!(
            refused("10.8.0.1/16"),
            "10.8.0.1/16 has bits set behind its prefix; write 10.8.0.0/16 or a longer prefix"
        );
        assert_eq!(
            refused("2002:a08::/32"),
            "2002:a08::/32 lies in 2002::/16 (6to4, RFC 3056), whose addresses embed IPv4; \
             write the IPv4 network"
        );
    }
}
