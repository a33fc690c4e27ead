//! Annotations of a Service.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::model::{ServiceOptions, Ties};

/// The prefix of every annotation that is read.
const PREFIX: &str = "meridian.dev/";

/// The greatest TTL (RFC 2181 §8: "a maximum of 2147483647").
const MAX_TTL: u32 = 0x7fff_ffff;

/// The greatest weight, that of an SRV record (RFC 2782: 16 bits).
const MAX_WEIGHT: u32 = 0xffff;

/// Annotations of one object, with the reasons for those that could not be read.
pub(super) struct Annotations<'a> {
    values: Option<&'a BTreeMap<String, String>>,
    reasons: Vec<Box<str>>,
}

impl<'a> Annotations<'a> {
    /// The annotations `values`, nothing read yet.
    pub(super) fn new(values: Option<&'a BTreeMap<String, String>>) -> Self {
        Self { values, reasons: Vec::new() }
    }

    /// The text of annotation `meridian.dev/{name}`.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        let wanted = |key: &str| key.strip_prefix(PREFIX) == Some(name);
        self.values?.iter().find(|(key, _)| wanted(key)).map(|(_, value)| value.trim())
    }

    /// Everything that changes how the service is answered; `None` where nothing does.
    pub(super) fn options(&mut self) -> Option<Box<ServiceOptions>> {
        let options = ServiceOptions {
            ttl: self.read("ttl", ttl),
            policy: self.read("policy", parsed),
            ties: self.read("sticky", truth).map(|sticky| match sticky {
                true => Ties::Sticky,
                false => Ties::Rotate,
            }),
            weight: self.read("weight", |text| {
                let weight = text.parse().ok().filter(|&weight| weight <= MAX_WEIGHT);
                weight.ok_or_else(|| format!("write a number from 0 to {MAX_WEIGHT}"))
            }),
            when_none_healthy: self.read("when-none-healthy", parsed),
            min_ready: self.read("min-ready", |text| {
                text.parse().map_err(|_| "write a number from 0 to 4294967295".into())
            }),
            drain: self.read("drain", truth).unwrap_or(false),
        };
        (options != ServiceOptions::default()).then(|| Box::new(options))
    }

    /// The reasons for what was ignored.
    pub(super) fn into_reasons(self) -> Vec<Box<str>> {
        self.reasons
    }

    /// Reads one annotation; one that cannot be read is ignored, with a reason.
    fn read<T>(&mut self, name: &str, read: fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        read(text)
            .map_err(|why| {
                let reason = format!("annotation {PREFIX}{name} '{text}' is ignored: {why}");
                self.reasons.push(reason.into());
            })
            .ok()
    }
}

fn parsed<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn ttl(text: &str) -> Result<u32, String> {
    let seconds = text.parse().ok().filter(|&seconds| seconds <= MAX_TTL);
    seconds.ok_or_else(|| format!("write a number of seconds from 0 to {MAX_TTL}"))
}

fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write \"true\" or \"false\"".into())
}
