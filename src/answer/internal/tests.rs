use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::BinEncodable;

use crate::answer::{Answered, Client, MAX_MESSAGE, Transport, ZoneKind, answer};
use crate::model::{Drain, Internal, MinReady, ServiceOptions};
use crate::snapshot::Snapshot;
use crate::snapshot::testing::Fixture;

const WEB: &str = "web.ns.fed.svc.cluster.local.";

/// A reply with its records as `OWNER TTL TYPE DATA`.
struct Reply {
    rcode: String,
    answer: Vec<String>,
    authority: Vec<String>,
    additional: Vec<String>,
    authoritative: bool,
    answered: Answered,
}

fn ask_from(snapshot: &Snapshot, name: &str, qtype: RecordType, subnet: Option<IpAddr>) -> Reply {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), qtype));
    if let Some(address) = subnet {
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new(address, 24, 0)));
        message.set_edns(edns);
    }
    let query = message.to_bytes().expect("encodes");
    let client = Client { address: IpAddr::from([10, 0, 0, 10]), transport: Transport::Tcp };
    let mut reply = vec![0; MAX_MESSAGE];
    let answered = answer(snapshot, &query, client, 0, &mut reply).expect("a reply");
    let message = Message::from_vec(&reply[..answered.len]).expect("decodes");
    let lines = |records: &[hickory_proto::rr::Record]| {
        records
            .iter()
            .map(|r| format!("{} {} {} {}", r.name, r.ttl, r.record_type(), r.data))
            .collect()
    };
    Reply {
        rcode: message.metadata.response_code.to_string(),
        answer: lines(&message.answers),
        authority: lines(&message.authorities),
        additional: lines(&message.additionals),
        authoritative: message.metadata.authoritative,
        answered,
    }
}

fn ask(snapshot: &Snapshot, name: &str, qtype: RecordType) -> Reply {
    ask_from(snapshot, name, qtype, None)
}

fn cluster_ip(addresses: &[&str]) -> Internal {
    Internal::ClusterIp(addresses.iter().map(|a| a.parse().expect("an address")).collect())
}

/// `ns/web` in the instance's own cluster, in another region and in a third; no address outside
/// of it in its own.
fn federation(ready: u32, options: ServiceOptions) -> Fixture {
    Fixture::new()
        .cluster("home", "eu", &["eu-1"], Some((50.0, 8.0)))
        .cluster("away", "us", &["us-1"], Some((40.0, -90.0)))
        .cluster("third", "asia", &["asia-1"], Some((35.0, 139.0)))
        .shard(0, "ns/web", &[], ready, options)
        .reached_by(0, cluster_ip(&["10.96.0.1", "fd00::1"]))
        .shard(1, "ns/web", &["192.0.2.1"], 1, ServiceOptions::default())
        .shard(2, "ns/web", &["192.0.2.2"], 1, ServiceOptions::default())
        .network("198.18.0.0/24", (41.0, -88.0))
        .network("198.18.1.0/24", (36.0, 138.0))
        .inside("home", Some("eu-1"))
}

#[test]
fn a_ready_service_has_its_cluster_ip() {
    let snapshot = federation(1, ServiceOptions::default()).build();
    let reply = ask(&snapshot, WEB, RecordType::A);
    assert_eq!(reply.answer, [format!("{WEB} 5 A 10.96.0.1")]);
    assert!(reply.authoritative && reply.answered.zone == ZoneKind::Internal);
    assert_eq!(ask(&snapshot, WEB, RecordType::AAAA).answer, [format!("{WEB} 5 AAAA fd00::1")]);
    assert_eq!(ask(&snapshot, WEB, RecordType::ANY).answer, [format!("{WEB} 5 A 10.96.0.1")]);
    let nodata = ask(&snapshot, WEB, RecordType::MX);
    assert_eq!((nodata.rcode.as_str(), nodata.answer.len()), ("No Error", 0));
    assert!(nodata.authority[0].starts_with("fed.svc.cluster.local. 5 SOA ns1.example.com. "));
    assert!(nodata.authority[0].ends_with(" 5"), "{}", nodata.authority[0]);
}

#[test]
fn a_headless_service_has_its_pods_in_turn() {
    let pods: Vec<_> = (1..=12).map(|i| IpAddr::from([10, 0, 0, i])).collect();
    let fixture = Fixture::new()
        .cluster("home", "eu", &["eu-1"], None)
        .shard(0, "ns/web", &[], 12, ServiceOptions::default())
        .reached_by(0, Internal::Headless(pods.into()))
        .inside("home", None);
    let snapshot = fixture.build();
    let reply = ask(&snapshot, WEB, RecordType::A);
    assert_eq!(reply.answer.len(), 8, "maxAddresses: {:?}", reply.answer);
    assert_eq!(ask(&snapshot, WEB, RecordType::AAAA).answer, [""; 0]);
    let srv = ask(&snapshot, &format!("_http._tcp.{WEB}"), RecordType::SRV);
    assert_eq!((srv.rcode.as_str(), srv.answer.len()), ("No Error", 0));
}

