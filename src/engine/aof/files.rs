//! The files of the append-only file: which there are, what they are called, and the manifest that says so.
//!
//! Every change is made in the same order: files first, then their names on the disk, then the manifest that names them. So a manifest never names
//! a file that a crash has taken away. The manifest itself is written beside the old one and renamed.
//!
//! A crash between these steps leaves *orphans*: bases and increments that no manifest names. They have sequence numbers that are still to be
//! given, so that they would be written over one day; they are removed at the next start and after the next rewrite. Whatever else lies there
//! is somebody's: it has another name, a lower number, or is named by some manifest, of whatever name. Where the manifest is gone and its
//! files are not, these are left alone, too, and numbers begin above theirs.
//!
//! Everything here blocks.

use super::increment::{Form, Increment};
use crate::base::clock::{Ticks, UnixMs};
use crate::config::{REDIS_VERSION, Settings};
use crate::persist::aof::chunk::Place;
use crate::persist::aof::manifest::{self, Entry, Manifest, Named};
use crate::persist::file::writer::{Head, Part, Writing, lay};
use crate::runtime::disk::Disk;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the files are, and what their names begin with.
#[derive(Clone, Debug)]
pub struct Directory {
    /// `dir`
    pub outer: PathBuf,
    /// `appenddirname` in it.
    pub path: PathBuf,
    /// `appendfilename`
    pub name: Vec<u8>,
}

impl Directory {
    /// As the settings say.
    pub fn of(settings: &Settings) -> Directory {
        let outer = settings.dir.as_path().to_owned();
        Directory {
            path: outer.join(settings.appenddirname.as_path()),
            name: settings.appendfilename.as_bytes().to_vec(),
            outer,
        }
    }
}

/// See the essay above.
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    directory: Directory,
    manifest: Manifest,
    /// How many shards have increments of their own; None: one is written for all, as Redis does.
    annotated: Option<u16>,
    /// The log number with which the life of this process began.
    pub life: u64,
}

impl Files {
    pub fn new(disk: Arc<dyn Disk>, directory: Directory, manifest: Manifest, annotated: Option<u16>) -> Files {
        Files {
            disk,
            directory,
            manifest,
            annotated,
            life: 1,
        }
    }

    /// Those that the manifest in the directory names; none, if there is none.
    pub fn find(disk: Arc<dyn Disk>, directory: Directory, annotated: Option<u16>) -> Result<Files, String> {
        make_directory(&*disk, &directory)?;
        let found = Manifest::load(&*disk, &directory.path, &directory.name);
        let found = found.map_err(|error| error.to_string())?;
        let manifest = found.unwrap_or_else(|| Manifest::new(&directory.name));
        let mut files = Files::new(disk, directory, manifest, annotated);
        files.tidy();
        Ok(files)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.manifest.files().next().is_none()
    }

    pub fn make_directory(&self) -> Result<(), String> {
        make_directory(&*self.disk, &self.directory)
    }

    pub fn next_increment_seq(&self) -> u64 {
        self.manifest.next_increment_seq()
    }

    fn path_of(&self, name: &[u8]) -> PathBuf {
        manifest::path_of(&self.directory.path, name)
    }

    fn generation(&self) -> Option<(u16, u64)> {
        self.annotated.map(|shards| (shards, self.life))
    }

    fn base(&self, name: Vec<u8>, seq: u64, number: u64) -> Entry {
        Entry {
            number: self.annotated.map(|_| number),
            ..Entry::plain(name, seq)
        }
    }

    /// The base of a data set without keys. Answers how long it is.
    pub fn add_empty_base(&mut self, number: u64) -> Result<u64, String> {
        let seq = self.manifest.next_base_seq();
        let name = self.manifest.base_name(seq, true);
        let path = self.path_of(&name);
        let shown = String::from_utf8_lossy(&name).into_owned();
        let head = Head {
            redis_version: REDIS_VERSION,
            created_at: UnixMs::now(),
            used_bytes: 0,
            is_base: true,
            fields: Vec::new(),
            part_count: 1,
            functions: Vec::new(),
        };
        let writing = Writing {
            syncs_on_the_way: false,
            has_checksum: true,
        };
        let part = Part::create(&*self.disk, &path, writing, Some(head));
        let laid = part.and_then(|part| lay(&*self.disk, vec![part]));
        let laid = laid.map_err(|error| format!("Can't write the AOF base file {shown}: {error}"))?;
        tracing::info!("Creating AOF base file {shown} on server start");
        self.manifest.base = Some(self.base(name, seq, number));
        Ok(laid.bytes())
    }

