//! RFC 8906, A common operational problem in DNS servers: failure to communicate. Its tests of
//! §8, in their order.

use crate::support::client::BOTH;
use crate::support::dns::{self, Opt, Query};
use crate::support::server::Server;
use crate::{ask, rules, send};

rules![
    the_zone_is_served,
    unknown_types,
    header_bits,
    unknown_opcodes,
    edns,
    edns_versions,
    unknown_edns_options,
    unknown_edns_flags,
    everything_unknown_at_once,
    dnssec_ok,
];

fn soa() -> Query {
    Query { flags: 0, ..Query::new("example.com", "SOA") }
}

/// §8.1.1: `+noedns +noad +norec soa zone`: NOERROR, the SOA record, AA.
fn the_zone_is_served(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &soa());
        assert_eq!((reply.rcode(), reply.flags()), (dns::NOERROR, vec!["aa"]));
        assert_eq!((reply.answer().len(), reply.opt), (1, None));
        let ns = ask(server, over, &Query::new("example.com", "NS"));
        assert_eq!(ns.answer(), ["example.com. 180 NS ns1.example.com."]);
    }
}

/// §8.1.2: `type1000 zone`: NOERROR, an empty answer.
fn unknown_types(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &Query { flags: 0, ..Query::new("example.com", "TYPE1000") });
        assert_eq!((reply.rcode(), reply.flags()), (dns::NOERROR, vec!["aa"]));
        assert!(reply.answer().is_empty());
    }
}

/// §8.1.3: `+cd`, `+ad`, `+zflag`, `+rec`: answered as without; the reserved bit is not copied.
fn header_bits(server: &Server) {
    for over in BOTH {
        for (flags, expected) in [
            (0x10, vec!["aa", "cd"]),
            (0x20, vec!["aa"]),
            (0x40, vec!["aa"]),
            (0x100, vec!["aa", "rd"]),
        ] {
            let reply = ask(server, over, &Query { flags, ..soa() });
            assert_eq!((reply.rcode(), reply.flags()), (dns::NOERROR, expected), "{flags:x}");
            assert_eq!((reply.answer().len(), reply.bytes[3] & 0x40), (1, 0));
        }
    }
}

/// §8.1.4: `+opcode=15 +norec +header-only`: NOTIMP, with the opcode, without AA.
fn unknown_opcodes(server: &Server) {
    for over in BOTH {
        let bytes = Query { flags: 15 << 11, ..soa() }.bytes_with(0, &[]);
        let reply = send(server, over, &bytes);
        assert_eq!((reply.rcode(), reply.flags()), (dns::NOTIMP, vec![]));
        assert_eq!(reply.bytes[2] >> 3 & 0xf, 15);
    }
}

/// §8.2.1: `+edns=0`: NOERROR, the SOA record, OPT of version 0.
fn edns(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &soa().opt(Opt::default()));
        assert_eq!((reply.rcode(), reply.answer().len()), (dns::NOERROR, 1));
        assert_eq!(reply.opt.expect("EDNS").version, 0);
    }
}

/// §8.2.2: `+edns=1`: BADVERS, OPT of version 0, no SOA record.
fn edns_versions(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &soa().opt(Opt { version: 1, ..Opt::default() }));
        assert_eq!((reply.rcode(), reply.answer().len()), (dns::BADVERS, 0));
        assert_eq!(reply.opt.expect("EDNS").version, 0);
    }
}

/// §8.2.3: `+ednsopt=100`: NOERROR, the option is not there.
fn unknown_edns_options(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &soa().opt(Opt::default().with(100, &[])));
        assert_eq!((reply.rcode(), reply.answer().len()), (dns::NOERROR, 1));
        assert_eq!(reply.opt.expect("EDNS").options, []);
    }
}

/// §8.2.4: `+ednsflags=0x80`: NOERROR, the flag is not there.
fn unknown_edns_flags(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &soa().opt(Opt { flags: 0x80, ..Opt::default() }));
        assert_eq!((reply.rcode(), reply.answer().len()), (dns::NOERROR, 1));
        assert_eq!(reply.opt.expect("EDNS").flags, 0);
    }
}

/// §8.2.5: version 1 with unknown flag and option: BADVERS, neither is there.
fn everything_unknown_at_once(server: &Server) {
    for over in BOTH {
        let opt = Opt { version: 1, flags: 0x80, ..Opt::default() }.with(100, &[]);
        let reply = ask(server, over, &soa().opt(opt));
        assert_eq!((reply.rcode(), reply.answer().len()), (dns::BADVERS, 0));
        let opt = reply.opt.expect("EDNS");
        assert_eq!((opt.version, opt.flags, opt.options), (0, 0, vec![]));
    }
}

/// §8.2.7: `+dnssec`: NOERROR, the SOA record, DO copied.
fn dnssec_ok(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &soa().opt(Opt { flags: Opt::DO, ..Opt::default() }));
        assert_eq!((reply.rcode(), reply.answer().len()), (dns::NOERROR, 1));
        assert_eq!(reply.opt.expect("EDNS").flags, Opt::DO);
    }
}
