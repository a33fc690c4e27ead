use std::net::SocketAddr;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::support::*;
use crate::health::check::Probed;

/// A reply to `query` with a record.
fn good(query: &Message) -> Message {
    let mut reply = query.clone().into_response();
    reply.metadata.message_type = MessageType::Response;
    let name = query.queries[0].name().clone();
    reply.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
    reply
}

/// A server that sends the datagrams that `act` makes of a query.
async fn udp(act: fn(Message) -> Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    let task = tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..length]).expect("a query");
            for reply in act(query) {
                let _ = socket.send_to(&reply, from).await;
            }
        }
    });
    (address, task)
}

fn octets(message: &Message) -> Vec<u8> {
    message.to_vec().expect("fits")
}

async fn fails(act: fn(Message) -> Vec<Vec<u8>>) -> String {
    let (address, _task) = udp(act).await;
    failure(probe("dns/www.example.com", address, PATIENT).await)
}

#[tokio::test]
async fn records_are_a_good_answer() {
    let (address, _task) = udp(|query| vec![octets(&good(&query))]).await;
    assert_eq!(probe("dns/www.example.com", address, PATIENT).await.outcome, Probed::Passed);
    let (address, _task) = udp(|query| {
        let question = &query.queries[0];
        let asked = (question.name().to_ascii(), question.query_type());
        assert_eq!(asked, ("example.com.".to_owned(), RecordType::SOA));
        assert!(query.metadata.recursion_desired);
        vec![octets(&good(&query))]
    })
    .await;
    assert_eq!(probe("dns/example.com type=SOA", address, PATIENT).await.outcome, Probed::Passed);
}

#[tokio::test]
async fn other_answers_are_failures() {
    let why = fails(|query| {
        let mut reply = good(&query);
        reply.metadata.response_code = ResponseCode::ServFail;
        vec![octets(&reply)]
    });
    assert_eq!(why.await, "response code Server Failure");
    let why = fails(|query| {
        let mut reply = good(&query);
        reply.answers.clear();
        vec![octets(&reply)]
    });
    assert_eq!(why.await, "the reply has no record");
}

/// What does not answer the question is passed over: anyone may send it.
#[tokio::test]
async fn foreign_datagrams_are_passed_over() {
    let (address, _task) = udp(|query| {
        let mut other_id = good(&query);
        other_id.metadata.id ^= 1;
        let mut other_name = good(&query);
        other_name.queries =
            vec![Query::query(Name::from_ascii("other.example.").unwrap(), RecordType::A)];
        let mut refused = good(&query);
        refused.metadata.response_code = ResponseCode::Refused;
        refused.metadata.id ^= 1;
        let foreign = [&other_id, &other_name, &refused].map(octets);
        let last = [octets(&query), b"x".to_vec(), octets(&good(&query))];
        foreign.into_iter().chain(last).collect()
    })
    .await;
    assert_eq!(probe("dns/www.example.com", address, PATIENT).await.outcome, Probed::Passed);
}

#[tokio::test]
async fn silence_and_closed_ports() {
    let (address, _task) = udp(|_| Vec::new()).await;
    let why = failure(probe("dns/www.example.com", address, BRIEF).await);
    assert_eq!(why, "no reply within 200ms");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("bound");
    drop(socket);
    let why = failure(probe("dns/www.example.com", address, PATIENT).await);
    assert!(why.contains("Connection refused"), "{why}");
}

async fn answer_over_tcp(mut stream: tokio::net::TcpStream) {
    let Ok(length) = stream.read_u16().await else { return };
    let mut query = vec![0; usize::from(length)];
    if stream.read_exact(&mut query).await.is_err() {
        return;
    }
    let reply = octets(&good(&Message::from_vec(&query).expect("a query")));
    let framed = [&(reply.len() as u16).to_be_bytes()[..], &reply].concat();
    let _ = stream.write_all(&framed).await;
}

#[tokio::test]
async fn over_tcp() {
    let address = server(answer_over_tcp).await;
    let check = "dns/www.example.com transport=tcp";
    assert_eq!(probe(check, address, PATIENT).await.outcome, Probed::Passed);
    let cut = server(|mut stream| async move {
        let _ = stream.write_all(&[0, 99, 1, 2, 3]).await;
    });
    let why = failure(probe(check, cut.await, PATIENT).await);
    assert!(why.contains("eof") || why.contains("reset"), "{why}");
    let other = server(|mut stream| async move {
        let other = good(&{
            let mut query = Message::query();
            query.add_query(Query::query(Name::from_ascii("other.").unwrap(), RecordType::A));
            query
        });
        let reply = octets(&other);
        let _ = stream.write_all(&[&(reply.len() as u16).to_be_bytes()[..], &reply].concat()).await;
        let _ = stream.read(&mut [0; 512]).await;
    });
    let why = failure(probe(check, other.await, PATIENT).await);
    assert_eq!(why, "the reply is not to the question");
    let silent = listener().await;
    let why = failure(probe(check, silent.local_addr().expect("bound"), BRIEF).await);
    assert_eq!(why, "no whole reply within 200ms");
}

#[tokio::test]
async fn what_is_truncated_is_asked_for_again() {
    let address = server(answer_over_tcp).await;
    let socket = UdpSocket::bind(address).await.expect("the same port of the other transport");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let mut reply = good(&Message::from_vec(&buffer[..length]).expect("a query"));
            reply.answers.clear();
            reply.metadata.truncation = true;
            let _ = socket.send_to(&octets(&reply), from).await;
        }
    });
    assert_eq!(probe("dns/www.example.com", address, PATIENT).await.outcome, Probed::Passed);
}
