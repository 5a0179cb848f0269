//! How the keys that a client caches are tracked for it (CLIENT TRACKING).
//!
//! This is what the client has asked for; who has read what stands in the slots ([`store::Tracker`](crate::store::Tracker)), and who wants to hear
//! of which prefixes with the subscriptions ([`pubsub`](crate::pubsub)).
//!
//! CLIENT CACHING is about what comes next: it holds until a command that is none of CLIENT's has been run, which is a whole transaction
//! after MULTI. It stands with the session, since it comes and goes with commands; the rest changes only as a whole.

use crate::pubsub::Name;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// Which keys are tracked for a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TrackingMode {
    /// Those that it reads.
    #[default]
    Read,
    /// Those that it reads after CLIENT CACHING YES.
    OptIn,
    /// Those that it reads, but not after CLIENT CACHING NO.
    OptOut,
    /// All that begin with one of its prefixes, read or not.
    Broadcast,
}

/// See above.
#[derive(Debug, Default)]
pub struct Tracking {
    pub mode: TrackingMode,
    /// NOLOOP: it does not hear of its own changes.
    pub skips_own: bool,
    /// The id of the client that hears in its place.
    pub redirect: Option<u64>,
    /// In broadcast mode.
    pub prefixes: BTreeSet<Name>,
    /// Nobody was there under that id when something was to be told.
    is_redirect_broken: AtomicBool,
}

impl Tracking {
    /// What a client asks for.
    pub fn new(mode: TrackingMode, skips_own: bool, redirect: Option<u64>, prefixes: BTreeSet<Name>) -> Tracking {
        Tracking {
            mode,
            skips_own,
            redirect,
            prefixes,
            is_redirect_broken: AtomicBool::new(false),
        }
    }

    /// Whether it has asked for prefixes.
    pub fn is_broadcast(&self) -> bool {
        self.mode == TrackingMode::Broadcast
    }

    /// Whether what it reads now is remembered. `caching`: it has sent CLIENT CACHING before.
    pub fn remembers(&self, caching: bool) -> bool {
        match self.mode {
            TrackingMode::Read => true,
            TrackingMode::OptIn => caching,
            TrackingMode::OptOut => !caching,
            TrackingMode::Broadcast => false,
        }
    }

    /// About how much memory it takes. The prefixes are shared with the directory, and are counted here.
    pub fn memory_bytes(&self) -> usize {
        let prefixes = self.prefixes.iter().map(|prefix| prefix.len() + PREFIX_BYTES);
        size_of::<Tracking>() + prefixes.sum::<usize>()
    }

    /// The client that was to hear in its place has gone.
    pub fn break_redirect(&self) {
        self.is_redirect_broken.store(true, Ordering::Relaxed);
    }

    pub fn is_redirect_broken(&self) -> bool {
        self.is_redirect_broken.load(Ordering::Relaxed)
    }
}

/// What a prefix takes beside its bytes: its place in the set, with the clients of its shard, and in the directory.
const PREFIX_BYTES: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_the_mode_s_and_what_was_said_before() {
        use TrackingMode::{Broadcast, OptIn, OptOut, Read};
        for (mode, remembers) in [
            (Read, [true, true]),
            (OptIn, [false, true]),
            (OptOut, [true, false]),
            (Broadcast, [false, false]),
        ] {
            let tracking = Tracking::new(mode, false, None, BTreeSet::new());
            assert_eq!([false, true].map(|caching| tracking.remembers(caching)), remembers);
            assert_eq!(tracking.is_broadcast(), mode == Broadcast);
        }
        let prefixes = BTreeSet::from([Name::from(&b"abc"[..])]);
        let broad = Tracking::new(Broadcast, false, None, prefixes);
        let tracking = Tracking::default();
        assert_eq!(broad.memory_bytes() - tracking.memory_bytes(), 3 + PREFIX_BYTES);
        assert!(!tracking.is_redirect_broken());
        tracking.break_redirect();
        assert!(tracking.is_redirect_broken());
    }
}
