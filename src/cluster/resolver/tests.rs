//! The task against a small name server on the loopback interface.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;
use crate::cluster::state::HostAnswer;

/// What the server says of one name and type; it is silent about all others.
#[derive(Clone)]
enum Says {
    Records(Vec<(u32, RData)>),
    Code(ResponseCode),
}

/// A name server that answers from a table that tests change.
#[derive(Clone, Default)]
struct Server {
    table: Arc<Mutex<BTreeMap<(String, RecordType), Says>>>,
}

impl Server {
    fn says(&self, name: &str, rtype: RecordType, says: Says) {
        self.table.lock().unwrap().insert((format!("{name}."), rtype), says);
    }

    /// A records and no AAAA records.
    fn a(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let records = addresses.iter().map(|text| (ttl, RData::A(A(text.parse().unwrap()))));
        self.says(name, RecordType::A, Says::Records(records.collect()));
        self.says(name, RecordType::AAAA, Says::Records(Vec::new()));
    }

    /// Serves until the test's runtime ends; returns the address to ask.
    async fn start(&self) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let server = self.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
                if let Some(reply) = server.reply(&buffer[..len]) {
                    let _ = socket.send_to(&reply, peer).await;
                }
            }
        });
        address
    }

    fn reply(&self, query: &[u8]) -> Option<Vec<u8>> {
        let query = Message::from_vec(query).ok()?;
        let question = query.queries.first()?.clone();
        let key = (question.name().to_string().to_lowercase(), question.query_type());
        let says = self.table.lock().unwrap().get(&key)?.clone();
        let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
        reply.metadata.recursion_available = true;
        reply.add_query(question.clone());
        match says {
            Says::Code(code) => reply.metadata.response_code = code,
            Says::Records(records) => {
                let mut owner = question.name().clone();
                for (ttl, data) in records {
                    let next = match &data {
                        RData::CNAME(target) => target.0.clone(),
                        _ => owner.clone(),
                    };
                    reply.add_answer(Record::from_rdata(owner, ttl, data));
                    owner = next;
                }
            }
        }
        reply.to_vec().ok()
    }
}

/// The task under test.
struct Resolver {
    hosts: mpsc::UnboundedSender<HostChange>,
    answers: mpsc::Receiver<Event>,
}

impl Resolver {
    async fn start(server: &Server) -> Self {
        let settings = ResolverSettings { upstreams: vec![server.start().await] };
        let (hosts, changes) = mpsc::unbounded_channel();
        let (sender, answers) = mpsc::channel(8);
        let apex = DomainName::parse("example.com").unwrap();
        tokio::spawn(run(settings, apex, changes, sender));
        Self { hosts, answers }
    }

    fn want(&self, hostname: &str) {
        self.hosts.send(HostChange::Wanted(hostname.into())).unwrap();
    }

    /// The next answer; bounded, lest a fault hang the test.
    async fn next(&mut self) -> (String, HostAnswer) {
        match timeout(Duration::from_secs(30), self.answers.recv()).await {
            Ok(Some(Event::Host { hostname, answer })) => (hostname.into(), answer),
            other => panic!("no answer: {other:?}"),
        }
    }
}

fn resolved(addresses: &[&str], ttl: u32) -> HostAnswer {
    let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect();
    HostAnswer::Resolved { addresses, ttl }
}

#[tokio::test]
async fn both_families_and_aliases_are_followed() {
    let server = Server::default();
    let alias = RData::CNAME(CNAME(Name::from_ascii("real.example.net.").unwrap()));
    let v4 = |text: &str| RData::A(A(text.parse().unwrap()));
    server.says(
        "lb.example.net",
        RecordType::A,
        Says::Records(vec![(300, alias.clone()), (60, v4("192.0.2.1")), (60, v4("192.0.2.2"))]),
    );
    let v6 = RData::AAAA(AAAA("2001:db8::1".parse().unwrap()));
    let records = vec![(40, alias), (60, v6)];
    server.says("lb.example.net", RecordType::AAAA, Says::Records(records));
    let mut resolver = Resolver::start(&server).await;
    resolver.want("lb.example.net");
    let (hostname, answer) = resolver.next().await;
    assert_eq!(hostname, "lb.example.net");
    assert_eq!(answer, resolved(&["192.0.2.1", "192.0.2.2", "2001:db8::1"], 40));
}

#[tokio::test]
async fn what_fails_is_told_and_tried_again() {
    let server = Server::default();
    for rtype in [RecordType::A, RecordType::AAAA] {
        server.says("lb.example.net", rtype, Says::Code(ResponseCode::NXDomain));
    }
    let mut resolver = Resolver::start(&server).await;
    resolver.want("lb.example.net");
    let (_, answer) = resolver.next().await;
    assert!(
        matches!(&answer, HostAnswer::Failed { reason } if reason.contains("NXDOMAIN")),
        "{answer:?}"
    );
    server.a("lb.example.net", 60, &["192.0.2.7"]);
    loop {
        match resolver.next().await.1 {
            // It may have asked once more before the table changed.
            HostAnswer::Failed { .. } => {}
            answer => break assert_eq!(answer, resolved(&["192.0.2.7"], 60)),
        }
    }
}

#[tokio::test]
async fn a_name_that_does_not_answer_holds_up_no_other() {
    let server = Server::default();
    let mut resolver = Resolver::start(&server).await;
    resolver.want("silent.example.net");
    server.a("lb.example.net", 60, &["192.0.2.7"]);
    resolver.want("lb.example.net");
    assert_eq!(resolver.next().await.0, "lb.example.net");
}

#[tokio::test]
async fn an_alias_of_our_own_zone_is_no_answer() {
    let server = Server::default();
    let target = Name::from_ascii("web.ns.fed.svc.EXAMPLE.com.").unwrap();
    let records =
        vec![(60, RData::CNAME(CNAME(target))), (60, RData::A(A(Ipv4Addr::new(192, 0, 2, 1))))];
    server.says("lb.example.net", RecordType::A, Says::Records(records));
    server.says("lb.example.net", RecordType::AAAA, Says::Records(Vec::new()));
    let mut resolver = Resolver::start(&server).await;
    resolver.want("lb.example.net");
    let (_, answer) = resolver.next().await;
    assert!(
        matches!(&answer, HostAnswer::Failed { reason } if reason.contains("own zone")),
        "{answer:?}"
    );
}
