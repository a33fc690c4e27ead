//! RFC 7871, Client subnet in DNS queries.

use crate::support::client::{BOTH, Client, Over};
use crate::support::dns::{self, Opt, Query, Reply, SUBNET};
use crate::support::server::Server;
use crate::{ask, rules};

rules![
    no_option_is_answered_with_none,
    family_source_and_address_are_echoed,
    the_subnet_places_the_client,
    the_scope_is_the_widest_prefix_with_one_answer,
    scopes_do_not_overlap,
    answers_for_everyone_have_scope_zero,
    negative_answers_have_scope_zero,
    source_zero_is_placed_by_its_resolver,
    no_family_is_echoed,
    malformed_options_are_refused,
    a_second_option_is_refused,
    private_prefixes_are_placed_by_the_resolver,
    a_chain_is_cut_to_its_first_cname,
    additional_records_do_not_depend_on_the_client,
    truncated_replies_keep_the_option,
];

const NAME: &str = "web.n.f.svc.example.com";
const NEAR: &str = "web.n.f.svc.example.com. 180 A 192.0.2.2";

fn subnet(server: &Server, over: Over, name: &str, qtype: &str, prefix: &str) -> Reply {
    ask(server, over, &Query::new(name, qtype).opt(Opt::default().subnet(prefix)))
}

fn raw(server: &Server, over: Over, name: &str, data: &[u8]) -> Reply {
    ask(server, over, &Query::new(name, "A").opt(Opt::default().with(SUBNET, data)))
}

/// §7.2.2: without the option in the query there is none in the reply, also where the resolver's
/// own address made the answer.
fn no_option_is_answered_with_none(server: &Server) {
    let placed = Client { source: [127, 0, 0, 9].into(), ..server.client() };
    for over in BOTH {
        let query = Query::new(NAME, "A").opt(Opt::default());
        let reply = placed.ask(over, &query).expect("a reply");
        assert_eq!(reply.answer()[0], NEAR);
        assert_eq!(reply.opt.expect("EDNS").options, []);
    }
}

/// §7.2.1: FAMILY, SOURCE PREFIX-LENGTH and ADDRESS of the reply match those of the query, whatever
/// the answer is.
fn family_source_and_address_are_echoed(server: &Server) {
    let names = [
        NAME,
        "one.n.f.svc.example.com",
        "none.example.com",
        "f.example.com",
        "web.n.f.svc.ap.example.com",
        "down.n.f.svc.example.com",
        "example.net",
        "example.com",
    ];
    let options: [&[u8]; 8] = [
        &[0, 1, 24, 0, 198, 18, 1],
        &[0, 1, 32, 0, 198, 18, 1, 77],
        &[0, 1, 17, 0, 198, 18, 0x80],
        &[0, 1, 1, 0, 0x80],
        &[0, 1, 0, 0],
        &[0, 2, 56, 0, 0x20, 1, 0x0d, 0xb8, 0, 7, 0],
        &[0, 2, 128, 0, 0x20, 1, 0x0d, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0, 2, 0, 0],
    ];
    for over in BOTH {
        for name in names {
            for option in options {
                let reply = raw(server, over, name, option);
                let echoed = reply.option(SUBNET).unwrap_or_else(|| panic!("{name}\n{reply}"));
                assert_eq!((&echoed[..3], &echoed[4..]), (&option[..3], &option[4..]), "{name}");
            }
        }
    }
}

/// §7.2.1: the subnet, where one is told, is what the answer is tailored for.
fn the_subnet_places_the_client(server: &Server) {
    for over in BOTH {
        for prefix in ["198.18.1.0/24", "198.18.1.200/32", "2001:db8:7::/48", "2001:db8:7:7::/64"] {
            let reply = subnet(server, over, NAME, "A", prefix);
            assert_eq!(reply.answer()[0], NEAR, "{prefix}");
        }
        assert_ne!(subnet(server, over, NAME, "A", "203.0.113.0/24").answer()[0], NEAR);
    }
}

