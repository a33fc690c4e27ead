//! The answer itself, asked of the server's one function and read back by another library.

use hickory_proto::op::Message;
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};

use super::Request;
use crate::answer::{Client, MAX_MESSAGE, Transport, answer};
use crate::snapshot::Snapshot;
use crate::wire::number::{class, rcode};

/// A reply in words.
pub(super) struct Words {
    pub(super) rcode: String,
    pub(super) answer: Vec<String>,
    pub(super) authority: Vec<String>,
    pub(super) additional: Vec<String>,
    pub(super) scope: String,
}

/// Asks as a resolver would that forwards the client's prefix, over TCP lest it be cut.
pub(super) fn ask(snapshot: &Snapshot, request: &Request) -> Words {
    let client = Client { address: request.client.addr(), transport: Transport::Tcp };
    let mut reply = vec![0; MAX_MESSAGE];
    let len = answer(snapshot, &query(request), client, 0, &mut reply).map_or(0, |a| a.len);
    match Message::from_vec(&reply[..len]) {
        Ok(message) => words(&message, request),
        Err(error) => Words {
            rcode: format!("unreadable reply: {error}"),
            answer: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            scope: String::new(),
        },
    }
}

/// A query with Client Subnet, in wire form.
fn query(request: &Request) -> Vec<u8> {
    let prefix = request.client.prefix_len();
    let octets = usize::from(prefix).div_ceil(8);
    let (family, address) = match request.client.addr() {
        std::net::IpAddr::V4(a) => (1u8, a.octets().to_vec()),
        std::net::IpAddr::V6(a) => (2u8, a.octets().to_vec()),
    };
    let mut wire = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    wire.extend_from_slice(request.name.wire());
    wire.extend_from_slice(&request.qtype.to_be_bytes());
    wire.extend_from_slice(&class::IN.to_be_bytes());
    let option_len = (octets + 4) as u8;
    // OPT with the largest payload size, and option 8 (RFC 7871 §6).
    wire.extend_from_slice(&[0, 0, 41, 0xff, 0xff, 0, 0, 0, 0, 0, option_len + 4]);
    wire.extend_from_slice(&[0, 8, 0, option_len, 0, family, prefix, 0]);
    wire.extend_from_slice(&address[..octets]);
    wire
}

/// The mnemonic of a response code, as `dig` prints it.
fn rcode(code: u16) -> String {
    let mnemonic = match code {
        rcode::NOERROR => "NOERROR",
        rcode::FORMERR => "FORMERR",
        rcode::SERVFAIL => "SERVFAIL",
        rcode::NXDOMAIN => "NXDOMAIN",
        rcode::NOTIMP => "NOTIMP",
        rcode::REFUSED => "REFUSED",
        rcode::BADVERS => "BADVERS",
        other => return format!("RCODE{other}"),
    };
    mnemonic.to_owned()
}

fn words(message: &Message, request: &Request) -> Words {
    let lines = |records: &[Record]| records.iter().map(ToString::to_string).collect();
    let subnet = message.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
    let scope = match subnet {
        Some(EdnsOption::Subnet(subnet)) => subnet.scope_prefix(),
        _ => 0,
    };
    let covered = ipnet::IpNet::new(request.client.addr(), scope).map(|net| net.trunc());
    Words {
        rcode: rcode(message.metadata.response_code.into()),
        answer: lines(&message.answers),
        authority: lines(&message.authorities),
        additional: lines(&message.additionals),
        scope: covered.map_or_else(|_| format!("/{scope}"), |net| net.to_string()),
    }
}
