//! A MaxMind-format database as ranges of address space with places.
//!
//! *Owns*: [`Database`]. *Guarantees*: what was read is whole; the same file gives the same value.
//! *Does not*: touch the file system, or keep the file's bytes.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::FixedState;
use maxminddb::{LookupResult, MaxMindDbError, Reader, WithinOptions};

use super::clamp::{self, Clamp};
use super::ranges::Ranges;
use super::record::{Land, Placed, Record, SystemRecord};
use crate::model::Coordinates;

/// A database, read: IPv4 in blocks of /24 and IPv6 of /48, as resolvers send them.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    gazetteer: Arc<Gazetteer>,
    /// Values are [`NOWHERE`], or one more than an index of its places; where it has none,
    /// numbers of autonomous systems.
    v4: Ranges<u32, u32>,
    v6: Ranges<u64, u32>,
}

/// A database but for its ranges: the places that they name.
#[derive(Clone, Debug, PartialEq)]
pub struct Gazetteer {
    origin: Origin,
    summary: Summary,
    spots: Box<[Spot]>,
    territories: Box<[Territory]>,
}

/// Where a database comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This file.
    File(Arc<Path>),
    /// The program itself.
    Embedded,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "database {}", file.display()),
            Self::Embedded => f.write_str("embedded table"),
        }
    }
}

/// A place of a database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spot {
    /// Where it is.
    pub(super) point: Coordinates,
    /// An index of the database's territories.
    pub(super) territory: u32,
}

/// A country, or the part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Territory {
    /// ISO 3166-1 alpha-2; empty where the database does not tell.
    pub(super) country: Box<str>,
    /// The part of the ISO 3166-2 code behind the country's.
    pub(super) code: Box<str>,
    /// The subdivision's English name.
    pub(super) name: Box<str>,
}

/// What there is to tell of a database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The type that it says it is.
    pub kind: Box<str>,
    /// When it was built, seconds since 1970.
    pub built: u64,
    /// Distinct places; none in a database of autonomous systems.
    pub places: usize,
    /// Ranges of IPv4 and IPv6 addresses.
    pub ranges: [usize; 2],
    /// Records left out because their coordinates are off the globe.
    pub off_globe: usize,
}

/// In the ranges of a database: it does not tell where these addresses are.
pub(super) const NOWHERE: u32 = 0;

/// Why a database cannot be used. Each says what to do; none passes by trying again.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The file is of another format, or its end is missing.
    #[error(
        "{}: is no MaxMind-format database or is cut short ({reason}); fetch it anew, unpacked",
        file.display()
    )]
    NoDatabase {
        /// The file.
        file: PathBuf,
        /// What the reader says.
        reason: Box<str>,
    },
    /// The file contradicts itself.
    #[error("{}: is corrupt ({reason}); fetch it anew", file.display())]
    Corrupt {
        /// The file.
        file: PathBuf,
        /// What the reader says.
        reason: Box<str>,
    },
    /// The database holds something other than places.
    #[error(
        "{}: a database of type '{kind}' tells no places{}; configure a City, Country or ASN \
         database",
        file.display(), because(kind)
    )]
    NoPlaces {
        /// The file.
        file: PathBuf,
        /// The type that it says it is.
        kind: Box<str>,
    },
}

/// What a database without places is instead, by the type that it says it is.
fn because(kind: &str) -> &'static str {
    const KINDS: [(&str, &str); 3] = [
        ("anonymous", ", only proxies and hosting networks"),
        ("connection", ", only kinds of connection"),
        ("domain", ", only domains"),
    ];
    let kind = kind.to_ascii_lowercase();
    KINDS.iter().find(|(word, _)| kind.contains(word)).map_or("", |(_, what)| what)
}

impl Database {
    /// Reads the database that `bytes` hold; `file` is where they come from, for messages.
    ///
    /// # Errors
    /// [`DatabaseError`], where it is no database, is corrupt, or tells neither places nor
    /// autonomous systems.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, DatabaseError> {
        let reader = Reader::from_source(bytes).map_err(|error| DatabaseError::NoDatabase {
            file: file.to_owned(),
            reason: error.to_string().into(),
        })?;
        let corrupt = |error: MaxMindDbError| DatabaseError::Corrupt {
            file: file.to_owned(),
            reason: error.to_string().into(),
        };
        let mut spots = Spots::default();
        let (mut v4, mut v6) = walk(&reader, |leaf| Ok(spots.value(Record::decode(leaf)?.place())))
            .map_err(corrupt)?;
        let metadata = reader.metadata();
        let kind: Box<str> = metadata.database_type.as_str().into();
        if spots.spots.is_empty() {
            let systems = walk(&reader, |leaf| Ok(SystemRecord::decode(leaf)?.number()));
            (v4, v6) = systems.map_err(corrupt)?;
            if v4.len() + v6.len() <= 2 {
                return Err(DatabaseError::NoPlaces { file: file.to_owned(), kind });
            }
        }
        let origin = Origin::File(file.into());
        Ok(spots.finish(origin, kind, metadata.build_epoch, v4, v6))
    }

    /// It but for its ranges.
    #[must_use]
    pub fn gazetteer(&self) -> &Arc<Gazetteer> {
        &self.gazetteer
    }

    /// What there is to tell of it.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.gazetteer.summary
    }

    /// Ranges of IPv4 addresses with their values.
    pub(super) fn iter_v4(&self) -> impl Iterator<Item = (u128, u32)> + '_ {
        self.v4.iter().map(|(start, value)| (start.into(), value))
    }

    /// Ranges of IPv6 addresses with their values.
    pub(super) fn iter_v6(&self) -> impl Iterator<Item = (u128, u32)> + '_ {
        self.v6.iter().map(|(start, value)| (u128::from(start) << 64, value))
    }
}

