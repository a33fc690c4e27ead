//! RFC 4343, DNS case insensitivity clarification.

use crate::support::client::BOTH;
use crate::support::dns::{self, Query};
use crate::support::server::Server;
use crate::{ask, rules};

rules![case_does_not_matter_and_is_kept];

/// §3 and §4.1: names are compared without regard to case, and the case of the question is kept
/// in the reply (`ask` compares it octet by octet).
fn case_does_not_matter_and_is_kept(server: &Server) {
    for over in BOTH {
        for (name, qtype) in [
            ("WEB.n.F.svc.eXaMpLe.CoM", "A"),
            ("wEb.N.f.SVC.US-a.uS.example.com", "AAAA"),
            ("_HTTP._tCp.web.n.f.svc.EXAMPLE.com", "SRV"),
            ("US1.web.n.f.svc.example.com", "A"),
            ("WWW.Example.Com", "TXT"),
            ("eXample.com", "NS"),
        ] {
            let reply = ask(server, over, &Query::new(name, qtype));
            assert_eq!((reply.rcode(), reply.answer().is_empty()), (dns::NOERROR, false), "{name}");
        }
    }
}
