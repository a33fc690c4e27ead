//! API servers of all clusters: as much of Kubernetes as Meridian reads, made up as it is sent.
//!
//! HTTP/1.1 on loopback, a thread for each connection. Lists come as the beginning of a watch
//! (`sendInitialEvents`), then each change is one line, written by whoever makes it, so that
//! nothing stands between the change and the wire.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use super::files::PORT;
use super::model::{PAIRS, Size, address, namespace, pair, pair_addresses, service};
use super::process::{free_address, stand_back};

/// The API server of one cluster. It serves for as long as the process lives.
pub(crate) struct Api {
    pub(crate) cluster: usize,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    cluster: usize,
    size: Size,
    version: AtomicU64,
    services: Mutex<Vec<TcpStream>>,
    slices: Mutex<Vec<TcpStream>>,
}

/// Lines of a list that are sent together, octets.
const TOGETHER: usize = 64 << 10;

impl Api {
    /// The API server of `cluster` in a federation of `size`, in which all is well.
    pub(crate) fn start(cluster: usize, size: Size) -> io::Result<Self> {
        Self::start_at(free_address()?, cluster, size)
    }

    /// The same at an address that was chosen before.
    pub(crate) fn start_at(address: SocketAddr, cluster: usize, size: Size) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let (services, slices) = Default::default();
        let version = AtomicU64::new(1_000_000_000);
        let shared = Arc::new(Shared { cluster, size, version, services, slices });
        let api = Self { cluster, address, shared: shared.clone() };
        thread::spawn(move || {
            stand_back();
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                // An error is the client's end of the connection.
                thread::spawn(move || _ = serve(stream, &shared));
            }
        });
        Ok(api)
    }

    /// One for each cluster.
    pub(crate) fn all(size: Size) -> io::Result<Vec<Self>> {
        (0..size.clusters).map(|cluster| Self::start(cluster, size)).collect()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Both endpoints of a service become ready, or neither is.
    pub(crate) fn ready(&self, index: usize, ready: bool) -> io::Result<()> {
        let object = self.shared.slice(&namespace(index), &service(index), index, ready);
        self.shared.modified(&self.shared.slices, &object)
    }

    /// The addresses of a pair change, both at once.
    pub(crate) fn pair(&self, index: usize, generation: u16) -> io::Result<()> {
        debug_assert_eq!(self.cluster, 0, "pairs are in the first cluster");
        let [one, other] = pair_addresses(generation);
        let object =
            self.shared.service("pairs", &pair(index), &[one.to_string(), other.to_string()]);
        self.shared.modified(&self.shared.services, &object)
    }
}

impl Shared {
    fn version(&self) -> u64 {
        self.version.fetch_add(1, Relaxed) + 1
    }

