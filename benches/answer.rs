//! The answer function alone: nanoseconds a query, and a mode for counting instructions.
//!
//!     cargo bench --bench answer                       # a table, 100,000 services x 4 clusters
//!     valgrind --tool=callgrind --toggle-collect='*Counted*' \
//!         target/release/deps/answer-* --count ecs     # instructions of 20,000 answers
//!
//! Figures of one run are comparable with one another only.

mod support;

use std::hint::black_box;
use std::time::Instant;

use meridian::answer::{Ahead, Client, Found, Transport, answer_ahead};
use meridian::snapshot::Snapshot;
use support::Load;

/// Answers that callgrind counts.
const COUNTED: usize = 20_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let services = std::env::var("SERVICES").ok().and_then(|s| s.parse().ok()).unwrap_or(100_000);
    let snapshot = support::snapshot(support::inputs(services, 4));
    if let Some(at) = arguments.iter().position(|a| a == "--count") {
        let load = match arguments.get(at + 1).map(String::as_str) {
            Some("plain") => Load::Plain,
            Some("nx") => Load::Nx,
            _ => Load::Ecs,
        };
        let queries = support::queries(load, services, COUNTED);
        println!("{} octets answered", Counted::run(&snapshot, &queries));
        return;
    }
    println!("{services} services x 4 clusters, {} octets a reply buffer", REPLY);
    println!("| load | ns an answer |");
    println!("|---|---|");
    for load in [Load::Ecs, Load::Plain, Load::Nx] {
        let queries = support::queries(load, services, 200_000);
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            let start = Instant::now();
            black_box(Counted::run(&snapshot, &queries));
            best = best.min(start.elapsed().as_nanos() as f64 / queries.len() as f64);
        }
        println!("| {load:?} | {best:.0} |");
    }
}

/// The reply buffer of a UDP worker.
const REPLY: usize = 1232;

/// Holds the loop under a name that callgrind can be told.
struct Counted;

impl Counted {
    #[inline(never)]
    fn run(snapshot: &Snapshot, queries: &[Vec<u8>]) -> usize {
        let client = Client { address: [127, 0, 0, 1].into(), transport: Transport::Udp };
        let (mut ahead, mut reply) = (Ahead::default(), [0; REPLY]);
        let mut octets = 0;
        for (turn, query) in queries.iter().enumerate() {
            // As the UDP workers do it, but one by one.
            ahead.read(query);
            let found = Found::nothing(snapshot);
            let answered = answer_ahead(found, query, &ahead, client, turn as u32, &mut reply);
            octets += answered.map_or(0, |a| a.len);
        }
        octets
    }
}
