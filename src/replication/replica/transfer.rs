//! The data set on its way: from the socket into a file of the directory.
//!
//! ```text
//!  \n \n \n  $1234\r\n  1234 bytes                       a master that has it in a file
//!  \n \n \n  $EOF:<40 bytes>\r\n  bytes  <40 bytes>      one that sends it as it is made
//! ```
//!
//! In the second form nothing follows until this side says that it is ready, so the mark stands at the end of what has come.
//!
//! A file that is not needed any more is removed, however the link ends.

use super::LinkError;
use super::link::Link;
use super::wire::Wire;
use crate::engine::replication::Transfer;
use crate::persist::file::set::{SetId, Temporary};
use crate::runtime::disk::{Disk, DiskFile};
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of the mark that ends a data set whose length nobody knows.
const MARK_BYTES: usize = 40;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;

/// How many bytes come between two looks at how far it is.
const NOTED_EVERY: u64 = 1024 * 1024;

/// How the end is found.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Framing {
    Length(u64),
    Mark([u8; MARK_BYTES]),
}

impl Framing {
    /// What the line says that stands before the data set.
    fn parse(line: &str) -> Option<Framing> {
        let rest = line.strip_prefix('$')?;
        match rest.strip_prefix("EOF:") {
            Some(mark) => mark.as_bytes().try_into().ok().map(Framing::Mark),
            None => rest.parse().ok().map(Framing::Length),
        }
    }
}

/// A file that goes away with this value.
pub(super) struct Received {
    pub path: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Drop for Received {
    fn drop(&mut self) {
        // A start tidies up what is left.
        let _ = self.disk.remove(&self.path);
    }
}

/// Receives the data set.
pub(super) fn receive(link: &Link<'_>, wire: &mut Wire<'_>) -> Result<Received, LinkError> {
    let line = wire.line()?;
    if line.starts_with('-') {
        return Err(LinkError::Refused {
            what: "MASTER aborted replication with an error",
            answer: line,
        });
    }
    let framing = Framing::parse(&line).ok_or_else(|| {
        LinkError::Protocol(format!(
            "Bad protocol from MASTER, the first byte is not '$' (we received '{line}'), are you sure the host and port are right?"
        ))
    })?;
    match &framing {
        Framing::Length(bytes) => {
            tracing::info!("MASTER <-> REPLICA sync: receiving {bytes} bytes from master to disk");
        }
        Framing::Mark(_) => {
            tracing::info!("MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF to disk")
        }
    }
    let disk = link.node.snapshots.disk.clone();
    let name = Temporary {
        pid: std::process::id(),
        id: Some(SetId(link.generation)),
        number: 0,
    };
    let path = link.settings.dir.as_path().join(name.name());
    let failed = |error| LinkError::Io {
        what: "Opening the temp file needed for MASTER <-> REPLICA synchronization",
        error,
    };
    let mut file = disk.create(&path).map_err(failed)?;
    let received = Received { path, disk };
    fill(link, wire, &framing, &mut *file)?;
    Ok(received)
}

/// Writes what comes up to the end of the data set.
fn fill(link: &Link<'_>, wire: &mut Wire<'_>, framing: &Framing, file: &mut dyn DiskFile) -> Result<(), LinkError> {
    let total_bytes = match framing {
        Framing::Length(bytes) => *bytes,
        Framing::Mark(_) => 0,
    };
    let (mut read_bytes, mut noted) = (0, 0);
    let note = |read_bytes| {
        let transfer = Transfer {
            total_bytes,
            read_bytes,
        };
        link.node.replication.following.note_transfer(link.generation, transfer);
    };
    note(0);
    let before = std::mem::take(&mut wire.buffer);
    let mut room = vec![0; READ_BYTES];
    let mut end = End::of(framing);
    // What came behind the line.
    let mut came = &before[..];
    loop {
        let taken = end.take(came);
        read_bytes += came.len() as u64;
        file.append(&taken.data).map_err(|error| LinkError::Io {
            what: "Write error writing to the DB dump file needed for MASTER <-> REPLICA synchronization",
            error,
        })?;
        if taken.is_end {
            wire.buffer = came[taken.used..].to_vec();
            note(read_bytes - wire.buffer.len() as u64);
            return Ok(());
        }
        if read_bytes - noted > NOTED_EVERY {
            noted = read_bytes;
            note(read_bytes);
        }
        let count = wire.read(&mut room)?;
        came = &room[..count];
    }
}

/// Looks for the end.
enum End {
    Left(u64),
    Mark {
        mark: [u8; MARK_BYTES],
        /// What may be the beginning of the mark.
        tail: Vec<u8>,
    },
}

/// What of some bytes is the data set's.
struct Taken<'b> {
    data: Cow<'b, [u8]>,
    /// How many of the bytes are its own, the mark included.
    used: usize,
    is_end: bool,
}

