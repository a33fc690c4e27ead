//! DNS sockets from bound to served to stopped.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::slots::Slots;
use super::stop::{Stop, StopSource};
use super::{AnswerFn, STOP_LIMIT, TcpSettings, tcp, udp};
use crate::snapshot::SnapshotCell;
use crate::telemetry::{Family, Telemetry};

/// DNS sockets, bound. TCP clients that come before [`Self::serve`] wait in the backlog, UDP
/// queries in the socket's buffer.
#[derive(Debug)]
pub struct DnsSockets {
    pub(super) sockets: Vec<DnsSocket>,
    pub(super) tcp: TcpSettings,
    pub(super) udp_receive_offload: bool,
}

/// One address.
#[derive(Debug)]
pub(super) struct DnsSocket {
    pub(super) address: SocketAddr,
    /// One for each worker.
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: TcpListener,
}

/// DNS sockets, served. Stops when dropped; [`Self::stop`] waits for the end.
#[derive(Debug)]
pub struct RunningDns {
    stop: StopSource,
    workers: Vec<JoinHandle<()>>,
    listeners: JoinSet<()>,
    deaths: mpsc::UnboundedReceiver<String>,
}

impl DnsSockets {
    /// The addresses bound, with the ports that the system chose.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.sockets.iter().map(|socket| socket.address)
    }

    /// Answers queries from now on. Must be called within a tokio runtime, which carries TCP.
    ///
    /// # Errors
    /// Where no thread can be started or the runtime does not take a socket.
    pub fn serve(
        self,
        cell: &Arc<SnapshotCell>,
        telemetry: &Telemetry,
        answer: AnswerFn,
    ) -> io::Result<RunningDns> {
        let (obituaries, deaths) = mpsc::unbounded_channel();
        let (workers, listeners) = (Vec::new(), JoinSet::new());
        let mut running = RunningDns { stop: StopSource::new(), workers, listeners, deaths };
        let slots = Slots::new(&self.tcp);
        for (index, DnsSocket { address, udp, tcp }) in self.sockets.into_iter().enumerate() {
            let family = Family::of(address.ip());
            let stop = || running.stop.stop();
            let watch = |name| Obituary { name, stop: stop(), to: obituaries.clone() };
            let listener = tokio::net::TcpListener::from_std(tcp)?;
            let service = Arc::new(tcp::Service {
                cell: Arc::clone(cell),
                answer,
                counters: telemetry.tcp_listener(family),
                metrics: telemetry.tcp().clone(),
                slots: Arc::clone(&slots),
                idle_timeout: self.tcp.idle_timeout,
                turn: AtomicU32::new(0),
            });
            let task = tcp::listen(listener, service, stop());
            let task = watch(format!("TCP listener {address}")).of_task(task);
            running.listeners.spawn(task);
            for (number, socket) in udp.into_iter().enumerate() {
                let worker = udp::Worker {
                    socket,
                    cell: Arc::clone(cell),
                    answer,
                    counters: telemetry.udp_worker(family),
                    stop: stop(),
                    // Workers begin apart (2^32 by the golden ratio), not to rotate in step.
                    turn: (number as u32).wrapping_mul(0x9E37_79B9),
                    receive_offload: self.udp_receive_offload,
                };
                let obituary = watch(format!("UDP worker {number} of {address}"));
                let work = move || {
                    let _obituary = obituary;
                    worker.run(address);
                };
                // The kernel keeps 15 octets of a thread's name.
                let thread = thread::Builder::new().name(format!("udp-{index}-{number}"));
                running.workers.push(thread.spawn(work)?);
            }
        }
        Ok(running)
    }
}

impl RunningDns {
    /// Waits until a worker or listener ends that should not, and names it: the server then
    /// answers in part at best, and should rather exit. Waits for ever while all is well.
    pub async fn died(&mut self) -> String {
        match self.deaths.recv().await {
            Some(name) => name,
            // All have ended and told.
            None => std::future::pending().await,
        }
    }

    /// Stops: no new connections, what was received is answered, then all is closed. Returns after
    /// 5 s at most; what has not ended by then is abandoned.
    pub async fn stop(mut self) {
        drop(self.stop);
        let threads = tokio::task::spawn_blocking(move || {
            for worker in self.workers {
                // An error is a panic, which the worker's obituary has told.
                let _ = worker.join();
            }
        });
        let listeners = async { while self.listeners.join_next().await.is_some() {} };
        let all = async { tokio::join!(threads, listeners) };
        if tokio::time::timeout(STOP_LIMIT, all).await.is_err() {
            tracing::warn!("some DNS workers or connections did not stop in time; abandoned");
        }
    }
}

/// Tells when its thread or task ends without having been asked to, by a panic too.
struct Obituary {
    name: String,
    stop: Stop,
    to: mpsc::UnboundedSender<String>,
}

impl Obituary {
    async fn of_task(self, task: impl Future<Output = ()>) {
        let _obituary = self;
        task.await;
    }
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if !self.stop.requested() {
            // Nobody listens any more: then nobody needs to know.
            let _ = self.to.send(std::mem::take(&mut self.name));
        }
    }
}