/// §7.2.1: SCOPE PREFIX-LENGTH is the network for which the answer is meant, be it wider or
/// narrower than the prefix that was sent.
fn the_scope_is_the_widest_prefix_with_one_answer(server: &Server) {
    for over in BOTH {
        for (prefix, scope) in [
            ("198.18.1.0/24", 24),
            ("198.18.1.4/30", 24),
            ("198.18.1.4/32", 24),
            ("198.18.2.0/24", 23),
            ("198.18.3.0/24", 23),
            ("2001:db8:7::/48", 48),
            ("2001:db8:7:1::/64", 48),
            // The client told less than it takes: the scope says so.
            ("198.18.0.0/15", 24),
            ("198.0.0.0/8", 6),
        ] {
            let reply = subnet(server, over, NAME, "A", prefix);
            let found = reply.scope().expect("the option");
            match prefix {
                // How wide the rest of the world is, is not for this test to say.
                "198.0.0.0/8" => assert!(found > scope, "{prefix}: {found}"),
                _ => assert_eq!(found, scope, "{prefix}"),
            }
        }
    }
}

/// §7.2.1: the networks of answers to one question MUST NOT overlap: whoever asks with a prefix
/// inside the scope of an answer gets the same answer with the same scope.
fn scopes_do_not_overlap(server: &Server) {
    let over = Over::Udp;
    for octet in (0..=255).step_by(5) {
        for prefix in [format!("{octet}.18.1.1/32"), format!("198.18.{octet}.1/32")] {
            let reply = subnet(server, over, NAME, "A", &prefix);
            let scope = reply.scope().expect("the option");
            let network: ipnet::Ipv4Net = prefix.parse().expect("a prefix");
            let inside = ipnet::Ipv4Net::new(network.addr(), scope).expect("a length");
            for address in [inside.network(), inside.broadcast()] {
                let other = subnet(server, over, NAME, "A", &format!("{address}/32"));
                assert_eq!((other.scope(), other.answer()), (Some(scope), reply.answer()));
            }
        }
    }
}

/// §7.2.1: an answer that does not depend on the client has SCOPE PREFIX-LENGTH 0.
fn answers_for_everyone_have_scope_zero(server: &Server) {
    for over in BOTH {
        for (name, qtype) in [
            ("one.n.f.svc.example.com", "A"),
            ("web.n.f.svc.us.example.com", "A"),
            ("web.n.f.svc.eu-a.example.com", "AAAA"),
            ("eu1.web.n.f.svc.example.com", "A"),
            ("www.example.com", "TXT"),
            ("alias.example.com", "A"),
            ("example.com", "NS"),
            ("example.com", "SOA"),
        ] {
            let reply = subnet(server, over, name, qtype, "198.18.1.0/24");
            let found = (reply.scope(), reply.answer().is_empty());
            assert_eq!(found, (Some(0), false), "{name} {qtype}");
        }
    }
}

/// §7.4: negative answers have scope 0.
fn negative_answers_have_scope_zero(server: &Server) {
    for over in BOTH {
        for (name, qtype) in [
            ("none.example.com", "A"),
            (NAME, "TXT"),
            ("n.f.svc.example.com", "A"),
            ("down.n.f.svc.example.com", "A"),
            ("down.n.f.svc.us.example.com", "A"),
            ("one.n.f.svc.example.com", "AAAA"),
            ("example.net", "A"),
        ] {
            let reply = subnet(server, over, name, qtype, "198.18.1.0/24");
            assert_eq!(reply.scope(), Some(0), "{name} {qtype}");
        }
    }
}

/// §7.1.2: SOURCE PREFIX-LENGTH 0 asks not to be placed by the address: the resolver's own places
/// the client, and the reply has source and scope 0.
fn source_zero_is_placed_by_its_resolver(server: &Server) {
    let placed = Client { source: [127, 0, 0, 9].into(), ..server.client() };
    for over in BOTH {
        for option in [[0, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0]] {
            let query = Query::new(NAME, "A").opt(Opt::default().with(SUBNET, &option));
            let reply = placed.ask(over, &query).expect("a reply");
            assert_eq!((reply.rcode(), &reply.answer()[0][..]), (dns::NOERROR, NEAR));
            assert_eq!(reply.option(SUBNET), Some(&option[..]));
        }
    }
}

/// §6: FAMILY 0 is sent in the wild with an empty prefix (`dig +subnet=0`): taken and echoed.
fn no_family_is_echoed(server: &Server) {
    for over in BOTH {
        let reply = raw(server, over, NAME, &[0, 0, 0, 0]);
        assert_eq!((reply.rcode(), reply.answer().len()), (dns::NOERROR, 2));
        assert_eq!(reply.option(SUBNET), Some(&[0, 0, 0, 0][..]));
    }
}

