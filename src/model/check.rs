//! How a shard's addresses are checked, apart from who does it and when.

mod fields;
mod status;
mod text;

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};

use super::DomainName;

pub use fields::CheckFault;
pub use status::StatusSet;

/// A check: what is asked of each address of a shard, and what a good answer is.
///
/// Its text form is `KIND[:PORT][/WHAT] [KEY=VALUE ...]`, such as `http:80/healthz`, `tcp`,
/// `https:443/healthz host=shop.example.com status=200`, `grpc:50051/my.Service` or
/// `dns:53/www.example.com`. Values with spaces stand in quotes: within `'` everything stands for
/// itself, within `"` a backslash goes before `"` and `\`. `Display` writes the same form, with
/// only what differs from the default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Check {
    /// What is asked; shared, as many targets have the same.
    pub kind: Arc<CheckKind>,
    /// Checked in the place of the shard's addresses.
    pub address: Option<IpAddr>,
    /// Where it is asked; the shard's first TCP port where it is left out, or 53 for DNS.
    pub port: Option<NonZeroU16>,
    /// What it sets of its timing itself.
    pub timing: CheckTiming,
}

impl Check {
    /// The longest text of a check that an annotation or the configuration may hold, octets: far
    /// more than one needs. What `Display` makes of it can be longer.
    pub const LONGEST_TEXT: usize = 1000;

    /// A TCP connection to the shard's first TCP port, by the timing of the federation.
    #[must_use]
    pub fn tcp() -> Self {
        Self {
            kind: Arc::new(CheckKind::Tcp),
            address: None,
            port: None,
            timing: CheckTiming::default(),
        }
    }
}

/// Timing as far as it is set at one place; what is not is taken from the next wider one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CheckTiming {
    /// From the start of one check to that of the next.
    pub interval: Option<Duration>,
    /// How long a check may take in all.
    pub timeout: Option<Duration>,
    /// Passes in a row after which what failed counts as passing.
    pub rise: Option<NonZeroU32>,
    /// Failures in a row after which what passed counts as failing.
    pub fall: Option<NonZeroU32>,
    /// By how much of the interval a check comes earlier or later, at random: percent, at most
    /// [`Self::MOST_JITTER`].
    pub jitter: Option<u8>,
}

impl CheckTiming {
    /// The shortest interval and time-out.
    pub const LEAST: Duration = Duration::from_millis(100);
    /// The longest interval and time-out: after an hour a check is of no use.
    pub const MOST: Duration = Duration::from_secs(3600);
    /// The most checks in a row that a threshold asks for.
    pub const MOST_IN_A_ROW: u32 = 1000;
    /// Half an interval earlier or later is as far apart as two checks can be, percent.
    pub const MOST_JITTER: u8 = 50;

    /// This timing, with what it leaves open from `wider`.
    #[must_use]
    pub fn or(self, wider: Self) -> Self {
        Self {
            interval: self.interval.or(wider.interval),
            timeout: self.timeout.or(wider.timeout),
            rise: self.rise.or(wider.rise),
            fall: self.fall.or(wider.fall),
            jitter: self.jitter.or(wider.jitter),
        }
    }
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// That a connection is accepted.
    Tcp,
    /// An HTTP/1.1 reply with an expected status and body.
    Http(HttpCheck),
    /// `SERVING` of the gRPC health protocol (`grpc.health.v1.Health/Check`).
    Grpc(GrpcCheck),
    /// A DNS reply with records.
    Dns(DnsCheck),
}

impl CheckKind {
    /// Whether it is asked over TLS.
    #[must_use]
    pub fn is_over_tls(&self) -> bool {
        match self {
            Self::Http(check) => check.tls.is_some(),
            Self::Grpc(check) => check.tls.is_some(),
            Self::Tcp | Self::Dns(_) => false,
        }
    }
}

/// An HTTP or HTTPS request and the reply that is expected. Redirects are not followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpCheck {
    /// Whether it is HTTPS.
    pub tls: Option<TlsCheck>,
    /// The method.
    pub method: HttpMethod,
    /// Path and query, with the leading `/`.
    pub path: Box<str>,
    /// The `Host` asked for; the address where it is left out.
    pub host: Option<DomainName>,
    /// Which status is a good one.
    pub status: StatusSet,
    /// What the body must hold, if that matters.
    pub body: Option<BodyCheck>,
}

/// The method of an HTTP check. None has a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpMethod {
    /// `GET`
    #[default]
    Get,
    /// `HEAD`
    Head,
    /// `OPTIONS`
    Options,
    /// `POST`
    Post,
}

impl HttpMethod {
    /// Every method.
    pub const ALL: [Self; 4] = [Self::Get, Self::Head, Self::Options, Self::Post];

