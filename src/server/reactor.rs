//! One shard's loop: moves bytes between the sockets of its network plane and its [`Local`].
//!
//! A pass takes what the plane reports and feeds it to the command layer; what else a pass is stands there (`command::pass`), and
//! comes back here as a [`Wire`] to send by and to wake others with. Everything that is sent in a pass leaves with one system
//! call, that of the next pass.
//!
//! New connections arrive on the shard that listens; it gives each to the shard that has the fewest. Only a shard's own
//! port (`shard-ports`) is accepted by that shard for itself.
//!
//! The sockets stand apart ([`Front`]), and nothing borrows them while a command runs: a script that does not end has its shard's clients looked after by them
//! ([`Sockets`]) from within. What was reported and not handled when it began is handled then, in its order; what concerns the script's own client stays for the loop.
//!
//! Invariants: (1) a client of [`Local`] has the index of its connection in the plane, and lives at most as long; (2) what is reported of a connection
//! is handled in its order.

use super::crash::{self, Notes};
use super::shared::{Listening, Shared};
use crate::base::clock::{CpuTime, Ticks};
use crate::config::Settings;
use crate::engine::wire::{Handed, Wire};
use crate::engine::{Clients, Desk, Env, Local, Sockets, Taken, attendant, connect};
use crate::net::{
    ConnId, Event, ListenSocket, ListenerId, Output, PeerAddr, Plane, REPORTED_BYTES_MIN, Sent, UringPlane, Wait,
};
use crate::resp::{Proto, Reply, ReplyBuf, ReplyError, error};
use crate::runtime::{Activity, Pump, Rouse};
use crate::shard::ShardId;
use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// One shard's loop.
pub struct Reactor {
    front: Door,
    local: Rc<RefCell<Local>>,
    shared: Arc<Shared>,
    index: usize,
    /// What the thread had had of its CPU when the last pass began, if that is measured.
    measured_from: Option<CpuTime>,
}

/// A shard's sockets, and what they have reported.
struct Front {
    plane: UringPlane,
    shared: Arc<Shared>,
    index: usize,
    polled: Vec<Event>,
    /// What was reported and is to be handled.
    events: VecDeque<Event>,
    /// What concerns a client whose command runs: it comes before `events` when the shard is back.
    put_off: Vec<Event>,
    /// Clients who are not read while that is so.
    unread: Vec<u32>,
    /// Connections by the index they have in the plane.
    connections: Vec<Option<ConnId>>,
    /// Listeners whose connections stay here.
    own_listeners: Vec<(ListenerId, ListenSocket)>,
    /// Listeners whose connections are spread over the shards.
    shared_listeners: Vec<(ListenerId, ListenSocket)>,
}

/// The way to them: borrowed for as long as a call lasts.
#[derive(Clone)]
struct Door(Rc<RefCell<Front>>);

/// Whom accepting concerns.
struct Reception<'a> {
    env: &'a mut Env,
    clients: &'a mut Clients,
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
        let mut front = Front {
            plane,
            shared: shared.clone(),
            index,
            polled: Vec::new(),
            events: VecDeque::new(),
            put_off: Vec::new(),
            unread: Vec::new(),
            connections: Vec::new(),
            own_listeners: Vec::new(),
            shared_listeners: Vec::new(),
        };
        front.listen_to(listening);
        let front = Door(Rc::new(RefCell::new(front)));
        {
            let mut shard = local.borrow_mut();
            shard.env.attendant = Some(attendant(front.clone(), shard.registry));
        }
        Reactor {
            front,
            local,
            shared,
            index,
            measured_from: None,
        }
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
                local.receive(conn.index() as u32, buffer.bytes());
                self.front.borrow().plane.give_back(buffer);
            }
            Event::Drained { conn } => local.clients.list(conn.index() as u32),
            Event::PeerClosed { conn, .. } => local.peer_closed(conn.index() as u32),
            other => {
                let reception = Reception {
                    env: &mut local.env,
                    clients: &mut local.clients,
                };
                self.front.borrow().handle_arrival(other, reception);
            }
        }
    }
}

/// When the loop ends, the sockets end with it, whoever still has the shard.
impl Drop for Reactor {
    fn drop(&mut self) {
        self.local.borrow_mut().env.attendant = None;
    }
}

impl Door {
    fn borrow(&self) -> RefMut<'_, Front> {
        self.0.borrow_mut()
    }
}

impl Front {
    /// Takes in what has happened.
    fn poll(&mut self, wait: Wait) {
        if let Err(error) = self.plane.poll(wait, &mut self.polled) {
            // The ring is broken: nothing that this shard acknowledges from here on could be sent.
            panic!("the network ring of shard {} has failed: {error}", self.index);
        }
        self.events.extend(self.polled.drain(..));
    }

