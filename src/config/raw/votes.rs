//! `health.votes` and `health.damping` as they are written.

use std::fmt;

use serde::Deserialize;
use serde::de::Visitor;
use serde_saphyr::Spanned;

use super::Text;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Votes {
    pub cluster: Option<Text>,
    pub instance: Option<Text>,
    pub voters: Option<Spanned<Vec<Text>>>,
    pub quorum: Option<Spanned<Quorum>>,
    pub directory: Option<Text>,
    pub heartbeat: Option<Text>,
    pub lease: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Damping {
    pub min_up: Option<Text>,
    pub hold_off: Option<Text>,
    pub max_hold_off: Option<Text>,
    pub forget: Option<Text>,
}

/// A word or a number.
#[derive(Clone, Copy, Debug)]
pub(in crate::config) enum Quorum {
    Majority,
    Any,
    All,
    Count(i64),
}

impl<'de> Deserialize<'de> for Quorum {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Quorum;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("'majority', 'any', 'all' or a number of clusters")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quorum, E> {
                match text {
                    "majority" => Ok(Quorum::Majority),
                    "any" => Ok(Quorum::Any),
                    "all" => Ok(Quorum::All),
                    other => Err(E::unknown_variant(other, &["majority", "any", "all"])),
                }
            }

            fn visit_i64<E>(self, count: i64) -> Result<Quorum, E> {
                Ok(Quorum::Count(count))
            }

            fn visit_u64<E>(self, count: u64) -> Result<Quorum, E> {
                // What is beyond is out of range too.
                Ok(Quorum::Count(i64::try_from(count).unwrap_or(i64::MAX)))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
