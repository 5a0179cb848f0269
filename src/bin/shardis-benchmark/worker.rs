//! One thread of load: an epoll loop over its clients.
//!
//! A **client** is what a connection is to the user; in cluster mode it has a **lane** (a socket) to every node, else
//! exactly one. A closed-loop client sends `pipeline` requests, waits for all their replies and sends again. In an open
//! loop, requests are due by the clock, and each goes to a client that has fewer than `pipeline` on the way; when there
//! is none, the request waits but keeps its due time, from which its latency counts: a server that stalls pays for all
//! the requests that the stall delayed (no "coordinated omission"). What is sent late, for want of a client or because this
//! program was not awake, shows in the latencies; how many waited for a client is counted, so that a rate which was not
//! kept can be explained.
//!
//! Requests of an open loop that follow each other closely are due in groups ([`Pace::due_ns`]): to sleep and be woken by a
//! timer costs as much CPU as several requests, and on a virtual machine takes as long.
//!
//! What it costs: one `read` and one `write` for each batch of a lane, one `epoll_wait` for all lanes that are ready, one
//! clock reading for each `read`; for each request a `memcpy`, a few digits, a queue entry of 24 bytes and one step in a
//! histogram. Interest in writability is only registered while a socket's buffer is full.
//!
//! Invariants:
//! 1. `pending` of a lane has one entry for each request that was put into `out` and has not been answered, in order.
//! 2. `outstanding` of a client is the number of its requests that have no final reply. A redirected request stays
//!    outstanding, an ASKING does not count.
//! 3. In an open loop, `credits` holds each client `pipeline - outstanding` times.

use std::{
    collections::VecDeque,
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use thiserror::Error;

use crate::{
    cluster::{Redirection, Topology, slot_of},
    connection::{ConnectError, Connector, Endpoint, Socket},
    distribution::KeyDistribution,
    options::CommandMix,
    reply::{MalformedReply, ReplyScanner, ReplySink},
    tally::Tally,
    template::Field,
};

/// What one `read` can take: larger than what a socket usually holds, small enough for the second-level cache.
const INPUT_BYTES: usize = 256 * 1024;
/// Events taken from one `epoll_wait`.
const EVENT_COUNT: usize = 256;
/// The loop looks at the stop flag and at its deadlines at least this often.
const TICK_MS: u16 = 50;
/// Requests of an open loop that are meant for the same slot of so much are due together, at its beginning. With one wake-up
/// for each of 20,000 requests a second this program took 43 to 80 µs of CPU for each and could not keep the rate.
const SLOT_NS: f64 = 200_000.0;
/// The epoll token of the timer; lanes have their index.
const TIMER_TOKEN: u64 = u64::MAX;
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// A failure that ends the run.
#[derive(Debug, Error)]
pub enum RunError {
    /// A connection could not be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server has closed a connection.
    #[error("{0} closed the connection")]
    Closed(Endpoint),
    /// A socket call failed.
    #[error("connection to {endpoint}: {source}")]
    Socket {
        /// Whose connection.
        endpoint: Endpoint,
        /// What the system said.
        source: io::Error,
    },
    /// The stream is not RESP.
    #[error("{endpoint} sent something that is not RESP: {source}")]
    Malformed {
        /// Who sent it.
        endpoint: Endpoint,
        /// What was wrong with it.
        source: MalformedReply,
    },
    /// More replies than requests.
    #[error("{0} sent a reply that nobody had asked for")]
    Unasked(Endpoint),
    /// The event queue or the timer failed.
    #[error("{call}: {source}")]
    System {
        /// The system call.
        call: &'static str,
        /// Its error.
        source: Errno,
    },
}

/// How the requests of a load follow each other.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// As fast as the replies come.
    Closed,
    /// By the clock: see [`Pace::due_ns`].
    Open {
        /// Due time of the first request.
        first_ns: u64,
        /// Mean distance of two requests.
        gap_ns: f64,
    },
}

