//! RFC 6891, Extension mechanisms for DNS (EDNS(0)).

use crate::support::client::{BOTH, Over};
use crate::support::dns::{self, Opt, Query, wire_name};
use crate::support::server::Server;
use crate::{ask, rules, send};

rules![
    opt_is_answered_with_opt,
    our_payload_size_is_told,
    one_opt_only,
    opt_belongs_to_the_root_and_the_additional_section,
    opt_may_stand_anywhere_in_its_section,
    other_versions_are_told_ours,
    unknown_options_are_ignored,
    options_must_add_up,
    do_is_copied_and_z_is_not,
    replies_fit_the_client,
    replies_fit_us,
    small_sizes_are_512,
];

const NAME: &str = "web.n.f.svc.example.com";

/// §6.1.1: "If an OPT record is present in a received request, compliant responders MUST include
/// an OPT record in their respective responses"; §7: without one in the request there is none.
fn opt_is_answered_with_opt(server: &Server) {
    for over in BOTH {
        for name in [NAME, "none.example.com", "f.svc.example.com", "example.net"] {
            let with = ask(server, over, &Query::new(name, "A").opt(Opt::default()));
            assert!(with.opt.is_some(), "{name}");
            let without = ask(server, over, &Query::new(name, "A"));
            assert!(without.opt.is_none(), "{name}");
        }
        let notify = Query { flags: 0x2000, ..Query::new("example.com", "SOA") };
        let refused = send(server, over, &notify.opt(Opt::default()).bytes());
        assert_eq!((refused.rcode(), refused.opt.is_some()), (dns::NOTIMP, true));
    }
}

/// §6.2.4: the responder tells its own maximum payload size; 1232 is what flag day 2020 agreed on.
fn our_payload_size_is_told(server: &Server) {
    for over in BOTH {
        for payload in [512, 1232, 4096, 65_535] {
            let opt = Opt { payload, ..Opt::default() };
            let reply = ask(server, over, &Query::new(NAME, "A").opt(opt));
            assert_eq!(reply.opt.expect("EDNS").payload, 1232);
        }
    }
}

/// §6.1.1: "If a query message with more than one OPT RR is received, a FORMERR (RCODE=1) MUST be
/// returned."
fn one_opt_only(server: &Server) {
    let opt = Opt::default().bytes();
    for over in BOTH {
        let bytes = Query::new(NAME, "A").bytes_with(1, &[opt.clone(), opt.clone()]);
        let reply = send(server, over, &bytes);
        assert_eq!((reply.rcode(), reply.opt.is_some()), (dns::FORMERR, true));
    }
}

/// §6.1.2: NAME "MUST be 0 (root domain)"; §6.1.1: OPT stands in the additional section.
fn opt_belongs_to_the_root_and_the_additional_section(server: &Server) {
    let opt = Opt::default().bytes();
    let owned = [&wire_name("example.com")[..], &opt[1..]].concat();
    let pointed = [&[0xc0, 12][..], &opt[1..]].concat();
    for over in BOTH {
        for record in [&owned, &pointed] {
            let bytes = Query::new(NAME, "A").bytes_with(1, std::slice::from_ref(record));
            assert_eq!(send(server, over, &bytes).rcode(), dns::FORMERR);
        }
        for section in [7, 9] {
            let mut bytes = Query::new(NAME, "A").bytes_with(1, std::slice::from_ref(&opt));
            bytes[11] = 0;
            bytes[section] = 1;
            assert_eq!(send(server, over, &bytes).rcode(), dns::FORMERR);
        }
        let asked = send(server, over, &Query::new(NAME, "TYPE41").bytes());
        assert_eq!(asked.rcode(), dns::FORMERR, "OPT is no type to ask for");
    }
}

/// §6.1.1: "The OPT RR MAY be placed anywhere within the additional data section."
fn opt_may_stand_anywhere_in_its_section(server: &Server) {
    let other = [0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 192, 0, 2, 250].to_vec();
    let opt = Opt::default().bytes();
    for over in BOTH {
        for records in [[opt.clone(), other.clone()], [other.clone(), opt.clone()]] {
            let reply = send(server, over, &Query::new(NAME, "A").bytes_with(1, &records));
            assert_eq!((reply.rcode(), reply.answer().len()), (dns::NOERROR, 2));
            assert!(reply.opt.is_some());
        }
    }
}

