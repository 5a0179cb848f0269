//! Whom this node follows, and how far it has come in that.
//!
//! One for the process. The command that changes it (REPLICAOF) holds all slots as it does so; what the link to the master brings becomes
//! units of work, which hold at least one. So no unit ever stands on both sides of a change: each finds out, when it has its slots, whether
//! what it was made for still holds.
//!
//! What has to be known with every write is an atomic; the rest is behind a lock that nobody holds for longer than it takes to copy it. Each
//! generation has a link of its own, on a thread of its own, since connecting, and looking up a name, may take long.
//!
//! ```text
//!             REPLICAOF h p                         the link's thread
//!  None ------------------------> Connect --> Connecting --> Handshake --> Transfer --> Connected
//!    ^                               ^                                                      |
//!    '-- REPLICAOF NO ONE (any)      '------------ the link is lost, or failed -------------'
//! ```
//!
//! Invariants:
//! 1. A change of master, or of role, is a new *generation*. Whoever works for an older one changes nothing here any more.
//! 2. The position is that of the last unit that has taken effect, and stands between two units of the stream.

use crate::config::Endpoint;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

/// How far the link to the master is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LinkState {
    /// There is no master.
    #[default]
    None,
    /// It is to be connected to.
    Connect,
    /// That is under way.
    Connecting,
    /// Each is told who the other is.
    Handshake,
    /// The data set comes.
    Transfer,
    /// The stream comes.
    Connected,
}

impl LinkState {
    /// As ROLE says it.
    pub fn name(self) -> &'static str {
        match self {
            LinkState::None => "none",
            LinkState::Connect => "connect",
            LinkState::Connecting => "connecting",
            LinkState::Handshake => "handshake",
            LinkState::Transfer => "sync",
            LinkState::Connected => "connected",
        }
    }
}

/// A place in a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// 40 hex digits: which history.
    pub replid: String,
    /// How many bytes of it have taken effect.
    pub offset: u64,
    /// The db that the stream has selected there.
    pub db: u32,
}

/// How much of a data set has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// 0: nobody knows.
    pub total_bytes: u64,
    pub read_bytes: u64,
}

/// What starts a link: it must not wait.
pub type Start = Box<dyn Fn(Assignment) + Send + Sync>;

/// What a link is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub generation: u64,
    pub master: Endpoint,
}

/// What INFO and ROLE say of a replica.
#[derive(Clone, Debug)]
pub struct Report {
    pub master: Endpoint,
    pub link: LinkState,
    /// Of the last byte that came.
    pub last_io: Option<Instant>,
    pub transfer: Transfer,
    /// How many bytes of the stream have come, and how many have taken effect.
    pub read_offset: u64,
    pub position: Option<Position>,
    /// Since when the link is not up.
    pub down_since: Option<Instant>,
}

impl Report {
    /// How far the data set is in its history.
    pub fn applied_offset(&self) -> u64 {
        self.position.as_ref().map_or(0, |position| position.offset)
    }
}

/// See the essay above.
#[derive(Default)]
pub struct Following {
    is_replica: AtomicBool,
    is_linked: AtomicBool,
    generation: AtomicU64,
    inside: Mutex<Inside>,
    changed: Condvar,
    /// Starts a link.
    start: OnceLock<Start>,
}

#[derive(Default)]
struct Inside {
    master: Option<Endpoint>,
    link: LinkState,
    position: Option<Position>,
    read_offset: u64,
    last_io: Option<Instant>,
    transfer: Transfer,
    down_since: Option<Instant>,
    /// Ends what the link waits for.
    interrupt: Option<Box<dyn FnOnce() + Send>>,
}

impl Following {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What starts links.
    pub fn start_by(&self, start: Start) {
        let is_first = self.start.set(start).is_ok();
        assert!(is_first, "a node is told once how links are started");
    }

    /// Whether this node is a replica.
    #[inline]
    pub fn is_replica(&self) -> bool {
        self.is_replica.load(Ordering::Relaxed)
    }

    /// Whether it is one that has lost its master.
    #[inline]
    pub fn is_cut_off(&self) -> bool {
        self.is_replica() && !self.is_linked.load(Ordering::Relaxed)
    }

    /// How often master or role have changed.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Follows a master from now on, from there if that is known. To be called by who holds all slots. False: it is the one that is followed.
    pub fn follow(&self, master: Endpoint, position: Option<Position>) -> bool {
        let mut inside = self.lock();
        if inside.master.as_ref() == Some(&master) {
            return false;
        }
        if inside.master.is_none() {
            inside.position = position;
        }
        inside.master = Some(master.clone());
        inside.link = LinkState::Connect;
        inside.down_since.get_or_insert_with(Instant::now);
        self.is_replica.store(true, Ordering::Relaxed);
        let generation = self.renew(inside);
        if let Some(start) = self.start.get() {
            start(Assignment { generation, master });
        }
        true
    }

    /// Follows nobody any more; where it had come to, if it was a replica. To be called by who holds all slots.
    pub fn stop(&self) -> Option<Position> {
        let mut inside = self.lock();
        inside.master.take()?;
        inside.link = LinkState::None;
        inside.down_since = None;
        let position = inside.position.take();
        self.is_replica.store(false, Ordering::Relaxed);
        self.renew(inside);
        position
    }

