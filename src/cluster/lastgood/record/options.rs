//! What a Service's annotations ask for, as it stands in the file.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Addresses, Invalid};
use crate::model::{self, DomainName, Policy, ServiceOptions, Ties, WhenNoneHealthy};

/// All of them.
#[derive(Serialize, Deserialize)]
pub(super) struct Options<'a> {
    ttl: Option<u32>,
    /// In the form of the annotation.
    policy: Option<String>,
    sticky: Option<bool>,
    weight: Option<u32>,
    #[serde(borrow)]
    when_none_healthy: Option<NoneHealthy<'a>>,
    min_ready: Option<MinReady>,
    drain: Drain,
    load: Option<f64>,
    #[serde(borrow)]
    force: Option<Force<'a>>,
    /// In the form of the annotation.
    check: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum MinReady {
    Count(u32),
    Percent(u8),
}

/// Whether something is taken out.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum Drain {
    No,
    AtOnce,
    Planned,
}

/// An override.
#[derive(Serialize, Deserialize)]
pub(super) struct Force<'a> {
    to: Forced,
    author: &'a str,
    reason: &'a str,
    /// Unix time, seconds.
    until: Option<u64>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Forced {
    Up,
    Down,
    Drained,
}

#[derive(Serialize, Deserialize)]
enum NoneHealthy<'a> {
    Nothing,
    All,
    #[serde(borrow)]
    Addresses(Addresses<'a>),
    Name(Cow<'a, str>),
}

impl<'a> Options<'a> {
    pub(super) fn of(options: &'a ServiceOptions) -> Self {
        let when_none_healthy = options.when_none_healthy.as_ref().map(|when| match when {
            WhenNoneHealthy::Nothing => NoneHealthy::Nothing,
            WhenNoneHealthy::All => NoneHealthy::All,
            WhenNoneHealthy::Addresses(list) => NoneHealthy::Addresses(Cow::Borrowed(list)),
            WhenNoneHealthy::Name(name) => NoneHealthy::Name(Cow::Owned(name.to_string())),
        });
        let policy = options.policy.as_ref().map(ToString::to_string);
        let ServiceOptions { ttl, ties, weight, min_ready, drain, load, .. } = *options;
        let sticky = ties.map(|ties| ties == Ties::Sticky);
        let min_ready = min_ready.map(|needed| match needed {
            model::MinReady::Count(count) => MinReady::Count(count),
            model::MinReady::Percent(share) => MinReady::Percent(share),
        });
        let drain = Drain::of(drain);
        let force = options.force.as_deref().map(Force::of);
        let check = options.check.as_ref().map(ToString::to_string);
        Self {
            ttl,
            policy,
            sticky,
            weight,
            when_none_healthy,
            min_ready,
            drain,
            load,
            force,
            check,
        }
    }
}

impl<'a> Force<'a> {
    pub(super) fn of(force: &'a model::Force) -> Self {
        Self {
            to: match force.to {
                model::Forced::Up => Forced::Up,
                model::Forced::Down => Forced::Down,
                model::Forced::Drained => Forced::Drained,
            },
            author: &force.author,
            reason: &force.reason,
            until: force.end(),
        }
    }
}

impl Options<'_> {
    pub(super) fn read(&self) -> Result<ServiceOptions, Invalid> {
        let when_none_healthy = self.when_none_healthy.as_ref().map(|when| {
            Ok::<_, Invalid>(match when {
                NoneHealthy::Nothing => WhenNoneHealthy::Nothing,
                NoneHealthy::All => WhenNoneHealthy::All,
                NoneHealthy::Addresses(list) => WhenNoneHealthy::Addresses(list[..].into()),
                NoneHealthy::Name(name) => WhenNoneHealthy::Name(DomainName::parse(name)?),
            })
        });
        let ties = |sticky| if sticky { Ties::Sticky } else { Ties::Rotate };
        Ok(ServiceOptions {
            ttl: self.ttl,
            policy: self.policy.as_deref().map(str::parse::<Policy>).transpose()?,
            ties: self.sticky.map(ties),
            weight: self.weight,
            when_none_healthy: when_none_healthy.transpose()?,
            min_ready: self.min_ready.map(|needed| match needed {
                MinReady::Count(count) => model::MinReady::Count(count),
                MinReady::Percent(share) => model::MinReady::Percent(share),
            }),
            drain: self.drain.read(),
            load: self.load,
            force: self.force.as_ref().map(|force| Arc::new(force.read())),
            check: self.check.as_deref().map(str::parse).transpose()?,
        })
    }
}

impl Force<'_> {
    pub(super) fn read(&self) -> model::Force {
        model::Force {
            to: match self.to {
                Forced::Up => model::Forced::Up,
                Forced::Down => model::Forced::Down,
                Forced::Drained => model::Forced::Drained,
            },
            author: self.author.into(),
            reason: self.reason.into(),
            until: self.until.map_or(model::Until::Never, model::Until::At),
        }
    }
}

impl Drain {
    pub(super) fn of(drain: model::Drain) -> Self {
        match drain {
            model::Drain::No => Self::No,
            model::Drain::AtOnce => Self::AtOnce,
            model::Drain::Planned => Self::Planned,
        }
    }

    pub(super) fn read(self) -> model::Drain {
        match self {
            Self::No => model::Drain::No,
            Self::AtOnce => model::Drain::AtOnce,
            Self::Planned => model::Drain::Planned,
        }
    }
}
