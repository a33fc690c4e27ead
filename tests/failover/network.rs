//! Network namespaces joined by veth links: a backbone, clusters on it, and behind some of them a
//! machine of their own for an instance. It needs root and `ip` of iproute2.
//!
//! Cluster `c` is 10.77.c.0/24: its API server is .2, its load balancer .3, its instance .66. What is
//! cut is dropped without a word, as by a router that has lost its way or a firewall.

use std::path::Path;
use std::process::Command;

/// All names begin so, then follows the id of the process that made them.
const PREFIX: &str = "meridian-failover-";

/// A network, taken down when dropped.
pub(crate) struct Network {
    prefix: String,
    namespaces: Vec<String>,
}

/// A part of the network that can be lost to the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// A cluster with all that is in it.
    Cluster(usize),
    /// The API server of a cluster.
    Api(usize),
    /// The load balancer of a cluster.
    Balancer(usize),
    /// The machine of a cluster's instance, also to its own cluster.
    Instance(usize),
}

/// The address of a cluster's API server.
pub(crate) fn api(cluster: usize) -> String {
    format!("10.77.{cluster}.2")
}

/// The address of a cluster's load balancer.
pub(crate) fn balancer(cluster: usize) -> String {
    format!("10.77.{cluster}.3")
}

/// Runs `ip` with the words of `line`.
fn ip(line: &str) -> Result<String, String> {
    let output = Command::new("ip").args(line.split(' ')).output();
    let output = output.map_err(|error| format!("ip (package iproute2): {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("ip {line}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// The same where it must work.
fn must(line: &str) {
    ip(line).unwrap_or_else(|error| panic!("{error}"));
}

/// Whether network namespaces may be made here, and if not why.
pub(crate) fn permitted() -> Result<(), String> {
    sweep()?;
    let name = format!("{PREFIX}{}-try", std::process::id());
    ip(&format!("netns add {name}"))?;
    let entered = ip(&format!("netns exec {name} true"));
    entered.and(ip(&format!("netns del {name}"))).map(drop)
}

/// Removes what processes have left that were killed.
fn sweep() -> Result<(), String> {
    for line in ip("netns list")?.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            ip(&format!("netns del {name}"))?;
        }
    }
    Ok(())
}

impl Network {
    /// A network of so many clusters, with instances in some of them.
    pub(crate) fn new(tag: &str, clusters: usize, instances: &[usize]) -> Self {
        let prefix = format!("{PREFIX}{}-{tag}", std::process::id());
        let mut network = Self { prefix, namespaces: Vec::new() };
        network.add("hub");
        for cluster in 0..clusters {
            network.join(cluster);
            if instances.contains(&cluster) {
                network.host(cluster);
            }
        }
        network
    }

    /// The namespace of a cluster.
    pub(crate) fn cluster(&self, cluster: usize) -> String {
        format!("{}-c{cluster}", self.prefix)
    }

    /// The namespace of the instance in a cluster.
    pub(crate) fn instance(&self, cluster: usize) -> String {
        format!("{}-i{cluster}", self.prefix)
    }

    fn hub(&self) -> String {
        format!("{}-hub", self.prefix)
    }

    /// A command in a namespace.
    pub(crate) fn command(namespace: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }

    fn add(&mut self, name: &str) {
        let name = format!("{}-{name}", self.prefix);
        must(&format!("netns add {name}"));
        must(&format!("-n {name} link set lo up"));
        let forward = "echo 1 > /proc/sys/net/ipv4/ip_forward";
        let status = Self::command(&name, Path::new("sh")).args(["-c", forward]).status();
        self.namespaces.push(name);
        assert!(status.expect("ip runs").success(), "a namespace of its own forwards");
    }

    /// A link between two namespaces that are there, each end with its addresses.
    fn link(&self, (from, device, near): (&str, &str, &str), (to, far): (&str, &[&str])) {
        must(&format!("-n {from} link add {device} type veth peer name eth0 netns {to}"));
        must(&format!("-n {from} addr add {near}/26 dev {device}"));
        must(&format!("-n {from} link set {device} up"));
        far.iter().for_each(|address| must(&format!("-n {to} addr add {address}/26 dev eth0")));
        must(&format!("-n {to} link set eth0 up"));
        must(&format!("-n {to} route add default via {near}"));
    }

    fn join(&mut self, cluster: usize) {
        self.add(&format!("c{cluster}"));
        let (device, near) = (format!("c{cluster}"), format!("10.77.{cluster}.1"));
        let far = [&*api(cluster), &*balancer(cluster)];
        self.link((&self.hub(), &device, &near), (&self.cluster(cluster), &far));
    }

    fn host(&mut self, cluster: usize) {
        self.add(&format!("i{cluster}"));
        let (near, far) = (format!("10.77.{cluster}.65"), format!("10.77.{cluster}.66"));
        self.link((&self.cluster(cluster), "eth1", &near), (&self.instance(cluster), &[&far]));
        let hub = self.hub();
        must(&format!("-n {hub} route add 10.77.{cluster}.64/26 via {}", api(cluster)));
    }

    /// Loses a part: nothing goes there or comes from there any more.
    pub(crate) fn cut(&self, part: Part) {
        self.set(part, ("add", "down"));
    }

    /// Undoes it.
    pub(crate) fn mend(&self, part: Part) {
        self.set(part, ("del", "up"));
    }

    fn set(&self, part: Part, (rule, link): (&str, &str)) {
        let prefix = match part {
            Part::Cluster(cluster) => format!("10.77.{cluster}.0/24"),
            Part::Api(cluster) => api(cluster),
            Part::Balancer(cluster) => balancer(cluster),
            // The plug is pulled: it has nobody else on its link.
            Part::Instance(cluster) => {
                return must(&format!("-n {} link set eth1 {link}", self.cluster(cluster)));
            }
        };
        for way in ["to", "from"] {
            must(&format!("-n {} rule {rule} {way} {prefix} blackhole", self.hub()));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.namespaces {
            // Its links go with it.
            if let Err(error) = ip(&format!("netns del {name}")) {
                eprintln!("left behind: {error}");
            }
        }
    }
}
