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
use super::histogram::{Histogram, median};
use super::model::{DOMAIN, Level, PAIRS, Random, Size};
use super::process::{on_processor, stand_back};
use super::serve::{CLIENT_CPU, Meridian, SERVER_CPU, ask, binary};
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
    /// Seconds of that in each round, and a third of them without changes.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Rounds, as the machine differs from minute to minute.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
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
        // The server's threads and the API servers have both processors: what is done beside
        // answering must not wait behind it.
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
        let mut changer = Changer::new(&apis, size, self.rate);
        self.alone(&server, &mut changer)?;
        self.storm(&server, &mut changer)
    }

    /// What changes cost where nobody asks anything.
    fn alone(&self, server: &Meridian, changer: &mut Changer<'_>) -> anyhow::Result<()> {
        server.until_idle()?;
        let pid = server.process.id();
        let (used, published, before) = (on_processor(pid)?, server.generation()?, changer.made);
        let length = Duration::from_secs_f64((self.seconds / 6.0).max(1.0));
        let start = Instant::now();
        let ((), rate) = changer.during(|| thread::sleep(length))?;
        let (used, published) = (on_processor(pid)? - used, server.generation()? - published);
        println!(
            "| {rate:.0} changes/s and no queries | {:.0} us of processor time each, {:.0} publications/s |",
            used as f64 / 1e3 / (changer.made - before) as f64,
            published as f64 / start.elapsed().as_secs_f64()
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

    /// Many changes a second at half of what the server can answer, and none, in turn.
    fn storm(&self, server: &Meridian, changer: &mut Changer<'_>) -> anyhow::Result<()> {
        // The client stands for many on other machines: what answers does not share its processor.
        server.pin_workers(SERVER_CPU)?;
        let rate = (self.ask(server, None, 3.0)?.qps / 2.0).floor();
        let (mut still, mut stormy, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            still.push(self.ask(server, Some(rate), (self.seconds / 3.0).max(1.0))?);
            let (asked, changes) = changer.during(|| self.ask(server, Some(rate), self.seconds))?;
            stormy.push(asked?);
            made.push(changes);
        }
        line("half of the full load, no changes", &still);
        line(&format!("the same with {:.0} changes/s", median(made)), &stormy);
        beside("p99.9", &still, &stormy, |report| report.p999);
        beside("p99.9 of the usual quarter of a second", &still, &stormy, |report| report.usual);
        Ok(())
    }

    fn ask(&self, server: &Meridian, rate: Option<f64>, seconds: f64) -> anyhow::Result<Report> {
        let size = self.size.size();
        let mut arguments = vec![server.dns.to_string(), "--kind=mixed".into()];
        arguments.push(format!("--services={}", size.services));
        arguments.push(format!("--clusters={}", size.clusters));
        arguments.push(format!("--changing={EVERY}"));
        arguments.push(format!("--seconds={seconds}"));
        arguments.push(format!("--pid={}", server.process.id()));
        arguments.extend(rate.map(|rate| format!("--rate={rate}")));
        ask(Some(CLIENT_CPU), &arguments)
    }
}

/// Medians of the rounds; of what went wrong all.
fn line(what: &str, reports: &[Report]) {
    let of = |field: fn(&Report) -> f64| median(reports.iter().map(field).collect());
    let sum = |field: fn(&Report) -> u64| reports.iter().map(field).sum::<u64>();
    let why = reports.iter().find_map(|report| report.why.clone());
    println!(
        "| {what} | {:.0} queries/s, {:.2} us each, p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, of the usual \
         quarter of a second {:.0} us; {} sent, {} lost, {} wrong, {} mixed{} |",
        of(|r| r.qps),
        of(|r| r.cpu.unwrap_or_default()),
        of(|r| r.p50),
        of(|r| r.p99),
        of(|r| r.p999),
        of(|r| r.usual),
        sum(|r| r.sent),
        sum(|r| r.lost),
        sum(|r| r.wrong),
        sum(|r| r.mixed),
        why.map(|why| format!(" (first: {why})")).unwrap_or_default()
    );
}

/// How many times as long a latency is with changes as without in the same round.
fn beside(what: &str, still: &[Report], stormy: &[Report], of: fn(&Report) -> f64) {
    let times: Vec<f64> = still.iter().zip(stormy).map(|(a, b)| of(b) / of(a)).collect();
    let each: Vec<String> = times.iter().map(|times| format!("{times:.1}")).collect();
    println!(
        "| {what}, of that without changes | {:.1} times ({}) |",
        median(times),
        each.join(", ")
    );
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

/// Changes endpoints, and of each ten one is a pair's addresses instead.
struct Changer<'a> {
    apis: &'a [Api],
    size: Size,
    /// Changes a second.
    rate: usize,
    random: Random,
    /// Of each shard that changes, whether it is ready.
    ready: Vec<bool>,
    made: usize,
}

impl<'a> Changer<'a> {
    fn new(apis: &'a [Api], size: Size, rate: usize) -> Self {
        let ready = vec![true; size.services.div_ceil(EVERY) * size.clusters];
        Self { apis, size, rate, random: Random(5), ready, made: 0 }
    }

    /// Changes for as long as `work` takes; what came of it, and changes a second.
    fn during<T>(&mut self, work: impl FnOnce() -> T) -> io::Result<(T, f64)> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let changing = scope.spawn(|| self.until(&over));
            let done = work();
            over.store(true, Relaxed);
            Ok((done, changing.join().expect("the changer does not panic")?))
        })
    }

    fn until(&mut self, over: &AtomicBool) -> io::Result<f64> {
        stand_back();
        let (start, before) = (Instant::now(), self.made);
        while !over.load(Relaxed) {
            let made = (self.made - before) as f64;
            let due = start + Duration::from_secs_f64(made / self.rate as f64);
            if let Some(wait) = due.checked_duration_since(Instant::now()) {
                thread::sleep(wait);
            }
            self.change()?;
        }
        Ok((self.made - before) as f64 / start.elapsed().as_secs_f64())
    }

    fn change(&mut self) -> io::Result<()> {
        let Self { apis, size, random, ready, made, .. } = self;
        if *made % 10 == 0 {
            apis[0].pair(*made / 10 % PAIRS, (*made / 10 / PAIRS) as u16 + 1)?;
        } else {
            let which = random.below(size.services.div_ceil(EVERY));
            // The first cluster stays, so that no service is ever without any.
            let cluster = 1 + random.below(size.clusters - 1);
            let now = &mut ready[which * size.clusters + cluster];
            *now = !*now;
            apis[cluster].ready(which * EVERY, *now)?;
        }
        *made += 1;
        Ok(())
    }
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
