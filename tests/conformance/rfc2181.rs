//! RFC 2181, Clarifications to the DNS specification.

use crate::support::client::{BOTH, Over};
use crate::support::dns::{Opt, Query};
use crate::support::server::Server;
use crate::{ask, rules};

rules![an_rrset_is_never_sent_in_part, additional_records_are_left_out_quietly, ttls_are_equal];

/// §9: TC "should be set in responses only when an RRSet is required as a part of the response,
/// but could not be included in its entirety"; nothing partial comes with it.
fn an_rrset_is_never_sent_in_part(server: &Server) {
    let query = Query::new("big.n.f.svc.example.com", "AAAA").opt(Opt::default());
    let reply = ask(server, Over::Udp, &query);
    assert_eq!(reply.flags(), ["aa", "tc", "rd"]);
    assert!(reply.answer().is_empty() && reply.authority().is_empty());
    assert_eq!(ask(server, Over::Tcp, &query).answer().len(), 60);
}

/// §9: what is merely useful, such as the addresses of targets, is left out without TC where it does
/// not fit, an RRset at a time.
fn additional_records_are_left_out_quietly(server: &Server) {
    let query = Query::new("_http._tcp.big.n.f.svc.example.com", "SRV").opt(Opt::default());
    let reply = ask(server, Over::Udp, &query);
    assert_eq!((reply.flags(), reply.answer().len()), (vec!["aa", "rd"], 1));
    assert_eq!((reply.additional().len(), reply.bytes.len() <= 1232), (0, true));
    assert_eq!(ask(server, Over::Tcp, &query).additional().len(), 60);
    let query = Query::new("_http._tcp.web.n.f.svc.example.com", "SRV");
    assert_eq!(ask(server, Over::Udp, &query).additional().len(), 4);
}

/// §5.2: "the TTLs of all RRs in an RRSet must be the same".
fn ttls_are_equal(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &Query::new("web.n.f.svc.example.com", "A"));
        let ttls: Vec<u32> = reply.message.answers.iter().map(|record| record.ttl).collect();
        assert_eq!(ttls, [180, 180]);
    }
}