impl Gazetteer {
    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The places that the ranges' values name, one less than the value; none where values are
    /// numbers of autonomous systems.
    pub(super) fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// The countries and subdivisions that the places name.
    pub(super) fn territories(&self) -> &[Territory] {
        &self.territories
    }
}

/// The ranges of both families, and the value that `value` gives each record.
type Both = (Ranges<u32, u32>, Ranges<u64, u32>);

/// Walks the search tree in address order. Many leaves share a record, so each record is decoded
/// once, by its offset.
fn walk<'r>(
    reader: &'r Reader<&'r [u8]>,
    mut value: impl FnMut(&LookupResult<'r, &'r [u8]>) -> Result<u32, MaxMindDbError>,
) -> Result<Both, MaxMindDbError> {
    let mut v4 = Clamp::new(clamp::V4, NOWHERE);
    let mut v6 = Clamp::new(clamp::V6, NOWHERE);
    let mut decoded: HashMap<usize, u32, FixedState> = HashMap::default();
    let mut leaves_left = leaf_limit(reader);
    // Only with these are records of "no data" told from aliases, which are left out.
    let options = WithinOptions::default().include_networks_without_data();
    for leaf in reader.networks(options)? {
        let leaf = leaf?;
        leaves_left = leaves_left
            .checked_sub(1)
            .ok_or_else(|| MaxMindDbError::invalid_database("its search tree runs in circles"))?;
        let Some(offset) = leaf.offset() else { continue };
        let value = match decoded.get(&offset) {
            Some(&value) => value,
            None => {
                let value = value(&leaf)?;
                decoded.insert(offset, value);
                value
            }
        };
        let network = leaf.network()?;
        match network.ip() {
            std::net::IpAddr::V4(first) => {
                v4.add(u32::from(first).into(), network.prefix(), value);
            }
            std::net::IpAddr::V6(first) => v6.add(first.into(), network.prefix(), value),
        }
    }
    Ok((v4.finish(), v6.finish()))
}

/// The distinct places of a database while it is read.
#[derive(Default)]
pub(super) struct Spots {
    spots: Vec<Spot>,
    territories: Vec<Territory>,
    /// The index of each territory.
    lands: HashMap<[Box<str>; 3], u32, FixedState>,
    /// The value of each place, by the bits of its coordinates and its territory.
    known: HashMap<([u64; 2], u32), u32, FixedState>,
    off_globe: usize,
}

impl Spots {
    /// The value that stands for a place in the ranges.
    pub(super) fn value(&mut self, place: Placed<'_>) -> u32 {
        let (point, land) = match place {
            Placed::At(point, land) => (point, land),
            Placed::Nowhere => return NOWHERE,
            Placed::OffGlobe => {
                self.off_globe += 1;
                return NOWHERE;
            }
        };
        let territory = self.territory(land);
        let bits = [point.latitude().to_bits(), point.longitude().to_bits()];
        *self.known.entry((bits, territory)).or_insert_with(|| {
            self.spots.push(Spot { point, territory });
            // Every place comes from a record of its own, in a file of less than 4 GiB.
            self.spots.len() as u32
        })
    }

    fn territory(&mut self, land: Land<'_>) -> u32 {
        let country = land.country.to_ascii_uppercase().into();
        let key = [country, land.code.into(), land.name.into()];
        *self.lands.entry(key).or_insert_with_key(|[country, code, name]| {
            let (country, code, name) = (country.clone(), code.clone(), name.clone());
            self.territories.push(Territory { country, code, name });
            // Fewer than places.
            self.territories.len() as u32 - 1
        })
    }

    /// The database of these places and ranges of them.
    pub(super) fn finish(
        self,
        origin: Origin,
        kind: Box<str>,
        built: u64,
        v4: Ranges<u32, u32>,
        v6: Ranges<u64, u32>,
    ) -> Database {
        let summary = Summary {
            kind,
            built,
            places: self.spots.len(),
            ranges: [v4.len(), v6.len()],
            off_globe: self.off_globe,
        };
        let (spots, territories) = (self.spots.into(), self.territories.into());
        let gazetteer = Arc::new(Gazetteer { origin, summary, spots, territories });
        Database { gazetteer, v4, v6 }
    }
}

/// The most leaves that a tree of so many nodes can sensibly have. A sound tree has one more than
/// it has nodes, and a few branches that are reached twice; one with a cycle has up to 2^128.
fn leaf_limit(reader: &Reader<&[u8]>) -> usize {
    (reader.metadata().node_count as usize).saturating_mul(4).saturating_add(256)
}

#[cfg(test)]
mod tests;
