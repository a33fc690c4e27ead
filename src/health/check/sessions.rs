//! TLS sessions that the checks of a target take up again.
//!
//! *Owns*: what one check keeps for the next, and for how long. *Guarantees*: a session is taken up
//! by the target that it is of and by nobody else; one ticket is kept of each target; the
//! certificate is seen again after [`LONGEST`] at most, and at once after a check that did not
//! pass; a target that fails when a session is taken up is left alone with them for as long. *Does not*: verify anything.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_rustls::rustls::NamedGroup;
use tokio_rustls::rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use tokio_rustls::rustls::pki_types::ServerName;

/// How long after a certificate has been seen it must be seen again. A session that is taken up
/// shows none, so that one which has expired or been replaced goes unnoticed for as long. By the
/// usual interval of 5 s this leaves one whole handshake of nine.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// The sessions of one target.
#[derive(Debug)]
pub(super) struct Sessions {
    /// Whose they are.
    of: (ServerName<'static>, SocketAddr),
    store: Arc<Store>,
    /// When the certificate must be seen again.
    pub(super) until: Option<Instant>,
    /// Whether the check under way may have taken one up.
    offered: bool,
    /// Until when none is taken up at all.
    pub(super) barred: Option<Instant>,
}

impl Sessions {
    /// None yet, of the target called `name` at `address`.
    pub(super) fn new(name: ServerName<'static>, address: SocketAddr) -> Self {
        let (store, of) = (Arc::default(), (name, address));
        Self { of, store, until: None, offered: false, barred: None }
    }

    /// Whether they are of this target.
    pub(super) fn are_of(&self, name: &ServerName<'_>, address: SocketAddr) -> bool {
        self.of.0 == *name && self.of.1 == address
    }

    /// Notes that a check begins.
    pub(super) fn begin(&mut self) {
        self.offered = false;
    }

    /// Notes that the check has not passed: the next one sees the certificate. Where this one may
    /// have taken up a session, that may be what the target cannot do, and so none is for
    /// [`LONGEST`]: else every second check would fail, and it would never come back.
    pub(super) fn failed(&mut self, now: Instant) {
        self.store.held().forget();
        if self.offered {
            self.barred = Some(now + LONGEST);
        }
    }

    /// What a handshake at `now` may take up and is to leave behind.
    pub(super) fn resumption(&mut self, now: Instant) -> Resumption {
        if self.barred.is_some_and(|until| now < until) {
            return Resumption::disabled();
        }
        if self.until.is_none_or(|until| until <= now) {
            self.store.held().forget();
        }
        self.offered = self.store.held().has_any();
        Resumption::store(self.store.clone())
    }

    /// The certificate has been seen at `now`: what is kept from here on may be taken up for a
    /// while. How long is drawn by lot from half of [`LONGEST`] to the whole: targets that were
    /// first checked together would otherwise have their whole handshakes together for ever.
    pub(super) fn verified(&mut self, now: Instant) {
        // 2^16 parts are a millisecond each.
        let share = RandomState::new().hash_one(()) as u16;
        self.until = Some(now + LONGEST / 2 + LONGEST / 2 / (1 << 16) * u32::from(share));
    }
}

#[derive(Debug, Default)]
struct Store(Mutex<Held>);

/// What the name of the server is does not matter below: it is the same each time.
#[derive(Debug, Default)]
struct Held {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    /// The last one that came. A ticket is good for one session (RFC 8446 appendix C.4), and each
    /// session brings another.
    ticket: Option<Tls13ClientSessionValue>,
}

impl Held {
    fn has_any(&self) -> bool {
        self.tls12.is_some() || self.ticket.is_some()
    }

    fn forget(&mut self) {
        (self.tls12, self.ticket) = (None, None);
    }
}

impl Store {
    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Store {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.held().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.held().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, session: Tls12ClientSessionValue) {
        self.held().tls12 = Some(session);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.held().tls12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.held().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.held().ticket = Some(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.held().ticket.take()
    }
}
