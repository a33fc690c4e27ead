//! A query over UDP allocates nothing and takes no lock.
//!
//! Allocations are counted by the global allocator, in the threads that are watched alone; that no
//! lock is taken is shown by the sources of what a query runs through, which name none.

#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "support/dns.rs"]
mod dns;
#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "support/federation.rs"]
mod federation;
#[path = "support/seeds.rs"]
mod seeds;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::net::UdpSocket;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dns::Query;
use meridian::answer::{
    Ahead, Answered, Client, Found, MAX_MESSAGE, Transport, answer, answer_ahead,
};
use meridian::server::{Settings, Sockets, TcpSettings};
use meridian::snapshot::{Snapshot, SnapshotCell, build};
use meridian::telemetry::Telemetry;

/// Counts, and leaves the work to the system's allocator.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What watched threads asked of the allocator.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is watched. Without a destructor and with a constant to begin with, so
    /// that looking at it allocates nothing.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if WATCHED.get() {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to `System` as it came, which keeps to the contract of
// `GlobalAlloc`; counting neither allocates nor unwinds.
#[allow(unsafe_code, reason = "the trait of allocators is unsafe to implement")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise on `layout` is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // Freeing takes the allocator's locks as allocating does.
        count();
        // SAFETY: `block` came of `System` with this layout, as all that we give out does.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as for `dealloc`; the caller's promise on `size` is handed on.
        unsafe { System.realloc(block, layout, size) }
    }
}

fn snapshot() -> Snapshot {
    let (clusters, identity) = federation::everything();
    federation::settle(build(None, federation::inputs(&clusters, identity, 1_700_000_000)))
}

/// What this thread asks of the allocator in `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    WATCHED.set(true);
    work();
    WATCHED.set(false);
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

/// The whole of it is one test, as what is counted is counted for all threads that are watched.
#[test]
fn no_query_allocates() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1_u8]))), 2, "counting works");
    let snapshot = snapshot();
    answering(&snapshot);
    serving(snapshot);
}

/// Every kind of query, through the one function that answers.
fn answering(snapshot: &Snapshot) {
    let mut reply = vec![0; MAX_MESSAGE];
    for (name, packet) in seeds::seeds() {
        for transport in [Transport::Udp, Transport::Tcp] {
            for address in ["198.18.1.1", "10.1.0.7", "2001:db8:7::1"] {
                let address = address.parse().expect("an address");
                let client = Client { address, transport };
                let count = allocations(|| {
                    let _ = answer(snapshot, &packet, client, 7, &mut reply);
                });
                assert_eq!(count, 0, "{name} over {transport:?} from {address}");
            }
        }
    }
}

/// Answers, and has the thread that does watched from its first query on.
fn watched(
    found: Found<'_>,
    query: &[u8],
    ahead: &Ahead,
    client: Client,
    turn: u32,
    reply: &mut [u8],
) -> Option<Answered> {
    WATCHED.set(true);
    answer_ahead(found, query, ahead, client, turn, reply)
}

/// The same over a socket: receiving, answering, counting and sending.
fn serving(snapshot: Snapshot) {
    let settings = Settings {
        dns: vec!["127.0.0.1:0".parse().expect("an address")],
        http: None,
        udp_workers: NonZeroUsize::MIN,
        udp_receive_offload: false,
        tcp: TcpSettings { max_connections: 1, max_connections_per_client: 1, idle_timeout: BOUND },
        drain: Duration::ZERO,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _guard = runtime.enter();
    let sockets = Sockets::bind(&settings).expect("loopback can be bound");
    let server = sockets.dns.addresses().next().expect("one address");
    let telemetry = Telemetry::new("example.com.");
    let cell = Arc::new(SnapshotCell::new(snapshot));
    let running = sockets.dns.serve(&cell, &telemetry, watched).expect("workers start");
    let client = UdpSocket::bind("127.0.0.1:0").expect("loopback can be bound");
    client.set_read_timeout(Some(BOUND)).expect("a limit");
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for (_, packet) in seeds::seeds() {
        // Several at once, so that there are batches.
        for _ in 0..5 {
            client.send_to(&packet, server).expect("sent");
        }
        // What is sent last is answered last.
        let last = [&[0xfe, 0xdc][..], &Query::new("example.com", "SOA").bytes()[2..]].concat();
        client.send_to(&last, server).expect("sent");
        let mut reply = [0; 4096];
        while client.recv(&mut reply).expect("a reply in time") < 2 || reply[..2] != last[..2] {}
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "a worker allocated");
    runtime.block_on(running.stop());
}

/// Only keeps a test that fails from hanging.
const BOUND: Duration = Duration::from_secs(20);

/// What a query over UDP runs through: files, and directories with all that is in them.
const PATH: [&str; 23] = [
    "answer",
    "wire",
    "zone",
    "geo/geography.rs",
    "geo/table.rs",
    "geo/ranges.rs",
    "snapshot/state.rs",
    "snapshot/cell.rs",
    "snapshot/live.rs",
    "snapshot/warm.rs",
    "geo/networks.rs",
    "geo/order.rs",
    "geo/pods.rs",
    "geo/shape.rs",
    "geo/space.rs",
    "geo/table_map.rs",
    "model/buckets.rs",
    "model/fetch.rs",
    "model/key.rs",
    "model/set.rs",
    "server/udp",
    "server/udp.rs",
    "telemetry/counters.rs",
];

#[test]
fn the_path_of_a_query_names_no_lock() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files: Vec<_> = PATH.iter().map(|path| source.join(path)).collect();
    let mut read = 0;
    while let Some(path) = files.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("readable");
            let paths = entries.map(|entry| entry.expect("readable").path());
            files.extend(paths.filter(|path| path.file_stem().is_none_or(|name| name != "tests")));
            continue;
        }
        let text = fs::read_to_string(&path).expect("the path names what is there");
        read += 1;
        for word in ["Mutex", "RwLock", "Condvar", "OnceLock", "LazyLock", "mpsc", ".lock()"] {
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let found = code.filter(|line| line.contains(word)).count();
            assert_eq!(found, 0, "{}: {word}", path.display());
        }
    }
    assert!(read > 20, "only {read} files");
}
