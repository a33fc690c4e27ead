//! What grows with the federation: memory, start, queries and changes at several sizes.

use std::path::PathBuf;

use clap::Args;

use super::api::Api;
use super::changes::one_by_one;
use super::files::{Files, NOBODY, STATE, fresh};
use super::model::{REGIONS, Size};
use super::process::{free_address, pin};
use super::serve::{CLIENT_CPU, Meridian, SERVER_CPU, ask, binary};

#[derive(Args)]
pub(crate) struct Growth {
    /// Where to put files.
    directory: PathBuf,
    /// The server.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Services and clusters, as in 1000x4.
    #[arg(long, value_delimiter = ',', value_parser = parse,
          default_value = "1000x4,10000x4,100000x4,1000000x4,1000x16,10000x16,100000x16,1000000x16")]
    sizes: Vec<Size>,
    /// Seconds of queries at each size.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Single changes at each size.
    #[arg(long, default_value_t = 100)]
    single: usize,
}

fn parse(text: &str) -> Result<Size, String> {
    let (services, clusters) = text.split_once('x').ok_or("as in 1000x4")?;
    let number = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
    let size = Size { services: number(services)?, clusters: number(clusters)? };
    match size.clusters {
        1.. if size.clusters <= REGIONS.len() && size.services > 0 => Ok(size),
        _ => Err(format!("1 to {} clusters", REGIONS.len())),
    }
}

impl Growth {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        println!(
            "| services x clusters | shards | state on disk MB | start s | memory MB | peak MB | octets a shard | cpu us a query (ECS) | change p50 ms | p99 ms |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        for size in &self.sizes {
            self.measure(*size)?;
        }
        Ok(())
    }

    /// Starts from the last known good state while no API server is there; later that of the first
    /// cluster is, and changes.
    fn measure(&self, size: Size) -> anyhow::Result<()> {
        fresh(&self.directory)?;
        let files = Files::new(self.directory.canonicalize()?, size);
        files.write_database()?;
        files.write_state()?;
        let disk = std::fs::metadata(files.path(STATE))?.len() as f64 / 1e6;
        let address = free_address()?;
        let mut urls = vec![NOBODY.to_owned(); size.clusters];
        urls[0] = format!("http://{address}");
        let server = Meridian::start(&binary(self.binary.clone())?, files, urls)?;
        server.until_idle()?;
        let (resident, peak) = server.memory()?;
        let pid = server.process.id();
        pin(pid, SERVER_CPU)?;
        let report = ask(
            Some(CLIENT_CPU),
            &[
                server.dns.to_string(),
                format!("--services={}", size.services),
                format!("--clusters={}", size.clusters),
                format!("--seconds={}", self.seconds),
                format!("--pid={pid}"),
            ],
        )?;
        if report.lost + report.wrong > 0 {
            println!("{} lost, {} wrong: {:?}", report.lost, report.wrong, report.why);
        }
        let api = [Api::start_at(address, 0, size)?];
        server.until_up(1)?;
        server.until_idle()?;
        let times = one_by_one(&server, &api, self.single)?;
        let Size { services, clusters } = size;
        let shards = services * clusters;
        println!(
            "| {services} x {clusters} | {shards} | {disk:.1} | {:.2} | {resident:.0} | {peak:.0} | {:.0} | {:.2} | {:.2} | {:.2} |",
            server.first.as_secs_f64(),
            resident * 1e6 / shards as f64,
            report.cpu.unwrap_or_default(),
            times.quantile(0.5) / 1e3,
            times.quantile(0.99) / 1e3
        );
        Ok(())
    }
}
