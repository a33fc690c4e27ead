//! RFC 1035, Domain names: implementation and specification.

use crate::support::client::{BOTH, Over};
use crate::support::dns::{self, Query, wire_name};
use crate::support::server::Server;
use crate::{ask, rules, send};

rules![
    header_fields_are_copied,
    reserved_bits_are_zero,
    authority_is_told,
    responses_are_not_answered,
    runts_are_not_answered,
    other_opcodes_are_not_implemented,
    a_query_has_a_question,
    names_and_labels_are_limited,
    a_question_has_no_pointer,
    the_question_ends_within_the_message,
    other_classes_are_refused,
    records_before_the_additional_section_do_not_matter,
    datagrams_are_limited,
];

/// §4.1.1: the "identifier is copied" to the reply; RD "is copied into the response".
fn header_fields_are_copied(server: &Server) {
    for over in BOTH {
        for (id, flags) in [(0, 0), (0xffff, 0x0100), (0x1234, 0x0110)] {
            let query = Query { id, flags, ..Query::new("web.n.f.svc.example.com", "A") };
            let reply = ask(server, over, &query);
            assert_eq!(reply.bytes[..2], id.to_be_bytes());
            assert_eq!(reply.bytes[2] & 0xf9, 0x80 | (flags >> 8) as u8, "QR, opcode, RD");
        }
    }
}

/// §4.1.1: Z "Must be zero in all queries and responses". RA is clear, as nobody recurses here.
fn reserved_bits_are_zero(server: &Server) {
    for over in BOTH {
        let query = Query { flags: 0x01e0, ..Query::new("web.n.f.svc.example.com", "A") };
        let reply = ask(server, over, &query);
        assert_eq!(reply.flags(), ["aa", "rd"], "RA, Z and AD of the query are not copied");
        assert_eq!(reply.bytes[3] & 0xf0, 0);
    }
}

/// §4.1.1: AA "specifies that the responding name server is an authority for the domain name in
/// question section".
fn authority_is_told(server: &Server) {
    for over in BOTH {
        for (name, rcode, flags) in [
            ("www.example.com", dns::NOERROR, vec!["aa", "rd"]),
            ("f.svc.example.com", dns::NOERROR, vec!["aa", "rd"]),
            ("none.example.com", dns::NXDOMAIN, vec!["aa", "rd"]),
            ("example.net", dns::REFUSED, vec!["rd"]),
        ] {
            let reply = ask(server, over, &Query::new(name, "A"));
            assert_eq!((reply.rcode(), reply.flags()), (rcode, flags), "{name}");
        }
    }
}

/// §4.1.1: QR tells queries from responses; a response is no query.
fn responses_are_not_answered(server: &Server) {
    let probe = Query { id: 7, ..Query::new("www.example.com", "A") };
    for over in BOTH {
        for flags in [0x8000, 0x8180, 0xffff] {
            let response = Query { flags, ..Query::new("www.example.com", "A") }.bytes();
            let first = server.client().first_reply_after(over, &response, &probe);
            assert_eq!(first.expect("the probe's")[..2], [0, 7], "{flags:x}");
        }
    }
}

/// §4.1.1: what has no whole header has no id to answer under.
fn runts_are_not_answered(server: &Server) {
    let probe = Query { id: 7, ..Query::new("www.example.com", "A") };
    for over in BOTH {
        for len in [1, 2, 11] {
            let runt = &Query::new("www.example.com", "A").bytes()[..len];
            let first = server.client().first_reply_after(over, runt, &probe);
            assert_eq!(first.expect("the probe's")[..2], [0, 7], "{len} octets");
        }
    }
}

/// §4.1.1: "Not Implemented - The name server does not support the requested kind of query".
fn other_opcodes_are_not_implemented(server: &Server) {
    for over in BOTH {
        for opcode in 1..16 {
            let flags = opcode << 11 | 0x0100;
            let query = Query { flags, ..Query::new("example.com", "SOA") };
            let reply = send(server, over, &query.bytes());
            assert_eq!(reply.rcode(), dns::NOTIMP);
            assert_eq!(reply.bytes[..2], query.id.to_be_bytes());
            assert_eq!(u16::from(reply.bytes[2] >> 3) & 0xf, opcode, "copied (§4.1.1)");
        }
    }
}

