//! Four clusters in three regions, an instance in three of them, in a network that can be cut.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::network::{self, Network};
use crate::player::{DNS, HTTP};
use crate::support::PAUSE;
use crate::support::kubernetes::{federated, service, slice};

/// Names of the clusters, which are those of their availability zones too, and their regions.
pub(crate) const CLUSTERS: [(&str, &str); 4] =
    [("eu-a", "eu"), ("us-a", "us"), ("us-b", "us"), ("asia-a", "asia")];

/// The clusters in which instances run.
pub(crate) const INSTANCES: [usize; 3] = [0, 1, 3];

/// Longer than anything here takes, on a loaded machine too.
const LIMIT: Duration = Duration::from_secs(180);

/// How long a command of a player may take.
const ANSWER: Duration = Duration::from_secs(30);

/// What is served while all is well.
pub(crate) const ALL: [usize; 4] = [0, 1, 2, 3];

/// A process in a namespace, which ends with this.
struct Player {
    child: Child,
    replies: Receiver<String>,
}

/// The answers of an instance since the start, each from its time on.
type Answers = Arc<Mutex<Vec<(Instant, String)>>>;

impl Player {
    fn start(mut command: Command, answers: Answers) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("ip runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, replies): (Sender<String>, _) = channel();
        // Ends with the child, whose end closes the pipe.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                match line.strip_prefix("answer ") {
                    Some(answer) => lock(&answers).push((Instant::now(), answer.to_owned())),
                    None => drop(sender.send(line)),
                }
            }
        });
        Self { child, replies }
    }

    fn tell(&mut self, command: &str) -> String {
        let input = self.child.stdin.as_mut().expect("piped");
        writeln!(input, "{command}").and_then(|()| input.flush()).expect("it runs");
        self.replies.recv_timeout(ANSWER).unwrap_or_else(|_| panic!("no reply to {command}"))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        // The end of its input is its end, and it ends what it started.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn lock(answers: &Answers) -> MutexGuard<'_, Vec<(Instant, String)>> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The answer that names the load balancers of `clusters`.
fn expected(clusters: &[usize]) -> String {
    clusters.iter().map(|cluster| network::balancer(*cluster)).collect::<Vec<_>>().join(",")
}

/// All of it. The network goes last.
pub(crate) struct Federation {
    clusters: Vec<Mutex<Player>>,
    instances: BTreeMap<usize, (Mutex<Player>, Answers)>,
    home: TempDir,
    pub(crate) network: Network,
}

impl Federation {
    /// Starts it with `checks` in the configuration of all instances.
    pub(crate) fn start(tag: &str, checks: &str) -> Self {
        let network = Network::new(tag, CLUSTERS.len(), &INSTANCES);
        let home = tempfile::tempdir().expect("room for files");
        let this = std::env::current_exe().expect("known");
        let clusters = ALL.map(|cluster| {
            let mut command = Network::command(&network.cluster(cluster), &this);
            command.arg("play-cluster").arg(format!("{}:6443", network::api(cluster)));
            command.arg(format!("{}:80", network::balancer(cluster)));
            Mutex::new(Player::start(command, Answers::default()))
        });
        for (cluster, (name, _)) in CLUSTERS.iter().enumerate() {
            let file = home.path().join(format!("{name}.kubeconfig"));
            fs::write(file, kubeconfig(cluster)).expect("writable");
        }
        let mut all = Self { clusters: clusters.into(), instances: BTreeMap::new(), home, network };
        for cluster in ALL {
            let address = network::balancer(cluster);
            all.put(cluster, "services", &service("web", &address, federated()));
            all.put(cluster, "endpointslices", &slice("web", federated()));
        }
        for cluster in INSTANCES {
            let name = CLUSTERS[cluster].0;
            let path = |kind: &str| all.home.path().join(format!("{name}.{kind}"));
            fs::write(path("yaml"), config(name, checks)).expect("writable");
            let mut command = Network::command(&all.network.instance(cluster), &this);
            command.arg("play-instance").args([path("yaml"), path("log")]);
            command.arg("web.default.fed.svc.example.com.");
            let answers = Answers::default();
            let player = Mutex::new(Player::start(command, answers.clone()));
            all.instances.insert(cluster, (player, answers));
        }
        all
    }

    /// Puts an object into a cluster.
    pub(crate) fn put(&self, cluster: usize, plural: &str, object: &Value) {
        self.tell(cluster, &format!("put {plural} {object}"));
    }

    /// Tells the load balancer of a cluster to be `up` or `down`.
    pub(crate) fn balancer(&self, cluster: usize, what: &str) {
        self.tell(cluster, &format!("balancer {what}"));
    }

    fn tell(&self, cluster: usize, command: &str) {
        let mut player = self.clusters[cluster].lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(player.tell(command), "done");
    }

    /// What an instance tells of itself.
    pub(crate) fn state(&self, instance: usize) -> Value {
        let mut player = self.instances[&instance].0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = player.tell("state");
        let page = line.strip_prefix("state ").expect("the page");
        serde_json::from_str(page).unwrap_or_default()
    }

    /// What its answer was from each time on, beginning with the one at `from`.
    pub(crate) fn answers(&self, instance: usize, from: Instant) -> Vec<(Instant, String)> {
        let answers = lock(&self.instances[&instance].1);
        let first = answers.iter().rposition(|(at, _)| *at <= from).unwrap_or(0);
        answers[first..].to_vec()
    }

    /// Waits until each of these instances answers with exactly these clusters, and how long after
    /// `from` it began to, for good.
    pub(crate) fn until(
        &self,
        instances: &[usize],
        clusters: &[usize],
        from: Instant,
    ) -> Vec<Duration> {
        let (right, deadline) = (expected(clusters), Instant::now() + LIMIT);
        let since = |instance: &usize| {
            let answers = self.answers(*instance, from);
            let (at, _) = answers.last().filter(|(_, answer)| *answer == right)?;
            Some(at.saturating_duration_since(from))
        };
        loop {
            let times: Option<Vec<_>> = instances.iter().map(since).collect();
            match times {
                Some(times) => return times,
                None if Instant::now() < deadline => thread::sleep(PAUSE),
                None => self.fail(&format!("{right} is not answered by all of {instances:?}")),
            }
        }
    }

    /// Fails unless these instances have answered with exactly these clusters ever since `from`.
    pub(crate) fn kept(&self, instances: &[usize], clusters: &[usize], from: Instant) {
        let right = expected(clusters);
        for instance in instances {
            let answers = self.answers(*instance, from);
            if answers.iter().any(|(_, answer)| *answer != right) {
                self.fail(&format!("instance {instance} did not keep {right}: {answers:?}"));
            }
        }
    }

    /// Waits until all is well: every cluster up, every voter heard, every answer whole.
    pub(crate) fn settle(&self) {
        let deadline = Instant::now() + LIMIT;
        let well = |instance: &usize| {
            let state = self.state(*instance);
            let clusters = state["clusters"].as_array().cloned().unwrap_or_default();
            clusters.len() == CLUSTERS.len()
                && clusters.iter().all(|cluster| cluster["state"] == "up")
                && state["checks"]["voting"]["heard"] == INSTANCES.len()
                && state["checks"]["mode"] == "deciding"
        };
        while !INSTANCES.iter().all(well) {
            if Instant::now() > deadline {
                self.fail("not all is well");
            }
            thread::sleep(PAUSE * 10);
        }
        self.until(&INSTANCES, &ALL, Instant::now());
    }

    /// Panics, with all that is known.
    pub(crate) fn fail(&self, what: &str) -> ! {
        for instance in INSTANCES {
            let log = self.home.path().join(format!("{}.log", CLUSTERS[instance].0));
            eprintln!("{}\n{}", log.display(), fs::read_to_string(&log).unwrap_or_default());
            let state = self.state(instance);
            eprintln!("clusters: {}\nchecks: {}", state["clusters"], state["checks"]);
        }
        panic!("{what}");
    }
}

fn kubeconfig(cluster: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         clusters: [{{name: c, cluster: {{server: 'http://{}:6443'}}}}]\n\
         users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n",
        network::api(cluster)
    )
}

/// The configuration of the instance in the cluster `own`: as a user would write it, but that a
/// failure does not count for the one after it (`holdOff`).
fn config(own: &str, checks: &str) -> String {
    let clusters = CLUSTERS.map(|(name, region)| {
        format!(
            "  - {{name: {name}, region: {region}, zones: [{name}], \
             source: {{kubeconfig: {{path: {name}.kubeconfig}}}}}}\n"
        )
    });
    let voters = INSTANCES.map(|cluster| CLUSTERS[cluster].0).join(", ");
    format!(
        "federation:\n  name: fed\n  domain: example.com\n  \
         nameservers: [{{name: ns.example.net}}]\n\
         listen: {{dns: ['{DNS}'], http: '{HTTP}'}}\n\
         home: {{source: {{kubeconfig: {{path: {own}.kubeconfig}}}}, namespace: meridian}}\n\
         health:\n  votes: {{cluster: {own}, voters: [{voters}]}}\n  \
         damping: {{holdOff: 0s}}\n{checks}clusters:\n{}",
        clusters.concat()
    )
}
