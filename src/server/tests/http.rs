use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::explain::{Request, drill};
use crate::telemetry::Readiness;

struct Pages {
    address: SocketAddr,
    running: RunningHttp,
    readiness: watch::Sender<Readiness>,
}

fn start() -> Pages {
    let mut settings = settings(&["127.0.0.1:0"]);
    settings.http = Some("127.0.0.1:0".parse().unwrap());
    let socket = Sockets::bind(&settings).unwrap().http.unwrap();
    let address = socket.address();
    let missing = vec!["cluster a: never read".to_owned(), "cluster b: never read".to_owned()];
    let (readiness, receiver) = watch::channel(Readiness::NotReady(missing));
    let explain = |query: Request| match query.qtype {
        99 => Err("no such type here".to_owned()),
        qtype => Ok(json!({
            "name": query.name.to_string(),
            "type": qtype,
            "client": query.client.to_string(),
        })),
    };
    let state = HttpState {
        telemetry: Telemetry::new("example.com."),
        readiness: receiver,
        state: Arc::new(|| json!({"clusters": ["a"]})),
        explain: Arc::new(explain),
        drill: Arc::new(|asked: drill::Request| {
            let names = asked.clusters.iter().map(ToString::to_string).collect::<Vec<_>>();
            if names == ["none"] {
                Err("no such cluster here".to_owned())
            } else {
                Ok(json!(names))
            }
        }),
    };
    let running = socket.serve(state).unwrap();
    Pages { address, running, readiness }
}

/// Status, header and body.
async fn get(address: SocketAddr, target: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    timeout(BOUND, stream.read_to_string(&mut response)).await.unwrap().unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn probes() {
    let pages = start();
    let probe = async |target| {
        let (status, _, body) = get(pages.address, target).await;
        (status, body)
    };
    assert_eq!(probe("/livez").await, (200, "ok\n".to_owned()));
    let missing = "cluster a: never read\ncluster b: never read\n";
    assert_eq!(probe("/readyz").await, (503, missing.to_owned()));
    pages.readiness.send(Readiness::Ready).unwrap();
    assert_eq!(probe("/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(probe("/nowhere").await.0, 404);
    pages.running.stop().await;
}

#[tokio::test]
async fn metrics_and_state() {
    let pages = start();
    let (status, head, body) = get(pages.address, "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("\nmeridian_build_info{"), "{body}");
    let (status, head, body) = get(pages.address, "/state").await;
    assert_eq!((status, body.as_str()), (200, r#"{"clusters":["a"]}"#));
    assert!(head.contains("application/json"), "{head}");
    pages.running.stop().await;
}

#[tokio::test]
async fn explain() {
    let pages = start();
    for (parameters, client, qtype) in [
        ("name=a.example.com&client=192.0.2.7", "192.0.2.7/32", 1),
        ("name=A.example.com.&client=2001:db8::%2F56&type=aaaa", "2001:db8::/56", 28),
        ("name=a.example.com&client=192.0.2.0/24&type=TYPE65280", "192.0.2.0/24", 65280),
    ] {
        let (status, _, body) = get(pages.address, &format!("/explain?{parameters}")).await;
        assert_eq!(status, 200, "{body}");
        let expected = json!({"name": "a.example.com.", "type": qtype, "client": client});
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), expected);
    }
    for (parameters, reason) in [
        ("client=192.0.2.7", "name= is missing"),
        ("name=a", "client= is missing"),
        ("name=a..b&client=192.0.2.7", "empty label"),
        ("name=a&client=192.0.2.7/33", "client: '192.0.2.7/33' is neither"),
        ("name=a&client=192.0.2.7&type=NOSUCH", "type: 'NOSUCH' is no record type"),
        ("name=a&client=192.0.2.7&type=TYPE65536", "type: 'TYPE65536' is no record type"),
        ("name=a&client=192.0.2.7&typ=A", "typ"),
        ("name=a&client=192.0.2.7&type=TYPE99", "no such type here"),
    ] {
        let (status, _, body) = get(pages.address, &format!("/explain?{parameters}")).await;
        assert_eq!(status, 400, "{parameters}: {body}");
        assert!(body.contains(reason), "{parameters}: {body}");
    }
    pages.running.stop().await;
}

#[tokio::test]
async fn drills() {
    let pages = start();
    for (parameters, names) in
        [("cluster=a", json!(["a"])), ("cluster=B&cluster=c%20d", json!(["b", "c-d"]))]
    {
        let (status, _, body) = get(pages.address, &format!("/drill?{parameters}")).await;
        assert_eq!(status, 200, "{body}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), names);
    }
    for (parameters, reason) in [
        ("", "cluster= is missing"),
        ("?cluster=", "cluster: '' is no name"),
        ("?cluster=a&clusters=b", "unknown parameter 'clusters'"),
        ("?cluster=none", "no such cluster here"),
    ] {
        let (status, _, body) = get(pages.address, &format!("/drill{parameters}")).await;
        assert_eq!(status, 400, "{parameters}: {body}");
        assert!(body.contains(reason), "{parameters}: {body}");
    }
    pages.running.stop().await;
}

#[tokio::test]
async fn stopping_closes_connections_that_are_kept_alive() {
    let pages = start();
    let mut kept = TcpStream::connect(pages.address).await.unwrap();
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut octets = [0; 512];
    timeout(BOUND, kept.read(&mut octets)).await.unwrap().unwrap();
    assert!(octets.starts_with(b"HTTP/1.1 200"));
    timeout(BOUND, pages.running.stop()).await.unwrap();
    assert_eq!(timeout(BOUND, kept.read(&mut octets)).await.unwrap().unwrap_or(0), 0);
    assert!(TcpStream::connect(pages.address).await.is_err());
}
