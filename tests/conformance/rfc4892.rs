//! RFC 4892, Requirements for a mechanism identifying a name server instance.

use crate::support::client::BOTH;
use crate::support::dns::{self, Query};
use crate::support::server::Server;
use crate::{ask, rules};

rules![the_identity_is_told_where_configured];

/// §2: a TXT query of class CH for ID.SERVER or VERSION.BIND gets the configured text, TTL 0. What
/// is not known is refused, as the class has no zone here.
fn the_identity_is_told_where_configured(server: &Server) {
    for over in BOTH {
        for (name, text) in [
            ("version.bind", "meridian"),
            ("VERSION.server", "meridian"),
            ("id.server", "node-1"),
            ("hostname.bind", "node-1"),
        ] {
            let reply = ask(server, over, &Query { qclass: 3, ..Query::new(name, "TXT") });
            assert_eq!(reply.answer().len(), 1, "{reply}");
            let record = &reply.message.answers[0];
            assert_eq!((record.ttl, u16::from(record.dns_class)), (0, 3));
            assert_eq!(record.data.to_string(), text);
            let reply = ask(server, over, &Query { qclass: 3, ..Query::new(name, "A") });
            assert_eq!((reply.rcode(), reply.answer().len()), (dns::NOERROR, 0));
        }
        for name in ["authors.bind", "www.example.com", "."] {
            let reply = ask(server, over, &Query { qclass: 3, ..Query::new(name, "TXT") });
            assert_eq!(reply.rcode(), dns::REFUSED, "{name}");
        }
    }
}
