//! Other name servers with the same names: their files, and how they are started.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;

use clap::ValueEnum;

use super::files::{DATABASE, Files};
use super::model::{DOMAIN, FEDERATION, Level, REGIONS, address};
use super::queries::Expect;

/// A name server from Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    Gdnsd,
    Knot,
    KnotGeoip,
    Nsd,
    Bind,
}

/// How a server is started.
pub(crate) struct Launch {
    pub(crate) program: &'static str,
    pub(crate) arguments: Vec<String>,
}

impl Peer {
    pub(crate) const ALL: [Self; 5] =
        [Self::Gdnsd, Self::Knot, Self::KnotGeoip, Self::Nsd, Self::Bind];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gdnsd => "gdnsd (geoip)",
            Self::Knot => "Knot (static)",
            Self::KnotGeoip => "Knot (mod-geoip)",
            Self::Nsd => "NSD (static)",
            Self::Bind => "BIND (static)",
        }
    }

    /// The packages of all.
    pub(crate) const PACKAGES: [&str; 4] = ["gdnsd", "knot", "nsd", "bind9"];

    /// All have all addresses of a name; none orders them by nearness as Meridian does.
    pub(crate) fn expect(self) -> Expect {
        Expect::Set
    }

    /// Writes its files below those of the federation, to answer at `address` with one thread.
    pub(crate) fn prepare(self, files: &Files, address: SocketAddr) -> io::Result<Launch> {
        let directory = files.path(match self {
            Self::Gdnsd => "gdnsd",
            Self::Knot => "knot",
            Self::KnotGeoip => "knot-geoip",
            Self::Nsd => "nsd",
            Self::Bind => "bind",
        });
        super::files::fresh(&directory)?;
        let at = directory.display().to_string();
        let (ip, port) = (address.ip(), address.port());
        let zone = files.path("zone");
        if self != Self::Gdnsd && !zone.exists() {
            write_zone(files, &zone, |_| None)?;
        }
        let zone = zone.display();
        let database = files.path(DATABASE);
        let config = directory.join("config");
        let text = config.display().to_string();
        let (program, arguments, content) = match self {
            Self::Gdnsd => {
                fs::create_dir(directory.join("zones"))?;
                fs::create_dir(directory.join("geoip"))?;
                fs::copy(&database, directory.join("geoip/city.mmdb"))?;
                let dynamic = |index| Some(format!("DYNA geoip!s{index}"));
                write_zone(files, &directory.join("zones").join(DOMAIN), dynamic)?;
                write_gdnsd(files, &config, &at, address)?;
                ("/usr/sbin/gdnsd", vec!["-c".into(), at, "start".into()], None)
            }
            Self::Knot | Self::KnotGeoip => {
                let mut module = String::new();
                let mut used = "";
                if self == Self::KnotGeoip {
                    write_knot(files, &directory.join("geo"))?;
                    module = format!(
                        "mod-geoip:\n  - id: geo\n    config-file: {at}/geo\n    ttl: 180\n    mode: \
                         geodb\n    geodb-file: {}\n    geodb-key: [continent/code]\n",
                        database.display()
                    );
                    used = "    module: mod-geoip/geo\n";
                }
                let content = format!(
                    "server:\n    listen: {ip}@{port}\n    rundir: {at}\n    udp-workers: 1\n    \
                     tcp-workers: 1\n    edns-client-subnet: on\nlog:\n  - target: stderr\n    any: \
                     warning\ndatabase:\n    storage: {at}\n{module}zone:\n  - domain: {DOMAIN}\n    \
                     file: {zone}\n    zonefile-sync: -1\n    zonefile-load: whole\n    \
                     journal-content: none\n    semantic-checks: off\n{used}"
                );
                ("/usr/sbin/knotd", vec!["-c".into(), text], Some(content))
            }
            Self::Nsd => {
                let content = format!(
                    "server:\n  ip-address: {ip}@{port}\n  server-count: 1\n  username: \"\"\n  \
                     zonesdir: \"{at}\"\n  database: \"\"\n  pidfile: \"{at}/pid\"\n  xfrdfile: \
                     \"{at}/xfrd\"\n  xfrdir: \"{at}\"\n  zonelistfile: \"{at}/list\"\n  \
                     minimal-responses: yes\n  zonefiles-write: 0\n  \
                     rrl-ratelimit: 0\nremote-control:\n  \
                     control-enable: no\nzone:\n  name: {DOMAIN}\n  zonefile: \"{zone}\"\n"
                );
                ("/usr/sbin/nsd", vec!["-d".into(), "-c".into(), text], Some(content))
            }
            Self::Bind => {
                let content = format!(
                    "options {{ directory \"{at}\"; pid-file \"{at}/pid\"; session-keyfile \
                     \"{at}/key\"; listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; \
                     recursion no; minimal-responses yes; dnssec-validation no; notify no; \
                     allow-transfer {{ none; }}; managed-keys-directory \"{at}\"; }};\ncontrols {{ \
                     }};\nzone \"{DOMAIN}\" {{ type primary; file \"{zone}\"; }};\n"
                );
                let arguments = ["-g", "-n", "1", "-c", &text].map(String::from).into();
                ("/usr/sbin/named", arguments, Some(content))
            }
        };
        if let Some(content) = content {
            fs::write(&config, content)?;
        }
        Ok(Launch { program, arguments })
    }
}