/// The whole chain, also where the query has a client's prefix: nobody follows it.
#[test]
fn without_ready_endpoints_names_lead_up_the_whole_chain() {
    let snapshot = federation(0, ServiceOptions::default()).build();
    let chain = |last: &[&str]| -> Vec<String> {
        let global = "web.ns.fed.svc.example.com.";
        let (zone, region) =
            ("web.ns.fed.svc.eu-1.eu.example.com.", "web.ns.fed.svc.eu.example.com.");
        let mut lines = vec![
            format!("{WEB} 5 CNAME {zone}"),
            format!("{zone} 180 CNAME {region}"),
            format!("{region} 180 CNAME {global}"),
        ];
        lines.extend(last.iter().map(|address| format!("{global} 180 A {address}")));
        lines
    };
    for (subnet, nearest, then) in
        [("198.18.0.0", "192.0.2.1", "192.0.2.2"), ("198.18.1.0", "192.0.2.2", "192.0.2.1")]
    {
        let subnet = subnet.parse().expect("an address");
        let reply = ask_from(&snapshot, WEB, RecordType::A, Some(subnet));
        assert_eq!(reply.answer, chain(&[nearest, then]));
    }
    let nodata = ask(&snapshot, WEB, RecordType::AAAA);
    assert_eq!(nodata.answer, chain(&[]));
    // The chain ends in D, whose SOA tells; CoreDNS keeps it no longer than all else.
    assert!(nodata.authority[0].starts_with("example.com. 5 SOA "), "{}", nodata.authority[0]);
    assert_eq!(ask(&snapshot, WEB, RecordType::CNAME).answer, chain(&[])[..1]);
}

#[test]
fn drains_lead_up_and_other_services_too() {
    let leads_up = |fixture: Fixture| {
        let reply = ask(&fixture.build(), WEB, RecordType::A);
        assert_eq!(reply.answer.len(), 5, "{:?}", reply.answer);
        reply.answer[0].contains(" CNAME ")
    };
    let drained = ServiceOptions { drain: Drain::AtOnce, ..Default::default() };
    assert!(leads_up(federation(1, drained)));
    let mut cluster = federation(1, ServiceOptions::default());
    cluster.members[0].drain = Drain::AtOnce;
    assert!(leads_up(cluster));
    let mut unread = federation(1, ServiceOptions::default());
    unread.read[0] = false;
    assert!(leads_up(unread));
    // A shard that is served without endpoints elsewhere leads nowhere here.
    let any = ServiceOptions { min_ready: Some(MinReady::Count(0)), ..Default::default() };
    assert!(leads_up(federation(0, any)));
}

#[test]
fn srv_has_the_cluster_ip_or_leads_up() {
    let name = format!("_http._tcp.{WEB}");
    let here = ask(&federation(1, ServiceOptions::default()).build(), &name, RecordType::SRV);
    assert_eq!(here.answer, [format!("{name} 5 SRV 0 1 80 {WEB}")]);
    let addresses = [format!("{WEB} 5 A 10.96.0.1"), format!("{WEB} 5 AAAA fd00::1")];
    assert_eq!(here.additional, addresses);
    let away = ask(&federation(0, ServiceOptions::default()).build(), &name, RecordType::SRV);
    let zone = "_http._tcp.web.ns.fed.svc.eu-1.eu.example.com.";
    assert_eq!(away.answer[0], format!("{name} 5 CNAME {zone}"));
    assert!(away.answer[1].starts_with(&format!("{zone} 180 CNAME ")), "{}", away.answer[1]);
    assert_eq!(away.answer.len(), 5, "{:?}", away.answer);
    assert!(
        away.additional.iter().any(|r| r == "away.web.ns.fed.svc.example.com. 180 A 192.0.2.1")
    );
}

#[test]
fn the_apex_and_what_is_not_there() {
    let fixture = federation(1, ServiceOptions::default());
    let snapshot = fixture.build();
    let apex = "fed.svc.cluster.local.";
    let soa = ask(&snapshot, apex, RecordType::SOA);
    let serial = snapshot.serial;
    let rdata = format!("ns1.example.com. hostmaster.example.com. {serial} 3600 600 604800 5");
    assert_eq!(soa.answer, [format!("{apex} 180 SOA {rdata}")]);
    let ns = ask(&snapshot, apex, RecordType::NS);
    assert_eq!(ns.answer, [format!("{apex} 180 NS ns1.example.com.")]);
    assert_eq!(ask(&snapshot, &format!("ns.{apex}"), RecordType::A).rcode, "No Error");
    let nothing = ask(&snapshot, &format!("nobody.ns.{apex}"), RecordType::A);
    assert_eq!(nothing.rcode, "Non-Existent Domain");
    assert_eq!(nothing.authority, [format!("{apex} 5 SOA {rdata}")]);
    assert_eq!(ask(&snapshot, "svc.cluster.local.", RecordType::A).rcode, "Query Refused");
    let mut unread = fixture;
    unread.read[2] = false;
    let unknown = ask(&unread.build(), &format!("nobody.ns.{apex}"), RecordType::A);
    assert_eq!(unknown.rcode, "Server Failure");
}

#[test]
fn an_instance_in_no_cluster_serves_none() {
    let mut fixture = federation(1, ServiceOptions::default());
    fixture.zone.internal = None;
    let reply = ask(&fixture.build(), WEB, RecordType::A);
    assert_eq!((reply.rcode.as_str(), reply.answered.zone), ("Query Refused", ZoneKind::None));
}
