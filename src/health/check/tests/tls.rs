use super::support::Then::Close;
use super::support::*;
use crate::health::check::{Probed, Prober};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";

async fn fails(prober: Prober, check: &str, certificate: &str) -> String {
    let (address, _heads) = https(Close(OK), certificate).await;
    failure(prober.probe(&target(check, address, PATIENT)).await)
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
        assert_eq!(trusting(GOOD).probe(&target).await.outcome, Probed::Passed);
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

/// No session is taken up again, as that would show no certificate.
#[tokio::test]
async fn every_check_sees_the_certificate() {
    let (address, mut heads) = https(Close(OK), GOOD).await;
    let prober = trusting(AUTHORITY);
    for _ in 0..3 {
        let outcome = prober.probe(&target("https/", address, PATIENT)).await.outcome;
        assert_eq!(outcome, Probed::Passed);
        assert_eq!(heads.recv().await.as_deref(), Some("new "));
        heads.recv().await.expect("a request");
    }
}