    /// Begins a generation.
    fn renew(&self, mut inside: MutexGuard<'_, Inside>) -> u64 {
        // Whoever changes it has the lock.
        let generation = self.generation() + 1;
        inside.transfer = Transfer::default();
        self.is_linked.store(false, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
        let interrupt = inside.interrupt.take();
        drop(inside);
        if let Some(interrupt) = interrupt {
            interrupt();
        }
        self.changed.notify_all();
        generation
    }

    /// Waits for so long, or until that generation is over.
    pub fn pause(&self, generation: u64, duration: std::time::Duration) {
        let inside = self.lock();
        let lasts = |_: &mut Inside| self.is_current(generation);
        // Whichever it was, the caller looks.
        drop(self.changed.wait_timeout_while(inside, duration, lasts));
    }

    /// What is to be called when the generation ends. False: it is over.
    pub fn interrupt_by(&self, generation: u64, interrupt: Box<dyn FnOnce() + Send>) -> bool {
        self.change(generation, |inside| inside.interrupt = Some(interrupt))
    }

    /// Whether that generation goes on.
    #[inline]
    pub fn is_current(&self, generation: u64) -> bool {
        self.generation() == generation
    }

    /// Changes what is known of this generation; false: it is over.
    fn change(&self, generation: u64, change: impl FnOnce(&mut Inside)) -> bool {
        let mut inside = self.lock();
        let is_current = self.is_current(generation);
        if is_current {
            change(&mut inside);
        }
        is_current
    }

    /// The link has got that far, or has fallen back.
    pub fn note_link(&self, generation: u64, link: LinkState) -> bool {
        self.change(generation, |inside| {
            inside.link = link;
            let is_linked = link == LinkState::Connected;
            match is_linked {
                true => inside.down_since = None,
                false => {
                    inside.down_since.get_or_insert_with(Instant::now);
                }
            }
            self.is_linked.store(is_linked, Ordering::Relaxed);
        })
    }

    /// So many bytes of the data set have come.
    pub fn note_transfer(&self, generation: u64, transfer: Transfer) {
        self.change(generation, |inside| {
            inside.transfer = transfer;
            inside.last_io = Some(Instant::now());
        });
    }

    /// The stream has come up to there.
    pub fn note_read(&self, generation: u64, offset: u64) {
        self.change(generation, |inside| {
            inside.read_offset = offset;
            inside.last_io = Some(Instant::now());
        });
    }

    /// All of the stream up to there has taken effect. To be called by the last unit that it is made of, while that has its slots.
    pub fn advance(&self, generation: u64, offset: u64, db: u32) {
        self.change(generation, |inside| {
            if let Some(position) = &mut inside.position {
                (position.offset, position.db) = (offset, db);
            }
        });
    }

    /// The data set is that of this place in that history; None: it is none's.
    pub fn set_position(&self, generation: u64, position: Option<Position>) -> bool {
        self.change(generation, |inside| {
            inside.read_offset = position.as_ref().map_or(0, |position| position.offset);
            inside.position = position;
        })
    }

    /// Where it has come to.
    pub fn position(&self) -> Option<Position> {
        self.lock().position.clone()
    }

    /// What is to be said of it, if it is a replica.
    pub fn report(&self) -> Option<Report> {
        let inside = self.lock();
        Some(Report {
            master: inside.master.clone()?,
            link: inside.link,
            last_io: inside.last_io,
            transfer: inside.transfer,
            read_offset: inside.read_offset,
            position: inside.position.clone(),
            down_since: inside.down_since,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn endpoint(host: &str) -> Endpoint {
        Endpoint {
            host: host.into(),
            port: 6379,
        }
    }

    fn at(offset: u64) -> Position {
        Position {
            replid: "a".repeat(40),
            offset,
            db: 0,
        }
    }

    #[test]
    fn who_works_for_an_older_generation_changes_nothing() {
        let following = Following::default();
        assert!(following.follow(endpoint("one"), Some(at(7))));
        assert!(!following.follow(endpoint("one"), None), "it is followed already");
        let first = following.generation();
        assert!(following.note_link(first, LinkState::Connected));
        assert!(following.is_replica() && !following.is_cut_off());
        following.advance(first, 9, 3);
        assert!(following.follow(endpoint("two"), None));
        assert!(following.is_cut_off());
        following.advance(first, 100, 0);
        assert!(!following.note_link(first, LinkState::Connected));
        assert!(!following.set_position(first, None));
        assert_eq!(following.position(), Some(Position { db: 3, ..at(9) }));
        assert_eq!(following.stop(), Some(Position { db: 3, ..at(9) }));
        assert!(!following.is_replica() && following.report().is_none());
        assert_eq!(following.stop(), None, "it follows nobody");
    }

    #[test]
    fn a_link_is_started_and_interrupted_once() {
        let following = Following::default();
        let (started, interrupted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = started.clone();
        following.start_by(Box::new(move |assignment| {
            counts.fetch_add(1, Ordering::Relaxed);
            assert_eq!(assignment.master.port, 6379);
        }));
        following.follow(endpoint("one"), None);
        let generation = following.generation();
        let counts = interrupted.clone();
        assert!(following.interrupt_by(
            generation,
            Box::new(move || {
                counts.fetch_add(1, Ordering::Relaxed);
            })
        ));
        following.stop();
        assert!(!following.interrupt_by(generation, Box::new(|| unreachable!("it is over"))));
        following.follow(endpoint("two"), None);
        assert_eq!(interrupted.load(Ordering::Relaxed), 1);
        assert_eq!(
            started.load(Ordering::Relaxed),
            2,
            "each generation has a link of its own"
        );
        // Over already, so it does not take that long.
        following.pause(generation, std::time::Duration::from_secs(3600));
    }
}
