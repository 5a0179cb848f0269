//! Which files are the append-only file: those that the manifest lists, or the single file of before Redis 7.
//!
//! That one becomes the base of a new manifest. It takes three steps, and a start that finds some of them done goes on:
//!
//! ```text
//!  dir/appendonly.aof    the directory appendonlydir    its manifest                  what is done
//!  there                 is not there                   -                             all three
//!  there                 there                          is not there, or is empty     manifest, rename
//!  there                 there                          base appendonly.aof, not      rename
//!                                                       there yet, no increments
//!  there                 there                          anything else                 nothing: it is not looked at
//! ```

use super::{AofError, Found};
use crate::engine::aof::Directory;
use crate::persist::aof::manifest::{Entry, Manifest, path_of};
use crate::runtime::disk::Disk;
use std::io;
use std::path::Path;

impl Directory {
    /// Finds the files; None: there are none. A single file of before is moved to where it belongs now.
    pub fn find(&self, disk: &dyn Disk) -> Result<Option<Found>, AofError> {
        let manifest = Manifest::load(disk, &self.path, &self.name)?;
        let manifest = match manifest {
            Some(manifest) if !self.is_half_moved(disk, &manifest) => Some(manifest),
            before => match is_there(disk, &path_of(&self.outer, &self.name))? {
                true => Some(self.move_in(disk)?),
                false => before,
            },
        };
        let found = manifest.filter(|manifest| manifest.files().next().is_some());
        Ok(found.map(|manifest| Found {
            dir: self.path.clone(),
            manifest,
        }))
    }

    /// The same, for who changes nothing.
    pub fn look(&self, disk: &dyn Disk) -> Result<Option<Found>, AofError> {
        let manifest = Manifest::load(disk, &self.path, &self.name)?;
        Ok(manifest.map(|manifest| Found {
            dir: self.path.clone(),
            manifest,
        }))
    }

    fn is_half_moved(&self, disk: &dyn Disk, manifest: &Manifest) -> bool {
        if !manifest.increments.is_empty() {
            return false;
        }
        match &manifest.base {
            None => true,
            Some(base) => base.name == self.name && !is_there(disk, &base.path(&self.path)).unwrap_or(false),
        }
    }

    fn move_in(&self, disk: &dyn Disk) -> Result<Manifest, AofError> {
        let old = path_of(&self.outer, &self.name);
        let new = path_of(&self.path, &self.name);
        let failed = |what, file: &Path| {
            let file = file.to_owned();
            move |error| AofError::Change { what, file, error }
        };
        let dir_failed = failed("Can't open or create append-only dir", &self.path);
        disk.make_dir(&self.path)
            .and_then(|()| disk.sync_dir(&self.outer))
            .map_err(dir_failed)?;
        let mut manifest = Manifest::new(&self.name);
        manifest.base = Some(Entry::plain(self.name.clone(), 1));
        manifest
            .save(disk, &self.path)
            .map_err(failed("Error trying to write the AOF manifest of", &new))?;
        disk.rename(&old, &new)
            .and_then(|()| disk.sync_dir(&self.path))
            .and_then(|()| disk.sync_dir(&self.outer))
            .map_err(failed("Error trying to move the old AOF file", &old))?;
        tracing::info!(
            "Successfully migrated an old-style AOF file ({}) into the AOF directory ({}).",
            old.display(),
            self.path.display()
        );
        Ok(manifest)
    }
}

fn is_there(disk: &dyn Disk, path: &Path) -> Result<bool, AofError> {
    match disk.open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(AofError::Io {
            file: path.to_owned(),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::disk::{Failing, SimulatedDisk};
    use std::path::PathBuf;

    fn location() -> Directory {
        Directory {
            outer: PathBuf::from("/data"),
            path: PathBuf::from("/data/aof"),
            name: b"a.aof".to_vec(),
        }
    }

    fn put(disk: &SimulatedDisk, path: &str, bytes: &[u8]) {
        let mut file = disk.create(Path::new(path)).unwrap();
        file.append(bytes).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new(path).parent().unwrap()).unwrap();
    }

    /// However often the machine stops within it, the old file is there in the end, and is the base.
    #[test]
    fn the_single_file_of_before_is_moved_in_whenever_the_machine_stops() {
        let location = location();
        for seed in 0..20 {
            for operation in 0..16 {
                let disk = SimulatedDisk::new(seed);
                put(&disk, "/data/a.aof", b"content");
                disk.fail_at(disk.operations() + operation, Failing::Crash);
                let _ = location.find(&*disk);
                disk.crash();
                disk.restart();
                let found = location.find(&*disk).unwrap().expect("it is there");
                assert_eq!(found.manifest.encode(), b"file a.aof seq 1 type b\n");
                disk.crash();
                disk.restart();
                let again = location.find(&*disk).unwrap().expect("it is there");
                assert_eq!(again, found);
                let content = disk.content(Path::new("/data/aof/a.aof"));
                assert_eq!(content.as_deref(), Some(&b"content"[..]), "{operation}");
                assert_eq!(disk.content(Path::new("/data/a.aof")), None);
            }
        }
    }

    #[test]
    fn a_file_of_before_that_lies_beside_another_one_is_left_alone() {
        let (location, disk) = (location(), SimulatedDisk::new(1));
        assert_eq!(location.find(&*disk).unwrap(), None);
        put(&disk, "/data/a.aof", b"old");
        put(
            &disk,
            "/data/aof/a.aof.manifest",
            b"file a.aof.1.incr.aof seq 1 type i\n",
        );
        let found = location.find(&*disk).unwrap().expect("it is there");
        assert_eq!(found.manifest.increments.len(), 1);
        assert!(disk.content(Path::new("/data/a.aof")).is_some());
    }

    #[test]
    fn a_manifest_that_is_not_understood_is_an_error() {
        let (location, disk) = (location(), SimulatedDisk::new(1));
        put(
            &disk,
            "/data/aof/a.aof.manifest",
            b"file a seq 1 type b\nfile b seq 2 type b\n",
        );
        let error = location.find(&*disk).unwrap_err().to_string();
        assert_eq!(
            error,
            "/data/aof/a.aof.manifest, line 2: Found duplicate base file information: 'file b seq 2 type b'"
        );
    }
}