    fn create(&self, path: &Path, form: Form) -> Result<Arc<Increment>, String> {
        let created = self.disk.create(path);
        let file = created.map_err(|error| format!("Can't open the append-only file {}: {error}", path.display()))?;
        Ok(Arc::new(Increment::new(file, form)))
    }

    /// Makes the increments of a new generation, of which the manifest knows when this returns.
    pub fn add_generation(&mut self, when: &str) -> Result<Vec<Arc<Increment>>, String> {
        let mut manifest = self.manifest.clone();
        let mut made = Vec::new();
        for file in manifest.begin_generation(self.generation()) {
            let form = file.part.map_or(Form::Plain, |part| Form::Annotated(part.place));
            made.push(self.create(&self.path_of(&file.name), form)?);
            tracing::info!("Creating AOF incr file {} {when}", String::from_utf8_lossy(&file.name));
        }
        self.persist(manifest)?;
        Ok(made)
    }

    /// Where the increments are written that the manifest does not know.
    fn temporary_paths(&self) -> Vec<PathBuf> {
        let name = |middle: &str| [b"temp-", &self.directory.name[..], middle.as_bytes(), b".incr"].concat();
        match self.annotated {
            None => vec![self.path_of(&name(""))],
            Some(shards) => (0..shards)
                .map(|shard| self.path_of(&name(&format!(".{shard}"))))
                .collect(),
        }
    }

    /// Makes increments of which the manifest knows nothing, for a life that begins with the first number that is written to them.
    pub fn create_temporary(&self, life: u64) -> Result<(Vec<Arc<Increment>>, Vec<PathBuf>), String> {
        let paths = self.temporary_paths();
        let mut made = Vec::with_capacity(paths.len());
        for (shard, path) in (0..).zip(&paths) {
            // One of an attempt before is written to still: this must be another file.
            let _ = self.disk.remove(path);
            let form = match self.annotated {
                None => Form::Plain,
                Some(shards) => Form::Annotated(Place { shard, shards, life }),
            };
            made.push(self.create(path, form)?);
        }
        Ok((made, paths))
    }

    /// Takes the files away that never came into the manifest.
    pub fn remove_temporary(&self) {
        for path in self.temporary_paths() {
            // Mostly there is none.
            let _ = self.disk.remove(&path);
        }
    }

    /// Gives a whole base its name, and makes everything history that it replaces: the base before it, and the increments before
    /// `first_kept_seq`. Those that have borne temporary names until now come behind it. Effects with numbers below `number` are in it.
    /// Answers how long each renaming took, in milliseconds.
    pub fn put_base(
        &mut self,
        from: &Path,
        is_rdb: bool,
        number: u64,
        first_kept_seq: u64,
        temporary: &[PathBuf],
    ) -> Result<Vec<u64>, String> {
        let mut manifest = self.manifest.clone();
        let seq = manifest.next_base_seq();
        let base = self.base(manifest.base_name(seq, is_rdb), seq, number);
        let mut renamed_ms = vec![self.rename(from, &base.name)?];
        manifest.retire(first_kept_seq, base);
        if !temporary.is_empty() {
            for (path, file) in temporary.iter().zip(manifest.begin_generation(self.generation())) {
                renamed_ms.push(self.rename(path, &file.name)?);
            }
        }
        self.persist(manifest)?;
        Ok(renamed_ms)
    }

    /// Answers how many milliseconds that took.
    fn rename(&self, from: &Path, name: &[u8]) -> Result<u64, String> {
        let (shown, began) = (String::from_utf8_lossy(name), Ticks::now());
        let renamed = self.disk.rename(from, &self.path_of(name));
        let elapsed_ms = Ticks::now().ns_since(began) / 1_000_000;
        renamed.map_err(|error| {
            format!(
                "Error trying to rename the temporary AOF file {} into {shown}: {error}",
                from.display()
            )
        })?;
        tracing::info!(
            "Successfully renamed the temporary AOF file {} into {shown}",
            from.display()
        );
        Ok(elapsed_ms)
    }

    /// Whether something was replaced and is there still.
    pub fn has_history(&self) -> bool {
        !self.manifest.history.is_empty()
    }