impl Pace {
    /// When the request of that index (from 0) is due: at `first_ns + index * gap_ns`, or at the beginning of the slot that this
    /// is in, if the distance is shorter than a slot.
    #[inline]
    fn due_ns(first_ns: u64, gap_ns: f64, index: u64) -> u64 {
        let even_ns = index as f64 * gap_ns;
        let behind_ns = if gap_ns < SLOT_NS { even_ns % SLOT_NS } else { 0.0 };
        first_ns + (even_ns - behind_ns) as u64
    }
}

/// One load, the same for all workers but for the pace.
#[derive(Debug, Clone)]
pub struct Load<'run> {
    /// What is sent.
    pub mix: &'run CommandMix,
    /// How keys are drawn; `None` takes every key in turn, by its position in the budget.
    pub keys: Option<&'run KeyDistribution>,
    /// Size of the key space, for `__rand__`.
    pub key_count: u64,
    /// Requests on the way for each client.
    pub pipeline: usize,
    /// Open or closed loop.
    pub pace: Pace,
    /// Nothing is sent before this.
    pub start_ns: u64,
    /// Requests that are meant to be sent before this are not measured and not taken from the budget.
    pub measure_from_ns: u64,
    /// Nothing is sent after this.
    pub end_ns: u64,
    /// Measured requests in all, and how many have been taken, by all workers.
    pub budget: (u64, &'run AtomicU64),
    /// Point distance of the time series.
    pub interval_ns: u64,
    /// How long to wait for the last replies.
    pub drain_ns: u64,
    /// Origin of all times.
    pub origin: Instant,
    /// Set when the run is to end early.
    pub stop: &'run AtomicBool,
}

impl Load<'_> {
    fn now_ns(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

/// A request without a reply.
#[derive(Debug, Clone, Copy)]
struct Pending {
    intended_ns: u64,
    first_key: u64,
    command: u32,
    /// An ASKING before a redirected request: its reply means nothing.
    is_asking: bool,
}

#[derive(Debug)]
struct Lane {
    socket: Socket,
    client: usize,
    node: usize,
    out: Vec<u8>,
    written: usize,
    is_dirty: bool,
    awaits_writable: bool,
    pending: VecDeque<Pending>,
    scanner: ReplyScanner,
}

#[derive(Debug)]
struct Client {
    /// Index of the lane to each node.
    lanes: Vec<usize>,
    outstanding: usize,
}

/// A thread's clients and its event queue.
#[derive(Debug)]
pub struct Worker {
    epoll: Epoll,
    timer: TimerFd,
    connector: Connector,
    topology: Topology,
    is_cluster: bool,
    lanes: Vec<Lane>,
    clients: Vec<Client>,
    dirty: Vec<usize>,
    credits: VecDeque<usize>,
    input: Box<[u8]>,
    scratch: Vec<u8>,
    rng: fastrand::Rng,
}

/// What the replies of one `read` mean.
struct Completions<'read> {
    pending: &'read mut VecDeque<Pending>,
    tally: &'read mut Tally,
    /// Whose words are resolved into nodes; `None` outside cluster mode.
    redirected_by: Option<&'read Endpoint>,
    redirection: Option<Redirection>,
    redirected: Vec<(Pending, Redirection)>,
    now_ns: u64,
    finished_count: usize,
    unasked_count: usize,
}

impl ReplySink for Completions<'_> {
    fn error(&mut self, text: &[u8]) {
        if let Some(node) = self.redirected_by {
            self.redirection = Redirection::parse(text, node);
            if self.redirection.is_some() {
                return;
            }
        }
        let intended_ns = self.pending.front().map_or(0, |request| request.intended_ns);
        self.tally.record_error(intended_ns, self.now_ns, text);
    }

    #[inline]
    fn reply(&mut self) {
        let Some(request) = self.pending.pop_front() else {
            self.unasked_count += 1;
            return;
        };
        if request.is_asking {
            return;
        }
        if let Some(redirection) = self.redirection.take() {
            self.redirected.push((request, redirection));
            return;
        }
        self.tally
            .record(request.command as usize, request.intended_ns, self.now_ns);
        self.finished_count += 1;
    }
}