    fn modified(&self, watches: &Mutex<Vec<TcpStream>>, object: &str) -> io::Result<()> {
        let mut watches = watches.lock().expect("nobody panics with it");
        let line = event("MODIFIED", object);
        // A watch that ended is opened anew, from the version that it had.
        watches.retain_mut(|stream| chunk(stream, &line).is_ok());
        if watches.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "nobody watches"));
        }
        Ok(())
    }

    /// As long as objects of real clusters are without their managed fields.
    fn service(&self, namespace: &str, name: &str, addresses: &[String]) -> String {
        let ingress: Vec<String> =
            addresses.iter().map(|ip| format!(r#"{{"ip":"{ip}","ipMode":"VIP"}}"#)).collect();
        let (ingress, version, (port, number)) = (ingress.join(","), self.version(), PORT);
        format!(
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}","namespace":"{namespace}","uid":"s-{name}-{namespace}","resourceVersion":"{version}","creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"{name}","meridian.dev/federate":"true"}}}},"spec":{{"type":"LoadBalancer","clusterIP":"10.96.0.10","clusterIPs":["10.96.0.10"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{{"name":"{port}","protocol":"UDP","port":{number},"targetPort":8053,"nodePort":30053}}],"selector":{{"app":"{name}"}},"sessionAffinity":"None","externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","allocateLoadBalancerNodePorts":true}},"status":{{"loadBalancer":{{"ingress":[{ingress}]}}}}}}"#
        )
    }

    fn slice(&self, namespace: &str, name: &str, index: usize, ready: bool) -> String {
        let (version, (port, _)) = (self.version(), PORT);
        let endpoint = |which: usize| {
            let [_, b, c, d] = (index as u32).to_be_bytes();
            let ip = format!("10.{b}.{c}.{d}");
            format!(
                r#"{{"addresses":["{ip}"],"conditions":{{"ready":{ready},"serving":{ready},"terminating":false}},"nodeName":"node-{which}","targetRef":{{"kind":"Pod","namespace":"{namespace}","name":"{name}-{which}","uid":"p-{which}-{name}-{namespace}"}},"zone":"a"}}"#
            )
        };
        let (one, other) = (endpoint(0), endpoint(1));
        format!(
            r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"{name}-x7k2p","generateName":"{name}-","namespace":"{namespace}","uid":"e-{name}-{namespace}","resourceVersion":"{version}","generation":3,"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"{name}","endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"{name}","meridian.dev/federate":"true"}},"ownerReferences":[{{"apiVersion":"v1","kind":"Service","name":"{name}","uid":"s-{name}-{namespace}","controller":true,"blockOwnerDeletion":true}}]}},"addressType":"IPv4","endpoints":[{one},{other}],"ports":[{{"name":"{port}","port":8053,"protocol":"UDP"}}]}}"#
        )
    }

    /// All objects of a kind, in the order of a list.
    fn objects(&self, kind: Kind) -> impl Iterator<Item = String> {
        let pairs = if self.cluster == 0 { PAIRS } else { 0 };
        let services = if kind == Kind::Nodes { 0 } else { self.size.services };
        let pairs = if kind == Kind::Nodes { 0 } else { pairs };
        let object = move |index: usize| match kind {
            Kind::Services => {
                let ip = address(self.cluster, index).to_string();
                self.service(&namespace(index), &service(index), &[ip])
            }
            _ => self.slice(&namespace(index), &service(index), index, true),
        };
        let pair = move |index: usize| match kind {
            Kind::Services => {
                self.service("pairs", &pair(index), &pair_addresses(0).map(|ip| ip.to_string()))
            }
            _ => self.slice("pairs", &pair(index), index, true),
        };
        (0..services).map(object).chain((0..pairs).map(pair))
    }
}

/// A kind that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Services,
    Slices,
    Nodes,
}

impl Kind {
    /// By the path of a request.
    fn of(path: &str) -> Option<Self> {
        match path.rsplit('/').next() {
            Some("services") => Some(Self::Services),
            Some("endpointslices") => Some(Self::Slices),
            Some("nodes") => Some(Self::Nodes),
            _ => None,
        }
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Services => ("v1", "Service"),
            Self::Slices => ("discovery.k8s.io/v1", "EndpointSlice"),
            Self::Nodes => ("v1", "Node"),
        }
    }
}

/// Answers requests until one is a watch, which has the connection for itself.
fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while reader.read_line(&mut header)? > 2 {
            header.clear();
        }
        let target = request.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match Kind::of(path) {
            Some(kind) if query.contains("watch=true") => {
                return watch(stream, shared, kind, query);
            }
            None if path == "/readyz" => respond(&mut stream, "200 OK", "ok")?,
            _ => respond(&mut stream, "404 Not Found", "")?,
        }
    }
}

fn respond(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let len = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\n\r\n{body}"
    )
}

fn watch(mut stream: TcpStream, shared: &Shared, kind: Kind, query: &str) -> io::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    if query.contains("sendInitialEvents=true") {
        let mut lines = String::with_capacity(2 * TOGETHER);
        for object in shared.objects(kind) {
            lines.push_str(&event("ADDED", &object));
            if lines.len() > TOGETHER {
                chunk(&mut stream, &lines)?;
                lines.clear();
            }
        }
        let (version, (api, name)) = (shared.version(), kind.names());
        let bookmark = format!(
            r#"{{"apiVersion":"{api}","kind":"{name}","metadata":{{"resourceVersion":"{version}","annotations":{{"k8s.io/initial-events-end":"true"}}}}}}"#
        );
        lines.push_str(&event("BOOKMARK", &bookmark));
        chunk(&mut stream, &lines)?;
    }
    let watches = match kind {
        Kind::Services => &shared.services,
        Kind::Slices => &shared.slices,
        // Nothing becomes of nodes; the stream stays open for as long as the client holds it.
        Kind::Nodes => {
            let mut end = BufReader::new(stream);
            return end.read_line(&mut String::new()).map(|_| ());
        }
    };
    watches.lock().expect("nobody panics with it").push(stream);
    Ok(())
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn chunk(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    // One write, so that it is one segment.
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}
