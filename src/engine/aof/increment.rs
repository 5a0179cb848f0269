//! An increment: a file to which chunks are appended, and what they are in it.
//!
//! A plain increment is exactly what Redis writes. In an annotated one each chunk stands behind a line that says which it is
//! (`persist::aof::chunk`), since only all parts together are the history. In both a SELECT stands wherever the file's db changes, and
//! before the first command.
//!
//! Invariant: the file ends behind its last whole chunk, or it is known to be torn and is cut to size before anything else is appended.

use crate::engine::log::{Chunk, KEPT_BYTES_MAX, encode_select};
use crate::persist::aof::chunk::{self, Head, Place};
use crate::runtime::disk::DiskFile;
use crate::store::DbIndex;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What chunks are in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As Redis writes them.
    Plain,
    /// Behind annotations, as the part that this is.
    Annotated(Place),
}

/// See the essay above.
pub struct Increment {
    form: Form,
    bytes: AtomicU64,
    tail: Mutex<Tail>,
}

/// The end of the file.
pub(super) struct Tail {
    file: Box<dyn DiskFile>,
    len: u64,
    /// The db in which the last command was.
    db: Option<DbIndex>,
    /// The second that was written last (`aof-timestamp-enabled`).
    stamped_s: u64,
    /// What stands before a chunk, to be filled again.
    stamp: Vec<u8>,
    select: Vec<u8>,
    /// Something stands behind `len` that could not be taken away.
    is_torn: bool,
}

/// Why something could not be appended.
#[derive(Debug)]
pub(super) struct Failed {
    pub error: io::Error,
    /// Bytes of it that were in the file.
    pub written_bytes: u64,
    /// Why these could not be taken away.
    pub torn: Option<io::Error>,
}

impl Increment {
    /// In a file that is empty.
    pub fn new(file: Box<dyn DiskFile>, form: Form) -> Increment {
        Increment {
            form,
            bytes: AtomicU64::new(0),
            tail: Mutex::new(Tail {
                file,
                len: 0,
                db: None,
                stamped_s: 0,
                stamp: Vec::new(),
                select: Vec::new(),
                is_torn: false,
            }),
        }
    }

    /// How long the file is.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The same file once more, to be synced.
    pub fn again(&self) -> io::Result<Box<dyn DiskFile>> {
        self.lock().file.again()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tail> {
        // Nothing in here can fail half done.
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Encodes a chunk as it stands behind what was encoded before, which is to be appended, or kept to be appended, in this order.
    /// `stamp_s`: the time, where it is written down.
    pub(super) fn encode(&self, tail: &mut Tail, chunk: &Chunk, stamp_s: Option<u64>, out: &mut Vec<u8>) {
        let part = chunk.file();
        let Some((first, last)) = part.dbs else { return };
        let has_select = tail.db.replace(last) != Some(first);
        tail.stamp.clear();
        if let Some(second) = stamp_s.filter(|second| *second > tail.stamped_s) {
            tail.stamped_s = second;
            tail.stamp.extend_from_slice(b"#TS:");
            tail.stamp
                .extend_from_slice(itoa::Buffer::new().format(second).as_bytes());
            tail.stamp.extend_from_slice(b"\r\n");
        }
        tail.select.clear();
        if has_select {
            encode_select(&mut tail.select, first);
        }
        let (before, behind) = part.bytes.split_at(part.select_at);
        let commands = [&tail.stamp[..], before, &tail.select, behind];
        match self.form {
            Form::Plain => commands.iter().for_each(|piece| out.extend_from_slice(piece)),
            Form::Annotated(place) => {
                let turn = &chunk.turn;
                let head = Head {
                    number: turn.number.expect("only what has a number is written"),
                    turn: turn.turn,
                    offsets: turn.offsets.clone(),
                    is_broad: part.is_broad,
                };
                chunk::encode(place, &head, &commands, out);
            }
        }
    }

    /// Appends all of it, or nothing.
    pub(super) fn append(&self, tail: &mut Tail, bytes: &[u8]) -> Result<(), Failed> {
        if tail.is_torn {
            tail.file.truncate(tail.len).map_err(Failed::before)?;
            tail.is_torn = false;
        }
        if let Err(error) = tail.file.append(bytes) {
            let found = tail.file.len().unwrap_or(tail.len);
            let torn = tail.file.truncate(tail.len).err();
            tail.is_torn = torn.is_some();
            let written_bytes = found.saturating_sub(tail.len);
            return Err(Failed {
                error,
                written_bytes,
                torn,
            });
        }
        tail.len += bytes.len() as u64;
        self.bytes.store(tail.len, Ordering::Relaxed);
        Ok(())
    }
}

impl Failed {
    fn before(error: io::Error) -> Failed {
        Failed {
            error,
            written_bytes: 0,
            torn: None,
        }
    }
}

/// Makes a buffer empty, and gives back what it seldom needs.
pub(super) fn clear(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(4 * KEPT_BYTES_MAX);
}
