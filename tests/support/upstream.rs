//! A recursive resolver in miniature, for the host names of load balancers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};
use serde::Deserialize;

/// What a host name has.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    addresses: Vec<IpAddr>,
    ttl: u32,
}

/// Host names, without a final dot.
pub(crate) type Hosts = BTreeMap<String, Host>;

/// The resolver. A name that it does not have fails with SERVFAIL. Its thread waits on a socket
/// for as long as the test process lives, which owns nothing else.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    hosts: Arc<Mutex<Hosts>>,
}

impl Upstream {
    /// Starts it on a port that the system chooses.
    pub(crate) fn start(hosts: Hosts) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound");
        let hosts = Arc::new(Mutex::new(hosts));
        let shared = hosts.clone();
        thread::spawn(move || serve(&socket, &shared));
        Self { address, hosts }
    }

    /// Replaces what it knows.
    pub(crate) fn set(&self, hosts: Hosts) {
        *self.hosts.lock().unwrap_or_else(PoisonError::into_inner) = hosts;
    }
}

fn serve(socket: &UdpSocket, hosts: &Mutex<Hosts>) {
    let mut buffer = [0; 4096];
    while let Ok((len, client)) = socket.recv_from(&mut buffer) {
        let Ok(query) = Message::from_vec(&buffer[..len]) else { continue };
        let hosts = hosts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Ok(reply) = answer(&query, &hosts).to_vec() {
            // A client that is gone needs no answer.
            let _ = socket.send_to(&reply, client);
        }
    }
}

fn answer(query: &Message, hosts: &Hosts) -> Message {
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    let Some(question) = query.queries.first() else { return reply };
    reply.add_query(question.clone());
    let name = question.name().to_string().to_ascii_lowercase();
    let Some(host) = hosts.get(name.trim_end_matches('.')) else {
        reply.metadata.response_code = ResponseCode::ServFail;
        return reply;
    };
    for address in &host.addresses {
        let data = match (address, question.query_type()) {
            (IpAddr::V4(v4), RecordType::A) => RData::A(A(*v4)),
            (IpAddr::V6(v6), RecordType::AAAA) => RData::AAAA(AAAA(*v6)),
            _ => continue,
        };
        reply.add_answer(Record::from_rdata(question.name().clone(), host.ttl, data));
    }
    reply
}
