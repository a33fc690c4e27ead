//! What holds for the checks of a federation.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::model::{Check, CheckMode, CheckTiming, Member, ServiceCheck, Shard};

/// When a target is checked, and how often in a row before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// From the start of one check to that of the next.
    pub interval: Duration,
    /// How long a check may take in all.
    pub timeout: Duration,
    /// Passes in a row after which what failed counts as passing.
    pub rise: NonZeroU32,
    /// Failures in a row after which what passed counts as failing.
    pub fall: NonZeroU32,
    /// By how much of its interval a check comes earlier or later, at random: percent, at most
    /// [`CheckTiming::MOST_JITTER`]. Targets that several instances check are then not checked by
    /// all at once.
    pub jitter: u8,
}

impl Default for Timing {
    /// A load balancer that is gone is found within 15 s; a handshake round the globe takes 0.3 s,
    /// and a lost first packet is sent again after 1 s (RFC 6298 §2.1).
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: NonZeroU32::MIN.saturating_add(1),
            fall: NonZeroU32::MIN.saturating_add(2),
            jitter: 10,
        }
    }
}

impl Timing {
    /// This timing where `own` sets none.
    #[must_use]
    pub fn with(self, own: CheckTiming) -> Self {
        Self {
            interval: own.interval.unwrap_or(self.interval),
            timeout: own.timeout.unwrap_or(self.timeout),
            rise: own.rise.unwrap_or(self.rise),
            fall: own.fall.unwrap_or(self.fall),
            jitter: own.jitter.unwrap_or(self.jitter),
        }
    }
}

/// How the shards of the federation are checked, where neither cluster nor Service says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Which are.
    pub mode: CheckMode,
    /// How.
    pub check: Arc<Check>,
    /// When.
    pub timing: Timing,
    /// Checks at a time, each with one socket.
    pub concurrency: NonZeroUsize,
    /// Authorities of certificates that are trusted beside those of the system.
    pub authorities: Arc<[CertificateDer<'static>]>,
}

impl Settings {
    /// As many checks at a time as are of use unless told otherwise: 10,000 targets every 5 s, of
    /// which none answers within 2 s.
    pub const MOST_CONCURRENCY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

    /// Which shards of the cluster `member` are checked.
    #[must_use]
    pub fn mode(&self, member: &Member) -> CheckMode {
        member.checks.mode.unwrap_or(self.mode)
    }

    /// How and when a shard is checked, if it may be: the Service decides before its cluster, the
    /// cluster before the federation.
    #[must_use]
    pub fn check_of<'a>(
        &'a self,
        shard: &'a Shard,
        member: &'a Member,
    ) -> Option<(&'a Check, Timing)> {
        if self.mode(member) == CheckMode::Off {
            return None;
        }
        let own = shard.options().and_then(|options| options.check.as_ref());
        let check: &Check = match own {
            Some(ServiceCheck::Off) => return None,
            Some(ServiceCheck::By(check)) => check,
            None => member.checks.check.as_ref().unwrap_or(&self.check),
        };
        Some((check, self.timing.with(check.timing.or(member.checks.timing))))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: CheckMode::default(),
            check: Arc::new(Check::tcp()),
            timing: Timing::default(),
            concurrency: Self::MOST_CONCURRENCY,
            authorities: Arc::default(),
        }
    }
}
