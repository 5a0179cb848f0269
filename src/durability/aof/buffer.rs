//! A file that is read from front to back, through a window that grows with what has to be seen at once.

use super::AofError;
use crate::runtime::disk::{Disk, DiskFile};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// How much is read at a time, at least.
const BLOCK_BYTES: usize = 256 * 1024;

/// See above.
pub(super) struct FileBuffer {
    file: Box<dyn DiskFile>,
    pub path: Arc<Path>,
    bytes: Vec<u8>,
    /// How much of the window is done with.
    at: usize,
    /// Bytes of the file before the window.
    before: u64,
    /// Bytes of the file when it was opened: what is written behind that later is not read.
    len: u64,
}

impl FileBuffer {
    /// Opens a file that is listed, so it has to be there.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<FileBuffer, AofError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => AofError::Missing { file: path.to_owned() },
            _ => AofError::Io {
                file: path.to_owned(),
                error,
            },
        };
        let file = disk.open(path).map_err(failed)?;
        let len = file.len().map_err(failed)?;
        Ok(FileBuffer {
            file,
            path: Arc::from(path),
            bytes: Vec::new(),
            at: 0,
            before: 0,
            len,
        })
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    /// Where the window begins that is not done with.
    pub fn offset(&self) -> u64 {
        self.before + self.at as u64
    }

    /// What of the window is not done with.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Is done with so many bytes.
    pub fn pass(&mut self, count: usize) {
        self.at += count;
        debug_assert!(self.at <= self.bytes.len());
    }

    /// Goes on there.
    pub fn jump(&mut self, offset: u64) {
        self.bytes.clear();
        (self.at, self.before) = (0, offset);
    }

    /// Whether the window reaches to the end of the file.
    pub fn sees_end(&self) -> bool {
        self.before + self.bytes.len() as u64 >= self.len
    }

    /// Reads on: as much again as there is, and a block at least. Where the file has become shorter that is its end.
    pub fn fill(&mut self) -> Result<(), AofError> {
        self.bytes.drain(..self.at);
        self.before += std::mem::take(&mut self.at) as u64;
        let there = self.bytes.len();
        let left = self.len.saturating_sub(self.before + there as u64);
        let wanted = there.max(BLOCK_BYTES).min(usize::try_from(left).unwrap_or(usize::MAX));
        self.bytes.resize(there + wanted, 0);
        let read = self
            .file
            .read_at(&mut self.bytes[there..], self.before + there as u64)
            .map_err(|error| AofError::Io {
                file: self.path.to_path_buf(),
                error,
            })?;
        self.bytes.truncate(there + read);
        if read < wanted {
            self.len = self.before + self.bytes.len() as u64;
        }
        Ok(())
    }
}