    /// The next thing to be handled. What is reported of a connection that has no client goes no further.
    fn next_event(&mut self) -> Option<Event> {
        loop {
            match self.events.pop_front()? {
                Event::Received { conn, buffer } if !self.has_client(conn) => self.plane.give_back(buffer),
                Event::Drained { conn } if !self.has_client(conn) => {}
                // A connection that has failed stays, too, until what came by it has been run; nobody reads the replies.
                Event::PeerClosed { conn, .. } if !self.has_client(conn) => self.plane.close_now(conn),
                event => return Some(event),
            }
        }
    }

    fn has_client(&self, conn: ConnId) -> bool {
        self.id(conn.index() as u32) == Some(conn)
    }

    /// The shard is back: what was put off is handled first, and whoever was not read meanwhile is read again, if the shard would.
    fn resume(&mut self, clients: &mut Clients) {
        for event in self.put_off.drain(..).rev() {
            self.events.push_front(event);
        }
        for index in std::mem::take(&mut self.unread) {
            if let (Some(conn), Some(client)) = (self.id(index), clients.at(index))
                && client.is_read
            {
                self.plane.resume_receive(conn);
            }
        }
    }

    /// Handles what concerns no client.
    fn handle_arrival(&mut self, event: Event, reception: Reception<'_>) {
        match event {
            Event::Accepted { conn, listener } => match self.plane.socket(conn).map(PeerAddr::of_peer) {
                Some(Ok(peer)) => self.accept(conn, listener, peer, reception),
                // It has been reset already.
                _ => self.plane.close_now(conn),
            },
            Event::AcceptFailed { error, .. } => {
                tracing::warn!("Accepting client connection: {error}");
            }
            Event::Woken | Event::Received { .. } | Event::Drained { .. } | Event::PeerClosed { .. } => {}
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

    fn accept(&mut self, conn: ConnId, listener: ListenerId, peer: PeerAddr, reception: Reception<'_>) {
        if is_protected(&peer, &reception.env.settings) {
            self.refuse(conn, &error::PROTECTED_MODE);
            reception.env.stats.counts.rejected_connections += 1;
            return;
        }
        let target = if self.own_listeners.iter().any(|(own, _)| *own == listener) {
            self.index
        } else {
            self.shared.least_loaded()
        };
        if target == self.index {
            self.enter(conn, peer, reception);
            return;
        }
        if let Some(socket) = self.plane.detach(conn) {
            self.shared.hand_over(target, socket);
            if let Some(wake) = self.shared.wake_handle(target) {
                self.plane.wake_peer(wake);
            }
        }
    }

    fn refuse(&mut self, conn: ConnId, error: &ReplyError) {
        let mut out = ReplyBuf::default();
        Reply::new(&mut out, Proto::Resp2).error(error);
        self.plane.start(conn);
        // A fresh connection has no write in flight, so it is taken, or the peer is gone already.
        let _ = out.give(|bytes, shared| self.plane.send(conn, Output { bytes, shared }));
        self.plane.close_after_flush(conn);
    }

    /// Takes in the connections that other shards have accepted for this one. True: there were any.
    fn adopt(&mut self, mut reception: Reception<'_>) -> bool {
        let sockets = self.shared.take_handed_over(self.index);
        let has_any = !sockets.is_empty();
        for socket in sockets {
            self.shared.connections[self.index].fetch_sub(1, Ordering::Relaxed);
            let conn = self.plane.adopt(socket);
            let peer = self.plane.socket(conn).map(PeerAddr::of_peer);
            match peer {
                Some(Ok(peer)) => self.enter(conn, peer, reception.again()),
                // It has been reset meanwhile.
                _ => self.plane.close_now(conn),
            }
        }
        has_any
    }

    /// Makes a client of a connection.
    fn enter(&mut self, conn: ConnId, peer: PeerAddr, reception: Reception<'_>) {
        let local_address = match self.plane.socket(conn).map(PeerAddr::of_local) {
            Some(Ok(address)) => address.to_string(),
            _ => String::new(),
        };
        let index = conn.index();
        let Reception { env, clients } = reception;
        if !connect(
            env,
            clients,
            (index as u32, conn.generation()),
            &peer.to_string(),
            &local_address,
            peer.is_local(),
        ) {
            self.refuse(conn, &error::CLIENTS_TOO_MANY);
            return;
        }
        if let (Some(client), Some(socket)) = (clients.at(index as u32), self.plane.socket(conn)) {
            client.socket_fd = socket.as_raw_fd();
        }
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(conn);
        self.shared.connections[self.index].fetch_add(1, Ordering::Relaxed);
        self.plane.start(conn);
    }

    fn id(&self, index: u32) -> Option<ConnId> {
        self.connections.get(index as usize).copied().flatten()
    }
}

impl Reception<'_> {
    fn again(&mut self) -> Reception<'_> {
        Reception {
            env: self.env,
            clients: self.clients,
        }
    }
}

/// `protected-mode`: without a password only peers on this host are served.
fn is_protected(peer: &PeerAddr, settings: &Settings) -> bool {
    settings.protected_mode && settings.requirepass.is_empty() && !peer.is_local()
}

