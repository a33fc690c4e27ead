//! RFC 8914, Extended DNS errors.

use crate::support::client::BOTH;
use crate::support::dns::{self, EXTENDED_ERROR, Opt, Query};
use crate::support::server::Server;
use crate::{ask, rules};

rules![reasons_are_told_to_those_with_edns];

/// §2: the option may come in any reply to a query with OPT; §4.21, §4.22: "Not Authoritative" and
/// "Not Supported".
fn reasons_are_told_to_those_with_edns(server: &Server) {
    for over in BOTH {
        for (name, qtype, rcode, code) in [
            ("example.net", "A", dns::REFUSED, Some(20)),
            (".", "NS", dns::REFUSED, Some(20)),
            ("example.com", "AXFR", dns::REFUSED, Some(21)),
            ("example.com", "TYPE253", dns::NOTIMP, Some(21)),
            ("none.example.com", "A", dns::NXDOMAIN, None),
            ("www.example.com", "A", dns::NOERROR, None),
        ] {
            let query = Query::new(name, qtype);
            let reply = ask(server, over, &query.clone().opt(Opt::default()));
            let expected = code.map(|code: u16| code.to_be_bytes());
            assert_eq!(reply.rcode(), rcode, "{name} {qtype}");
            let found = reply.option(EXTENDED_ERROR);
            assert_eq!(found, expected.as_ref().map(|octets| &octets[..]), "{name} {qtype}");
            assert!(ask(server, over, &query).opt.is_none(), "without EDNS there is no room");
        }
    }
}
