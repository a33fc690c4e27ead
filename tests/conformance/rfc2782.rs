//! RFC 2782, A DNS RR for specifying the location of services.

use crate::support::client::BOTH;
use crate::support::dns::{self, Opt, Query, wire_name};
use crate::support::server::Server;
use crate::{ask, rules};

rules![targets_are_not_compressed, targets_have_their_addresses, nearer_ones_come_first];

const NAME: &str = "_http._tcp.web.n.f.svc.example.com";

/// "Unless and until permitted by future standards action, name compression is not to be used for
/// this field."
fn targets_are_not_compressed(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &Query::new(NAME, "SRV"));
        for target in ["us1.web.n.f.svc.example.com", "eu1.web.n.f.svc.example.com"] {
            let wire = wire_name(target);
            assert!(reply.bytes.windows(wire.len()).any(|part| part == wire), "{target}");
        }
    }
}

/// "Implementors are urged, but not required, to return the address record(s) in the Additional
/// Data section."
fn targets_have_their_addresses(server: &Server) {
    for over in BOTH {
        let reply = ask(server, over, &Query::new(NAME, "SRV"));
        let mut additional = reply.additional();
        additional.sort();
        assert_eq!(
            additional,
            [
                "eu1.web.n.f.svc.example.com. 180 A 192.0.2.2",
                "eu1.web.n.f.svc.example.com. 180 AAAA 2001:db8::2",
                "us1.web.n.f.svc.example.com. 180 A 192.0.2.1",
                "us1.web.n.f.svc.example.com. 180 AAAA 2001:db8::1",
            ]
        );
        // "A client MUST attempt to contact the target host": so the name itself has them too.
        for qtype in ["A", "AAAA"] {
            let target = ask(server, over, &Query::new("eu1.web.n.f.svc.example.com", qtype));
            assert_eq!((target.rcode(), target.answer().len()), (dns::NOERROR, 1));
        }
    }
}

/// "A client MUST attempt to contact the target host with the lowest-numbered priority it can
/// reach", so that the order by distance survives whatever shuffles records on the way.
fn nearer_ones_come_first(server: &Server) {
    for over in BOTH {
        let query = Query::new(NAME, "SRV").opt(Opt::default().subnet("198.18.1.0/24"));
        let reply = ask(server, over, &query);
        assert_eq!(
            reply.answer(),
            [
                format!("{NAME}. 180 SRV 0 1 80 eu1.web.n.f.svc.example.com."),
                format!("{NAME}. 180 SRV 1 1 80 us1.web.n.f.svc.example.com."),
            ]
        );
    }
}
