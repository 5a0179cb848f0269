//! One shard's loop: moves bytes between the sockets of its network plane and its [`Local`].
//!
//! A pass takes what the plane reports, feeds clients' bytes to the command layer, handles what other shards have
//! sent, does the periodic work that is due, hands output to the plane, and publishes what it wrote to other shards
//! with one wake-up for each that sleeps. Everything that is sent in a pass leaves with one system call, that of the
//! next pass.
//!
//! New connections arrive on the shard that listens; it gives each to the shard that has the fewest. Only a shard's own
//! port (`shard-ports`) is accepted by that shard for itself.
//!
//! Replies to a pipeline whose later commands are under way on other shards are *corked*: they wait for these, for
//! [`CORKED_AT_MOST`], so that the batch leaves in one segment. A send is the dearest thing that a shard does.
//!
//! Invariants:
//! 1. a client of [`Local`] has the index of its connection in the plane, and lives at most as long;
//! 2. a client that is closing reads nothing more, and its connection ends when its replies are written.

use super::crash::{self, Notes};
use super::shared::{Listening, Shared};
use crate::base::clock::Ticks;
use crate::client::{Client, Stall};
use crate::command::{Envelope, Local};
use crate::net::{
    CloseReason, ConnId, Event, ListenSocket, ListenerId, Output, PeerAddr, Plane, Sent, UringPlane, Wait,
};
use crate::resp::{Reply, ReplyBuf, error};
use crate::runtime::{Activity, Pump, Rouse};
use crate::shard::ShardId;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Unread requests of a client that waits for an earlier one: beyond this the socket is not read, so that the peer
/// feels it.
const STALLED_QUERY_BYTES_MAX: usize = 64 * 1024;

/// How long replies wait for those behind them that other shards owe. A shard that is awake answers within some 20 µs, one
/// that shares its core within a scheduling slice; beyond that the client is better served with what is there. With 50
/// clients, a pipeline of 16 and 4 shards it took operations of the ring for each request from 0.095 to 0.073.
const CORKED_AT_MOST: Duration = Duration::from_micros(250);

/// Replies of more than this leave at once: they fill segments of their own.
const CORKED_BYTES_MAX: usize = 16 * 1024;

/// One shard's loop.
pub struct Reactor {
    plane: UringPlane,
    local: Rc<RefCell<Local>>,
    shared: Arc<Shared>,
    index: usize,
    events: Vec<Event>,
    /// Connections by the index they have in the plane.
    connections: Vec<Option<Connection>>,
    /// Listeners whose connections stay here.
    own_listeners: Vec<(ListenerId, ListenSocket)>,
    /// Listeners whose connections are spread over the shards.
    shared_listeners: Vec<(ListenerId, ListenSocket)>,
    next_cron: Instant,
    /// Connections whose output waits, by the time since when; some have been served meanwhile.
    corked: VecDeque<(Instant, u32)>,
    /// The time of this pass.
    now: Instant,
}

struct Connection {
    id: ConnId,
    is_paused: bool,
    corked_at: Option<Instant>,
}

impl Reactor {
    /// The loop of shard `index`, which begins by listening.
    pub fn new(
        index: usize,
        plane: UringPlane,
        local: Rc<RefCell<Local>>,
        shared: Arc<Shared>,
        listening: Listening,
    ) -> Reactor {
        shared.announce(index, plane.wake_handle());
        let mut reactor = Reactor {
            plane,
            local,
            shared,
            index,
            events: Vec::new(),
            connections: Vec::new(),
            own_listeners: Vec::new(),
            shared_listeners: Vec::new(),
            next_cron: Instant::now(),
            corked: VecDeque::new(),
            now: Instant::now(),
        };
        reactor.listen_to(listening);
        reactor
    }

    fn handle(&mut self, event: Event, local: &mut Local) {
        match event {
            Event::Received { conn, buffer } => {
                local.env.stats.reads_processed += 1;
                local.receive(conn.index() as u32, self.plane.data(&buffer));
                self.plane.give_back(buffer);
            }
            Event::Drained { conn } => local.list(conn.index() as u32),
            Event::Accepted { conn, listener } => match self.plane.socket(conn).map(PeerAddr::of_peer) {
                Some(Ok(peer)) => self.accept(conn, listener, peer, local),
                // It has been reset already.
                _ => self.plane.close_now(conn),
            },
            Event::PeerClosed { conn, reason } => match reason {
                CloseReason::Eof => {
                    if let Some(client) = local.clients.at(conn.index() as u32) {
                        // What it has sent before is answered still: it may have closed its sending side only.
                        client.is_closing = true;
                        local.list(conn.index() as u32);
                    }
                }
                CloseReason::Failed(_) => self.forget(conn, local, true),
            },
            Event::AcceptFailed { error, .. } => {
                tracing::warn!("Accepting client connection: {error}");
            }
            Event::Woken => {}
        }
    }