impl Wire for Door {
    fn send(&mut self, index: u32, output: &mut ReplyBuf) -> Handed {
        let front = &mut *self.borrow();
        let Some(conn) = front.id(index) else {
            return Handed::Gone;
        };
        match output.give(|bytes, shared| front.plane.send(conn, Output { bytes, shared })) {
            Sent::Taken => Handed::Taken,
            Sent::Busy => Handed::Busy,
            Sent::Gone => Handed::Gone,
        }
    }

    fn queued_bytes(&self, index: u32) -> usize {
        let front = self.borrow();
        // A write that is not large is over soon, and nothing tells when.
        let queued_bytes = front.id(index).map_or(0, |conn| front.plane.queued_bytes(conn));
        if queued_bytes < REPORTED_BYTES_MIN {
            0
        } else {
            queued_bytes
        }
    }

    fn held_bytes(&self) -> usize {
        self.borrow().plane.held_bytes()
    }

    fn read_on(&mut self, index: u32, reads: bool) {
        let front = &mut *self.borrow();
        match (front.id(index), reads) {
            (Some(conn), true) => front.plane.resume_receive(conn),
            (Some(conn), false) => front.plane.pause_receive(conn),
            (None, _) => {}
        }
    }

    fn close(&mut self, index: u32, at_once: bool) {
        let front = &mut *self.borrow();
        let Some(conn) = front.id(index) else { return };
        front.connections[index as usize] = None;
        front.shared.connections[front.index].fetch_sub(1, Ordering::Relaxed);
        match at_once {
            true => front.plane.close_now(conn),
            false => front.plane.close_after_flush(conn),
        }
    }

    fn wake(&mut self, shard: ShardId) {
        let front = &mut *self.borrow();
        if let Some(wake) = front.shared.wake_handle(shard.0 as usize) {
            front.plane.wake_peer(wake);
        }
    }
}

impl Sockets for Door {
    fn poll(&mut self) {
        self.borrow().poll(Wait::No);
    }

    fn next(&mut self, desk: &mut Desk<'_>) -> bool {
        let mut front = self.borrow();
        let reception = Reception {
            env: desk.env,
            clients: desk.clients,
        };
        front.adopt(reception);
        let Some(event) = front.next_event() else {
            return false;
        };
        let (index, taken) = match &event {
            Event::Received { conn, buffer } => (conn.index(), desk.received(conn.index() as u32, buffer.bytes())),
            Event::Drained { conn } => (conn.index(), desk.drained(conn.index() as u32)),
            Event::PeerClosed { conn, .. } => (conn.index(), desk.ended(conn.index() as u32)),
            _ => {
                let reception = Reception {
                    env: desk.env,
                    clients: desk.clients,
                };
                front.handle_arrival(event, reception);
                return true;
            }
        };
        match (taken, event) {
            (Taken::Taken, Event::Received { buffer, .. }) => front.plane.give_back(buffer),
            (Taken::Taken, _) => {}
            (Taken::Later, event) => {
                if let Some(conn) = front.id(index as u32)
                    && !front.unread.contains(&(index as u32))
                {
                    front.plane.pause_receive(conn);
                    front.unread.push(index as u32);
                }
                front.put_off.push(event);
            }
        }
        true
    }
}

impl Pump for Reactor {
    fn pass(&mut self, wait: Duration) -> Activity {
        let wait = if wait.is_zero() { Wait::No } else { Wait::Until(wait) };
        self.front.borrow().poll(wait);
        let shard = self.local.clone();
        let mut local = shard.borrow_mut();
        self.measure_pass(&mut local);
        local.begin_pass();
        let queued_events = {
            let mut front = self.front.borrow();
            front.resume(&mut local.clients);
            local.note_wire(front.plane.held_bytes());
            front.events.len()
        };
        crash::note(Notes {
            shard: self.index,
            clients: local.clients.len(),
            queued_events,
        });
        loop {
            let Some(event) = self.front.borrow().next_event() else {
                break;
            };
            self.handle(event, &mut local);
        }
        let mut is_busy = queued_events > 0;
        is_busy |= local.finish_pass(&mut self.front);
        let reception = {
            let local = &mut *local;
            Reception {
                env: &mut local.env,
                clients: &mut local.clients,
            }
        };
        is_busy |= self.front.borrow().adopt(reception);
        // What a script has left of what was reported.
        is_busy |= !self.front.borrow().put_off.is_empty();
        if let Some(listening) = self.shared.take_listening(self.index) {
            self.front.borrow().listen_to(listening);
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
        let wake = self.front.borrow().plane.wake_handle();
        Box::new(move || wake.wake())
    }

    fn bell(&self) -> io::Result<OwnedFd> {
        self.front.borrow().plane.bell().try_clone_to_owned()
    }

    fn set_bell(&mut self, on: bool) -> bool {
        // A bell that cannot be set would leave the shard asleep: do not sleep on it.
        self.front.borrow().plane.set_bell(on).unwrap_or(false)
    }
}
