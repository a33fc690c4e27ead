//! What geography costs, and how near the embedded table comes to a City database.
//!
//!     cargo bench --bench geo
//!     MERIDIAN_CITY_DB=GeoLite2-City.mmdb cargo bench --bench geo
//!     cargo bench --bench geo --no-run && valgrind --tool=callgrind --toggle-collect='*Counted*' \
//!         $(ls -t target/release/deps/geo-* | grep -v '\.d$' | head -1) --count look-up 40
//!
//! Prints tables for `docs/geography.md`. Look-ups are of uniformly random IPv4 addresses, which is
//! the worst case for caches. Times are the least of several runs, as other work only adds to them.
//!
//! A City database may be several files, with colons between them (one for each family). With
//! `--count` one piece of work is done under a name that callgrind can be told, for instructions
//! that do not depend on what else the machine does: a million of `look-up`s among so many places,
//! a `compile` for so many, the `atlas`, or to `read` the database's files; of the City database
//! where there is one, else of the embedded table.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use meridian::geo::{
    Atlas, Database, GeoTable, Lookup, Place, Site, coordinates_of, embedded, watch,
};
use meridian::model::{ClusterId, ClusterSet, Label};

/// Regions of one provider around the world; the first four are those of the demo, and the first
/// sixteen are on all continents that have any.
const REGIONS: [&str; 40] = [
    "asia-east1",
    "europe-west1",
    "us-east1",
    "us-central1",
    "us-west1",
    "southamerica-east1",
    "australia-southeast1",
    "asia-south1",
    "asia-northeast1",
    "europe-north1",
    "us-south1",
    "africa-south1",
    "me-west1",
    "asia-southeast1",
    "northamerica-northeast1",
    "europe-southwest1",
    "asia-east2",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south2",
    "asia-southeast2",
    "australia-southeast2",
    "europe-central2",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "europe-west10",
    "europe-west12",
    "me-central1",
    "me-central2",
    "northamerica-northeast2",
    "southamerica-west1",
    "us-east4",
    "us-east5",
    "us-west2",
    "us-west3",
    "us-west4",
];

/// Addresses looked up in one run.
const LOOKUPS: usize = 1 << 20;

fn main() {
    let sites: Vec<Site> = REGIONS.iter().map(|name| site(name)).collect();
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--count") {
        let places = arguments.get(at + 2).and_then(|count| count.parse().ok()).unwrap_or(40);
        return count(arguments.get(at + 1).map_or("", |what| what), &sites, places);
    }
    let start = Instant::now();
    let database = embedded::database();
    let places = database.summary().places;
    println!("embedded table: {places} places, unpacked in {:.0?}", start.elapsed());
    let (table, took) = least(3, || Atlas::build(std::slice::from_ref(&database), &[]));
    println!("{} ranges, atlas {} KiB in {took:.0?}", ranges(&database), table.bytes() >> 10);
    tables(&table, &sites);
    if files().is_empty() {
        println!(
            "\nMERIDIAN_CITY_DB names no City database; it is measured and compared where it does"
        );
        return;
    }
    let (databases, took) = least(3, city);
    for database in &databases {
        println!("\n{}: {} ranges", database.summary().kind, ranges(database));
    }
    println!("read in {took:.0?}");
    let (city, took) = least(3, || Atlas::build(&databases, &[]));
    println!("atlas {} KiB in {took:.0?}", city.bytes() >> 10);
    tables(&city, &sites);

    println!("\nspace whose nearest region differs between the two");
    for count in [4, 16] {
        let set = ClusterSet::first(count);
        let of = |atlas| (atlas, GeoTable::compile(atlas, &sites, &set));
        let (one, other) = (of(&table), of(&city));
        let [v4, v6] = [&V4, &V6].map(|family| 100.0 * differing(&one, &other, family));
        println!("  of {count:2}: {v4:.1} % of IPv4, {v6:.1} % of IPv6");
    }
}

/// The files of the City database; none where there is no such database.
fn files() -> Vec<std::path::PathBuf> {
    let files = std::env::var_os("MERIDIAN_CITY_DB").unwrap_or_default();
    std::env::split_paths(&files).filter(|file| !file.as_os_str().is_empty()).collect()
}

fn city() -> Vec<Arc<Database>> {
    let read = |file: std::path::PathBuf| match watch::load(&file) {
        Ok(database) => Arc::new(database),
        Err(error) => panic!("MERIDIAN_CITY_DB: {error}"),
    };
    files().into_iter().map(read).collect()
}

