use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio_rustls::rustls::{ALL_VERSIONS, ServerConfig};

use super::support::Then::Close;
use super::support::*;
use crate::health::check::sessions::LONGEST;
use crate::health::check::{Memory, Probed, Prober, Target};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";

async fn fails(prober: Prober, check: &str, certificate: &str) -> String {
    let (address, _heads) = https(Close(OK), certificate).await;
    failure(once(&prober, &target(check, address, PATIENT)).await)
}

#[tokio::test]
async fn the_name_that_is_asked_for_is_certified() {
    let (address, mut heads) = https(Close(OK), GOOD).await;
    for (check, sni, host) in [
        ("https/ contains=well", "", "127.0.0.1"),
        ("https/ host=shop.example.com", "shop.example.com", "shop.example.com"),
        (
            "https/ host=other.example.com sni=shop.example.com",
            "shop.example.com",
            "other.example.com",
        ),
        ("https/ host=other.example.com verify=false", "other.example.com", "other.example.com"),
    ] {
        let report = probe(check, address, PATIENT).await;
        assert_eq!(report.outcome, Probed::Passed, "{check}");
        assert_eq!(heads.recv().await, Some(format!("new {sni}")), "{check}");
        let head = heads.recv().await.expect("a request").to_ascii_lowercase();
        assert!(head.contains(&format!("\r\nhost: {host}:{}\r\n", address.port())), "{head}");
    }
}

#[tokio::test]
async fn bad_certificates() {
    let why = fails(trusting(AUTHORITY), "https/", EXPIRED).await;
    assert!(why.starts_with("the certificate has expired"), "{why}");
    let why = fails(trusting(AUTHORITY), "https/ host=other.example.com", GOOD).await;
    assert!(why.starts_with("the certificate is for another name"), "{why}");
    assert!(why.contains("'host' or 'sni' says"), "{why}");
    // Something is trusted, but not what signed this one.
    let why = fails(trusting(GOOD), "https/", GOOD).await;
    assert!(why.contains("authority that is not trusted"), "{why}");
}

/// `verify=false` takes any certificate, but not one that is another's.
#[tokio::test]
async fn unverified() {
    for certificate in [GOOD, EXPIRED] {
        let (address, _heads) = https(Close(OK), certificate).await;
        let target = target("https/ verify=false host=any.example", address, PATIENT);
        assert_eq!(once(&trusting(GOOD), &target).await.outcome, Probed::Passed);
    }
}

#[tokio::test]
async fn plain_where_tls_is_expected_and_the_other_way_round() {
    let (plain, _heads) = http(Close(OK)).await;
    let (secured, _heads) = https(Close(OK), GOOD).await;
    let silent = |mut stream: tokio::net::TcpStream| async move {
        use tokio::io::AsyncWriteExt;
        let _ = stream.write_all(b"220 mail.example.com ESMTP\r\n").await;
    };
    let mail = server(silent).await;
    failure(probe("https/", mail, PATIENT).await);
    // It waits for the end of a request that never comes.
    failure(probe("https/", plain, BRIEF).await);
    failure(probe("http/", secured, PATIENT).await);
}

/// Checks a target one after the other, and tells what kind of session each had.
struct Repeated {
    prober: Prober,
    target: Target,
    memory: Memory,
    heads: UnboundedReceiver<String>,
}

impl Repeated {
    async fn of(config: ServerConfig) -> Self {
        let (address, heads) = secured(Close(OK), config).await;
        let target = target("https/ host=shop.example.com", address, PATIENT);
        Self { prober: trusting(AUTHORITY), target, memory: Memory::default(), heads }
    }

    async fn passes(&mut self) -> String {
        let outcome = self.prober.probe(&self.target, &mut self.memory).await.outcome;
        assert_eq!(outcome, Probed::Passed);
        let kind = self.heads.recv().await.expect("a session");
        self.heads.recv().await.expect("a request");
        kind.split(' ').next().unwrap_or_default().to_owned()
    }

    /// When the certificate must be seen again.
    fn until(&mut self) -> &mut Option<Instant> {
        &mut self.memory.0.as_mut().expect("sessions").until
    }
}

