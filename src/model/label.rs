//! DNS labels, strict ones and those made from Kubernetes names.

use std::fmt;
use std::sync::Arc;

/// A lower-case host-name label: letters, digits and hyphens, 1 to 63 octets, neither starting
/// nor ending with a hyphen (RFC 1035 §2.3.1 as relaxed by RFC 1123 §2.1).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(Arc<str>);

impl Label {
    /// The longest label (RFC 1035 §2.3.4: "labels 63 octets or less").
    pub const MAX_LEN: usize = 63;

    /// Labels that have a meaning of their own beside the apex or in Kubernetes DNS (`svc`,
    /// `pod`) or in queries of other federations (`any`); no federation, region or availability
    /// zone may have such a name. `*`, the fourth, is no label of this type.
    pub const RESERVED: [&'static str; 3] = ["svc", "pod", "any"];

    /// Takes `text` as a label; upper case is lowered, anything else that is not a host-name
    /// label is refused.
    ///
    /// # Errors
    /// [`InvalidLabel`] says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidLabel> {
        let fault = if text.is_empty() {
            Some("is empty")
        } else if text.len() > Self::MAX_LEN {
            Some("is longer than 63 octets")
        } else if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            Some("holds a character other than letters, digits and '-'")
        } else if text.starts_with('-') || text.ends_with('-') {
            Some("starts or ends with '-'")
        } else {
            None
        };
        match fault {
            Some(fault) => Err(InvalidLabel { text: text.to_owned(), fault }),
            None => Ok(Self(text.to_ascii_lowercase().into())),
        }
    }

    /// Makes a label of any Kubernetes label value or cluster name by the project's one rule:
    /// lower case, every run of other characters becomes `-`, at most 63 octets, trimmed to
    /// start and end with a letter or digit. `None` when nothing is left.
    #[must_use]
    pub fn from_kubernetes(value: &str) -> Option<Self> {
        let mut label = String::with_capacity(value.len().min(Self::MAX_LEN));
        let mut in_run = false;
        for c in value.chars() {
            if c.is_ascii_alphanumeric() || c == '-' {
                label.push(c.to_ascii_lowercase());
                in_run = false;
            } else if !in_run {
                label.push('-');
                in_run = true;
            }
        }
        let start = label.trim_start_matches('-');
        let cut = &start[..start.len().min(Self::MAX_LEN)];
        let label = cut.trim_end_matches('-');
        (!label.is_empty()).then(|| Self(label.into()))
    }

    /// Whether it is one of [`Self::RESERVED`].
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        Self::RESERVED.contains(&self.as_str())
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The label's octets, without a length octet.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::borrow::Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl serde::Serialize for Label {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Why a text is no host-name label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no DNS label: it {fault}")]
pub struct InvalidLabel {
    text: String,
    fault: &'static str,
}

#[cfg(test)]
mod tests {
    use super::Label;

    #[test]
    fn strict_labels() {
        assert_eq!(Label::parse("US-East1").expect("valid").as_str(), "us-east1");
        for bad in ["", "-a", "a-", "a_b", "a.b", "é", &"a".repeat(64)] {
            assert!(Label::parse(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn kubernetes_values_follow_the_stated_rule() {
        let made = |v: &str| Label::from_kubernetes(v).map(|l| l.as_str().to_owned());
        assert_eq!(made("RegionOne").as_deref(), Some("regionone"));
        assert_eq!(made("eu_west.1").as_deref(), Some("eu-west-1"));
        assert_eq!(made("a__.b").as_deref(), Some("a-b"));
        assert_eq!(made("_x_").as_deref(), Some("x"));
        assert_eq!(made("arn:aws:eks/prod").as_deref(), Some("arn-aws-eks-prod"));
        assert_eq!(made("..."), None);
        let long = format!("{}.b", "a".repeat(62));
        assert_eq!(made(&long), Some("a".repeat(62)));
    }
}
