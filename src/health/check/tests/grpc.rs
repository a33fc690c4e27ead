use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::support::*;
use crate::health::check::Probed;

/// What a gRPC server answers with.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// This message, then this status.
    Message(&'static [u8], &'static str),
    /// Only this status, as a server does that has no such service or method.
    Status(&'static str),
    /// A status with this message.
    Told(&'static str),
    /// An HTTP status, as a proxy in between does.
    Http(u16),
    /// This message for ever.
    Endless(&'static [u8]),
    /// Headers, and then nothing.
    Silence,
}

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// More than a reply may have.
const LARGE: &[u8] = &[0; 4 << 10];

async fn grpc(answer: Answer, certificate: Option<&str>) -> (SocketAddr, Requests) {
    let listener = listener().await;
    let address = listener.local_addr().expect("bound");
    let (requests, read) = mpsc::unbounded_channel();
    let acceptor = certificate.map(|certificate| {
        let mut config = tls(certificate);
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, requests) = (acceptor.clone(), requests.clone());
            tokio::spawn(async move {
                match acceptor {
                    None => serve(stream, answer, requests).await,
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            serve(stream, answer, requests).await;
                        }
                    }
                }
            });
        }
    });
    (address, read)
}

type Requests = mpsc::UnboundedReceiver<(http::request::Parts, Vec<u8>)>;

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Answer,
    requests: mpsc::UnboundedSender<(http::request::Parts, Vec<u8>)>,
) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let requests = requests.clone();
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut octets = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                octets.extend_from_slice(&data);
            }
            let _ = requests.send((head, octets));
            let reply = http::Response::builder().header("content-type", "application/grpc");
            let status = |status| {
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static(status));
                trailers
            };
            let respond = &mut respond;
            let mut begin = |reply: http::response::Builder, ends| {
                respond.send_response(reply.body(()).expect("well-formed"), ends)
            };
            let _ = match answer {
                Answer::Status(text) => begin(reply.header("grpc-status", text), true).map(drop),
                Answer::Told(message) => {
                    let reply = reply.header("grpc-status", "14").header("grpc-message", message);
                    begin(reply, true).map(drop)
                }
                Answer::Http(status) => begin(reply.status(status), true).map(drop),
                Answer::Message(message, text) => begin(reply, false).and_then(|mut stream| {
                    stream.send_data(Bytes::from_static(message), false)?;
                    stream.send_trailers(status(text))
                }),
                Answer::Endless(message) => match begin(reply, false) {
                    Ok(mut stream) => loop {
                        if let Err(error) = stream.send_data(Bytes::from_static(message), false) {
                            break Err(error);
                        }
                        stream.reserve_capacity(message.len());
                        tokio::task::yield_now().await;
                    },
                    Err(error) => Err(error),
                },
                Answer::Silence => match begin(reply, false) {
                    Ok(mut stream) => {
                        let gone = std::future::poll_fn(|context| stream.poll_reset(context));
                        gone.await.map(drop)
                    }
                    Err(error) => Err(error),
                },
            };
        });
    }
}

async fn fails(check: &str, answer: Answer) -> String {
    let (address, _requests) = grpc(answer, None).await;
    failure(probe(check, address, PATIENT).await)
}

#[tokio::test]
async fn what_is_asked() {
    let (address, mut requests) = grpc(Answer::Message(SERVING, "0"), None).await;
    assert_eq!(probe("grpc/shop.v1.Cart", address, PATIENT).await.outcome, Probed::Passed);
    let (head, body) = requests.recv().await.expect("a request");
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/grpc.health.v1.Health/Check"));
    assert_eq!(head.uri.authority().map(ToString::to_string), Some(address.to_string()));
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["te"], "trailers");
    assert_eq!(body, b"\0\0\0\0\x0e\x0a\x0cshop.v1.Cart");
    assert_eq!(probe("grpc host=shop.example.com", address, PATIENT).await.outcome, Probed::Passed);
    let (head, body) = requests.recv().await.expect("a request");
    assert_eq!(head.uri.host(), Some("shop.example.com"));
    assert_eq!(body, b"\0\0\0\0\0", "of the server as a whole");
    let long = "s".repeat(300);
    probe(&format!("grpc/{long}"), address, PATIENT).await;
    let (_, body) = requests.recv().await.expect("a request");
    // 303 octets: a tag, a length of two octets (0xac 0x02 is 300), and the name.
    assert_eq!(body, [&b"\0\0\0\x01\x2f\x0a\xac\x02"[..], long.as_bytes()].concat());
}