/// Does one piece of work to be counted.
fn count(what: &str, sites: &[Site], places: usize) {
    if what == "read" {
        assert!(!files().is_empty(), "MERIDIAN_CITY_DB names no database to read");
        println!("{} files", Counted::run(city).len());
        return;
    }
    let databases = match files().is_empty() {
        true => vec![embedded::database()],
        false => city(),
    };
    if what == "atlas" {
        println!("{} octets", Counted::run(|| Atlas::build(&databases, &[])).bytes());
        return;
    }
    let atlas = Atlas::build(&databases, &[]);
    let set = ClusterSet::first(places);
    if what == "compile" {
        println!("{} octets", Counted::run(|| GeoTable::compile(&atlas, sites, &set)).bytes());
        return;
    }
    assert_eq!(what, "look-up", "--count read|atlas|compile|look-up [PLACES]");
    let (table, addresses) = (GeoTable::compile(&atlas, sites, &set), addresses());
    Counted::run(|| look_up(&table, &addresses));
    println!("{} look-ups", addresses.len());
}

/// Holds the work under a name that callgrind can be told.
struct Counted;

impl Counted {
    #[inline(never)]
    fn run<T>(work: impl FnOnce() -> T) -> T {
        black_box(work())
    }
}

fn look_up(table: &GeoTable, addresses: &[IpAddr]) {
    for address in addresses {
        black_box(table.lookup(black_box(*address)));
    }
}

fn site(region: &str) -> Site {
    let name = Label::parse(region).expect("a label");
    let coordinates = coordinates_of(region);
    assert!(coordinates.is_some(), "{region} is in the table of regions");
    Site { name, topologies: Default::default(), coordinates }
}

fn ranges(database: &Database) -> usize {
    database.summary().ranges.iter().sum()
}

/// Runs something several times; its last result and the least time.
fn least<T>(runs: usize, mut run: impl FnMut() -> T) -> (T, Duration) {
    let mut timed = || {
        let start = Instant::now();
        (run(), start.elapsed())
    };
    let mut best = timed();
    for _ in 1..runs {
        let (value, took) = timed();
        best = (value, took.min(best.1));
    }
    best
}

/// A line for each number of places.
fn tables(atlas: &Atlas, sites: &[Site]) {
    println!("  places  orders     KiB  compile  look-up");
    let addresses = addresses();
    for count in [4, 16, 40] {
        let set = ClusterSet::first(count);
        let (table, compile) = least(5, || GeoTable::compile(atlas, sites, &set));
        let (_, lookups) = least(5, || look_up(&table, &addresses));
        let each = lookups.as_secs_f64() * 1e9 / LOOKUPS as f64;
        let (orders, size) = (table.order_count(), table.bytes() >> 10);
        println!("  {count:6}  {orders:6}  {size:6}  {compile:>7.1?}  {each:4.0} ns");
    }
}

/// Random IPv4 addresses, the same at each run.
fn addresses() -> Vec<IpAddr> {
    // A full-period generator (Knuth, MMIX); its high bits are random enough for this.
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        IpAddr::from(Ipv4Addr::from((state >> 32) as u32))
    };
    (0..LOOKUPS).map(|_| next()).collect()
}

/// The address space of a family in which clients are.
struct Family {
    space: &'static str,
    /// Parts that embed IPv4 addresses, which place their clients.
    without: &'static [&'static str],
}

const V4: Family = Family { space: "0.0.0.0/0", without: &[] };
const V6: Family = Family { space: "2000::/3", without: &["2001::/32", "2002::/16"] };

/// The share of the address space that both atlases place whose nearest clusters are others.
fn differing(one: &(&Atlas, GeoTable), other: &(&Atlas, GeoTable), family: &Family) -> f64 {
    let network = |text: &str| -> IpNet { text.parse().expect("a network") };
    let (space, without) = (network(family.space), family.without.iter().copied().map(network));
    let without: Vec<IpNet> = without.collect();
    let nearest = |table: &GeoTable, address| -> Option<ClusterId> {
        match table.lookup(address) {
            Lookup::Found { order, .. } => order.ranked().first().map(|ranked| ranked.cluster()),
            Lookup::UseResolver { .. } => None,
        }
    };
    let (mut all, mut differ) = (0.0, 0.0);
    let mut next = Some(space.network());
    while let Some(address) = next.filter(|address| space.contains(address)) {
        let (a, b) = (one.0.locate(address), other.0.locate(address));
        // All of the narrower network is in one place by either.
        let part =
            if a.network.prefix_len() > b.network.prefix_len() { a.network } else { b.network };
        let embeds = without.iter().find(|network| network.contains(&address));
        let placed = |place| matches!(place, Place::At(_));
        if embeds.is_none() && placed(a.place) && placed(b.place) {
            // No network is longer than 128 bits, and differences of lengths are exact.
            let size = (128.0 - f64::from(part.prefix_len())).exp2();
            all += size;
            if nearest(&one.1, address) != nearest(&other.1, address) {
                differ += size;
            }
        }
        next = after(*embeds.unwrap_or(&part));
    }
    differ / all
}

/// The address behind a network; `None` behind the last.
fn after(network: IpNet) -> Option<IpAddr> {
    match network.broadcast() {
        IpAddr::V4(last) => Some(Ipv4Addr::from(u32::from(last).checked_add(1)?).into()),
        IpAddr::V6(last) => Some(Ipv6Addr::from(u128::from(last).checked_add(1)?).into()),
    }
}
