//! What geography costs, and how near the embedded table comes to a City database.
//!
//!     cargo bench --bench geo
//!     MERIDIAN_CITY_DB=GeoLite2-City.mmdb cargo bench --bench geo
//!
//! Prints tables for `docs/geography.md`. Look-ups are of uniformly random addresses, which is the
//! worst case for caches. Times are the least of several runs, as other work only adds to them.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian::geo::{Atlas, Database, GeoTable, Lookup, Site, coordinates_of, embedded, watch};
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
    let start = Instant::now();
    let places = embedded::database().summary().places;
    println!("embedded table: {places} places, unpacked in {:.0?}", start.elapsed());
    let (table, took) = least(3, || Atlas::build(&[embedded::database().clone()], &[]));
    println!(
        "{} ranges, atlas {} KiB in {took:.0?}",
        ranges(embedded::database()),
        table.bytes() >> 10
    );
    tables(&table, &sites);

    let Some(file) = std::env::var_os("MERIDIAN_CITY_DB") else {
        println!(
            "\nMERIDIAN_CITY_DB names no City database; it is measured and compared where it does"
        );
        return;
    };
    let load = || watch::load(Path::new(&file)).expect("MERIDIAN_CITY_DB is a City database");
    let (database, took) = least(3, load);
    let database = Arc::new(database);
    println!("\n{}: {} ranges, read in {took:.0?}", database.summary().kind, ranges(&database));
    let (city, took) = least(3, || Atlas::build(std::slice::from_ref(&database), &[]));
    println!("atlas {} KiB in {took:.0?}", city.bytes() >> 10);
    tables(&city, &sites);

    println!("\nIPv4 space whose nearest region differs between the two");
    for count in [4, 16] {
        let set = ClusterSet::first(count);
        let one = GeoTable::compile(&table, &sites, &set);
        let other = GeoTable::compile(&city, &sites, &set);
        println!("  of {count:2}: {:.1} %", 100.0 * differing(&one, &other));
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
        let (_, lookups) = least(5, || {
            for address in &addresses {
                black_box(table.lookup(black_box(*address)));
            }
        });
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

/// The share of all /24s whose clients both tables place, on the global Internet, but whose
/// nearest clusters are others.
fn differing(one: &GeoTable, other: &GeoTable) -> f64 {
    let nearest = |table: &GeoTable, address| -> Option<ClusterId> {
        match table.lookup(address) {
            Lookup::Found { order, .. } => order.ranked().first().map(|ranked| ranked.cluster()),
            Lookup::UseResolver { .. } => None,
        }
    };
    let (mut all, mut differ) = (0_u32, 0_u32);
    for network in 0..1_u32 << 24 {
        let address = IpAddr::from(Ipv4Addr::from(network << 8));
        if let (Some(a), Some(b)) = (nearest(one, address), nearest(other, address)) {
            all += 1;
            differ += u32::from(a != b);
        }
    }
    f64::from(differ) / f64::from(all)
}