    /// Accepts from these sockets (CONFIG SET port or bind). Those that are known already go on; connections that exist stay.
    fn listen_to(&mut self, listening: Listening) {
        let lists = [
            (&mut self.shared_listeners, listening.shared),
            (&mut self.own_listeners, listening.own),
        ];
        for (listeners, sockets) in lists {
            listeners.retain(|(listener, known)| {
                let stays = sockets.iter().any(|socket| socket.is_same(known));
                if !stays {
                    self.plane.unlisten(*listener);
                }
                stays
            });
            for socket in sockets {
                if !listeners.iter().any(|(_, known)| known.is_same(&socket)) {
                    listeners.push((self.plane.listen(socket.clone()), socket));
                }
            }
        }
    }

    fn accept(&mut self, conn: ConnId, listener: ListenerId, peer: PeerAddr, local: &mut Local) {
        if self.is_protected(&peer, local) {
            self.refuse(conn, &error::PROTECTED_MODE);
            local.env.stats.rejected_connections += 1;
            return;
        }
        let target = if self.own_listeners.iter().any(|(own, _)| *own == listener) {
            self.index
        } else {
            self.shared.least_loaded()
        };
        if target == self.index {
            self.enter(conn, peer, local);
            return;
        }
        if let Some(socket) = self.plane.detach(conn) {
            self.shared.connections[target].fetch_add(1, Ordering::Relaxed);
            local.outbound.message(ShardId(target as u16), Envelope::Adopt(socket));
        }
    }

    /// `protected-mode`: without a password only peers on this host are served.
    fn is_protected(&self, peer: &PeerAddr, local: &Local) -> bool {
        let settings = &local.env.settings;
        settings.protected_mode && settings.requirepass.is_empty() && !peer.is_local()
    }

    fn refuse(&mut self, conn: ConnId, error: &crate::resp::ReplyError) {
        let mut out = ReplyBuf::default();
        Reply::new(&mut out, crate::resp::Proto::Resp2).error(error);
        self.plane.start(conn);
        // A fresh connection has no write in flight, so it is taken, or the peer is gone already.
        let _ = out.give(|bytes, shared| self.plane.send(conn, Output { bytes, shared }));
        self.plane.close_after_flush(conn);
    }

    /// A connection that another shard has accepted.
    fn adopt(&mut self, socket: OwnedFd, local: &mut Local) {
        self.shared.connections[self.index].fetch_sub(1, Ordering::Relaxed);
        let conn = self.plane.adopt(socket);
        let peer = self.plane.socket(conn).map(PeerAddr::of_peer);
        match peer {
            Some(Ok(peer)) => self.enter(conn, peer, local),
            // It has been reset meanwhile.
            _ => self.plane.close_now(conn),
        }
    }

    /// Makes a client of a connection.
    fn enter(&mut self, conn: ConnId, peer: PeerAddr, local: &mut Local) {
        let local_address = match self.plane.socket(conn).map(PeerAddr::of_local) {
            Some(Ok(address)) => address.to_string(),
            _ => String::new(),
        };
        let index = conn.index();
        if !local.connect(
            index as u32,
            conn.generation(),
            &peer.to_string(),
            &local_address,
            peer.is_local(),
        ) {
            self.refuse(conn, &error::CLIENTS_TOO_MANY);
            return;
        }
        if let (Some(client), Some(socket)) = (local.clients.at(index as u32), self.plane.socket(conn)) {
            client.socket_fd = socket.as_raw_fd();
        }
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Connection {
            id: conn,
            is_paused: false,
            corked_at: None,
        });
        self.shared.connections[self.index].fetch_add(1, Ordering::Relaxed);
        self.plane.start(conn);
    }

    /// Ends a connection and its client.
    fn forget(&mut self, conn: ConnId, local: &mut Local, at_once: bool) {
        let index = conn.index();
        if let Some(place) = self.connections.get_mut(index)
            && place.as_ref().is_some_and(|connection| connection.id == conn)
        {
            *place = None;
            self.shared.connections[self.index].fetch_sub(1, Ordering::Relaxed);
            local.disconnect(index as u32);
        }
        if at_once {
            self.plane.close_now(conn);
        } else {
            self.plane.close_after_flush(conn);
        }
    }

    /// Serves the connections whose replies have waited long enough, and forgets those that did not need it.
    fn uncork(&mut self, local: &mut Local) {
        while let Some(&(since, index)) = self.corked.front() {
            let is_waiting = matches!(self.connections.get(index as usize),
                Some(Some(connection)) if connection.corked_at == Some(since));
            if is_waiting && self.now.duration_since(since) < CORKED_AT_MOST {
                break;
            }
            self.corked.pop_front();
            if is_waiting {
                self.serve(index, local);
            }
        }
    }

    /// Hands a client's output to the plane, and sees whether its connection goes on.
    fn serve(&mut self, index: u32, local: &mut Local) {
        let Some(Some(connection)) = self.connections.get_mut(index as usize) else {
            return;
        };
        let conn = connection.id;
        let Some(client) = local.clients.at(index) else { return };
        let waits = !client.pending.is_empty() && !client.is_killed && client.out.len() < CORKED_BYTES_MAX;
        if waits && !client.out.is_empty() {
            match connection.corked_at {
                None => {
                    connection.corked_at = Some(self.now);
                    self.corked.push_back((self.now, index));
                    return;
                }
                Some(since) if self.now.duration_since(since) < CORKED_AT_MOST => return,
                Some(_) => {}
            }
        }
        connection.corked_at = None;
        client.in_flight_bytes = self.plane.queued_bytes(conn);
        if local.is_over_output_limit(index) {
            return self.forget(conn, local, true);
        }
        let Some(client) = local.clients.at(index) else { return };
        let mut is_written = true;
        if !client.out.is_empty() {
            let output_bytes = client.out.len() as u64;
            match client
                .out
                .give(|bytes, shared| self.plane.send(conn, Output { bytes, shared }))
            {
                Sent::Taken => {
                    local.env.stats.output_bytes += output_bytes;
                    local.env.stats.writes_processed += 1;
                }
                Sent::Busy => is_written = false,
                Sent::Gone => {}
            }
        }
        client.in_flight_bytes = self.plane.queued_bytes(conn);
        if client.is_killed {
            return self.forget(conn, local, true);
        }
        if client.is_closing && is_written && client.pending.is_empty() {
            return self.forget(conn, local, false);
        }
        throttle(&mut self.plane, connection, client);
    }
}