    /// Takes away what is history. What cannot be removed is history still.
    pub fn remove_history(&mut self) {
        let mut manifest = self.manifest.clone();
        manifest.history.retain(|file| {
            let name = String::from_utf8_lossy(&file.name);
            tracing::info!("Removing the history file {name} in the background");
            match self.disk.remove(&self.path_of(&file.name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!("{name} cannot be removed: {error}");
                    true
                }
                _ => false,
            }
        });
        if let Err(failure) = self.persist(manifest) {
            // It names files that are gone, as history: nobody reads these.
            tracing::warn!("{failure}");
        }
    }

    /// Takes away what a crash has left, or begins above it, if it may be what somebody has lost the manifest of.
    pub fn tidy(&mut self) {
        let Ok(names) = self.disk.list(&self.directory.path) else {
            // (There will be more to say when the first file is made.)
            return;
        };
        let names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let own = names
            .iter()
            .filter_map(|name| Some((*name, self.manifest.named(name)?)));
        let own: Vec<(&[u8], Named)> = own.collect();
        if self.is_empty() && !self.has_history() && own.iter().any(|(name, named)| self.may_hold_data(name, *named)) {
            let seqs = own.iter().map(|(_, Named::Base(seq) | Named::Increment(seq))| seq);
            self.manifest.first_seq = seqs.max().map_or(1, |seq| seq + 1);
            tracing::warn!(
                "There are files of an append-only file in {} and no manifest that names them: they are not read, and left alone",
                self.directory.path.display()
            );
            return;
        }
        let (base_seq, increment_seq) = (self.manifest.next_base_seq(), self.manifest.next_increment_seq());
        let orphans = own.into_iter().filter(|(_, named)| match named {
            Named::Base(seq) => *seq >= base_seq,
            Named::Increment(seq) => *seq >= increment_seq,
        });
        let orphans: Vec<&[u8]> = orphans.map(|(name, _)| name).collect();
        if orphans.is_empty() {
            return;
        }
        let manifests = names
            .iter()
            .filter(|name| memchr::memmem::find(name, b".manifest").is_some());
        let named: Option<Vec<Vec<Vec<u8>>>> = manifests.map(|name| self.names_in(name)).collect();
        let Some(named) = named.map(|named| named.concat()) else {
            // Nobody knows what the one names that cannot be read.
            return;
        };
        for name in orphans
            .into_iter()
            .filter(|name| !named.iter().any(|other| other == name))
        {
            let shown = String::from_utf8_lossy(name);
            match self.disk.remove(&self.path_of(name)) {
                Ok(()) => tracing::info!("Removing {shown}, which no manifest names"),
                Err(error) => tracing::warn!("{shown} cannot be removed: {error}"),
            }
        }
    }

    /// Whether this is more than the first start leaves when it comes to its end before there is a manifest.
    fn may_hold_data(&self, name: &[u8], named: Named) -> bool {
        match named {
            Named::Base(seq) => seq > 1,
            Named::Increment(_) => {
                let file = self.disk.open(&self.path_of(name));
                file.and_then(|file| file.len()).unwrap_or(1) > 0
            }
        }
    }

    /// What the manifest of that name names, its history included; None: it cannot be read.
    fn names_in(&self, name: &[u8]) -> Option<Vec<Vec<u8>>> {
        let file = self.disk.open(&self.path_of(name)).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
        let count = file.read_at(&mut bytes, 0).ok()?;
        let found = Manifest::parse(&self.manifest.stem, &bytes[..count]).ok()?;
        Some(
            found
                .files()
                .chain(&found.history)
                .map(|entry| entry.name.clone())
                .collect(),
        )
    }

    /// Has this manifest on the disk, behind the names of its files, and goes by it.
    fn persist(&mut self, manifest: Manifest) -> Result<(), String> {
        let dir = &self.directory.path;
        let saved = self.disk.sync_dir(dir).and_then(|()| manifest.save(&*self.disk, dir));
        saved.map_err(|error| format!("Can't write the manifest of the append-only file: {error}"))?;
        self.manifest = manifest;
        Ok(())
    }
}

fn make_directory(disk: &dyn Disk, directory: &Directory) -> Result<(), String> {
    let made = disk.make_dir(&directory.path);
    made.and_then(|()| disk.sync_dir(&directory.outer))
        .map_err(|error| format!("Can't create append-only dir {}: {error}", directory.path.display()))
}
