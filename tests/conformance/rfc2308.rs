//! RFC 2308, Negative caching of DNS queries.

use hickory_proto::rr::RData;

use crate::support::client::BOTH;
use crate::support::dns::{self, Query, Reply};
use crate::support::server::Server;
use crate::{ask, rules};

rules![
    negative_answers_carry_the_soa,
    the_ttl_is_the_time_to_cache,
    a_chain_without_data_carries_the_soa,
    refusals_carry_none,
];

/// TTL and MINIMUM of the one SOA record in the authority section.
fn soa(reply: &Reply) -> (u32, u32) {
    let [record] = &reply.message.authorities[..] else { panic!("{reply}") };
    let RData::SOA(soa) = &record.data else { panic!("{reply}") };
    assert_eq!(record.name.to_string(), "example.com.");
    (record.ttl, soa.minimum)
}

/// §3: servers "MUST include the SOA record of the zone in the authority section of the response
/// when reporting an NXDOMAIN or indicating that no data of the requested type exists".
fn negative_answers_carry_the_soa(server: &Server) {
    for over in BOTH {
        for (name, qtype, rcode) in [
            ("none.example.com", "A", dns::NXDOMAIN),
            ("none.n.f.svc.example.com", "SRV", dns::NXDOMAIN),
            ("www.example.com", "AAAA", dns::NOERROR),
            ("web.n.f.svc.example.com", "MX", dns::NOERROR),
            ("n.f.svc.example.com", "A", dns::NOERROR),
            ("example.com", "DS", dns::NOERROR),
        ] {
            let reply = ask(server, over, &Query::new(name, qtype));
            assert_eq!((reply.rcode(), reply.answer().len()), (rcode, 0), "{name} {qtype}");
            soa(&reply);
        }
    }
}

/// §3: "The TTL of this record is set from the minimum of the MINIMUM field of the SOA record and
/// the TTL of the SOA itself".
fn the_ttl_is_the_time_to_cache(server: &Server) {
    for over in BOTH {
        let (ttl, minimum) = soa(&ask(server, over, &Query::new("none.example.com", "A")));
        assert_eq!((ttl, minimum), (60, 60));
        // The shorter one where a recovery is to be seen soon.
        let (ttl, minimum) = soa(&ask(server, over, &Query::new("down.n.f.svc.example.com", "A")));
        assert_eq!((ttl, minimum), (5, 60));
    }
}

/// §2.2: a CNAME that leads to a name without data is followed by the SOA, with NOERROR.
fn a_chain_without_data_carries_the_soa(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &Query::new("down.n.f.svc.us-a.us.example.com", "A"));
        assert_eq!((reply.rcode(), reply.answer().len()), (dns::NOERROR, 2));
        assert_eq!(soa(&reply).0, 5);
    }
}

/// §3 speaks of authoritative servers: outside of the zone there is nothing to cache.
fn refusals_carry_none(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &Query::new("www.example.net", "A"));
        assert_eq!((reply.rcode(), reply.authority().len()), (dns::REFUSED, 0));
    }
}
