//! Checks from keys and values, however these were written.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::{
    BodyCheck, Check, CheckKind, CheckTiming, DnsCheck, DnsTransport, DnsType, GrpcCheck,
    HttpCheck, HttpMethod, Pattern, TlsCheck, Verify,
};
use crate::model::{DomainName, is_metadata_service, unusable_address};

/// What is wrong with a check, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFault {
    /// The key; `None` where it is the kind.
    pub key: Option<String>,
    /// What is wrong and what would be right.
    pub fault: String,
}

impl Check {
    /// The kinds, as the text form and the configuration write them.
    pub const KINDS: [&'static str; 6] = ["tcp", "http", "https", "grpc", "grpcs", "dns"];

    /// The check of `kind` with these keys and values.
    ///
    /// # Errors
    /// Everything that is wrong, at least one fault.
    pub fn from_fields<'a>(
        kind: &str,
        fields: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, Vec<CheckFault>> {
        let mut fields = Fields::new(fields);
        let kind = fields.kind(kind);
        let address = fields.take("address", address);
        let port = fields.take("port", |text| {
            text.parse::<NonZeroU16>().map_err(|_| format!("'{text}' is not from 1 to 65535"))
        });
        let timing = CheckTiming {
            interval: fields.take("interval", duration),
            timeout: fields.take("timeout", duration),
            rise: fields.take("rise", in_a_row),
            fall: fields.take("fall", in_a_row),
            jitter: fields.take("jitter", jitter),
        };
        let faults = fields.finish();
        match kind {
            Some(kind) if faults.is_empty() => {
                Ok(Self { kind: Arc::new(kind), address, port, timing })
            }
            _ => Err(faults),
        }
    }
}

/// Keys and values, each taken once.
struct Fields<'a> {
    rest: Vec<(&'a str, &'a str)>,
    /// Keys that were asked for: those that mean something to this kind.
    known: Vec<&'static str>,
    faults: Vec<CheckFault>,
}

impl<'a> Fields<'a> {
    fn new(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut given = Self { rest: Vec::new(), known: Vec::new(), faults: Vec::new() };
        for (key, value) in fields {
            if given.rest.iter().any(|(other, _)| *other == key) {
                given.fault(key, "is given twice");
            } else if value.chars().any(char::is_control) {
                given.fault(key, "holds a control character");
            } else {
                given.rest.push((key, value));
            }
        }
        given
    }

    fn fault(&mut self, key: &str, fault: impl Into<String>) {
        self.faults.push(CheckFault { key: Some(key.to_owned()), fault: fault.into() });
    }