/// §6.1.3: "If a responder does not implement the VERSION level of the request, then it MUST
/// respond with RCODE=BADVERS", in a reply of the version that it has.
fn other_versions_are_told_ours(server: &Server) {
    for over in BOTH {
        for version in [1, 255] {
            let opt = Opt { version, ..Opt::default() }.with(100, b"x");
            let reply = ask(server, over, &Query::new(NAME, "A").opt(opt));
            assert_eq!((reply.rcode(), reply.answer().len()), (dns::BADVERS, 0));
            let opt = reply.opt.expect("EDNS");
            assert_eq!((opt.version, opt.options.len()), (0, 0));
        }
    }
}

/// §6.1.2: "Any OPTION-CODE values not understood by a responder or requestor MUST be ignored."
fn unknown_options_are_ignored(server: &Server) {
    for over in BOTH {
        let opt = Opt::default().with(100, b"data").with(65_001, &[]).with(10, &[1; 8]);
        let reply = ask(server, over, &Query::new(NAME, "A").opt(opt));
        assert_eq!((reply.rcode(), reply.answer().len()), (dns::NOERROR, 2));
        assert_eq!(reply.opt.expect("EDNS").options, []);
    }
}

/// §6.1.2: OPTION-LENGTH is the size of OPTION-DATA. The reply has EDNS, lest the client take the
/// server for one without.
fn options_must_add_up(server: &Server) {
    for over in BOTH {
        let good = Opt::default().with(100, b"data").bytes();
        for cut in 1..8 {
            let mut record = good[..good.len() - cut].to_vec();
            record[10] -= cut as u8;
            let reply = send(server, over, &Query::new(NAME, "A").bytes_with(1, &[record]));
            assert_eq!((reply.rcode(), reply.answer().len()), (dns::FORMERR, 0), "{cut}");
            assert!(reply.opt.is_some());
        }
        let beyond = &good[..good.len() - 1];
        let reply = send(server, over, &Query::new(NAME, "A").bytes_with(1, &[beyond.to_vec()]));
        assert_eq!(reply.rcode(), dns::FORMERR, "the record itself ends early");
    }
}

/// RFC 3225 §3: "The DO bit of the query MUST be copied in the response"; §6.1.4: Z is "Set to zero
/// by senders and ignored by receivers".
fn do_is_copied_and_z_is_not(server: &Server) {
    for over in BOTH {
        for (sent, expected) in [(0, 0), (Opt::DO, Opt::DO), (0x7fff, 0), (0xffff, Opt::DO)] {
            let opt = Opt { flags: sent, ..Opt::default() };
            let reply = ask(server, over, &Query::new(NAME, "A").opt(opt));
            assert_eq!(reply.rcode(), dns::NOERROR);
            assert_eq!(reply.opt.expect("EDNS").flags, expected, "{sent:x}");
        }
    }
}

/// §6.2.3: the requestor's payload size is the largest datagram that it takes.
fn replies_fit_the_client(server: &Server) {
    let query = Query::new("mid.n.f.svc.example.com", "AAAA");
    let whole = ask(server, Over::Tcp, &query.clone().opt(Opt::default())).bytes.len();
    let with = |payload| {
        let opt = Opt { payload, ..Opt::default() };
        ask(server, Over::Udp, &query.clone().opt(opt))
    };
    let enough = with(whole as u16);
    assert_eq!((enough.flags(), enough.bytes.len()), (vec!["aa", "rd"], whole));
    let short = with(whole as u16 - 1);
    assert_eq!(short.flags(), ["aa", "tc", "rd"]);
    assert!(short.opt.is_some() && short.bytes.len() < whole);
}

/// §6.2.5: a responder may have a limit of its own, below the requestor's.
fn replies_fit_us(server: &Server) {
    let opt = Opt { payload: 65_535, ..Opt::default() };
    let reply = ask(server, Over::Udp, &Query::new("big.n.f.svc.example.com", "AAAA").opt(opt));
    assert!(reply.bytes.len() <= 1232);
    assert_eq!(reply.flags(), ["aa", "tc", "rd"]);
}

/// §6.2.3: "Values lower than 512 MUST be treated as equal to 512."
fn small_sizes_are_512(server: &Server) {
    for payload in [0, 1, 511] {
        let opt = Opt { payload, ..Opt::default() };
        let reply = ask(server, Over::Udp, &Query::new(NAME, "A").opt(opt));
        assert_eq!((reply.flags(), reply.answer().len()), (vec!["aa", "rd"], 2));
    }
}
