//! RFC 3597, Handling of unknown DNS resource record types.

use crate::support::client::BOTH;
use crate::support::dns::{self, Query};
use crate::support::server::Server;
use crate::{ask, rules};

rules![unknown_types_are_types_like_others];

/// §3: servers handle RRs of unknown type transparently: a name that lacks one has no data of it.
fn unknown_types_are_types_like_others(server: &Server) {
    for over in BOTH {
        for qtype in ["TYPE999", "TYPE65280", "TYPE65535", "TYPE127"] {
            for name in ["web.n.f.svc.example.com", "www.example.com", "example.com"] {
                let reply = ask(server, over, &Query::new(name, qtype));
                let sections = (reply.answer().len(), reply.authority().len());
                assert_eq!((reply.rcode(), sections), (dns::NOERROR, (0, 1)), "{name} {qtype}");
            }
            let reply = ask(server, over, &Query::new("alias.example.com", qtype));
            assert_eq!(reply.answer(), ["alias.example.com. 180 CNAME www.example.net."]);
        }
    }
}
