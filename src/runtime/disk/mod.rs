//! File operations of persistence: one seam, with the host behind it or a simulated disk that fails and crashes.
//!
//! What is here blocks: it is called on threads that may wait (`run_blocking`), at boot, or in tests, never in a shard's pass. A file is
//! written from its beginning to its end, or patched at a place; nothing is buffered here. What was written is safe from a crash of the
//! process at once, and from a crash of the machine when [`DiskFile::sync`] has returned and, for a new name, [`Disk::sync_dir`].
//!
//! The simulated disk ([`SimulatedDisk`]) keeps two pictures of everything: what the process sees, and what would be there after a crash of
//! the machine. It can be told to crash or to fail at its n-th operation; after a crash every operation fails until [`SimulatedDisk::restart`].

mod simulated;

pub use simulated::{Failing, SimulatedDisk};

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How many bytes are copied at a time where the kernel cannot do it between two files.
const COPIED_AT_ONCE: usize = 256 * 1024;

/// The files of a host.
pub trait Disk: Send + Sync {
    /// A new file, or an old one made empty, to be written and read.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// A file that exists, to be read.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// The same, to be read by several threads.
    fn open_shared(&self, path: &Path) -> io::Result<Arc<dyn DiskFile + Sync>>;
    /// A file that exists, to be read, cut, and written on at its end.
    fn open_to_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// A directory, if it is not there. Its own name lasts when the directory that it lies in has been synced.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name; what had that name before is gone, and there is no moment at which neither is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Makes names last: those that were created, renamed and removed in this directory.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file that is open.
pub trait DiskFile: Send {
    /// Appends all of it. After an error some of it may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Writes over what is there.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads from a place; fewer bytes than there is room for only at the end.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Makes the content last.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts it to this length.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// The same file once more, for a thread that syncs it while another one writes.
    fn again(&self) -> io::Result<Box<dyn DiskFile>>;
    /// The host's file, if there is one.
    fn host(&self) -> Option<&File> {
        None
    }

    /// Whether there is nothing in it.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Appends the whole content of another file: by the kernel, where it can.
    fn append_file(&mut self, from: &dyn DiskFile) -> io::Result<()> {
        let len = from.len()?;
        let mut buffer = vec![0; COPIED_AT_ONCE.min(usize::try_from(len).unwrap_or(COPIED_AT_ONCE))];
        let mut offset = 0;
        while offset < len {
            let count = from.read_at(&mut buffer, offset)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.append(&buffer[..count])?;
            offset += count as u64;
        }
        Ok(())
    }
}

/// The host's own files.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostDisk;

impl Disk for HostDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Box::new(HostFile { file }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(HostFile {
            file: File::open(path)?,
        }))
    }

    fn open_shared(&self, path: &Path) -> io::Result<Arc<dyn DiskFile + Sync>> {
        Ok(Arc::new(HostFile {
            file: File::open(path)?,
        }))
    }

    fn open_to_append(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut file = OpenOptions::new().read(true).write(true).open(path)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Box::new(HostFile { file }))
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

struct HostFile {
    /// Its position is its end.
    file: File,
}

impl DiskFile for HostFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.file.seek(SeekFrom::Start(len))?;
        Ok(())
    }

    fn again(&self) -> io::Result<Box<dyn DiskFile>> {
        let file = self.file.try_clone()?;
        Ok(Box::new(HostFile { file }))
    }

    fn host(&self) -> Option<&File> {
        Some(&self.file)
    }

    fn append_file(&mut self, from: &dyn DiskFile) -> io::Result<()> {
        let Some(mut source) = from.host() else {
            return Err(io::Error::other(
                "a file of the host is laid together with one of another disk",
            ));
        };
        let len = from.len()?;
        source.seek(SeekFrom::Start(0))?;
        // The standard library lets the kernel copy between two files.
        let copied = io::copy(&mut source.take(len), &mut self.file)?;
        if copied != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both disks do alike.
    fn a_disk_keeps_files(disk: &dyn Disk, dir: &Path) {
        let [first, second] = ["first", "second"].map(|name| dir.join(name));
        let mut part = disk.create(&first).expect("a new file");
        assert!(part.is_empty().unwrap());
        part.append(b"abcdef").unwrap();
        part.write_at(b"CD", 2).unwrap();
        part.sync().unwrap();
        let mut whole = disk.create(&second).expect("another one");
        whole.append(b"0123").unwrap();
        whole.append_file(&*part).unwrap();
        whole.append_file(&*part).unwrap();
        whole.append(b"!").unwrap();
        let mut buffer = [0; 32];
        let count = whole.read_at(&mut buffer, 2).unwrap();
        assert_eq!(&buffer[..count], b"23abCDefabCDef!");
        whole.truncate(5).unwrap();
        whole.append(b"z").unwrap();
        let count = whole.read_at(&mut buffer, 0).unwrap();
        assert_eq!(&buffer[..count], b"0123az");
        let mut same = whole.again().unwrap();
        same.sync().unwrap();
        assert_eq!(same.len().unwrap(), 6);
        disk.rename(&second, &first).unwrap();
        disk.sync_dir(dir).unwrap();
        assert_eq!(disk.list(dir).unwrap(), ["first"]);
        let mut again = disk.open_to_append(&first).unwrap();
        again.append(b"yx").unwrap();
        again.truncate(7).unwrap();
        assert_eq!(again.read_at(&mut buffer, 5).unwrap(), 2);
        assert_eq!(&buffer[..2], b"zy");
        again.truncate(6).unwrap();
        let read = disk.open(&first).unwrap();
        assert_eq!((read.len().unwrap(), read.read_at(&mut buffer, 6).unwrap()), (6, 0));
        assert_eq!(disk.open(&second).err().unwrap().kind(), io::ErrorKind::NotFound);
        // (A directory may be there already.)
        let inner = dir.join("inner");
        disk.make_dir(&inner).unwrap();
        disk.make_dir(&inner).unwrap();
        let within = inner.join("third");
        disk.rename(&first, &within).unwrap();
        disk.sync_dir(&inner).unwrap();
        disk.sync_dir(dir).unwrap();
        assert_eq!(disk.list(&inner).unwrap(), ["third"]);
        disk.rename(&within, &first).unwrap();
        assert!(disk.list(&inner).unwrap().is_empty());
        assert_eq!(
            disk.open_to_append(&within).err().unwrap().kind(),
            io::ErrorKind::NotFound
        );
        disk.remove(&first).unwrap();
        assert_eq!(disk.remove(&first).err().unwrap().kind(), io::ErrorKind::NotFound);
        let left = disk.list(dir).unwrap();
        assert!(left.iter().all(|name| name == "inner"), "{left:?}");
    }

    #[test]
    fn the_host_and_the_simulation_keep_files_alike() {
        let dir = std::env::temp_dir().join(format!("shardis-disk-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for temporary files");
        a_disk_keeps_files(&HostDisk, &dir);
        std::fs::remove_dir_all(&dir).expect("it is there");
        a_disk_keeps_files(&*SimulatedDisk::new(7), Path::new("/data"));
    }
}