    /// The value of `key` as `read` makes it.
    fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.known.push(key);
        let place = self.rest.iter().position(|(other, _)| *other == key)?;
        let (_, value) = self.rest.swap_remove(place);
        read(value).map_err(|fault| self.fault(key, fault)).ok()
    }

    fn kind(&mut self, kind: &str) -> Option<CheckKind> {
        match kind {
            "tcp" => Some(CheckKind::Tcp),
            "http" => Some(CheckKind::Http(self.http(None))),
            "https" => {
                let tls = self.tls();
                Some(CheckKind::Http(self.http(Some(tls))))
            }
            "grpc" => Some(CheckKind::Grpc(self.grpc(None))),
            "grpcs" => {
                let tls = self.tls();
                Some(CheckKind::Grpc(self.grpc(Some(tls))))
            }
            "dns" => self.dns().map(CheckKind::Dns),
            _ => {
                let kinds = Check::KINDS.join(", ");
                let fault = format!("'{kind}' is no kind of check: write one of {kinds}");
                self.faults.push(CheckFault { key: None, fault });
                // What the other keys mean is not known.
                self.rest.clear();
                None
            }
        }
    }

    fn http(&mut self, tls: Option<TlsCheck>) -> HttpCheck {
        let contains = self.take("contains", |text| Ok(text.into()));
        let matches = self.take("matches", |text| {
            Pattern::parse(text).map_err(|fault| format!("'{text}' {fault}"))
        });
        let body = match (contains, matches) {
            (Some(_), Some(_)) => {
                self.fault("matches", "stands beside 'contains': give one of them");
                None
            }
            (Some(text), None) => Some(BodyCheck::Contains(text)),
            (None, pattern) => pattern.map(BodyCheck::Matches),
        };
        let method = self.take("method", |text| named(text, &HttpMethod::ALL, HttpMethod::as_str));
        if body.is_some() && method == Some(HttpMethod::Head) {
            self.fault("method", "HEAD has no body in which to look");
        }
        HttpCheck {
            tls,
            method: method.unwrap_or_default(),
            path: self.take("path", path).unwrap_or_else(|| "/".into()),
            host: self.take("host", host),
            status: self.take("status", str::parse).unwrap_or_default(),
            body,
        }
    }

    fn tls(&mut self) -> TlsCheck {
        let verify = self.take("verify", |text| match text {
            "true" => Ok(Verify::Full),
            "false" => Ok(Verify::Nothing),
            _ => Err(format!("'{text}' is neither true nor false")),
        });
        TlsCheck { sni: self.take("sni", host), verify: verify.unwrap_or_default() }
    }

    fn grpc(&mut self, tls: Option<TlsCheck>) -> GrpcCheck {
        let service = self.take("service", |text| {
            let fits = text.bytes().all(|b| b.is_ascii_graphic());
            let fault = || format!("'{text}' is no name of a gRPC service, such as shop.v1.Cart");
            if fits { Ok(text.into()) } else { Err(fault()) }
        });
        GrpcCheck { tls, service: service.unwrap_or_default(), host: self.take("host", host) }
    }

    fn dns(&mut self) -> Option<DnsCheck> {
        let record = self.take("type", |text| named(text, &DnsType::ALL, DnsType::as_str));
        let transport = self.take("transport", |text| match text {
            "udp" => Ok(DnsTransport::Udp),
            "tcp" => Ok(DnsTransport::Tcp),
            _ => Err(format!("'{text}' is neither udp nor tcp")),
        });
        let given = self.rest.iter().any(|(key, _)| *key == "name");
        let name =
            self.take("name", |text| DomainName::parse(text).map_err(|error| error.to_string()));
        if !given {
            self.fault("name", "is missing: give the name to ask for, such as dns:53/example.com");
        }
        let (record, transport) = (record.unwrap_or_default(), transport.unwrap_or_default());
        name.map(|name| DnsCheck { name, record, transport })
    }

    fn finish(mut self) -> Vec<CheckFault> {
        for (key, _) in std::mem::take(&mut self.rest) {
            let known = self.known.join(", ");
            self.fault(key, format!("means nothing to this check: write one of {known}"));
        }
        self.faults
    }
}

/// The item with this name, in any case.
fn named<T: Copy>(text: &str, all: &[T], name: impl Fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().find(|item| name(**item).eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|item| name(*item)).collect();
        format!("'{text}' is none of {}", names.join(", "))
    })
}

fn address(text: &str) -> Result<IpAddr, String> {
    let address = text.parse().map_err(|_| format!("'{text}' is no IP address"))?;
    match unusable_address(address) {
        Some(kind) => Err(format!("no host can have {address}, {kind}")),
        None if is_metadata_service(address) => {
            Err(format!("{address} is the metadata service of a cloud, which is never checked"))
        }
        None => Ok(address),
    }
}

/// A name as certificates and `Host` have it; one that is an address would be neither.
fn host(text: &str) -> Result<DomainName, String> {
    let name = DomainName::parse(text).map_err(|error| error.to_string())?;
    match name.labels().last() {
        None => Err("the root is no host".into()),
        Some(last) if last.iter().all(u8::is_ascii_digit) => {
            Err(format!("'{text}' is no host name: 'address' sets where the check connects to"))
        }
        Some(_) => Ok(name),
    }
}

/// `path-absolute [ "?" query ]` of RFC 3986 §3.3 and §3.4: what cannot stand there would have to
/// be percent-encoded.
fn path(text: &str) -> Result<Box<str>, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&b);
    if text.starts_with('/') && text.bytes().all(fits) {
        Ok(text.into())
    } else {
        Err(format!(
            "'{text}' is no path: begin with '/', and percent-encode what a URL cannot hold"
        ))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = text.parse::<SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
    match read {
        Some(time) if (CheckTiming::LEAST..=CheckTiming::MOST).contains(&time) => Ok(time),
        Some(_) => Err(format!("'{text}' is not from 100ms to 1h")),
        None => Err(format!("'{text}' is no duration: write a unit, such as 5s")),
    }
}

fn jitter(text: &str) -> Result<u8, String> {
    let most = CheckTiming::MOST_JITTER;
    let percent = text.parse().ok().filter(|percent: &u8| *percent <= most);
    percent.ok_or_else(|| format!("'{text}' is not from 0 to {most} percent"))
}

fn in_a_row(text: &str) -> Result<NonZeroU32, String> {
    let most = CheckTiming::MOST_IN_A_ROW;
    let count = text.parse().ok().filter(|count: &NonZeroU32| count.get() <= most);
    count.ok_or_else(|| format!("'{text}' is not from 1 to {most}"))
}
