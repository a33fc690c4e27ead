//! A MaxMind-format database as ranges of address space with places.
//!
//! *Owns*: [`Database`]. *Guarantees*: what was read is whole; the same file gives the same value.
//! *Does not*: touch the file system, or keep the file's bytes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::fast::FixedState;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};

use super::clamp::{self, Clamp};
use super::ranges::Ranges;
use super::record::{Placed, Record};
use crate::model::Coordinates;

/// A database, read: IPv4 in blocks of /24 and IPv6 of /48, as resolvers send them.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    file: Arc<Path>,
    summary: Summary,
    points: Box<[Coordinates]>,
    /// Values are [`NOWHERE`] or one more than an index of `points`.
    v4: Ranges<u32, u32>,
    v6: Ranges<u64, u32>,
}

/// What there is to tell of a database.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The type that it says it is.
    pub kind: Box<str>,
    /// When it was built, seconds since 1970.
    pub built: u64,
    /// Distinct points.
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
        "{}: a database of type '{kind}' tells no places{}; configure a City or Country database",
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
    const KINDS: [(&str, &str); 5] = [
        ("asn", ", only networks' autonomous systems"),
        ("isp", ", only networks' operators"),
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
    /// [`DatabaseError`], where it is no database, is corrupt, or tells no places.
    pub fn parse(file: &Path, bytes: &[u8]) -> Result<Self, DatabaseError> {
        let reader = Reader::from_source(bytes).map_err(|error| DatabaseError::NoDatabase {
            file: file.to_owned(),
            reason: error.to_string().into(),
        })?;
        let corrupt = |error: MaxMindDbError| DatabaseError::Corrupt {
            file: file.to_owned(),
            reason: error.to_string().into(),
        };
        let mut reading = Reading::default();
        reading.read(&reader).map_err(corrupt)?;
        let metadata = reader.metadata();
        let kind = metadata.database_type.as_str().into();
        if reading.points.is_empty() {
            return Err(DatabaseError::NoPlaces { file: file.to_owned(), kind });
        }
        let (v4, v6) = (reading.v4.finish(), reading.v6.finish());
        let summary = Summary {
            kind,
            built: metadata.build_epoch,
            places: reading.points.len(),
            ranges: [v4.len(), v6.len()],
            off_globe: reading.off_globe,
        };
        Ok(Self { file: file.into(), summary, points: reading.points.into(), v4, v6 })
    }

    /// Where it came from.
    #[must_use]
    pub fn file(&self) -> &Arc<Path> {
        &self.file
    }

    /// What there is to tell of it.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The points that the ranges' values name, one less than the value.
    pub(super) fn points(&self) -> &[Coordinates] {
        &self.points
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

/// A database while it is walked.
struct Reading {
    v4: Clamp<u32, u32>,
    v6: Clamp<u64, u32>,
    points: Vec<Coordinates>,
    /// The value of each point, by the bits of its coordinates.
    known: HashMap<[u64; 2], u32, FixedState>,
    off_globe: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            v4: Clamp::new(clamp::V4, NOWHERE),
            v6: Clamp::new(clamp::V6, NOWHERE),
            points: Vec::new(),
            known: HashMap::default(),
            off_globe: 0,
        }
    }
}

impl Reading {
    /// Walks the search tree in address order. Many leaves share a record, so each record is
    /// decoded once, by its offset.
    fn read(&mut self, reader: &Reader<&[u8]>) -> Result<(), MaxMindDbError> {
        let mut decoded: HashMap<usize, u32, FixedState> = HashMap::default();
        let mut leaves_left = leaf_limit(reader);
        // Only with these are records of "no data" told from aliases, which are left out.
        let options = WithinOptions::default().include_networks_without_data();
        for leaf in reader.networks(options)? {
            let leaf = leaf?;
            leaves_left = leaves_left.checked_sub(1).ok_or_else(|| {
                MaxMindDbError::invalid_database("its search tree runs in circles")
            })?;
            let Some(offset) = leaf.offset() else { continue };
            let value = match decoded.get(&offset) {
                Some(&value) => value,
                None => {
                    let record: Option<Record<'_>> = leaf.decode()?;
                    let value = self.value(record.unwrap_or_default().place());
                    decoded.insert(offset, value);
                    value
                }
            };
            let network = leaf.network()?;
            match network.ip() {
                std::net::IpAddr::V4(first) => {
                    self.v4.add(u32::from(first).into(), network.prefix(), value);
                }
                std::net::IpAddr::V6(first) => {
                    self.v6.add(first.into(), network.prefix(), value);
                }
            }
        }
        Ok(())
    }

    /// The value that stands for a place in the ranges.
    fn value(&mut self, place: Placed) -> u32 {
        let point = match place {
            Placed::At(point) => point,
            Placed::Nowhere => return NOWHERE,
            Placed::OffGlobe => {
                self.off_globe += 1;
                return NOWHERE;
            }
        };
        let bits = [point.latitude().to_bits(), point.longitude().to_bits()];
        *self.known.entry(bits).or_insert_with(|| {
            self.points.push(point);
            // Every point comes from a record of its own, in a file of less than 4 GiB.
            self.points.len() as u32
        })
    }
}

/// The most leaves that a tree of so many nodes can sensibly have. A sound tree has one more than
/// it has nodes, and a few branches that are reached twice; one with a cycle has up to 2^128.
fn leaf_limit(reader: &Reader<&[u8]>) -> usize {
    (reader.metadata().node_count as usize).saturating_mul(4).saturating_add(256)
}

#[cfg(test)]
mod tests;
