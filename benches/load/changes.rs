//! Changes in a running federation: how soon they are answered, and what they cost those who ask.

use std::io;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::api::Api;
use super::ask::Report;
use super::files::{Files, fresh};
use super::histogram::Histogram;
use super::model::{DOMAIN, Level, PAIRS, Random, Size};
use super::process::{on_processor, stand_back};
use super::serve::{Meridian, ask, binary};
use super::{SizeArguments, queries};

#[derive(Args)]
pub(crate) struct Changes {
    /// Where to put files.
    directory: PathBuf,
    #[command(flatten)]
    size: SizeArguments,
    /// The server.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Changes one by one whose way to the answer is timed.
    #[arg(long, default_value_t = 500)]
    single: usize,
    /// Changes a second while queries are asked.
    #[arg(long, default_value_t = 1_000)]
    rate: usize,
    /// Seconds of that.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
}

/// Of the services one of so many changes while queries are asked.
const EVERY: usize = 10;

/// How long one change may take to be answered.
const LIMIT: Duration = Duration::from_secs(10);

impl Changes {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let size = self.size.size();
        fresh(&self.directory)?;
        let files = Files::new(self.directory.canonicalize()?, size);
        files.write_database()?;
        let apis = Api::all(size)?;
        let urls = apis.iter().map(Api::url).collect();
        // The client and the API servers share one processor, the server's threads have both:
        // what it does beside answering must not wait behind its worker.
        let server = Meridian::start(&binary(self.binary.clone())?, files, urls)?;
        server.until_up(size.clusters)?;
        server.until_idle()?;
        let (resident, peak) = server.memory()?;
        println!(
            "### Changes, {} services x {} clusters\n\nRead from API servers and answering after \
             {:.1} s; {resident:.0} MB resident, {peak:.0} MB at the peak.\n",
            size.services,
            size.clusters,
            server.first.as_secs_f64()
        );
        println!("| what | figures |\n|---|---|");
        self.one_by_one(&server, &apis)?;
        self.drain(&server)?;
        self.alone(&server, &apis)?;
        self.storm(&server, &apis)
    }

    /// What changes cost where nobody asks anything.
    fn alone(&self, server: &Meridian, apis: &[Api]) -> anyhow::Result<()> {
        server.until_idle()?;
        let pid = server.process.id();
        let (used, published) = (on_processor(pid)?, server.generation()?);
        let over = AtomicBool::new(false);
        let (made, took) = thread::scope(|scope| {
            let changer = scope.spawn(|| change(apis, self.size.size(), self.rate, &over));
            thread::sleep(Duration::from_secs_f64((self.seconds / 6.0).max(1.0)));
            over.store(true, Relaxed);
            changer.join().expect("the changer does not panic")
        })?;
        let (used, published) = (on_processor(pid)? - used, server.generation()? - published);
        println!(
            "| {:.0} changes/s and no queries | {:.0} us of processor time each, {:.0} publications/s |",
            made as f64 / took.as_secs_f64(),
            used as f64 / 1e3 / made as f64,
            published as f64 / took.as_secs_f64()
        );
        Ok(())
    }

    fn one_by_one(&self, server: &Meridian, apis: &[Api]) -> anyhow::Result<()> {
        let times = one_by_one(server, apis, self.single)?;
        println!(
            "| one endpoint's change, watch event to changed answer ({} changes) | p50 {:.2} ms, p99 \
             {:.2} ms, longest {:.2} ms |",
            2 * self.single,
            times.quantile(0.5) / 1e3,
            times.quantile(0.99) / 1e3,
            times.largest() / 1e3
        );
        Ok(())
    }

    /// A whole cluster goes and comes back, by configuration.
    fn drain(&self, server: &Meridian) -> anyhow::Result<()> {
        let size = self.size.size();
        let mut times = Histogram::new();
        for round in 0..6 {
            let drained: &[usize] = if round % 2 == 0 { &[1] } else { &[] };
            let probe = Probe::new(server, round * 7)?;
            let start = Instant::now();
            server.drain(drained)?;
            probe.until(size, 1, drained.is_empty())?;
            times.add(start.elapsed().as_nanos() as u64);
            thread::sleep(Duration::from_millis(1_500));
        }
        println!(
            "| a cluster of {} shards drained or back, SIGHUP to changed answer | p50 {:.1} ms, longest \
             {:.1} ms |",
            size.services,
            times.quantile(0.5) / 1e3,
            times.largest() / 1e3
        );
        Ok(())
    }

    /// Many changes a second at half of what the server can answer.
    fn storm(&self, server: &Meridian, apis: &[Api]) -> anyhow::Result<()> {
        let (size, pid) = (self.size.size(), server.process.id());
        let asked = |rate: Option<f64>, seconds: f64| -> anyhow::Result<Report> {
            let mut arguments = vec![server.dns.to_string(), "--kind=mixed".into()];
            arguments.push(format!("--services={}", size.services));
            arguments.push(format!("--clusters={}", size.clusters));
            arguments.push(format!("--changing={EVERY}"));
            arguments.push(format!("--seconds={seconds}"));
            arguments.push(format!("--pid={pid}"));
            arguments.extend(rate.map(|rate| format!("--rate={rate}")));
            ask(None, &arguments)
        };
        let most = asked(None, 3.0)?.qps;
        let rate = (most / 2.0).floor();
        let still = asked(Some(rate), (self.seconds / 3.0).max(1.0))?;
        let over = AtomicBool::new(false);
        let (stormy, made) = thread::scope(|scope| {
            let changer = scope.spawn(|| change(apis, size, self.rate, &over));
            let report = asked(Some(rate), self.seconds);
            over.store(true, Relaxed);
            (report, changer.join().expect("the changer does not panic"))
        });
        let stormy = stormy?;
        let (made, took) = made?;
        let line = |what: &str, report: &Report| {
            println!(
                "| {what} | {:.0} queries/s, {:.2} us each, p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us; \
                 {} lost, {} wrong, {} mixed{} |",
                report.qps,
                report.cpu.unwrap_or_default(),
                report.p50,
                report.p99,
                report.p999,
                report.lost,
                report.wrong,
                report.mixed,
                report.why.as_ref().map(|why| format!(" (first: {why})")).unwrap_or_default()
            );
        };
        line("half of the full load, no changes", &still);
        line(&format!("the same with {:.0} changes/s", made as f64 / took.as_secs_f64()), &stormy);
        Ok(())
    }
}