impl Worker {
    /// A worker without clients.
    pub fn new(connector: Connector, topology: Topology, is_cluster: bool, seed: u64) -> Result<Worker, RunError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(system("epoll_create1"))?;
        let timer = TimerFd::new(
            ClockId::CLOCK_MONOTONIC,
            TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC,
        )
        .map_err(system("timerfd_create"))?;
        epoll
            // It is never read: each time it goes off is an edge.
            .add(
                &timer,
                EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, TIMER_TOKEN),
            )
            .map_err(system("epoll_ctl"))?;
        Ok(Worker {
            epoll,
            timer,
            connector,
            topology,
            is_cluster,
            lanes: Vec::new(),
            clients: Vec::new(),
            dirty: Vec::new(),
            credits: VecDeque::new(),
            input: vec![0; INPUT_BYTES].into_boxed_slice(),
            scratch: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
        })
    }

    /// Opens one more client: a connection to `node`, or in cluster mode to every node that is known.
    pub fn add_client(&mut self, node: usize) -> Result<(), RunError> {
        let client = self.clients.len();
        self.clients.push(Client {
            lanes: Vec::new(),
            outstanding: 0,
        });
        if self.is_cluster {
            (0..self.topology.nodes.len()).try_for_each(|node| self.add_lane(client, node))
        } else {
            self.add_lane(client, node)
        }
    }

    fn add_lane(&mut self, client: usize, node: usize) -> Result<(), RunError> {
        let endpoint = &self.topology.nodes[node];
        let socket = self.connector.open(endpoint)?;
        socket.set_nonblocking(true).map_err(|source| RunError::Socket {
            endpoint: endpoint.clone(),
            source,
        })?;
        let index = self.lanes.len();
        self.epoll
            .add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, index as u64))
            .map_err(system("epoll_ctl"))?;
        self.lanes.push(Lane {
            socket,
            client,
            node,
            out: Vec::new(),
            written: 0,
            is_dirty: false,
            awaits_writable: false,
            pending: VecDeque::new(),
            scanner: ReplyScanner::new(),
        });
        self.clients[client].lanes.push(index);
        Ok(())
    }

    /// Runs one load to its end and returns what was measured.
    pub fn run(&mut self, load: &Load) -> Result<Tally, RunError> {
        Run {
            tally: Tally::new(load.mix.templates.len(), load.measure_from_ns, load.interval_ns),
            worker: self,
            load,
            is_closing: false,
            due_index: 0,
            timer_due_ns: 0,
            starved_until_ns: 0,
            outstanding_count: 0,
        }
        .run()
    }
}

/// One load on one worker.
struct Run<'run> {
    worker: &'run mut Worker,
    load: &'run Load<'run>,
    tally: Tally,
    /// Nothing more is sent; the last replies are awaited.
    is_closing: bool,
    due_index: u64,
    /// What the timer is set to; zero when it is not set.
    timer_due_ns: u64,
    /// When there was no free client last: what was due by then had to wait for one.
    starved_until_ns: u64,
    outstanding_count: usize,
}

