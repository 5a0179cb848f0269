//! What a command says that has found nothing and waits.
//!
//! For an attempt at a unit of work this is one of the ways in which it can end; what becomes of it is told in `blocked` and `serve`.

use crate::base::clock::UnixMs;
use crate::data::ValueType;
use crate::resp::{OwnedArgs, Reply};

/// What a command waits for.
#[derive(Debug)]
pub struct Park {
    /// What it can be served from.
    pub kind: ValueType,
    /// The keys, each of which can end the wait.
    pub keys: Vec<Box<[u8]>>,
    /// A key that it makes when it is served.
    pub target: Option<Box<[u8]>>,
    /// It is run again as well when one of the keys is gone, or something else (a consumer group goes with its stream).
    pub minds_absence: bool,
    /// When it has waited long enough. None: it waits for ever.
    pub deadline: Option<UnixMs>,
    /// What it answers at once if it may not wait. (When its time is over that is a null array, whatever it is.)
    pub nothing: Nothing,
    /// What is run again, if not what the client has sent.
    pub instead: Option<OwnedArgs>,
}

impl Park {
    /// Until one of these is of that kind.
    pub fn until<'k>(kind: ValueType, keys: impl IntoIterator<Item = &'k [u8]>, deadline: Option<UnixMs>) -> Park {
        Park {
            kind,
            keys: keys.into_iter().map(Into::into).collect(),
            target: None,
            minds_absence: false,
            deadline,
            nothing: Nothing::NullArray,
            instead: None,
        }
    }
}

/// The answer of a command that got nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    Null,
    NullArray,
}

impl Nothing {
    /// Writes it.
    pub(super) fn write(self, reply: &mut Reply<'_>) {
        match self {
            Nothing::Null => reply.null(),
            Nothing::NullArray => reply.null_array(),
        }
    }
}