/// Stops reading from a peer that sends on while an earlier request of it is under way.
fn throttle(plane: &mut UringPlane, connection: &mut Connection, client: &Client) {
    let is_full = client.stall != Stall::Not && client.query_bytes() > STALLED_QUERY_BYTES_MAX;
    if is_full != connection.is_paused {
        connection.is_paused = is_full;
        if is_full {
            plane.pause_receive(connection.id);
        } else {
            plane.resume_receive(connection.id);
        }
    }
}

impl Pump for Reactor {
    fn pass(&mut self, wait: Duration) -> Activity {
        let wait = if wait.is_zero() { Wait::No } else { Wait::Until(wait) };
        let mut events = std::mem::take(&mut self.events);
        if let Err(error) = self.plane.poll(wait, &mut events) {
            // The ring is broken: nothing that this shard acknowledges from here on could be sent.
            panic!("the network ring of shard {} has failed: {error}", self.index);
        }
        let shard = self.local.clone();
        let mut local = shard.borrow_mut();
        local.begin_pass();
        let began = local.env.ticks;
        let busy_us = local.env.stats.command_us;
        crash::note(Notes {
            shard: self.index,
            clients: local.clients.len(),
            queued_events: events.len(),
        });
        let mut is_busy = !events.is_empty();
        // The replies of the last pass are on their way by now, so that only what has just come waits for this.
        if local.is_background_overdue() {
            is_busy |= local.background_step();
        }
        for event in events.drain(..) {
            self.handle(event, &mut local);
        }
        self.events = events;
        is_busy |= local.drain_links() > 0;
        for socket in std::mem::take(&mut local.adopted) {
            self.adopt(socket, &mut local);
        }
        self.now = Instant::now();
        if self.now >= self.next_cron {
            self.next_cron = self.now + local.cron();
        }
        is_busy |= local.settle_memory();
        while let Some(index) = local.next_listed() {
            is_busy = true;
            self.serve(index, &mut local);
        }
        self.uncork(&mut local);
        let ended = Ticks::now();
        local.env.stats.count_pass(ended.us_since(began), busy_us);
        let Reactor { plane, shared, .. } = self;
        local.outbound.flush(|target| {
            if let Some(wake) = shared.wake_handle(target.0 as usize) {
                plane.wake_peer(wake);
            }
        });
        if let Some(listening) = self.shared.take_listening(self.index) {
            self.listen_to(listening);
        }
        if self.shared.is_stopping() {
            return Activity::Stop;
        }
        is_busy = is_busy || local.background_step();
        if is_busy || local.outbound.has_backlog() {
            Activity::Busy
        } else {
            Activity::Idle
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let uncork = self.corked.front().map(|(since, _)| *since + CORKED_AT_MOST);
        Some(uncork.map_or(self.next_cron, |uncork| uncork.min(self.next_cron)))
    }

    fn announce_sleep(&mut self) -> bool {
        self.local.borrow_mut().announce_sleep()
    }

    fn awake(&mut self) {
        self.local.borrow_mut().awake();
    }

    fn rouse(&self) -> Rouse {
        let wake = self.plane.wake_handle();
        Box::new(move || wake.wake())
    }

    fn bell(&self) -> io::Result<OwnedFd> {
        self.plane.bell().try_clone_to_owned()
    }

    fn set_bell(&mut self, on: bool) -> bool {
        // A bell that cannot be set would leave the shard asleep: do not sleep on it.
        self.plane.set_bell(on).unwrap_or(false)
    }
}