impl End {
    fn of(framing: &Framing) -> End {
        match framing {
            Framing::Length(bytes) => End::Left(*bytes),
            Framing::Mark(mark) => End::Mark {
                mark: *mark,
                tail: Vec::new(),
            },
        }
    }

    fn take<'b>(&mut self, bytes: &'b [u8]) -> Taken<'b> {
        match self {
            End::Left(left) => {
                let used = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= used as u64;
                Taken {
                    data: Cow::Borrowed(&bytes[..used]),
                    used,
                    is_end: *left == 0,
                }
            }
            End::Mark { mark, tail } => {
                tail.extend_from_slice(bytes);
                let is_end = tail.ends_with(mark);
                let keeps = match is_end {
                    true => 0,
                    false => tail.len().min(MARK_BYTES),
                };
                let behind = tail.split_off(tail.len() - keeps);
                let mut data = std::mem::replace(tail, behind);
                if is_end {
                    data.truncate(data.len() - MARK_BYTES);
                }
                Taken {
                    data: Cow::Owned(data),
                    used: bytes.len(),
                    is_end,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_before_the_data_set_says_how_it_ends() {
        let mark = "0123456789abcdef0123456789abcdef01234567";
        let bytes = mark.as_bytes().try_into().unwrap();
        assert_eq!(Framing::parse(&format!("$EOF:{mark}")), Some(Framing::Mark(bytes)));
        assert_eq!(Framing::parse("$0"), Some(Framing::Length(0)));
        assert_eq!(Framing::parse("$123"), Some(Framing::Length(123)));
        for other in ["", "$", "$-1", "$EOF:", "$EOF:abc", "+OK", "$12x"] {
            assert_eq!(Framing::parse(other), None, "{other}");
        }
    }

    /// However it is cut into reads.
    #[test]
    fn the_data_set_is_what_stands_before_its_end() {
        let mark = [b'm'; MARK_BYTES];
        let data: Vec<u8> = (0..1000u32).map(|number| b"mmmx"[number as usize % 4]).collect();
        for step in [1, 7, 39, 40, 41, 500, 2000] {
            let mut framed = data.clone();
            framed.extend_from_slice(&mark);
            let (mut end, mut found, mut is_end) = (End::of(&Framing::Mark(mark)), Vec::new(), false);
            for bytes in framed.chunks(step) {
                assert!(!is_end);
                let taken = end.take(bytes);
                found.extend_from_slice(&taken.data);
                is_end = taken.is_end;
            }
            assert!(is_end && found == data, "{step}");

            let mut framed = data.clone();
            framed.extend_from_slice(b"stream");
            let (mut end, mut found, mut rest) = (End::of(&Framing::Length(1000)), Vec::new(), Vec::new());
            for bytes in framed.chunks(step) {
                let taken = end.take(bytes);
                found.extend_from_slice(&taken.data);
                rest.extend_from_slice(&bytes[taken.used..]);
            }
            assert!(found == data && rest == b"stream", "{step}");
        }
    }

    #[test]
    fn nothing_is_a_data_set_too() {
        assert!(End::of(&Framing::Length(0)).take(b"").is_end);
        assert!(!End::of(&Framing::Mark([b'x'; MARK_BYTES])).take(b"").is_end);
    }
}
