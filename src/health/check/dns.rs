//! Checks by DNS.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use super::deadline::{Deadline, Fault};
use super::tcp;
use crate::model::{DnsCheck, DnsTransport, DnsType};

/// Where DNS is spoken unless a check says otherwise.
pub(super) const PORT: u16 = 53;

/// Octets of a datagram: as much as any server sends to who did not ask for more (RFC 1035
/// §2.3.4: 512), and some for those that do not care.
const MAX_DATAGRAM: usize = 4096;

/// Asks `address` by `check`. A datagram that was truncated is asked for again over TCP (RFC 7766
/// §5).
pub(super) async fn ask(
    check: &DnsCheck,
    address: SocketAddr,
    deadline: &mut Deadline,
) -> Result<(), Fault> {
    let query = query(check)?;
    let octets = query.to_vec().map_err(|error| Fault::of(&error))?;
    let reply = match check.transport {
        DnsTransport::Udp => {
            let datagram = datagram(&query, &octets, address);
            let reply = deadline.limit("no reply", datagram).await?;
            if !reply.metadata.truncation {
                return judge(&reply);
            }
            over_tcp(&octets, address, deadline).await?
        }
        DnsTransport::Tcp => over_tcp(&octets, address, deadline).await?,
    };
    if answers(&reply, &query) {
        judge(&reply)
    } else {
        Err(Fault::Target("the reply is not to the question".to_owned()))
    }
}

fn query(check: &DnsCheck) -> Result<Message, Fault> {
    let name = Name::from_ascii(check.name.to_string()).map_err(|error| Fault::of(&error))?;
    let record = match check.record {
        DnsType::A => RecordType::A,
        DnsType::Aaaa => RecordType::AAAA,
        DnsType::Cname => RecordType::CNAME,
        DnsType::Mx => RecordType::MX,
        DnsType::Ns => RecordType::NS,
        DnsType::Ptr => RecordType::PTR,
        DnsType::Soa => RecordType::SOA,
        DnsType::Srv => RecordType::SRV,
        DnsType::Txt => RecordType::TXT,
    };
    // With an id by chance.
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, record));
    Ok(message)
}

async fn datagram(query: &Message, octets: &[u8], address: SocketAddr) -> Result<Message, Fault> {
    let any = if address.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let fault = |error| tcp::fault(address, &error);
    let socket = UdpSocket::bind(any).await;
    let socket = socket.map_err(|error| Fault::Ours(format!("no socket: {error}")))?;
    socket.connect(address).await.map_err(fault)?;
    socket.send(octets).await.map_err(fault)?;
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(fault)?;
        // Others may send datagrams in the target's name; its own may still come.
        match Message::from_vec(&buffer[..length]) {
            Ok(reply) if answers(&reply, query) => return Ok(reply),
            _ => {}
        }
    }
}

/// Whether `reply` is to `query` and not to another question.
fn answers(reply: &Message, query: &Message) -> bool {
    reply.metadata.message_type == MessageType::Response
        && reply.metadata.id == query.metadata.id
        && reply.queries == query.queries
}

/// A reply over a connection, behind its length (RFC 1035 §4.2.2).
async fn over_tcp(
    octets: &[u8],
    address: SocketAddr,
    deadline: &mut Deadline,
) -> Result<Message, Fault> {
    let mut stream = tcp::connect(address, deadline).await?;
    let exchange = async {
        let fault = |error: std::io::Error| Fault::of(&error);
        // A question has at most 12 + 255 + 4 octets.
        let mut framed = (octets.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(octets);
        stream.write_all(&framed).await.map_err(fault)?;
        let length = stream.read_u16().await.map_err(fault)?;
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await.map_err(fault)?;
        Message::from_vec(&reply).map_err(|error| Fault::of(&error))
    };
    deadline.limit("no whole reply", exchange).await
}

fn judge(reply: &Message) -> Result<(), Fault> {
    match reply.metadata.response_code {
        ResponseCode::NoError if !reply.answers.is_empty() => Ok(()),
        ResponseCode::NoError => Err(Fault::Target("the reply has no record".to_owned())),
        code => Err(Fault::Target(format!("response code {code}"))),
    }
}
