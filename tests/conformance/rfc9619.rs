//! RFC 9619, In the DNS, QDCOUNT is (usually) one.

use crate::support::client::BOTH;
use crate::support::dns::{self, Opt, Query};
use crate::support::server::Server;
use crate::{rules, send};

rules![several_questions_are_no_query];

/// §4: "A DNS message with OPCODE = 0 MUST NOT include a QDCOUNT parameter whose value is greater
/// than 1"; one that does is answered with FORMERR.
fn several_questions_are_no_query(server: &Server) {
    for over in BOTH {
        for count in [2, 3] {
            let bytes = Query::new("www.example.com", "A").bytes_with(count, &[]);
            assert_eq!(send(server, over, &bytes).rcode(), dns::FORMERR);
        }
        // The count alone.
        let mut bytes = Query::new("www.example.com", "A").opt(Opt::default()).bytes();
        bytes[4..6].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(send(server, over, &bytes).rcode(), dns::FORMERR);
    }
}
