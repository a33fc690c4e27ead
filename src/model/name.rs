//! Absolute domain names in wire form.

use std::fmt;
use std::sync::Arc;

/// An absolute domain name in lower-case wire form: length-prefixed labels and the root octet,
/// at most 255 octets (RFC 1035 §3.1).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DomainName(Arc<[u8]>);

impl DomainName {
    /// The longest name (RFC 1035 §2.3.4: "names 255 octets or less").
    pub const MAX_LEN: usize = 255;

    /// Reads presentation form without escapes; the final dot is optional. Labels are letters,
    /// digits, hyphens and underscores.
    ///
    /// # Errors
    /// [`InvalidName`] says which label breaks which rule.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let fail = |fault| Err(InvalidName { text: text.to_owned(), fault });
        let bare = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(bare.len() + 2);
        if !bare.is_empty() {
            for label in bare.split('.') {
                let octets = label.as_bytes();
                match octets.len() {
                    0 => return fail("has an empty label"),
                    1..=63 => {}
                    _ => return fail("has a label longer than 63 octets"),
                }
                if !octets.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
                    return fail("holds a character other than letters, digits, '-' and '_'");
                }
                if octets.starts_with(b"-") || octets.ends_with(b"-") {
                    return fail("has a label that starts or ends with '-'");
                }
                wire.push(octets.len() as u8);
                wire.extend(octets.iter().map(u8::to_ascii_lowercase));
            }
        } else if text.is_empty() {
            return fail("is empty");
        }
        wire.push(0);
        if wire.len() > Self::MAX_LEN {
            return fail("is longer than 255 octets");
        }
        Ok(Self(wire.into()))
    }

    /// The name made of `labels` in front of `self`, or `None` where it would exceed 255 octets
    /// or a label 63.
    #[must_use]
    pub fn prefixed<'a>(&self, labels: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let mut wire = Vec::with_capacity(Self::MAX_LEN);
        for label in labels {
            if label.is_empty() || label.len() > 63 {
                return None;
            }
            wire.push(label.len() as u8);
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        wire.extend_from_slice(&self.0);
        (wire.len() <= Self::MAX_LEN).then(|| Self(wire.into()))
    }

    /// Wire form, with the root octet.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels from left to right, without the root.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(&self.0)
    }

    /// True where `self` is `ancestor` or stands below it.
    #[must_use]
    pub fn is_within(&self, ancestor: &Self) -> bool {
        let mut rest = &self.0[..];
        loop {
            if rest == &ancestor.0[..] {
                return true;
            }
            match rest {
                [len, tail @ ..] if *len > 0 => rest = &tail[usize::from(*len)..],
                _ => return false,
            }
        }
    }
}

/// The labels of a well-formed name, or a part of one, in wire form: up to the root or the end.
pub fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || match rest {
        [len, tail @ ..] if *len > 0 => {
            let (label, after) = tail.split_at(usize::from(*len));
            rest = after;
            Some(label)
        }
        _ => None,
    })
}

impl fmt::Display for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(octet))?,
                    0x21..=0x7e => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for DomainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for DomainName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a text is no domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no domain name: it {fault}")]
pub struct InvalidName {
    text: String,
    fault: &'static str,
}

#[cfg(test)]
mod tests {
    use super::DomainName;

    #[test]
    fn parses_prints_and_prefixes() {
        let name = DomainName::parse("Example.COM").expect("valid");
        assert_eq!(name.wire(), b"\x07example\x03com\x00");
        assert_eq!(name.to_string(), "example.com.");
        let host = name.prefixed([&b"ns1"[..]]).expect("short");
        assert_eq!(host.to_string(), "ns1.example.com.");
        assert!(host.is_within(&name) && !name.is_within(&host) && name.is_within(&name));
        let other = DomainName::parse("xexample.com").expect("valid");
        assert!(!other.is_within(&name));
        assert_eq!(DomainName::parse(".").expect("root").to_string(), ".");
    }

    #[test]
    fn refuses_what_is_no_name() {
        let long = vec!["a".repeat(63); 4].join(".");
        for bad in ["", "a..b", ".a", "a b", "-a.b", &"a".repeat(64), &long] {
            assert!(DomainName::parse(bad).is_err(), "{bad:?} must be refused");
        }
    }
}
