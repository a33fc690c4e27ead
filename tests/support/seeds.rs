//! The packets that fuzzing starts from: one for each way through the parser and each kind of name.

use super::dns::{NSID, Opt, Query, SUBNET, wire_name};

/// A name for each kind of place in the tree, with a type that exists there or not.
const QUESTIONS: [(&str, &str); 32] = [
    ("web.n.f.svc.example.com", "A"),
    ("WEB.n.F.svc.example.COM", "AAAA"),
    ("web.n.f.example.com", "A"),
    ("web.n.f.svc.eu.example.com", "A"),
    ("web.n.f.svc.eu-a.eu.example.com", "AAAA"),
    ("web.n.f.svc.us-b.example.com", "A"),
    ("web.n.f.svc.ap-a.ap.example.com", "A"),
    ("us1.web.n.f.svc.example.com", "ANY"),
    ("_http._tcp.web.n.f.svc.example.com", "SRV"),
    ("_http._tcp.web.n.f.svc.ap-a.ap.example.com", "SRV"),
    ("_http._tcp.big.n.f.svc.example.com", "SRV"),
    ("_tcp.web.n.f.svc.example.com", "A"),
    ("big.n.f.svc.example.com", "AAAA"),
    ("down.n.f.svc.us-a.us.example.com", "A"),
    ("all.n.f.svc.ap.example.com", "A"),
    ("named.n.f.svc.ap.example.com", "MX"),
    ("n.f.svc.example.com", "TXT"),
    ("none.n.f.svc.example.com", "A"),
    ("example.com", "SOA"),
    ("example.com", "NS"),
    ("example.com", "AXFR"),
    ("www.example.com", "TXT"),
    ("alias.example.com", "A"),
    ("down.example.com", "A"),
    ("example.net", "A"),
    (".", "NS"),
    ("web.n.f.svc.cluster.local", "A"),
    ("_http._tcp.web.n.f.svc.cluster.local", "SRV"),
    ("down.n.f.svc.cluster.local", "A"),
    ("_http._tcp.down.n.f.svc.cluster.local", "SRV"),
    ("big.n.f.svc.cluster.local", "AAAA"),
    ("f.svc.cluster.local", "SOA"),
];

/// Names and contents of the files of `fuzz/corpus/answer` that are kept in the repository.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    for (number, (name, qtype)) in QUESTIONS.into_iter().enumerate() {
        seeds.push((format!("question-{number:02}"), Query::new(name, qtype).bytes()));
    }
    for (name, opt) in options() {
        let query = Query::new("web.n.f.svc.example.com", "A").opt(opt);
        seeds.push((format!("edns-{name}"), query.bytes()));
    }
    let longest =
        format!("{}.{}.{}.{}", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(49));
    let longest = format!("{longest}.example.com");
    let longest = Query::new(&longest, "A").opt(Opt::default().with(NSID, &[]).subnet("::/128"));
    let query = Query::new("web.n.f.svc.example.com", "A");
    let opt = Opt::default().bytes();
    let owned = [&wire_name("a.b")[..], &opt[1..]].concat();
    let pointed = [&[0xc0, 12][..], &opt[1..]].concat();
    let chaos = Query { qclass: 3, ..Query::new("version.bind", "TXT") };
    let others = [
        ("longest-name", longest.bytes()),
        ("chaos", chaos.opt(Opt::default().with(NSID, &[])).bytes()),
        ("response", Query { flags: 0x8180, ..query.clone() }.bytes()),
        ("notify", Query { flags: 0x2000, ..query.clone() }.bytes()),
        ("no-question", query.bytes_with(0, &[])),
        ("two-questions", query.bytes_with(2, &[])),
        ("pointer", Query { name: vec![0xc0, 12], ..query.clone() }.bytes()),
        ("two-opts", query.bytes_with(1, &[opt.clone(), opt.clone()])),
        ("opt-with-owner", query.bytes_with(1, &[owned])),
        ("opt-with-pointer", query.bytes_with(1, &[pointed])),
        ("trailing", [query.bytes(), vec![0]].concat()),
        ("runt", query.bytes()[..11].to_vec()),
        ("empty", Vec::new()),
    ];
    seeds.extend(others.map(|(name, bytes)| (name.to_owned(), bytes)));
    seeds
}

fn options() -> Vec<(&'static str, Opt)> {
    let opt = Opt::default;
    vec![
        ("plain", opt()),
        ("small", Opt { payload: 0, ..opt() }),
        ("large", Opt { payload: 65_535, flags: Opt::DO, ..opt() }),
        ("version", Opt { version: 1, ..opt() }),
        ("nsid", opt().with(NSID, &[])),
        ("unknown", opt().with(100, b"data").with(10, &[1; 8])),
        ("subnet", opt().subnet("198.18.1.0/24")),
        ("subnet-v6", opt().subnet("2001:db8:7::/56")),
        ("subnet-private", opt().subnet("10.0.0.0/8")),
        ("subnet-none", opt().with(SUBNET, &[0, 0, 0, 0])),
        ("subnet-zero", opt().with(SUBNET, &[0, 1, 0, 0])),
        ("subnet-odd", opt().with(SUBNET, &[0, 1, 17, 0, 198, 18, 0x80])),
        ("subnet-malformed", opt().with(SUBNET, &[0, 1, 24, 0, 198])),
        ("subnet-twice", opt().subnet("198.18.1.0/24").subnet("198.18.2.0/24")),
    ]
}
