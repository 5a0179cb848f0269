//! A file of a disk as something to be read from front to back, which is what the reader of RDB files wants.

use crate::runtime::disk::{Disk, DiskFile};
use std::io::{self, Read};
use std::path::Path;

/// A file of a disk, to be read from some place on.
pub struct Source {
    file: Box<dyn DiskFile>,
    at: u64,
}

impl Source {
    pub fn open(disk: &dyn Disk, path: &Path) -> io::Result<Source> {
        let file = disk.open(path)?;
        Ok(Source { file, at: 0 })
    }

    /// The same file, from there on.
    pub fn at(self, at: u64) -> Source {
        Source { at, ..self }
    }

    /// Bytes of the whole file.
    pub fn bytes(&self) -> io::Result<u64> {
        self.file.len()
    }
}

impl Read for Source {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}