/// The zone as a master file: all names of all services. What stands at global names may be another
/// record.
fn write_zone(
    files: &Files,
    path: &Path,
    global: impl Fn(usize) -> Option<String>,
) -> io::Result<()> {
    let mut out = BufWriter::new(fs::File::create(path)?);
    writeln!(out, "$ORIGIN {DOMAIN}.\n$TTL 180")?;
    writeln!(out, "@ SOA ns1.{DOMAIN}. hostmaster.{DOMAIN}. 1 3600 600 604800 60")?;
    writeln!(out, "@ NS ns1.{DOMAIN}.\nns1 A 127.0.0.1")?;
    let mut name = String::new();
    for index in 0..files.size.services {
        for level in Level::all(files.size.clusters) {
            name.clear();
            level.name(index, &mut name);
            if let (Level::Global, Some(record)) = (level, global(index)) {
                writeln!(out, "{name} {record}")?;
                continue;
            }
            let held = level.clusters(files.size.clusters);
            for cluster in (0..files.size.clusters).filter(|cluster| held >> cluster & 1 == 1) {
                writeln!(out, "{name} A {}", address(cluster, index))?;
            }
        }
    }
    out.flush()
}

/// gdnsd: a resource for each service, with all of its addresses in each place.
fn write_gdnsd(files: &Files, path: &Path, at: &str, address: SocketAddr) -> io::Result<()> {
    let mut out = BufWriter::new(fs::File::create(path)?);
    let (regions, clusters) = (&REGIONS[..files.size.clusters], files.size.clusters);
    writeln!(
        out,
        "options => {{ listen => \"{address}\", udp_threads => 1, tcp_threads => 1, run_dir => \
         \"{at}/run\", state_dir => \"{at}/state\", edns_client_subnet => true }}"
    )?;
    let places: Vec<String> =
        regions.iter().map(|(name, a, b)| format!("{name} => [{a}, {b}]")).collect();
    let names: Vec<&str> = regions.iter().map(|(name, ..)| *name).collect();
    writeln!(
        out,
        "plugins => {{ geoip => {{\n maps => {{ m => {{ geoip2_db => city.mmdb, datacenters => \
         [{}], auto_dc_coords => {{ {} }} }} }}\n resources => {{",
        names.join(", "),
        places.join(", ")
    )?;
    for index in 0..files.size.services {
        let set: Vec<String> =
            (0..clusters).map(|cluster| self::address(cluster, index).to_string()).collect();
        let set = set.join(", ");
        let sets: Vec<String> = names.iter().map(|name| format!("{name} => [{set}]")).collect();
        writeln!(out, "s{index} => {{ map => m, dcmap => {{ {} }} }}", sets.join(", "))?;
    }
    writeln!(out, " }} }} }}")?;
    out.flush()
}

/// mod-geoip: for each global name the addresses by continent.
fn write_knot(files: &Files, path: &Path) -> io::Result<()> {
    let mut out = BufWriter::new(fs::File::create(path)?);
    for index in 0..files.size.services {
        writeln!(out, "service-{index}.team-{}.{FEDERATION}.svc.{DOMAIN}:", index / 100)?;
        for place in ["AS", "EU", "NA", "*"] {
            writeln!(out, "  - geo: \"{place}\"")?;
            let set: Vec<String> = (0..files.size.clusters)
                .map(|cluster| address(cluster, index).to_string())
                .collect();
            writeln!(out, "    A: [{}]", set.join(", "))?;
        }
    }
    out.flush()
}