/// Takes single shards out and back; the time from the watch event on the wire to the changed answer
/// on the wire of each.
pub(crate) fn one_by_one(server: &Meridian, apis: &[Api], shards: usize) -> io::Result<Histogram> {
    let size = server.files.size;
    let mut times = Histogram::new();
    let mut random = Random(99);
    for _ in 0..shards {
        let (api, index) = (&apis[random.below(apis.len())], random.below(size.services));
        for ready in [false, true] {
            // Not in step with anything.
            thread::sleep(Duration::from_micros(5_000 + random.below(10_000) as u64));
            let probe = Probe::new(server, index)?;
            let start = Instant::now();
            api.ready(index, ready)?;
            probe.until(size, api.cluster, ready)?;
            times.add(start.elapsed().as_nanos() as u64);
        }
    }
    Ok(times)
}

/// Changes endpoints, and of each ten one is a pair's addresses instead, until it is over. Returns
/// how many in which time.
fn change(
    apis: &[Api],
    size: Size,
    rate: usize,
    over: &AtomicBool,
) -> io::Result<(usize, Duration)> {
    stand_back();
    let start = Instant::now();
    let mut random = Random(5);
    let mut ready = vec![true; size.services.div_ceil(EVERY) * size.clusters];
    let mut made = 0;
    while !over.load(Relaxed) {
        let due = start + Duration::from_secs_f64(made as f64 / rate as f64);
        if let Some(wait) = due.checked_duration_since(Instant::now()) {
            thread::sleep(wait);
        }
        if made % 10 == 0 {
            apis[0].pair(made / 10 % PAIRS, (made / 10 / PAIRS) as u16 + 1)?;
        } else {
            let which = random.below(size.services.div_ceil(EVERY));
            // The first cluster stays, so that no service is ever without any.
            let cluster = 1 + random.below(size.clusters - 1);
            let now = &mut ready[which * size.clusters + cluster];
            *now = !*now;
            apis[cluster].ready(which * EVERY, *now)?;
        }
        made += 1;
    }
    Ok((made, start.elapsed()))
}

/// Looks at the answer of one service.
pub(crate) struct Probe {
    socket: UdpSocket,
    query: Vec<u8>,
}

impl Probe {
    pub(crate) fn new(server: &Meridian, index: usize) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server.dns)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut name = String::new();
        Level::Global.name(index, &mut name);
        let query = queries::plain(&format!("{name}.{DOMAIN}"));
        Ok(Self { socket, query })
    }

    /// Asks until the answer has the address of `cluster`, or has not.
    pub(crate) fn until(&self, size: Size, cluster: usize, present: bool) -> io::Result<()> {
        let deadline = Instant::now() + LIMIT;
        let mut reply = [0; 4096];
        while Instant::now() < deadline {
            self.socket.send(&self.query)?;
            let Ok(len) = self.socket.recv(&mut reply) else { continue };
            let clusters = queries::clusters(&reply[..len], self.query.len());
            if clusters.is_some_and(|seen| (seen >> cluster & 1 == 1) == present) {
                return Ok(());
            }
        }
        let why = format!("no changed answer in {LIMIT:?} of {}", size.services);
        Err(io::Error::new(io::ErrorKind::TimedOut, why))
    }
}
