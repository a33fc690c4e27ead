//! Sets of HTTP statuses.

use std::fmt;
use std::str::FromStr;

/// A set of HTTP statuses, as ranges: `200-299,301`, or `2xx` for a whole class.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusSet(Box<[(u16, u16)]>);

impl Default for StatusSet {
    /// 200 to 399, as the probes of Kubernetes have it.
    fn default() -> Self {
        Self([(200, 399)].into())
    }
}

impl StatusSet {
    /// The least and the greatest status (RFC 9110 §15: "a three-digit integer code", the first
    /// of which is 1 to 5).
    const LIMITS: (u16, u16) = (100, 599);

    /// Whether `status` is in the set.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&status))
    }
}

impl FromStr for StatusSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ranges: Result<Vec<_>, String> = text.split(',').map(range).collect();
        let mut ranges = ranges?;
        ranges.sort_unstable();
        // Ranges that touch become one, so that equal sets are equal values.
        ranges.dedup_by(|next, before| {
            let touch = next.0 <= before.1 + 1;
            if touch {
                before.1 = before.1.max(next.1);
            }
            touch
        });
        Ok(Self(ranges.into()))
    }
}

fn range(text: &str) -> Result<(u16, u16), String> {
    let text = text.trim();
    let fail = || {
        format!("'{text}' is no status: write some from 100 to 599, such as 200, 200-299 or 2xx")
    };
    let status = |text: &str| {
        let (least, most) = StatusSet::LIMITS;
        let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
        let status = text.parse().ok().filter(|status| digits && (least..=most).contains(status));
        status.ok_or_else(fail)
    };
    if let Some(class) = text.strip_suffix("xx") {
        let first = status(&format!("{class}00"))?;
        return Ok((first, first + 99));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (status(first.trim())?, status(last.trim())?);
    if range.0 <= range.1 { Ok(range) } else { Err(fail()) }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}
