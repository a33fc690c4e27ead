//! Names with wildcards.

use std::fmt;
use std::str::FromStr;

/// A name in which `*` stands for any run of characters and `?` for any one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Whether a name is one of those that it stands for.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        // Where the last star stands, and where the name went on after the run that it stood for.
        let mut star: Option<(usize, usize)> = None;
        let (mut p, mut n) = (0, 0);
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(octet) if *octet == b'?' || *octet == name[n] => (p, n) = (p + 1, n + 1),
                _ => match star {
                    // One more character for the last star; that earlier ones take more never helps.
                    Some((at, taken)) => {
                        star = Some((at, taken + 1));
                        (p, n) = (at + 1, taken + 1);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|octet| *octet == b'*')
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Letters, which are lowered, digits, `-`, `*` and `?`: all that names of clusters, namespaces and
/// services are made of.
impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'*' | b'?');
        if text.is_empty() || !text.bytes().all(allowed) {
            return Err(InvalidPattern(text.to_owned()));
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

/// No name has such characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no name: write letters, digits and '-', with '*' and '?' as wildcards")]
pub struct InvalidPattern(String);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Pattern;

    fn matches(pattern: &str, name: &str) -> bool {
        pattern.parse::<Pattern>().expect("a pattern").matches(name)
    }

    /// What a pattern means, in the plainest way.
    fn model(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], []) => true,
            ([b'*', rest @ ..], name) => (0..=name.len()).any(|n| model(rest, &name[n..])),
            ([b'?', rest @ ..], [_, name @ ..]) => model(rest, name),
            ([a, rest @ ..], [b, name @ ..]) => a == b && model(rest, name),
            _ => false,
        }
    }

    #[test]
    fn wildcards() {
        assert!(matches("*", "") && matches("*", "eks-eu") && matches("EKS-*", "eks-eu"));
        assert!(matches("eks-?u", "eks-eu") && !matches("eks-?", "eks-eu"));
        assert!(!matches("eks", "eks-eu") && !matches("eks-eu", "eks"));
        for bad in ["", "a_b", "a.b", "a b", "[ab]", "é"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?} must be refused");
        }
    }

    proptest! {
        #[test]
        fn any_pattern_means_what_the_model_says(
            pattern in "[ab*?]{1,8}", name in "[ab]{0,10}"
        ) {
            let expected = model(pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(&pattern, &name), expected);
        }
    }
}
