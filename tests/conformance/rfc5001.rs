//! RFC 5001, DNS name server identifier (NSID) option.

use crate::support::client::BOTH;
use crate::support::dns::{self, NSID, Opt, Query};
use crate::support::server::Server;
use crate::{ask, rules};

rules![the_identifier_is_sent_where_asked_for];

/// §2: a server sends NSID only to those who ask, whatever the answer is, and ignores what data
/// the option has in a query.
fn the_identifier_is_sent_where_asked_for(server: &Server) {
    for over in BOTH {
        for name in ["web.n.f.svc.example.com", "none.example.com", "example.net"] {
            let query = Query::new(name, "A");
            let asked = ask(server, over, &query.clone().opt(Opt::default().with(NSID, &[])));
            assert_eq!(asked.option(NSID), Some(&b"node-1"[..]), "{name}");
            let silent = ask(server, over, &query.opt(Opt::default()));
            assert_eq!(silent.option(NSID), None, "{name}");
        }
        let query = Query::new("www.example.com", "A").opt(Opt::default().with(NSID, b"x"));
        let reply = ask(server, over, &query);
        assert_eq!((reply.rcode(), reply.option(NSID)), (dns::NOERROR, Some(&b"node-1"[..])));
    }
}