    /// The method as it is sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
        }
    }
}

/// What the body of an HTTP reply must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BodyCheck {
    /// This text.
    Contains(Box<str>),
    /// What this expression matches.
    Matches(Pattern),
}

/// A regular expression over octets that compiled; equal where its text is.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// The most memory that a compiled expression may take, octets: an annotation must not be able
    /// to ask for megabytes. Words and Unicode classes fit many times.
    const SIZE_LIMIT: usize = 256 << 10;

    /// Compiles `text`.
    ///
    /// # Errors
    /// What is wrong with it, or that it is too large, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let compiled = RegexBuilder::new(text).size_limit(Self::SIZE_LIMIT).build();
        compiled.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "is too large when compiled".into(),
            // The parser draws a picture of several lines, of which the last tells the reason.
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default().trim();
                format!("is no regular expression: {}", last.trim_start_matches("error: "))
            }
        })
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it matches anywhere in `octets`.
    #[must_use]
    pub fn is_match(&self, octets: &[u8]) -> bool {
        self.0.is_match(octets)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// How TLS is spoken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsCheck {
    /// The name asked for and certified, where it is another than the host.
    pub sni: Option<DomainName>,
    /// Whether the certificate counts.
    pub verify: Verify,
}

/// Whether the certificate of a target counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verify {
    /// It must be valid now, for the name or address, and of an authority that is trusted.
    #[default]
    Full,
    /// Any will do.
    Nothing,
}

/// A question by the gRPC health protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrpcCheck {
    /// Whether it is asked over TLS.
    pub tls: Option<TlsCheck>,
    /// The service asked about; the server as a whole where it is empty.
    pub service: Box<str>,
    /// The `:authority` asked for; the address where it is left out.
    pub host: Option<DomainName>,
}

/// A DNS question. A good reply is `NOERROR` with a record in its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DnsCheck {
    /// The name asked for.
    pub name: DomainName,
    /// The type asked for.
    pub record: DnsType,
    /// How it is asked.
    pub transport: DnsTransport,
}

/// The type of record that a DNS check asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsType {
    /// `A`
    #[default]
    A,
    /// `AAAA`
    Aaaa,
    /// `CNAME`
    Cname,
    /// `MX`
    Mx,
    /// `NS`
    Ns,
    /// `PTR`
    Ptr,
    /// `SOA`
    Soa,
    /// `SRV`
    Srv,
    /// `TXT`
    Txt,
}

impl DnsType {
    /// Every type.
    pub const ALL: [Self; 9] = [
        Self::A,
        Self::Aaaa,
        Self::Cname,
        Self::Mx,
        Self::Ns,
        Self::Ptr,
        Self::Soa,
        Self::Srv,
        Self::Txt,
    ];

    /// The type's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Ns => "NS",
            Self::Ptr => "PTR",
            Self::Soa => "SOA",
            Self::Srv => "SRV",
            Self::Txt => "TXT",
        }
    }
}

/// How a DNS check is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DnsTransport {
    /// In one datagram.
    #[default]
    Udp,
    /// Over a connection.
    Tcp,
}

/// Which shards are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckMode {
    /// None.
    Off,
    /// Those of clusters whose API is not reached, so that this is told from a loss of services.
    #[default]
    Suspect,
    /// All.
    Always,
}

impl CheckMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Off, Self::Suspect, Self::Always];

    /// The mode as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Suspect => "suspect",
            Self::Always => "always",
        }
    }
}

/// `meridian.dev/check`: what a Service says of its checks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServiceCheck {
    /// Its shards are not checked: from where Meridian runs they cannot be reached, say.
    Off,
    /// They are checked so.
    By(Arc<Check>),
}

/// What is set for the checks of one cluster in the place of what holds for the federation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterChecks {
    /// Which of its shards are checked.
    pub mode: Option<CheckMode>,
    /// How those are checked whose Service does not say.
    pub check: Option<Arc<Check>>,
    /// When.
    pub timing: CheckTiming,
}

impl ClusterChecks {
    /// Sets `check` and its timing. As in the configuration the timing stands beside the check, so
    /// that it holds for Services that say how they are checked, and not when, as well.
    pub fn set(&mut self, check: Check) {
        self.timing = check.timing;
        self.check = Some(Arc::new(Check { timing: CheckTiming::default(), ..check }));
    }

    /// What [`Self::set`] has set.
    #[must_use]
    pub fn as_set(&self) -> Option<Check> {
        let check = self.check.as_deref()?;
        Some(Check { timing: self.timing, ..check.clone() })
    }
}

#[cfg(test)]
mod tests;