/// §7.2.1: wrongly formatted options, unknown families and (§6) set bits behind the prefix, too few
/// or too many octets, and a SCOPE PREFIX-LENGTH that is not 0 in a query are answered with FORMERR.
fn malformed_options_are_refused(server: &Server) {
    let options: [&[u8]; 16] = [
        &[],
        &[0],
        &[0, 1, 24],
        &[0, 3, 0, 0],
        &[0, 3, 8, 0, 10],
        &[0xff, 1, 0, 0],
        &[0, 0, 8, 0, 10],
        &[0, 1, 33, 0, 198, 18, 1, 1, 0],
        &[0, 2, 129, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0],
        &[0, 1, 24, 0, 198, 18],
        &[0, 1, 24, 0, 198, 18, 1, 0],
        &[0, 1, 0, 0, 0],
        &[0, 1, 24, 24, 198, 18, 1],
        &[0, 1, 0, 1],
        &[0, 1, 23, 0, 198, 18, 1],
        &[0, 2, 33, 0, 0x20, 1, 0x0d, 0xb8, 0x40],
    ];
    for over in BOTH {
        for option in options {
            let reply = raw(server, over, NAME, option);
            assert_eq!((reply.rcode(), reply.answer().len()), (dns::FORMERR, 0), "{option:?}");
            assert!(reply.opt.is_some(), "lest the client take us for a server without EDNS");
        }
    }
}

/// §6 describes one option: two contradict each other.
fn a_second_option_is_refused(server: &Server) {
    for over in BOTH {
        let opt = Opt::default().subnet("198.18.1.0/24").subnet("198.18.2.0/24");
        let reply = ask(server, over, &Query::new(NAME, "A").opt(opt));
        assert_eq!(reply.rcode(), dns::FORMERR);
    }
}

/// §11.3: private addresses say nothing of a place: the resolver's own does, and the scope covers
/// the private block.
fn private_prefixes_are_placed_by_the_resolver(server: &Server) {
    let placed = Client { source: [127, 0, 0, 9].into(), ..server.client() };
    for over in BOTH {
        for (prefix, scope) in [
            ("10.1.2.0/24", 8),
            ("172.20.0.0/16", 12),
            ("192.168.1.0/24", 16),
            ("fd00:1:2::/48", 7),
        ] {
            let query = Query::new(NAME, "A").opt(Opt::default().subnet(prefix));
            let reply = placed.ask(over, &query).expect("a reply");
            assert_eq!((reply.scope(), &reply.answer()[0][..]), (Some(scope), NEAR), "{prefix}");
        }
    }
}

/// §7.2.1: for a CNAME chain the server SHOULD only put the initial CNAME in the answer; it is the
/// same for all, so its scope is 0. A chain that ends alike for all stays whole.
fn a_chain_is_cut_to_its_first_cname(server: &Server) {
    let first = "web.n.f.svc.ap-a.ap.example.com. 180 CNAME web.n.f.svc.ap.example.com.";
    let name = "web.n.f.svc.ap-a.ap.example.com";
    for over in BOTH {
        let cut = subnet(server, over, name, "A", "198.18.1.0/24");
        assert_eq!((cut.answer(), cut.scope()), (vec![first.to_owned()], Some(0)));
        assert!(cut.authority().is_empty());
        let whole = ask(server, over, &Query::new(name, "A").opt(Opt::default()));
        assert_eq!(whole.answer().len(), 4);
        let unplaced = subnet(server, over, name, "A", "0.0.0.0/0");
        assert_eq!((unplaced.answer().len(), unplaced.scope()), (4, Some(0)));
        let alike = subnet(server, over, "one.n.f.svc.ap-a.ap.example.com", "A", "198.18.1.0/24");
        assert_eq!((alike.answer().len(), alike.scope()), (3, Some(0)));
    }
}

/// §7.3.1: only the answer section is tied to the network.
fn additional_records_do_not_depend_on_the_client(server: &Server) {
    for over in BOTH {
        let reply = subnet(server, over, "example.com", "NS", "198.18.1.0/24");
        assert_eq!((reply.scope(), reply.additional().len()), (Some(0), 2));
    }
}

/// §7.2.1: room for the option is kept before the answer is filled in.
fn truncated_replies_keep_the_option(server: &Server) {
    let reply = subnet(server, Over::Udp, "big.n.f.svc.example.com", "AAAA", "198.18.1.0/24");
    assert_eq!((reply.flags(), reply.scope()), (vec!["aa", "tc", "rd"], Some(0)));
    assert!(reply.bytes.len() <= 1232);
}