impl Run<'_> {
    fn run(mut self) -> Result<Tally, RunError> {
        let mut drain_until_ns = u64::MAX;
        let mut events = [EpollEvent::empty(); EVENT_COUNT];
        let early_ns = self.load.start_ns.saturating_sub(self.load.now_ns());
        std::thread::sleep(Duration::from_nanos(early_ns));
        self.start()?;
        loop {
            let now_ns = self.load.now_ns();
            self.tally.advance(now_ns);
            self.is_closing |= now_ns >= self.load.end_ns || self.load.stop.load(Ordering::Relaxed);
            if self.is_closing {
                drain_until_ns = drain_until_ns.min(now_ns.saturating_add(self.load.drain_ns));
                if self.outstanding_count == 0 || now_ns >= drain_until_ns {
                    break;
                }
            } else if let Pace::Open { first_ns, gap_ns } = self.load.pace {
                self.send_due(now_ns, first_ns, gap_ns)?;
            }
            let timeout = EpollTimeout::from(TICK_MS);
            let event_count = match self.worker.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(source) => return Err(system("epoll_wait")(source)),
            };
            for event in &events[..event_count] {
                if event.data() == TIMER_TOKEN {
                    // What is due is decided by the clock.
                    continue;
                }
                let lane = event.data() as usize;
                if event.events().contains(EpollFlags::EPOLLOUT) {
                    self.flush(lane)?;
                }
                if event
                    .events()
                    .intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
                {
                    self.receive(lane)?;
                }
            }
        }
        self.tally.unanswered_count = self.outstanding_count as u64;
        if let Pace::Open { first_ns, gap_ns } = self.load.pace
            && self.load.budget.0 == u64::MAX
        {
            let until_ns = self.load.end_ns.min(self.load.now_ns());
            let due_count = (until_ns.saturating_sub(first_ns) as f64 / gap_ns) as u64;
            self.tally.unsent_count = due_count.saturating_sub(self.due_index);
        }
        self.tally.finish();
        Ok(self.tally)
    }

    fn start(&mut self) -> Result<(), RunError> {
        let client_count = self.worker.clients.len();
        self.worker.credits.clear();
        match self.load.pace {
            Pace::Closed => {
                let now_ns = self.load.now_ns();
                (0..client_count).try_for_each(|client| self.send_batch(client, now_ns))
            }
            Pace::Open { .. } => {
                for _ in 0..self.load.pipeline {
                    self.worker.credits.extend(0..client_count);
                }
                Ok(())
            }
        }
    }

    /// Takes requests from the budget: how many, and the position of the first.
    fn claim(&mut self, intended_ns: u64, wanted: u64) -> (u64, u64) {
        if intended_ns < self.load.measure_from_ns {
            return (wanted, 0);
        }
        let (total, taken) = self.load.budget;
        if total == u64::MAX {
            // A run by duration: no worker waits for the others' cache line.
            return (wanted, 0);
        }
        let first = taken.fetch_add(wanted, Ordering::Relaxed);
        let granted = total.saturating_sub(first).min(wanted);
        if granted < wanted {
            self.is_closing = true;
        }
        (granted, first)
    }

    /// Sends a whole batch for a client of a closed loop.
    fn send_batch(&mut self, client: usize, now_ns: u64) -> Result<(), RunError> {
        if self.is_closing || now_ns >= self.load.end_ns {
            return Ok(());
        }
        let (count, first) = self.claim(now_ns, self.load.pipeline as u64);
        for position in first..first + count {
            self.put_request(client, now_ns, position);
        }
        self.flush_dirty()
    }

    /// Sends what is due in an open loop, and sets the timer for what is due next.
    fn send_due(&mut self, now_ns: u64, first_ns: u64, gap_ns: f64) -> Result<(), RunError> {
        loop {
            let due_ns = Pace::due_ns(first_ns, gap_ns, self.due_index);
            if due_ns > now_ns {
                self.flush_dirty()?;
                // Replies bring the loop back here many times before the next request is due.
                if self.timer_due_ns == due_ns {
                    return Ok(());
                }
                self.timer_due_ns = due_ns;
                let wait_ns = due_ns.saturating_sub(self.load.now_ns()).max(1);
                let expiration = Expiration::OneShot(TimeSpec::new(
                    (wait_ns / 1_000_000_000) as i64,
                    (wait_ns % 1_000_000_000) as i64,
                ));
                return self
                    .worker
                    .timer
                    .set(expiration, TimerSetTimeFlags::empty())
                    .map_err(system("timerfd_settime"));
            }
            // Without a free client, the request waits; a reply brings the loop back here.
            let Some(client) = self.worker.credits.pop_front() else {
                self.starved_until_ns = now_ns;
                return self.flush_dirty();
            };
            self.tally.starved_count += u64::from(due_ns <= self.starved_until_ns);
            let (count, position) = self.claim(due_ns, 1);
            if count == 0 {
                self.worker.credits.push_front(client);
                return self.flush_dirty();
            }
            self.due_index += 1;
            self.put_request(client, due_ns, position);
        }
    }

    /// Renders a new request of a client into the lane that it belongs to.
    #[inline]
    fn put_request(&mut self, client: usize, intended_ns: u64, position: u64) {
        let worker = &mut *self.worker;
        let command = self.load.mix.draw(&mut worker.rng);
        let first_key = match self.load.keys {
            Some(keys) => keys.draw(&mut worker.rng),
            None => position,
        };
        worker.clients[client].outstanding += 1;
        self.outstanding_count += 1;
        let request = Pending {
            intended_ns,
            first_key,
            command: command as u32,
            is_asking: false,
        };
        self.put(client, request, None);
    }

    /// Renders a request, new or redirected, and routes it.
    #[inline]
    fn put(&mut self, client: usize, request: Pending, ask_node: Option<usize>) {
        let worker = &mut *self.worker;
        let template = &self.load.mix.templates[request.command as usize];
        let rng = &mut worker.rng;
        let (keys, key_count) = (self.load.keys, self.load.key_count);
        let mut is_first_key = true;
        let draw = |field| match (field, keys) {
            (Field::Key, _) if std::mem::take(&mut is_first_key) => request.first_key,
            (Field::Key, Some(keys)) => keys.draw(rng),
            _ => rng.u64(..key_count),
        };
        let lanes = &worker.clients[client].lanes;
        let lane_index = if let &[only] = &lanes[..] {
            template.render(&mut worker.lanes[only].out, draw);
            only
        } else {
            worker.scratch.clear();
            template.render(&mut worker.scratch, draw);
            let node = ask_node.unwrap_or_else(|| {
                // A command without a key may go anywhere: its number spreads it over the nodes.
                template.route_argument(&worker.scratch).map_or_else(
                    || (request.first_key % lanes.len() as u64) as usize,
                    |key| worker.topology.owner(slot_of(key)),
                )
            });
            let lane = &mut worker.lanes[lanes[node]];
            if ask_node.is_some() {
                lane.out.extend_from_slice(ASKING);
                lane.pending.push_back(Pending {
                    is_asking: true,
                    ..request
                });
            }
            lane.out.extend_from_slice(&worker.scratch);
            lanes[node]
        };
        let lane = &mut worker.lanes[lane_index];
        lane.pending.push_back(request);
        if !lane.is_dirty {
            lane.is_dirty = true;
            worker.dirty.push(lane_index);
        }
        self.tally.sent_count += 1;
        self.tally.sent_bytes += template.request_bytes() as u64;
    }

    fn flush_dirty(&mut self) -> Result<(), RunError> {
        while let Some(lane) = self.worker.dirty.pop() {
            self.worker.lanes[lane].is_dirty = false;
            self.flush(lane)?;
        }
        Ok(())
    }

    /// Writes what a lane has to send, and asks to be told when the rest can be written.
    fn flush(&mut self, index: usize) -> Result<(), RunError> {
        let worker = &mut *self.worker;
        let lane = &mut worker.lanes[index];
        while lane.written < lane.out.len() {
            match lane.socket.write(&lane.out[lane.written..]) {
                Ok(written) => lane.written += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(source) => {
                    return Err(RunError::Socket {
                        endpoint: worker.topology.nodes[lane.node].clone(),
                        source,
                    });
                }
            }
        }
        let is_blocked = lane.written < lane.out.len();
        if !is_blocked {
            lane.out.clear();
            lane.written = 0;
        }
        if is_blocked != lane.awaits_writable {
            lane.awaits_writable = is_blocked;
            let interest = if is_blocked {
                EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
            } else {
                EpollFlags::EPOLLIN
            };
            worker
                .epoll
                .modify(&lane.socket, &mut EpollEvent::new(interest, index as u64))
                .map_err(system("epoll_ctl"))?;
        }
        Ok(())
    }

    /// Reads once from a lane; what remains is reported by the next `epoll_wait`.
    fn receive(&mut self, index: usize) -> Result<(), RunError> {
        let worker = &mut *self.worker;
        let lane = &mut worker.lanes[index];
        let endpoint = &worker.topology.nodes[lane.node];
        let length = match lane.socket.read(&mut worker.input) {
            Ok(0) => return Err(RunError::Closed(endpoint.clone())),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(source) => {
                return Err(RunError::Socket {
                    endpoint: endpoint.clone(),
                    source,
                });
            }
        };
        let now_ns = self.load.now_ns();
        self.tally.advance(now_ns);
        self.tally.received_bytes += length as u64;
        let mut completions = Completions {
            pending: &mut lane.pending,
            tally: &mut self.tally,
            redirected_by: worker.is_cluster.then_some(endpoint),
            redirection: None,
            redirected: Vec::new(),
            now_ns,
            finished_count: 0,
            unasked_count: 0,
        };
        lane.scanner
            .feed(&worker.input[..length], &mut completions)
            .map_err(|source| RunError::Malformed {
                endpoint: endpoint.clone(),
                source,
            })?;
        if completions.unasked_count > 0 {
            return Err(RunError::Unasked(endpoint.clone()));
        }
        let (finished_count, redirected) = (completions.finished_count, completions.redirected);
        let client = lane.client;
        worker.clients[client].outstanding -= finished_count;
        self.outstanding_count -= finished_count;
        for (request, redirection) in redirected {
            self.redirect(client, request, &redirection)?;
        }
        match self.load.pace {
            Pace::Closed if self.worker.clients[client].outstanding == 0 => self.send_batch(client, now_ns),
            Pace::Closed => self.flush_dirty(),
            Pace::Open { .. } => {
                self.worker.credits.extend(std::iter::repeat_n(client, finished_count));
                self.flush_dirty()
            }
        }
    }

    /// Sends a request to the node that the cluster has named. A node that is new gets a lane from every client.
    fn redirect(&mut self, client: usize, request: Pending, redirection: &Redirection) -> Result<(), RunError> {
        self.tally.redirect_count += 1;
        let worker = &mut *self.worker;
        let known_count = worker.topology.nodes.len();
        let node = worker.topology.node_index(&redirection.node);
        if usize::from(node) == known_count {
            for client in 0..worker.clients.len() {
                worker.add_lane(client, usize::from(node))?;
            }
        }
        if redirection.is_ask {
            self.put(client, request, Some(usize::from(node)));
        } else {
            worker.topology.set_owner(redirection.slot, node);
            self.put(client, request, None);
        }
        Ok(())
    }
}

fn system(call: &'static str) -> impl Fn(Errno) -> RunError {
    move |source| RunError::System { call, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_in_groups_that_keep_the_rate() {
        for gap_ns in [1_000.0, 50_000.0, 70_000.5, 199_999.0, 200_000.0, 3_000_000.0] {
            let mut last_ns = 0;
            for index in 0..10_000u64 {
                let due_ns = Pace::due_ns(7, gap_ns, index);
                let even_ns = 7.0 + index as f64 * gap_ns;
                assert!(
                    due_ns >= last_ns && due_ns as f64 <= even_ns + 1.0,
                    "{index} by {gap_ns}"
                );
                assert!(even_ns - (due_ns as f64) < SLOT_NS + 1.0, "{index} by {gap_ns}");
                // One wake-up for each slot, or for each request.
                let is_new = index == 0 || due_ns > last_ns;
                assert!(!is_new || index == 0 || (due_ns - last_ns) as f64 > SLOT_NS.min(gap_ns) * 0.99);
                last_ns = due_ns;
            }
        }
    }
}
