//! RFC 8482, Providing minimal-sized responses to DNS queries that have QTYPE=ANY.

use crate::support::client::BOTH;
use crate::support::dns::{self, Query};
use crate::support::server::Server;
use crate::{ask, rules};

rules![one_rrset_answers_any, names_without_data_have_none_for_any];

/// §4.1: a responder "MAY instead send a response with a single RRset".
fn one_rrset_answers_any(server: &Server) {
    for over in BOTH {
        for name in [
            "web.n.f.svc.example.com",
            "eu1.web.n.f.svc.example.com",
            "_http._tcp.web.n.f.svc.example.com",
            "web.n.f.svc.ap-a.ap.example.com",
            "www.example.com",
            "alias.example.com",
            "example.com",
        ] {
            let reply = ask(server, over, &Query::new(name, "ANY"));
            assert_eq!(reply.rcode(), dns::NOERROR);
            let records = &reply.message.answers;
            let first = records.first().unwrap_or_else(|| panic!("nothing at {name}"));
            let same = |r: &hickory_proto::rr::Record| {
                (&r.name, r.record_type()) == (&first.name, first.record_type())
            };
            assert!(records.iter().all(same), "{reply}");
            assert_eq!(first.name.to_string().trim_end_matches('.'), name);
        }
    }
}

/// §4: ANY makes no name of none.
fn names_without_data_have_none_for_any(server: &Server) {
    for over in BOTH {
        for (name, rcode) in [
            ("n.f.svc.example.com", dns::NOERROR),
            ("none.example.com", dns::NXDOMAIN),
            ("down.n.f.svc.example.com", dns::NOERROR),
        ] {
            let reply = ask(server, over, &Query::new(name, "ANY"));
            let sections = (reply.answer().len(), reply.authority().len());
            assert_eq!((reply.rcode(), sections), (rcode, (0, 1)), "{name}");
        }
    }
}
