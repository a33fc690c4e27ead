//! An operator's word on a shard or a cluster, which beats every signal.

use std::fmt;
use std::str::FromStr;

use super::InvalidOption;
use super::line::is_control;

/// What an operator forces a shard or a cluster to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Forced {
    /// Served whatever anyone says, as long as there is an address.
    Up,
    /// Out at once.
    Down,
    /// Out when the TTL that was answered before is over, by a planned drain.
    Drained,
}

impl Forced {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Drained];

    /// The word for it, in files, annotations and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Drained => "drained",
        }
    }
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// `up`, `down` or `drained`.
impl FromStr for Forced {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        let known = Self::ALL.into_iter().find(|forced| forced.word() == text);
        known.ok_or_else(|| {
            InvalidOption::new(text, "is nothing to force: write 'up', 'down' or 'drained'")
        })
    }
}

/// When an override ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Until {
    /// When it is taken away.
    Never,
    /// At this Unix time, seconds.
    At(u64),
}

/// `never`, or a time as in RFC 3339 (`2026-12-01T00:00:00Z`).
impl FromStr for Until {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let time = text.parse::<jiff::Timestamp>().ok();
        let seconds = time.and_then(|time| u64::try_from(time.as_second()).ok());
        seconds.map(Self::At).ok_or_else(|| {
            InvalidOption::new(
                text,
                "is no end: write a time such as 2026-12-01T00:00:00Z, or never",
            )
        })
    }
}

impl fmt::Display for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::At(seconds) = *self else { return f.write_str("never") };
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_second(seconds) {
            Ok(time) => time.fmt(f),
            // Beyond the year 9999.
            Err(_) => f.write_str("never"),
        }
    }
}

/// An override: what it forces, who says so, why, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Force {
    /// What it forces.
    pub to: Forced,
    /// Who says so.
    pub author: Box<str>,
    /// Why.
    pub reason: Box<str>,
    /// When it ends by itself.
    pub until: Until,
}

impl Force {
    /// The longest author and the longest reason, octets: they are shown wherever the effect is.
    pub const LONGEST_WORD: usize = 256;

    /// An author or a reason as `text` has it.
    ///
    /// # Errors
    /// What is wrong with it: it is empty, too long, or no single line.
    pub fn word(text: &str) -> Result<Box<str>, String> {
        match text.trim() {
            "" => Err("is empty: say who and why".into()),
            word if word.len() > Self::LONGEST_WORD => {
                Err(format!("is longer than {} octets", Self::LONGEST_WORD))
            }
            word if word.contains(is_control) => {
                Err("holds a control character: write it in one line".into())
            }
            word => Ok(word.into()),
        }
    }

    /// Whether it counts at `now`, Unix time in seconds.
    #[must_use]
    pub fn in_force(&self, now: u64) -> bool {
        match self.until {
            Until::Never => true,
            Until::At(end) => now < end,
        }
    }

    /// When it ends by itself, Unix time in seconds.
    #[must_use]
    pub fn end(&self) -> Option<u64> {
        match self.until {
            Until::Never => None,
            Until::At(end) => Some(end),
        }
    }
}

impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, author, reason, until } = self;
        write!(f, "forced {to} by {author} ({reason}) ")?;
        match until {
            Until::Never => f.write_str("without end"),
            Until::At(_) => write!(f, "until {until}"),
        }
    }
}