/// §4.1.1: "Format error - The name server was unable to interpret the query".
fn a_query_has_a_question(server: &Server) {
    for over in BOTH {
        let bytes = Query::new("example.com", "SOA").bytes_with(0, &[]);
        let reply = send(server, over, &bytes);
        assert_eq!((reply.rcode(), reply.bytes.len()), (dns::FORMERR, dns::HEADER));
    }
}

/// §2.3.4: "labels 63 octets or less", "names 255 octets or less".
fn names_and_labels_are_limited(server: &Server) {
    let of_length = |octets: usize| {
        let mut name = [&[63][..], &[b'a'; 63]].concat().repeat(3);
        let rest = octets - name.len() - wire_name("example.com").len() - 1;
        name.push(rest as u8);
        name.extend(vec![b'a'; rest]);
        name.extend(wire_name("example.com"));
        name
    };
    for over in BOTH {
        let longest = Query { name: of_length(255), ..Query::new(".", "A") };
        assert_eq!(ask(server, over, &longest).rcode(), dns::NXDOMAIN);
        let too_long = Query { name: of_length(256), ..Query::new(".", "A") };
        assert_eq!(send(server, over, &too_long.bytes()).rcode(), dns::FORMERR);
        for kind in [64, 0x80] {
            let name = [&[kind][..], &[b'a'; 64], &wire_name("example.com")].concat();
            let query = Query { name, ..Query::new(".", "A") };
            assert_eq!(send(server, over, &query.bytes()).rcode(), dns::FORMERR, "label {kind}");
        }
    }
}

/// §4.1.4: a pointer is to "a prior occurance of the same name", which the first name has none of.
fn a_question_has_no_pointer(server: &Server) {
    for over in BOTH {
        for name in [vec![0xc0, 12], vec![0xc0, 0], vec![3, b'w', b'w', b'w', 0xc0, 12]] {
            let query = Query { name, ..Query::new(".", "A") };
            assert_eq!(send(server, over, &query.bytes()).rcode(), dns::FORMERR);
        }
    }
}

/// §4.1.2: a question is QNAME, QTYPE and QCLASS, all of them, and nothing is left over.
fn the_question_ends_within_the_message(server: &Server) {
    let whole = Query::new("www.example.com", "A").bytes();
    for over in BOTH {
        for len in dns::HEADER..whole.len() {
            let reply = send(server, over, &whole[..len]);
            assert_eq!(reply.rcode(), dns::FORMERR, "{len} octets");
        }
        let long = [&whole[..], &[0]].concat();
        assert_eq!(send(server, over, &long).rcode(), dns::FORMERR);
    }
}

/// §4.1.1: "Refused - The name server refuses to perform the specified operation": nothing is
/// served in other classes.
fn other_classes_are_refused(server: &Server) {
    for over in BOTH {
        for qclass in [2, 4, 254, 255, 0xfe00] {
            let query = Query { qclass, ..Query::new("www.example.com", "A") };
            let reply = ask(server, over, &query);
            assert_eq!((reply.rcode(), reply.answer().len()), (dns::REFUSED, 0), "{qclass}");
        }
    }
}

/// §4.1: answer and authority sections of a query are carried for inverse queries and updates;
/// records there change nothing, as long as they can be read.
fn records_before_the_additional_section_do_not_matter(server: &Server) {
    let record = [&[0xc0, 12][..], &[0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 250]].concat();
    for over in BOTH {
        let mut bytes = Query::new("www.example.com", "A").bytes();
        bytes.extend(&record);
        bytes[7] = 1;
        let reply = send(server, over, &bytes);
        assert_eq!(reply.answer(), ["www.example.com. 180 A 192.0.2.80"]);
        bytes.pop();
        assert_eq!(send(server, over, &bytes).rcode(), dns::FORMERR, "cut short");
    }
}

/// §4.2.1: datagrams "are restricted to 512 bytes"; "Longer messages are truncated and the TC bit
/// is set in the header".
fn datagrams_are_limited(server: &Server) {
    let query = Query::new("mid.n.f.svc.example.com", "AAAA");
    let cut = ask(server, Over::Udp, &query);
    assert!(cut.bytes.len() <= 512, "{} octets", cut.bytes.len());
    assert_eq!(cut.flags(), ["aa", "tc", "rd"]);
    let whole = ask(server, Over::Tcp, &query);
    assert_eq!((whole.flags(), whole.answer().len()), (vec!["aa", "rd"], 30));
}
