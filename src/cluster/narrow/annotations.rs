//! Annotations of a Service.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::Rules;
use crate::model::{
    Check, CheckKind, CheckTiming, HttpMethod, ServiceCheck, ServiceOptions, Ties, WhenNoneHealthy,
    one_line,
};

/// The prefix of every annotation that is read.
const PREFIX: &str = "meridian.dev/";

/// The greatest TTL (RFC 2181 §8: "a maximum of 2147483647").
const MAX_TTL: u32 = 0x7fff_ffff;

/// The greatest weight, that of an SRV record (RFC 2782: 16 bits).
const MAX_WEIGHT: u32 = 0xffff;

/// The shortest interval of checks that an annotation may ask for.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time-out that an annotation may ask for: a check that waits holds a place that the
/// checks of all others have in common.
const MOST_TIMEOUT: Duration = Duration::from_secs(10);

/// How much is repeated of a value that is ignored, letters: the longest has 256 KiB.
const MOST_TOLD: usize = 200;

/// Annotations of one object, with the reasons for those that are not in force.
pub(super) struct Annotations<'a> {
    values: Option<&'a BTreeMap<String, String>>,
    /// Names that were asked for: those that mean something.
    known: Vec<&'static str>,
    reasons: Vec<Box<str>>,
}

impl<'a> Annotations<'a> {
    /// The annotations `values`, nothing read yet.
    pub(super) fn new(values: Option<&'a BTreeMap<String, String>>) -> Self {
        Self { values, known: Vec::new(), reasons: Vec::new() }
    }

    /// The text of annotation `meridian.dev/{name}`.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        self.known.push(name);
        let wanted = |key: &str| key.strip_prefix(PREFIX) == Some(name);
        self.values?.iter().find(|(key, _)| wanted(key)).map(|(_, value)| value.trim())
    }

    /// Everything that changes how the service is answered, which has the addresses `own`; `None`
    /// where nothing does.
    pub(super) fn options(&mut self, rules: &Rules, own: &[IpAddr]) -> Option<Box<ServiceOptions>> {
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
            when_none_healthy: self.read("when-none-healthy", |text| fallback(text, rules)),
            min_ready: self.read("min-ready", parsed),
            drain: self.read("drain", parsed).unwrap_or_default(),
            load: self.read("load", load),
            force: self.read("override", parsed).map(Arc::new),
            check: self.read("check", |text| check(text, rules, own)),
        };
        (options != ServiceOptions::default()).then(|| Box::new(options))
    }

    /// The reasons for what is ignored. To be called when all that mean something have been asked
    /// for: the others are misspelt, and nothing else would tell.
    pub(super) fn into_reasons(mut self) -> Vec<Box<str>> {
        let names = self.values.into_iter().flat_map(BTreeMap::keys);
        for name in names.filter_map(|key| key.strip_prefix(PREFIX)) {
            if !self.known.contains(&name) {
                let known = self.known.join(", ");
                let reason = format!(
                    "annotation {PREFIX}{name} is unknown and ignored: write one of {known}"
                );
                self.reasons.push(reason.into());
            }
        }
        self.reasons
    }

    /// Reads one annotation; one that cannot be read is ignored, with a reason.
    fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        read(text)
            .map_err(|why| {
                let told = one_line(text, MOST_TOLD);
                let reason = format!("annotation {PREFIX}{name} '{told}' is ignored: {why}");
                self.reasons.push(reason.into());
            })
            .ok()
    }
}

fn parsed<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn ttl(text: &str) -> Result<u32, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=MAX_TTL).contains(seconds));
    seconds.ok_or_else(|| format!("write a number of seconds from 1 to {MAX_TTL}"))
}

fn load(text: &str) -> Result<f64, String> {
    let load = text.parse().ok().filter(|load| (0.0..=1.0).contains(load));
    load.ok_or_else(|| "write a number from 0 to 1".into())
}

/// What is published while no shard is served goes by the rules for what is published at all.
fn fallback(text: &str, rules: &Rules) -> Result<WhenNoneHealthy, String> {
    let choice = parsed(text)?;
    match &choice {
        WhenNoneHealthy::Addresses(addresses) => {
            for &address in addresses.iter() {
                rules.publishable(address).map_err(|fault| format!("{address} {fault}"))?;
            }
        }
        // It could be the very name that has no answer.
        WhenNoneHealthy::Name(name) if name.is_within(&rules.apex) => {
            return Err("it is a name of the federation's own zone; write one outside it".into());
        }
        WhenNoneHealthy::Name(_) | WhenNoneHealthy::Nothing | WhenNoneHealthy::All => {}
    }
    Ok(choice)
}

/// Who may annotate a Service may have its load balancer checked, not any host that only Meridian
/// can reach, nor more often than each second, for long, or in a way that may change something: that
/// is for the configuration to ask for.
fn check(text: &str, rules: &Rules, own: &[IpAddr]) -> Result<ServiceCheck, String> {
    if text.len() > Check::LONGEST_TEXT {
        return Err(format!("it is longer than {} octets", Check::LONGEST_TEXT));
    }
    let choice = parsed(text)?;
    if let ServiceCheck::By(check) = &choice {
        if let Some(address) = check.address
            && !own.contains(&address)
            && !rules.allows(address)
        {
            return Err(format!(
                "address: {address} is none of the Service's own, and not in federation.allowNets"
            ));
        }
        if matches!(&*check.kind, CheckKind::Http(http) if http.method == HttpMethod::Post) {
            return Err("method: POST may change what it asks; write GET, HEAD or OPTIONS".into());
        }
        let CheckTiming { interval, timeout, .. } = check.timing;
        if timeout.is_some_and(|timeout| timeout > MOST_TIMEOUT) {
            return Err(format!("timeout: it is longer than {MOST_TIMEOUT:?}"));
        }
        if interval.is_some_and(|interval| interval < LEAST_INTERVAL) {
            return Err(format!("interval: it is shorter than {LEAST_INTERVAL:?}"));
        }
    }
    Ok(choice)
}

fn truth(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "write \"true\" or \"false\"".into())
}