#[tokio::test]
async fn sessions_are_taken_up_for_a_while() {
    for version in ALL_VERSIONS {
        let mut repeated = Repeated::of(tls_of(GOOD, &[version])).await;
        let begun = Instant::now();
        assert_eq!(repeated.passes().await, "new");
        let first = repeated.until().expect("a session");
        assert!(first >= begun + LONGEST / 2 && first <= Instant::now() + LONGEST);
        for _ in 0..3 {
            assert_eq!(repeated.passes().await, "resumed", "{version:?}");
        }
        assert_eq!(*repeated.until(), Some(first), "a session shows no certificate");
        *repeated.until() = Some(Instant::now());
        assert_eq!(repeated.passes().await, "new", "{version:?}");
        assert_eq!(repeated.passes().await, "resumed", "{version:?}");
    }
}

/// Whatever it failed for, the certificate may be the reason.
#[tokio::test]
async fn after_a_failure_the_certificate_is_seen() {
    let mut repeated = Repeated::of(tls(GOOD)).await;
    assert_eq!(repeated.passes().await, "new");
    let good = repeated.target.clone();
    repeated.target = target("https/ host=shop.example.com contains=ill", good.address, PATIENT);
    failure(repeated.prober.probe(&repeated.target, &mut repeated.memory).await);
    assert!(repeated.heads.recv().await.expect("a session").starts_with("resumed"));
    repeated.heads.recv().await.expect("a request");
    repeated.target = good;
    assert_eq!(repeated.passes().await, "new");
}

/// Whatever it failed for, sessions may be what the target cannot do; were the next but one to take
/// up another, it would never pass twice in a row.
#[tokio::test]
async fn after_a_failure_with_a_session_none_is_taken_up_for_a_while() {
    for version in ALL_VERSIONS {
        let mut repeated = Repeated::of(tls_of(GOOD, &[version])).await;
        let good = repeated.target.clone();
        let ill = target("https/ host=shop.example.com contains=ill", good.address, PATIENT);
        for (session, next) in [("new", "resumed"), ("resumed", "new")] {
            repeated.target = good.clone();
            if session == "resumed" {
                assert_eq!(repeated.passes().await, "new", "{version:?}");
            }
            repeated.target = ill.clone();
            failure(repeated.prober.probe(&repeated.target, &mut repeated.memory).await);
            assert!(repeated.heads.recv().await.expect("a session").starts_with(session));
            repeated.heads.recv().await.expect("a request");
            repeated.target = good.clone();
            assert_eq!(repeated.passes().await, "new", "{version:?}");
            assert_eq!(repeated.passes().await, next, "{version:?}");
            // What is kept so far is of no account for the second round.
            if next == "resumed" {
                repeated.memory = Memory::default();
            }
        }
        assert_eq!(repeated.passes().await, "new", "{version:?}");
        let sessions = repeated.memory.0.as_mut().expect("sessions");
        assert!(sessions.barred.is_some_and(|until| until <= Instant::now() + LONGEST));
        sessions.barred = Some(Instant::now());
        assert_eq!(repeated.passes().await, "new", "{version:?}");
        assert_eq!(repeated.passes().await, "resumed", "{version:?}");
    }
}

/// A session says that the target was the one it was made with.
#[tokio::test]
async fn no_other_target_takes_up_a_session() {
    let mut repeated = Repeated::of(tls(GOOD)).await;
    assert_eq!(repeated.passes().await, "new");
    let address = repeated.target.address;
    let other = target("https/ host=other.example.com", address, PATIENT);
    let why = failure(repeated.prober.probe(&other, &mut repeated.memory).await);
    assert!(why.starts_with("the certificate is for another name"), "{why}");
    assert_eq!(repeated.passes().await, "new");
    // Any certificate was good enough for this one.
    let any = target("https/ host=shop.example.com verify=false", address, PATIENT);
    let mut memory = Memory::default();
    assert_eq!(repeated.prober.probe(&any, &mut memory).await.outcome, Probed::Passed);
    for _ in 0..2 {
        repeated.heads.recv().await.expect("a session and a request");
    }
    repeated.memory = memory;
    assert_eq!(repeated.passes().await, "new");
}

#[tokio::test]
async fn nothing_is_kept_of_what_is_not_asked_over_tls() {
    let (address, _heads) = http(Close(OK)).await;
    let mut memory = Memory::default();
    for check in ["http/", "tcp"] {
        let outcome = trusting(GOOD).probe(&target(check, address, PATIENT), &mut memory).await;
        assert_eq!((outcome.outcome, memory.is_empty()), (Probed::Passed, true), "{check}");
    }
}
