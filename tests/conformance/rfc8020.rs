//! RFC 8020, NXDOMAIN: there really is nothing underneath.

use crate::support::client::BOTH;
use crate::support::dns::{self, Query};
use crate::support::server::Server;
use crate::{ask, rules};

rules![above_every_name_there_is_something, below_nothing_there_is_nothing];

/// §2: a resolver takes NXDOMAIN for all names below too, so that no ancestor of a name that
/// exists may get it.
fn above_every_name_there_is_something(server: &Server) {
    for over in BOTH {
        for name in [
            "_http._tcp.web.n.f.svc.example.com",
            "_http._tcp.web.n.f.svc.ap-a.ap.example.com",
            "_http._tcp.web.n.f.svc.us-a.example.com",
            "_http._tcp.web.n.f.example.com",
            "eu1.web.n.f.svc.example.com",
        ] {
            let mut rest = name;
            while rest != "com" {
                let rcode = ask(server, over, &Query::new(rest, "TXT")).rcode();
                assert_eq!(rcode, dns::NOERROR, "{rest}");
                rest = rest.split_once('.').expect("below com").1;
            }
        }
    }
}

/// §2: and where there is nothing, nothing is below.
fn below_nothing_there_is_nothing(server: &Server) {
    for over in BOTH {
        for name in [
            "none.example.com",
            "none.f.svc.example.com",
            "none.n.f.svc.example.com",
            "none.web.n.f.svc.example.com",
            "x.www.example.com",
            "f.us.example.com",
            "us-a.eu.example.com",
        ] {
            for name in [name.to_owned(), format!("x.{name}"), format!("_http._tcp.{name}")] {
                let rcode = ask(server, over, &Query::new(&name, "A")).rcode();
                assert_eq!(rcode, dns::NXDOMAIN, "{name}");
            }
        }
    }
}