/// `STATE; by=AUTHOR; reason=REASON; until=TIME`, all of them, in any order after the state.
impl FromStr for Force {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        const FORM: &str = "write 'down; by=NAME; reason=TEXT; until=2026-12-01T00:00:00Z'";
        let mut parts = text.split(';').map(str::trim);
        // Splitting yields at least one part.
        let to = parts.next().unwrap_or_default().parse()?;
        let (mut author, mut reason, mut until) = (None, None, None);
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let (key, value) = (key.trim(), value.trim());
            let place = match key {
                "by" => &mut author,
                "reason" => &mut reason,
                "until" => &mut until,
                other => {
                    let fault = format!("has a part '{other}', which is unknown: {FORM}");
                    return Err(InvalidOption::new(text, fault));
                }
            };
            if place.replace(value).is_some() {
                return Err(InvalidOption::new(text, format!("says '{key}' twice: {FORM}")));
            }
        }
        let told = |value: Option<&str>, key| match value {
            Some(value) if !value.is_empty() => Ok(value.to_owned()),
            _ => Err(InvalidOption::new(text, format!("lacks '{key}': {FORM}"))),
        };
        let word = |value, key| {
            Self::word(&told(value, key)?)
                .map_err(|fault| InvalidOption::new(text, format!("is refused: '{key}' {fault}")))
        };
        let until = told(until, "until")?;
        Ok(Self {
            to,
            author: word(author, "by")?,
            reason: word(reason, "reason")?,
            until: until.parse()?,
        })
    }
}

impl serde::Serialize for Until {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl serde::Serialize for Force {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let Self { to, author, reason, until } = self;
        let mut force = serializer.serialize_struct("Force", 4)?;
        force.serialize_field("state", to)?;
        force.serialize_field("author", author)?;
        force.serialize_field("reason", reason)?;
        force.serialize_field("until", until)?;
        force.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_needed_and_read_once() {
        let full = "down; by=alice; reason=a=b, really; until=2026-12-01T00:00:00Z";
        let force: Force = full.parse().expect("whole");
        assert_eq!(force.to, Forced::Down);
        assert_eq!((&*force.author, &*force.reason), ("alice", "a=b, really"));
        assert_eq!(force.until, Until::At(1_796_083_200));
        assert!(force.in_force(1_796_083_199) && !force.in_force(1_796_083_200));
        assert_eq!(
            force.to_string(),
            "forced down by alice (a=b, really) until 2026-12-01T00:00:00Z"
        );
        let other = "drained;until=never ;reason=move; by = bob";
        let force: Force = other.parse().expect("whole");
        assert_eq!((force.to, force.until), (Forced::Drained, Until::Never));
        assert!(force.in_force(u64::MAX) && force.end().is_none());
        assert_eq!(force.to_string(), "forced drained by bob (move) without end");
        for bad in [
            "",
            "down",
            "Down; by=a; reason=b; until=never",
            "sideways; by=a; reason=b; until=never",
            "down; by=a; reason=b",
            "down; by=a; until=never",
            "down; reason=b; until=never",
            "down; by=; reason=b; until=never",
            "down; by=a; by=a; reason=b; until=never",
            "down; by=a; reason=b; until=tomorrow",
            "down; by=a; reason=b; until=2026-12-01",
            "down; by=a; reason=b; until=1969-12-01T00:00:00Z",
            "down; by=a; reason=b; until=never; at=once",
            "down; by=a; reason=b; until=never;",
        ] {
            assert!(bad.parse::<Force>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn what_is_shown_is_a_line() {
        let with =
            |reason: &str| format!("down; by=a; reason={reason}; until=never").parse::<Force>();
        for (reason, why) in [
            ("a\nmeridian: all is well", "'reason' holds a control character"),
            ("a\u{1b}[2J", "'reason' holds a control character"),
            ("a\u{2028}b", "'reason' holds a control character"),
            (&*"b".repeat(257), "'reason' is longer than 256 octets"),
        ] {
            let error = with(reason).expect_err(reason).to_string();
            assert!(error.contains(why) && !error.contains('\n'), "{error}");
            assert!(error.len() < 400, "{error}");
        }
        assert!(with(&"b".repeat(256)).is_ok());
        assert!("down; by=a\tb; reason=c; until=never".parse::<Force>().is_err());
    }

    #[test]
    fn times_may_have_an_offset() {
        assert_eq!("1970-01-01T01:00:01+01:00".parse(), Ok(Until::At(1)));
    }
}
