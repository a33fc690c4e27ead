//! The text form of checks.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::{
    BodyCheck, Check, CheckKind, CheckMode, DnsCheck, DnsTransport, DnsType, GrpcCheck, HttpCheck,
    HttpMethod, ServiceCheck, StatusSet, TlsCheck, Verify,
};
use crate::model::{DomainName, InvalidOption};

/// However long the text is: `Display` may write more than was read, and that must be read too.
impl FromStr for Check {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        let fail = |fault: String| InvalidOption::new(text, format!("is no check: {fault}"));
        let (head, options) = match text.trim().split_once(char::is_whitespace) {
            Some((head, options)) => (head, options),
            None => (text.trim(), ""),
        };
        let (kind, mut fields) = read_head(head);
        fields.extend(read_options(options).map_err(fail)?);
        let pairs = fields.iter().map(|(key, value)| (&**key, &**value));
        Self::from_fields(kind, pairs).map_err(|faults| {
            let told = faults.into_iter().map(|fault| match fault.key {
                Some(key) => format!("{key}: {}", fault.fault),
                None => fault.fault,
            });
            fail(told.collect::<Vec<_>>().join("; "))
        })
    }
}

type Fields = Vec<(String, String)>;

/// `KIND[:PORT][/WHAT]` as a kind and fields.
fn read_head(head: &str) -> (&str, Fields) {
    let (place, what) = match head.find('/') {
        Some(slash) => (&head[..slash], Some(&head[slash..])),
        None => (head, None),
    };
    let (kind, port) = match place.split_once(':') {
        Some((kind, port)) => (kind, Some(port)),
        None => (place, None),
    };
    let what = what.map(|what| match kind {
        "grpc" | "grpcs" => ("service", &what[1..]),
        "dns" => ("name", &what[1..]),
        _ => ("path", what),
    });
    let fields = port.map(|port| ("port", port)).into_iter().chain(what);
    (kind, fields.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// `KEY=VALUE ...`
fn read_options(text: &str) -> Result<Fields, String> {
    let mut fields = Fields::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(rest.len());
        let (key, behind) = rest.split_at(end);
        let Some(value) = behind.strip_prefix('=') else {
            return Err(format!("after '{key}' comes '=' and a value"));
        };
        let (value, behind) = read_value(key, value)?;
        if !behind.is_empty() && !behind.starts_with(char::is_whitespace) {
            return Err(format!("after the value of '{key}' comes a space"));
        }
        fields.push((key.to_owned(), value));
        rest = behind.trim_start();
    }
    Ok(fields)
}

/// A value and what stands behind it.
fn read_value<'t>(key: &str, text: &'t str) -> Result<(String, &'t str), String> {
    let open = || format!("the quote before the value of '{key}' is not closed");
    if let Some(quoted) = text.strip_prefix('\'') {
        let (value, behind) = quoted.split_once('\'').ok_or_else(open)?;
        return Ok((value.to_owned(), behind));
    }
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let (value, behind) = text.split_at(end);
        if value.is_empty() {
            return Err(format!("after '{key}=' comes a value; an empty one is \"\""));
        }
        return Ok((value.to_owned(), behind));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '"' if !escaped => return Ok((value, &quoted[at + 1..])),
            '\\' if !escaped => escaped = true,
            _ => {
                if escaped && c != '"' && c != '\\' {
                    // Another backslash stands for itself, as regular expressions are full of it.
                    value.push('\\');
                }
                value.push(c);
                escaped = false;
            }
        }
    }
    Err(open())
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = Options::default();
        let (kind, what) = match &*self.kind {
            CheckKind::Tcp => ("tcp", String::new()),
            CheckKind::Http(http) => options.http(http),
            CheckKind::Grpc(grpc) => options.grpc(grpc),
            CheckKind::Dns(dns) => options.dns(dns),
        };
        f.write_str(kind)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&what)?;
        options.given("address", self.address);
        options.given("interval", self.timing.interval.map(friendly));
        options.given("timeout", self.timing.timeout.map(friendly));
        options.given("rise", self.timing.rise);
        options.given("fall", self.timing.fall);
        options.given("jitter", self.timing.jitter);
        f.write_str(&options.0)
    }
}