#[tokio::test]
async fn health() {
    let message = |octets| Answer::Message(octets, "0");
    for (octets, why) in [
        (&[0, 0, 0, 0, 2, 8, 2][..], "its health is NOT_SERVING"),
        (&[0, 0, 0, 0, 0], "its health is UNKNOWN"),
        (&[0, 0, 0, 0, 2, 8, 3], "its health is SERVICE_UNKNOWN"),
        (&[0, 0, 0, 0, 3, 8, 0xac, 2], "its health is 300, which is not defined"),
        (&[1, 0, 0, 0, 2, 8, 1], "the message cannot be decoded"),
        (&[0, 0, 0, 0, 3, 8, 1], "the message cannot be decoded"),
        (&[0, 0, 0, 0, 1, 8], "the message cannot be decoded"),
        (&[0, 0, 0, 0, 2, 0x12, 9], "the message cannot be decoded"),
        (&[0, 0], "the message cannot be decoded"),
    ] {
        assert_eq!(fails("grpc", message(octets)).await, why, "{octets:?}");
    }
    // Fields of later versions, of every kind, are passed over.
    let later = [0, 0, 0, 0, 20, 0x12, 1, 9, 8, 1, 0x18, 0x80, 1, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
    let later = [&later[..], &[0x2d, 1, 2]].concat();
    let (address, _requests) = grpc(message(Box::leak(later.into_boxed_slice())), None).await;
    let why = failure(probe("grpc", address, PATIENT).await);
    assert_eq!(why, "the message cannot be decoded", "its last field is cut off");
    let whole: &[u8] = &[0, 0, 0, 0, 16, 0x12, 1, 9, 8, 1, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 0x18, 1];
    let (address, _requests) = grpc(message(whole), None).await;
    assert_eq!(probe("grpc", address, PATIENT).await.outcome, Probed::Passed);
}

#[tokio::test]
async fn statuses() {
    for (answer, why) in [
        (Answer::Status("12"), "gRPC status 12: it does not speak the health protocol"),
        (Answer::Status("5"), "gRPC status 5: it knows no service 'cart'"),
        (Answer::Status("14"), "gRPC status 14"),
        (Answer::Message(SERVING, "13"), "gRPC status 13"),
        (Answer::Http(502), "HTTP status 502 is no answer of gRPC"),
        (Answer::Http(200), "the reply has no grpc-status"),
        (Answer::Endless(LARGE), "the message is longer than 1024 octets"),
    ] {
        let told = fails("grpc/cart", answer).await;
        assert!(told.starts_with(why), "{answer:?}: {told}");
    }
}

/// What a target says of itself is for people, and the target may not wish them well.
#[tokio::test]
async fn messages_are_told_in_one_line_of_bounded_length() {
    assert_eq!(fails("grpc", Answer::Told("no\tback end")).await, "gRPC status 14 no back end");
    let long = fails("grpc", Answer::Told(Box::leak("m".repeat(4000).into_boxed_str()))).await;
    assert!(long.starts_with("gRPC status 14 mmm") && long.ends_with("m…"), "{long}");
    assert_eq!(long.chars().count(), 201);
}

#[tokio::test]
async fn over_tls() {
    let (address, _requests) = grpc(Answer::Message(SERVING, "0"), Some(GOOD)).await;
    for check in ["grpcs", "grpcs/cart host=shop.example.com"] {
        assert_eq!(probe(check, address, PATIENT).await.outcome, Probed::Passed, "{check}");
    }
    let why = failure(probe("grpcs host=other.example.com", address, PATIENT).await);
    assert!(why.starts_with("the certificate is for another name"), "{why}");
}

#[tokio::test]
async fn silence_and_other_protocols() {
    let silent = listener().await;
    let address = silent.local_addr().expect("bound");
    let late = "no whole reply within 200ms";
    assert_eq!(failure(probe("grpc", address, BRIEF).await), late);
    let (address, _requests) = grpc(Answer::Silence, None).await;
    assert_eq!(failure(probe("grpc", address, BRIEF).await), late);
    let (address, _heads) = http(Then::Close("HTTP/1.1 200 OK\r\n\r\n")).await;
    failure(probe("grpc", address, PATIENT).await);
    let why = failure(probe("grpc", closed().await, PATIENT).await);
    assert!(why.contains("Connection refused"), "{why}");
}
