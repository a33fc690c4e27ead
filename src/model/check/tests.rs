use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Check {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

fn http(text: &str) -> HttpCheck {
    match &*parse(text).kind {
        CheckKind::Http(http) => http.clone(),
        other => panic!("{text} is {other:?}"),
    }
}

/// Each text is the canonical form of what it says.
#[test]
fn written_as_read() {
    for text in [
        "tcp",
        "tcp:443",
        "http/",
        "http:80/healthz",
        "http:8080/healthz?full=1&x=%20",
        "https:443/healthz host=shop.example.com sni=lb.example.com verify=false",
        "http:80/ method=HEAD status=200-299,301",
        "http:80/ contains='all is well'",
        "http:80/ contains=''",
        r#"http:80/ contains="it's \"well\" \\o/""#,
        r"http:80/ matches='^ok \d+$'",
        r"http:80/ matches=^(ok|fine)\b",
        "grpc:50051",
        "grpc:50051/shop.v1.Cart",
        "grpcs:443/shop.v1.Cart host=shop.example.com",
        "dns/www.example.com",
        "dns:5353/example.com type=SOA transport=tcp",
        "dns/.",
        "tcp:1 address=2001:db8::1 interval=1s timeout=100ms rise=1 fall=1000 jitter=50",
        "tcp interval='1m 30s'",
    ] {
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn other_spellings() {
    for (text, canonical) in [
        (" tcp ", "tcp"),
        ("tcp port=80", "tcp:80"),
        ("http", "http/"),
        ("http:80", "http:80/"),
        ("http port=80 path=/a", "http:80/a"),
        ("http:80/ method=get", "http:80/"),
        ("http:80/ method=post", "http:80/ method=POST"),
        ("http:80/ status=2xx,300-399", "http:80/"),
        ("http:80/ status=5xx,500-502,404", "http:80/ status=404,500-599"),
        ("http:80/ host=SHOP.example.com.", "http:80/ host=shop.example.com"),
        ("https:443/ verify=true", "https:443/"),
        (r#"http:80/ contains="\d \\ \"""#, r#"http:80/ contains='\d \ "'"#),
        ("dns name=example.com type=aaaa", "dns/example.com type=AAAA"),
        ("tcp\tinterval=1m30s\n fall=2", "tcp interval='1m 30s' fall=2"),
        ("tcp interval=60s", "tcp interval=1m"),
    ] {
        assert_eq!(parse(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn defaults() {
    let check = parse("https:443/healthz");
    assert_eq!((check.port.map(NonZeroU16::get), check.address), (Some(443), None));
    assert_eq!(check.timing, CheckTiming::default());
    let check = http("https:443/healthz");
    assert_eq!((&*check.path, check.method, check.host), ("/healthz", HttpMethod::Get, None));
    assert_eq!(check.tls, Some(TlsCheck { sni: None, verify: Verify::Full }));
    assert_eq!(check.body, None);
    let good = |status| check.status.contains(status);
    assert!(!good(199) && good(200) && good(302) && good(399) && !good(400) && !good(503));
    assert_eq!(parse("tcp"), Check::tcp());
}

#[test]
fn timing_of_the_narrower_place_wins() {
    let own = parse("tcp interval=1s rise=4 jitter=0").timing;
    let wider = parse("tcp interval=2s timeout=3s fall=5 jitter=20").timing;
    let both = own.or(wider);
    assert_eq!(both.interval, Some(Duration::from_secs(1)));
    assert_eq!(both.timeout, Some(Duration::from_secs(3)));
    assert_eq!((both.rise, both.fall), (NonZeroU32::new(4), NonZeroU32::new(5)));
    assert_eq!((both.jitter, own.or(CheckTiming::default()).jitter), (Some(0), Some(0)));
    assert_eq!(CheckTiming::default().or(wider).jitter, Some(20));
}

#[test]
fn what_is_refused_says_why() {
    for (text, why) in [
        ("", "'' is no kind of check: write one of tcp, http, https, grpc, grpcs, dns"),
        ("TCP", "'TCP' is no kind"),
        ("icmp", "'icmp' is no kind"),
        ("http://example.com/", "port: '' is not from 1 to 65535"),
        ("tcp:0", "port: '0' is not from 1 to 65535"),
        ("tcp:65536", "port: '65536' is not from 1 to 65535"),
        ("tcp:80/x", "path: means nothing to this check"),
        ("tcp:80 port=81", "port: is given twice"),
        ("tcp x", "after 'x' comes '=' and a value"),
        ("tcp interval= rise=1", "after 'interval=' comes a value"),
        ("tcp interval=5", "interval: '5' is no duration"),
        ("tcp interval=99ms", "interval: '99ms' is not from 100ms to 1h"),
        ("tcp timeout=61m", "timeout: '61m' is not from 100ms to 1h"),
        ("tcp rise=0", "rise: '0' is not from 1 to 1000"),
        ("tcp fall=1001", "fall: '1001' is not from 1 to 1000"),
        ("tcp jitter=51", "jitter: '51' is not from 0 to 50 percent"),
        ("tcp jitter=10%", "jitter: '10%' is not from 0 to 50 percent"),
        ("tcp address=0.0.0.0", "address: no host can have 0.0.0.0"),
        ("tcp address=169.254.169.254", "address: 169.254.169.254 is the metadata service"),
        ("tcp address=fd00:ec2::254", "address: fd00:ec2::254 is the metadata service"),
        ("tcp address=168.63.129.16", "address: 168.63.129.16 is the metadata service"),
        ("tcp address=example.com", "address: 'example.com' is no IP address"),
        ("http:80/a b", "after 'b' comes '='"),
        ("http path=a", "path: 'a' is no path"),
        ("http:80/ä", "path: '/ä' is no path"),
        ("http:80/ method=PUT", "method: 'PUT' is none of GET, HEAD, OPTIONS, POST"),
        ("http:80/ method=HEAD contains=x", "method: HEAD has no body"),
        ("http:80/ contains=x matches=y", "matches: stands beside 'contains'"),
        ("http:80/ matches=(", "matches: '(' is no regular expression: unclosed group"),
        (r"http:80/ matches=\w{9999}", "is too large when compiled"),
        ("http:80/ status=20", "status: '20' is no status"),
        ("http:80/ status=600", "status: '600' is no status"),
        ("http:80/ status=300-200", "status: '300-200' is no status"),
        ("http:80/ status=", "after 'status=' comes a value"),
        ("http:80/ contains='x", "the quote before the value of 'contains' is not closed"),
        ("http:80/ contains='x'y", "after the value of 'contains' comes a space"),
        ("http:80/ contains=\"a\nb\"", "contains: holds a control character"),
        ("http:80/ verify=false", "verify: means nothing to this check"),
        ("http:80/ host=192.0.2.1", "host: '192.0.2.1' is no host name"),
        ("http:80/ host=a..b", "host: 'a..b' is no domain name"),
        ("https:443/ verify=no", "verify: 'no' is neither true nor false"),
        ("dns:53", "name: is missing"),
        ("dns:53/x type=ANY", "type: 'ANY' is none of A, AAAA"),
        ("dns:53/x transport=tls", "transport: 'tls' is neither udp nor tcp"),
        ("tcp rise=0 fall=0", "rise: '0' is not from 1 to 1000; fall: '0' is not"),
    ] {
        match text.parse::<Check>() {
            Ok(check) => panic!("{text:?} is read as {check}"),
            Err(error) => assert!(error.to_string().contains(why), "{text:?}: {error}"),
        }
    }
}

/// What may be written anywhere is read again from what `Display` makes of it.
#[test]
fn a_text_that_grows_is_read_again() {
    let text = format!(r#"http:80 status=2xx contains="'{}""#, r"\d".repeat(480));
    assert!(text.len() <= Check::LONGEST_TEXT);
    let check = parse(&text);
    let written = check.to_string();
    assert!(written.len() > Check::LONGEST_TEXT, "{} octets", written.len());
    assert_eq!(parse(&written), check);
}

#[test]
fn checks_of_services() {
    assert_eq!("off".parse(), Ok(ServiceCheck::Off));
    let by: ServiceCheck = "tcp:1".parse().expect("a check");
    assert_eq!(by, ServiceCheck::By(Arc::new(parse("tcp:1"))));
    assert_eq!(by.to_string(), "tcp:1");
    assert_eq!(ServiceCheck::Off.to_string(), "off");
    assert!("Off".parse::<ServiceCheck>().is_err());
    for (text, mode) in
        [("off", CheckMode::Off), ("suspect", CheckMode::Suspect), ("always", CheckMode::Always)]
    {
        assert_eq!(text.parse(), Ok(mode));
    }
    assert!("on".parse::<CheckMode>().is_err());
}

proptest! {
    /// The text form holds every value, whatever its quotes, spaces and backslashes.
    #[test]
    fn values_survive(text in "\\PC{0,40}", service in "[!-~]{0,20}", expression in "[ -~]{0,8}") {
        let fields = [("contains", &*text)];
        let check = Check::from_fields("http", fields).expect("any text");
        prop_assert_eq!(&parse(&check.to_string()), &check);
        let check = Check::from_fields("grpc", [("service", &*service)]).expect("a service");
        prop_assert_eq!(&parse(&check.to_string()), &check);
        if let Ok(check) = Check::from_fields("http", [("matches", &*expression)]) {
            prop_assert_eq!(&parse(&check.to_string()), &check);
        }
    }

    /// No text makes the parser fail otherwise than by saying so.
    #[test]
    fn any_text_is_read_or_refused(text in "(http|dns|tcp)?[ -~]{0,30}") {
        if let Ok(check) = text.parse::<Check>() {
            prop_assert_eq!(&parse(&check.to_string()), &check);
        }
    }
}
