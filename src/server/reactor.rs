//! One shard's loop: moves bytes between the sockets of its network plane and its [`Local`].
//!
//! A pass takes what the plane reports and feeds it to the command layer; what else a pass is stands there (`command::pass`), and
//! comes back here as a [`Wire`] to send by and to wake others with. Everything that is sent in a pass leaves with one system
//! call, that of the next pass.
//!
//! New connections arrive on the shard that listens; it gives each to the shard that has the fewest. Only a shard's own
//! port (`shard-ports`) is accepted by that shard for itself.
//!
//! Invariant: a client of [`Local`] has the index of its connection in the plane, and lives at most as long.

use super::crash::{self, Notes};
use super::shared::{Listening, Shared};
use crate::base::clock::{CpuTime, Ticks};
use crate::engine::wire::{Handed, Wire};
use crate::engine::{Envelope, Local};
use crate::net::{
    ConnId, Event, ListenSocket, ListenerId, Output, PeerAddr, Plane, REPORTED_BYTES_MIN, Sent, UringPlane, Wait,
};
use crate::resp::{Reply, ReplyBuf, error};
use crate::runtime::{Activity, Pump, Rouse};
use crate::shard::ShardId;
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// One shard's loop.
pub struct Reactor {
    plane: UringPlane,
    local: Rc<RefCell<Local>>,
    shared: Arc<Shared>,
    index: usize,
    /// What the thread had had of its CPU when the last pass began, if that is measured.
    measured_from: Option<CpuTime>,
    events: Vec<Event>,
    /// Connections by the index they have in the plane.
    connections: Vec<Option<ConnId>>,
    /// Listeners whose connections stay here.
    own_listeners: Vec<(ListenerId, ListenSocket)>,
    /// Listeners whose connections are spread over the shards.
    shared_listeners: Vec<(ListenerId, ListenSocket)>,
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
            measured_from: None,
            events: Vec::new(),
            connections: Vec::new(),
            own_listeners: Vec::new(),
            shared_listeners: Vec::new(),
        };
        reactor.listen_to(listening);
        reactor
    }

    /// From here to here is a pass, with what the ring and the executor take.
    fn measure_pass(&mut self, local: &mut Local) {
        let stats = &mut local.env.stats;
        if !stats.measures_passes() {
            self.measured_from = None;
            return;
        }
        let now = CpuTime::now();
        if let Some(before) = self.measured_from.replace(now) {
            stats.note_pass_cpu(now.us_since(before));
        }
    }

    fn handle(&mut self, event: Event, local: &mut Local) {
        match event {
            Event::Received { conn, buffer } => {
                local.env.stats.counts.reads_processed += 1;
                local.receive(conn.index() as u32, self.plane.data(&buffer));
                self.plane.give_back(buffer);
            }
            Event::Drained { conn } => local.clients.list(conn.index() as u32),
            Event::Accepted { conn, listener } => match self.plane.socket(conn).map(PeerAddr::of_peer) {
                Some(Ok(peer)) => self.accept(conn, listener, peer, local),
                // It has been reset already.
                _ => self.plane.close_now(conn),
            },
            // A connection that has failed stays, too, until what came by it has been run; nobody reads the replies.
            Event::PeerClosed { conn, .. } => match self.connections.get(conn.index()) {
                Some(Some(known)) if *known == conn => local.peer_closed(conn.index() as u32),
                _ => self.plane.close_now(conn),
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
            local.env.stats.counts.rejected_connections += 1;
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
            local
                .link()
                .message(ShardId(target as u16), Envelope::Adopt(Box::new(socket)));
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
        self.connections[index] = Some(conn);
        self.shared.connections[self.index].fetch_add(1, Ordering::Relaxed);
        self.plane.start(conn);
    }
}

/// A shard's connections and the other shards' bells, while a pass is finished.
struct Sockets<'a> {
    plane: &'a mut UringPlane,
    connections: &'a mut [Option<ConnId>],
    shared: &'a Shared,
    index: usize,
}

impl Sockets<'_> {
    fn id(&self, index: u32) -> Option<ConnId> {
        self.connections.get(index as usize).copied().flatten()
    }
}

impl Wire for Sockets<'_> {
    fn send(&mut self, index: u32, output: &mut ReplyBuf) -> Handed {
        let Some(conn) = self.id(index) else {
            return Handed::Gone;
        };
        match output.give(|bytes, shared| self.plane.send(conn, Output { bytes, shared })) {
            Sent::Taken => Handed::Taken,
            Sent::Busy => Handed::Busy,
            Sent::Gone => Handed::Gone,
        }
    }

    fn queued_bytes(&self, index: u32) -> usize {
        // A write that is not large is over soon, and nothing tells when.
        let queued_bytes = self.id(index).map_or(0, |conn| self.plane.queued_bytes(conn));
        if queued_bytes < REPORTED_BYTES_MIN {
            0
        } else {
            queued_bytes
        }
    }

    fn held_bytes(&self) -> usize {
        self.plane.held_bytes()
    }

    fn read_on(&mut self, index: u32, reads: bool) {
        match (self.id(index), reads) {
            (Some(conn), true) => self.plane.resume_receive(conn),
            (Some(conn), false) => self.plane.pause_receive(conn),
            (None, _) => {}
        }
    }

    fn close(&mut self, index: u32, at_once: bool) {
        let Some(conn) = self.id(index) else { return };
        self.connections[index as usize] = None;
        self.shared.connections[self.index].fetch_sub(1, Ordering::Relaxed);
        match at_once {
            true => self.plane.close_now(conn),
            false => self.plane.close_after_flush(conn),
        }
    }

    fn wake(&mut self, shard: ShardId) {
        if let Some(wake) = self.shared.wake_handle(shard.0 as usize) {
            self.plane.wake_peer(wake);
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
        self.measure_pass(&mut local);
        local.begin_pass();
        local.note_wire(self.plane.held_bytes());
        crash::note(Notes {
            shard: self.index,
            clients: local.clients.len(),
            queued_events: events.len(),
        });
        let has_events = !events.is_empty();
        for event in events.drain(..) {
            self.handle(event, &mut local);
        }
        self.events = events;
        let mut is_busy = has_events;
        is_busy |= local.finish_pass(&mut Sockets {
            plane: &mut self.plane,
            connections: &mut self.connections,
            shared: &self.shared,
            index: self.index,
        });
        for accepted in std::mem::take(&mut local.adopted) {
            is_busy = true;
            let socket = accepted.downcast::<OwnedFd>();
            self.adopt(*socket.expect("reactors hand sockets to each other"), &mut local);
        }
        if let Some(listening) = self.shared.take_listening(self.index) {
            self.listen_to(listening);
        }
        if self.shared.is_stopping() {
            return Activity::Stop;
        }
        if is_busy { Activity::Busy } else { Activity::Idle }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let left = self.local.borrow().next_deadline().ns_since(Ticks::now());
        Some(Instant::now() + Duration::from_nanos(left))
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
