//! What holds of `answer()` whatever octets come in: the one property that the fuzz target, the
//! replay of its corpus and the property tests assert.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use meridian::answer::{Answered, Client, MAX_MESSAGE, Transport, answer};
use meridian::snapshot::Snapshot;

use super::dns::{self, HEADER, Reply, SUBNET, opt_record, skip_name};

/// Octets of a datagram where the query has no EDNS (RFC 1035 §2.3.4).
const PLAIN_UDP_LIMIT: usize = 512;

/// Asserts that `packet` gets nothing at all or a well-formed reply that is its own, over every
/// transport and from clients of both families.
///
/// # Panics
/// Where that does not hold.
pub(crate) fn check(snapshot: &Snapshot, packet: &[u8], turn: u32) {
    let addresses: [IpAddr; 2] = [Ipv4Addr::new(198, 18, 1, 7).into(), Ipv6Addr::LOCALHOST.into()];
    for transport in [Transport::Udp, Transport::Tcp] {
        for address in addresses {
            let client = Client { address, transport };
            let reply = run(snapshot, packet, client, turn);
            assert_eq!(reply, run(snapshot, packet, client, turn), "not a function of its input");
            match reply {
                None => assert!(may_be_silent(packet), "no reply to {packet:02x?}"),
                Some((answered, reply)) => {
                    judge(snapshot, packet, transport, answered, &reply);
                }
            }
        }
    }
}

fn run(
    snapshot: &Snapshot,
    packet: &[u8],
    client: Client,
    turn: u32,
) -> Option<(Answered, Vec<u8>)> {
    // Exactly what the function asks for, so that no index reaches beyond it unseen.
    let room = match client.transport {
        Transport::Udp => usize::from(snapshot.identity().udp_payload),
        Transport::Tcp => MAX_MESSAGE,
    };
    let mut buffer = vec![0xa5; room];
    let answered = answer(snapshot, packet, client, turn, &mut buffer)?;
    buffer.truncate(answered.len);
    Some((answered, buffer))
}

/// Only what has no whole header, or is a response, gets nothing.
fn may_be_silent(packet: &[u8]) -> bool {
    packet.len() < HEADER || packet[2] & 0x80 != 0
}

fn judge(
    snapshot: &Snapshot,
    packet: &[u8],
    transport: Transport,
    answered: Answered,
    octets: &[u8],
) {
    assert!(!may_be_silent(packet), "a reply to {packet:02x?}");
    let reply = Reply::parse(octets).unwrap_or_else(|why| panic!("{why}: {octets:02x?}"));
    assert_eq!(octets[..2], packet[..2], "the id");
    assert_eq!(octets[2] & 0xf9, packet[2] & 0x79 | 0x80, "QR, opcode, RD");
    assert_eq!(octets[3] & 0xf0, packet[3] & 0x10, "RA, Z, AD clear, CD copied");
    assert_eq!(reply.rcode(), answered.rcode);
    let asked = opt_record(packet);
    if transport == Transport::Udp {
        let payload = match (&reply.opt, &asked) {
            (Some(_), Ok(Some(opt))) => usize::from(opt.payload),
            _ => PLAIN_UDP_LIMIT,
        };
        let limit = payload.clamp(PLAIN_UDP_LIMIT, snapshot.identity().udp_payload.into());
        assert!(octets.len() <= limit, "{} octets, over {limit}", octets.len());
    }
    match u16::from_be_bytes([octets[4], octets[5]]) {
        0 => {
            assert!(matches!(reply.rcode(), dns::FORMERR | dns::NOTIMP), "{reply}");
            assert_eq!(octets[6..10], [0; 4], "no question, so no records either");
            assert!(reply.additional().is_empty(), "{reply}");
        }
        1 => {
            let end = skip_name(octets, HEADER).expect("a name") + 4;
            assert_eq!(octets[HEADER..end], packet[HEADER..end], "the question");
        }
        count => panic!("{count} questions"),
    }
    judge_content(&reply);
    if let (Some(_), Ok(Some(record))) = (&reply.opt, &asked) {
        judge_subnet(&reply, record.read());
    }
}

/// Answers and negative answers have what belongs to them.
fn judge_content(reply: &Reply) {
    let flags = reply.flags();
    let (aa, tc) = (flags.contains(&"aa"), flags.contains(&"tc"));
    let (answer, authority) = (reply.answer(), reply.authority());
    let is_error = !matches!(reply.rcode(), dns::NOERROR | dns::NXDOMAIN);
    if is_error || tc {
        assert!(answer.is_empty() && authority.is_empty(), "{reply}");
        assert!(!(aa && is_error), "an error is no authoritative answer\n{reply}");
    } else if aa && answer.is_empty() {
        assert_eq!(authority.len(), 1, "a negative answer has the SOA (RFC 2308 §3)\n{reply}");
        assert!(authority[0].contains(" SOA "), "{reply}");
    } else if reply.rcode() == dns::NXDOMAIN {
        panic!("NXDOMAIN beside data\n{reply}");
    }
}

/// Client Subnet is echoed but for its scope (RFC 7871 §7.2.1), which a negative answer has none of.
fn judge_subnet(reply: &Reply, asked: Option<dns::Opt>) {
    let Some(echoed) = reply.option(SUBNET) else { return };
    let options = asked.expect("an echo of what could be read").options;
    let (_, sent) = options.iter().find(|(code, _)| *code == SUBNET).expect("an echo");
    assert_eq!((&echoed[..3], &echoed[4..]), (&sent[..3], &sent[4..]));
    let width = match echoed[1] {
        1 => 32,
        2 => 128,
        _ => 0,
    };
    assert!(echoed[3] <= width, "scope {}", echoed[3]);
    let is_negative = reply.answer().is_empty();
    assert!(echoed[3] == 0 || (sent[2] > 0 && !is_negative), "{reply}");
}
