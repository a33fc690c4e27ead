use super::support::Then::{Close, Hold, Repeat};
use super::support::*;
use crate::health::check::{Probed, Report};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\nall is well.\r\n";

async fn passes(check: &str, then: Then) -> bool {
    let (address, _heads) = http(then).await;
    probe(check, address, PATIENT).await.outcome == Probed::Passed
}

async fn fails(check: &str, then: Then) -> String {
    let (address, _heads) = http(then).await;
    failure(probe(check, address, PATIENT).await)
}

#[tokio::test]
async fn what_is_asked() {
    let (address, mut heads) = http(Close(OK)).await;
    let host = format!("Host: {address}");
    assert_eq!(probe("http/a?b=c", address, PATIENT).await.outcome, Probed::Passed);
    let head = heads.recv().await.expect("a request");
    assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{head}");
    let lower = head.to_ascii_lowercase();
    for line in [&*host, "Connection: close", "Accept: */*", "User-Agent: meridian/"] {
        assert!(lower.contains(&format!("\r\n{}", line.to_ascii_lowercase())), "{line}: {head}");
    }
    probe("http/ method=POST host=shop.example.com", address, PATIENT).await;
    let head = heads.recv().await.expect("a request").to_ascii_lowercase();
    assert!(head.starts_with("post / http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: shop.example.com:{}\r\n", address.port())), "{head}");
}

#[tokio::test]
async fn status() {
    assert!(passes("http/", Close(OK)).await);
    assert!(passes("http/", Close("HTTP/1.0 204 No Content\r\n\r\n")).await);
    assert!(
        passes("http/ method=HEAD", Hold("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")).await
    );
    let unavailable = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(fails("http/", Close(unavailable)).await, "status 503 is not in 200-399");
    assert!(passes("http/ status=503", Close(unavailable)).await);
    assert_eq!(
        fails("http/ status=503,2xx", Close("HTTP/1.1 404 \r\n\r\n")).await,
        "status 404 is not in 200-299,503"
    );
}

/// A redirect is an answer; whether it is a good one is for the check to say.
#[tokio::test]
async fn redirects_are_not_followed() {
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n";
    let (address, mut heads) = http(Close(moved)).await;
    assert_eq!(probe("http/", address, PATIENT).await.outcome, Probed::Passed);
    let why = failure(probe("http/ status=200", address, PATIENT).await);
    assert_eq!(why, "status 302 is not in 200");
    let both = [heads.recv().await, heads.recv().await];
    assert!(both.iter().all(Option::is_some) && heads.try_recv().is_err());
}

#[tokio::test]
async fn bodies() {
    assert!(passes("http/ contains='is well'", Close(OK)).await);
    assert!(passes("http/ contains='is well'", Hold(OK)).await, "its length is told");
    assert_eq!(fails("http/ contains=ill", Close(OK)).await, "the body does not hold 'ill'");
    assert!(passes("http/ matches='^all .* well[.]\\s+$'", Close(OK)).await);
    assert_eq!(fails("http/ matches=^is", Close(OK)).await, "the body does not match '^is'");
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n4\r\n ok.\r\n0\r\n\r\n";
    assert!(passes("http/ contains='all ok.'", Hold(chunked)).await);
    assert!(passes("http/ contains=old", Close("HTTP/1.0 200 OK\r\n\r\nold ways")).await);
}

#[tokio::test]
async fn a_body_without_end_is_read_in_part() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\n\r\nbegins ";
    assert!(passes("http/", Repeat(HEAD, "more ")).await);
    assert!(passes("http/ contains=begins", Repeat(HEAD, "more ")).await);
    assert_eq!(
        fails("http/ contains=ends", Repeat(HEAD, "more ")).await,
        "the body does not hold 'ends' in its first 65536 octets"
    );
}

#[tokio::test]
async fn heads_without_end_and_nonsense_are_failures() {
    let why = fails("http/", Repeat("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n")).await;
    assert!(why.contains("too large"), "{why}");
    let why = fails("http/", Repeat("HTTP/1.1 200 OK\r\nX-Long: ", "long")).await;
    assert!(why.contains("too large"), "{why}");
    let why = fails("http/", Close("SSH-2.0-OpenSSH_9.2\r\n\r\n")).await;
    assert!(why.contains("invalid HTTP"), "{why}");
}

#[tokio::test]
async fn connections_that_break() {
    let why = fails("http/", Close("")).await;
    assert!(why.contains("connection closed"), "{why}");
    let why = fails("http/", Close("HTTP/1.1 200 OK\r\nContent-")).await;
    assert!(why.contains("connection closed"), "{why}");
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall is well";
    let why = fails("http/ contains=well", Close(cut)).await;
    assert!(why.contains("end of file before message length reached"), "{why}");
    assert!(passes("http/", Close(cut)).await, "of the body nothing is asked");
    let why = failure(probe("http/", closed().await, PATIENT).await);
    assert!(why.contains("Connection refused"), "{why}");
}

#[tokio::test]
async fn silence_and_slowness_end_with_the_time() {
    // Accepted by the system, and by nobody else.
    let silent = listener().await;
    let address = silent.local_addr().expect("bound");
    let late = "no whole reply within 200ms";
    assert_eq!(failure(probe("http/", address, BRIEF).await), late);
    let why = failure(probe("https/", address, BRIEF).await);
    assert_eq!(why, "no TLS session within 200ms");
    for (check, then) in [
        ("http/", Hold("")),
        ("http/", Hold("HTTP/1.1 200 OK\r\n")),
        ("http/ contains=well", Hold("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nwell")),
    ] {
        let (address, _heads) = http(then).await;
        assert_eq!(failure(probe(check, address, BRIEF).await), late, "{then:?}");
    }
}

#[tokio::test]
async fn load() {
    async fn told(reply: &'static str) -> Option<f64> {
        let (address, _heads) = http(Close(reply)).await;
        let Report { outcome, load } = probe("http/ status=200", address, PATIENT).await;
        assert!(outcome == Probed::Passed || load.is_none(), "{outcome:?} {load:?}");
        load
    }
    assert_eq!(told("HTTP/1.1 200 OK\r\nX-Load: 0.75\r\n\r\n").await, Some(0.75));
    assert_eq!(told("HTTP/1.1 200 OK\r\nx-load: 1\r\n\r\n").await, Some(1.0));
    assert_eq!(told("HTTP/1.1 500 No\r\nX-Load: 0.75\r\n\r\n").await, None);
    for none in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Load: 1.01\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Load: -0.1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Load: NaN\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Load: 75%\r\n\r\n",
    ] {
        assert_eq!(told(none).await, None, "{none}");
    }
}