fn friendly(time: Duration) -> String {
    // At most an hour by construction.
    format!("{:#}", SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX))
}

/// ` KEY=VALUE` for each option that differs from the default.
#[derive(Default)]
struct Options(String);

impl Options {
    fn given(&mut self, key: &str, value: Option<impl fmt::Display>) {
        let Some(value) = value else { return };
        let value = value.to_string();
        let plain = !value.is_empty()
            && !value.starts_with(['\'', '"'])
            && !value.contains(char::is_whitespace);
        // Writing to a String does not fail.
        let _ = if plain {
            write!(self.0, " {key}={value}")
        } else if !value.contains('\'') {
            write!(self.0, " {key}='{value}'")
        } else {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            write!(self.0, " {key}=\"{escaped}\"")
        };
    }

    fn changed<T: fmt::Display + PartialEq>(&mut self, key: &str, value: T, default: T) {
        self.given(key, (value != default).then_some(value));
    }

    fn host(&mut self, key: &str, name: Option<&DomainName>) {
        self.given(key, name.map(bare));
    }

    fn tls(&mut self, tls: Option<&TlsCheck>) {
        if let Some(tls) = tls {
            self.host("sni", tls.sni.as_ref());
            self.changed("verify", tls.verify == Verify::Full, true);
        }
    }

    fn http(&mut self, http: &HttpCheck) -> (&'static str, String) {
        let HttpCheck { tls, method, path, host, status, body } = http;
        self.host("host", host.as_ref());
        self.tls(tls.as_ref());
        self.changed("method", method.as_str(), HttpMethod::default().as_str());
        self.changed("status", status.clone(), StatusSet::default());
        match body {
            Some(BodyCheck::Contains(text)) => self.given("contains", Some(text)),
            Some(BodyCheck::Matches(pattern)) => self.given("matches", Some(pattern.as_str())),
            None => {}
        }
        (if tls.is_some() { "https" } else { "http" }, path.to_string())
    }

    fn grpc(&mut self, grpc: &GrpcCheck) -> (&'static str, String) {
        let GrpcCheck { tls, service, host } = grpc;
        self.host("host", host.as_ref());
        self.tls(tls.as_ref());
        let what = if service.is_empty() { String::new() } else { format!("/{service}") };
        (if tls.is_some() { "grpcs" } else { "grpc" }, what)
    }

    fn dns(&mut self, dns: &DnsCheck) -> (&'static str, String) {
        let DnsCheck { name, record, transport } = dns;
        self.changed("type", record.as_str(), DnsType::default().as_str());
        if *transport == DnsTransport::Tcp {
            self.given("transport", Some("tcp"));
        }
        ("dns", format!("/{}", bare(name)))
    }
}

/// A name without its final dot, but for the root.
fn bare(name: &DomainName) -> String {
    let text = name.to_string();
    match text.strip_suffix('.') {
        Some(bare) if !bare.is_empty() => bare.to_owned(),
        _ => text,
    }
}

impl serde::Serialize for Check {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for ServiceCheck {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        match text.trim() {
            "off" => Ok(Self::Off),
            check => check.parse().map(|check| Self::By(Arc::new(check))),
        }
    }
}

impl fmt::Display for ServiceCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::By(check) => check.fmt(f),
        }
    }
}

impl FromStr for CheckMode {
    type Err = InvalidOption;

    fn from_str(text: &str) -> Result<Self, InvalidOption> {
        let found = Self::ALL.into_iter().find(|mode| mode.as_str() == text);
        found.ok_or_else(|| InvalidOption::new(text, "is none of off, suspect, always"))
    }
}
