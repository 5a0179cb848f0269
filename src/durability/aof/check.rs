//! Looking at an append-only file without a server: what of it is whole, what a start would drop, and why; and doing what a start would do.
//!
//! It goes the same way as a start ([`super::walk`]), so that the two can never be of different minds. What it says, and with what it ends, is what
//! redis-check-aof says; for the increments of several shards it says more, since what one of them drops depends on the others.
//!
//! With `--truncate-to-timestamp` the log ends before the first annotation of a later second: a chunk is whole or not there, so that one which
//! has that annotation goes as a whole. As in Redis only the last file can be cut, or the last life.

use super::keep::keep;
use super::life::Cut;
use super::walk::{Kept, Step, Walk};
use super::{AofError, Found};
use crate::durability::directory::{Denied, Owned};
use crate::persist::aof::manifest::{Entry, Manifest, ManifestError};
use crate::persist::file::reader::{Item, Next, Reader};
use crate::persist::file::source::Source;
use crate::runtime::disk::Disk;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// No file names a db that some server could not have.
const DATABASES_ANY: u32 = i32::MAX as u32;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// A manifest, or a single file of before Redis 7.
    pub file: PathBuf,
    pub action: Action,
}

/// What is to be done with what is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Look,
    /// Cut off what a start would drop.
    Fix,
    /// Cut off what was done after that second.
    TruncateTo(u64),
}

/// What it has come to.
enum Verdict {
    Whole(Kept),
    /// Behind what is kept there is something that cannot be.
    Broken(Kept, AofError),
}

/// Checks a file. False: it is not valid, and is as it was. `agrees` is asked before anything is changed.
pub fn check(
    disk: &Arc<dyn Disk>,
    request: &Request,
    mut agrees: impl FnMut() -> bool,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let path = &request.file;
    let found = match find(&**disk, path) {
        Ok(found) => found,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(false);
        }
    };
    let is_multi_part = is_manifest(path);
    match is_multi_part {
        true => writeln!(out, "Start checking Multi Part AOF")?,
        false => writeln!(out, "Start checking Old-Style AOF")?,
    }
    // Held until all is done: a server that writes on must not find its files cut.
    let _owned = match request.action {
        Action::Look => None,
        _ => match own(&found.dir) {
            Ok(owned) => Some(owned),
            Err(denied) => {
                writeln!(out, "{denied}")?;
                return Ok(false);
            }
        },
    };
    let kept = match walk(disk, &found, request.action, out)? {
        Ok(Verdict::Whole(kept)) => kept,
        Ok(Verdict::Broken(kept, error)) => {
            writeln!(out, "{error}")?;
            kept
        }
        Err(error) => {
            writeln!(out, "{error}")?;
            writeln!(out, "{}", error.remedy())?;
            return Ok(false);
        }
    };
    tell(&found, &kept, &**disk, out)?;
    let losses: Vec<Cut> = kept.losses().cloned().collect();
    if losses.is_empty() {
        writeln!(out, "{}", all_valid(is_multi_part))?;
        return Ok(true);
    }
    if request.action == Action::Look {
        for cut in &losses {
            let file = name(&cut.file);
            writeln!(out, "AOF {file} is not valid. Use the --fix option to try fixing it.")?;
        }
        return Ok(false);
    }
    for Cut {
        file,
        kept_bytes,
        bytes,
        ..
    } in &losses
    {
        let (file, dropped) = (name(file), bytes - kept_bytes);
        writeln!(
            out,
            "This will shrink the AOF {file} from {bytes} bytes, with {dropped} bytes, to {kept_bytes} bytes"
        )?;
    }
    if request.action == Action::Fix {
        write!(out, "Continue? [y/N]: ")?;
        out.flush()?;
        if !agrees() {
            writeln!(out, "Aborting...")?;
            return Ok(false);
        }
    }
    if let Err(error) = keep(&**disk, found, kept) {
        writeln!(out, "{error}")?;
        return Ok(false);
    }
    for cut in &losses {
        let file = name(&cut.file);
        match request.action {
            Action::TruncateTo(second) => writeln!(out, "Successfully truncated AOF {file} to timestamp {second}")?,
            _ => writeln!(out, "Successfully truncated AOF {file}")?,
        }
    }
    writeln!(out, "{}", all_valid(is_multi_part))?;
    Ok(true)
}

fn all_valid(is_multi_part: bool) -> &'static str {
    match is_multi_part {
        true => "All AOF files and manifest are valid",
        false => "The AOF file is valid",
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "manifest")
}

/// What a path means: the files of a manifest, or the one that it is.
fn find(disk: &dyn Disk, path: &Path) -> Result<Found, String> {
    if let Err(error) = disk.open(path) {
        return Err(format!("Cannot open file {}: {error}", path.display()));
    }
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let file_name = path.file_name().unwrap_or_default().as_bytes();
    if !is_manifest(path) {
        let mut manifest = Manifest::new(file_name);
        manifest.base = Some(Entry::plain(file_name.to_vec(), 1));
        return Ok(Found { dir, manifest });
    }
    let stem = file_name.strip_suffix(b".manifest").unwrap_or(file_name);
    match Manifest::load(disk, &dir, stem) {
        Ok(Some(manifest)) => Ok(Found { dir, manifest }),
        Ok(None) => Err(format!("The AOF manifest file {} doesn't exist", path.display())),
        Err(ManifestError::Malformed { malformed, .. }) => Err(format!(
            "Invalid AOF manifest file format: {malformed}\nPut the line right, or put back the manifest of a backup."
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes the directories that a server would take: that of the files, and the one that it lies in.
fn own(dir: &Path) -> Result<Vec<Owned>, Denied> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let dirs = std::iter::once(&*dir).chain(dir.parent());
    // (Of a directory that is only on a simulated disk there is nothing to be taken.)
    let there = dirs.filter(|dir| dir.is_dir());
    there.map(Owned::take).collect()
}

/// Goes through everything.
fn walk(
    disk: &Arc<dyn Disk>,
    found: &Found,
    action: Action,
    out: &mut dyn Write,
) -> io::Result<Result<Verdict, AofError>> {
    let mut walk = Walk::new(disk.clone(), found, DATABASES_ANY);
    loop {
        let step = match walk.go() {
            Ok(step) => step,
            // In the last file everything behind the last whole thing can be cut off.
            Err(error @ AofError::Format { .. }) => {
                return Ok(match walk.stop() {
                    Ok(()) => Ok(Verdict::Broken(walk.into_kept(), error)),
                    Err(_) => Err(error),
                });
            }
            Err(error) => return Ok(Err(error)),
        };
        match step {
            Step::Keys => {
                let (path, _) = walk.place();
                writeln!(out, "Start to check {} (RDB format).", name(&path))?;
                match keys_end(&**disk, &path) {
                    Ok(end) => walk.keys_end_at(end),
                    Err(what) => {
                        writeln!(out, "RDB preamble of AOF file is not sane, aborting.")?;
                        return Ok(Err(what));
                    }
                }
            }
            Step::Timestamp(second) => {
                if let Action::TruncateTo(last) = action
                    && second > last
                {
                    let stopped = walk.stop();
                    let kept = walk.into_kept();
                    let has_any = kept.cuts.iter().any(|cut| cut.kept_bytes > 0);
                    return Ok(stopped.and_then(|()| match has_any {
                        true => Ok(Verdict::Whole(kept)),
                        false => Err(AofError::NothingBefore {
                            file: found.dir.clone(),
                            second: last,
                        }),
                    }));
                }
            }
            Step::Command | Step::Multi | Step::Exec => {}
            Step::End => return Ok(Ok(Verdict::Whole(walk.into_kept()))),
        }
    }
}

/// Where the keys end with which a file begins.
fn keys_end(disk: &dyn Disk, path: &Path) -> Result<u64, AofError> {
    let failed = |error| AofError::Io {
        file: path.to_owned(),
        error,
    };
    let source = Source::open(disk, path).map_err(failed)?;
    let len = source.bytes().map_err(failed)?;
    let sane = || -> Result<u64, crate::persist::file::reader::FileError> {
        let mut reader = Reader::new(source, Some(len), true)?;
        loop {
            match reader.look()? {
                Next::Item(Item::End) => return Ok(reader.offset()),
                Next::PageEnd => drop(reader.turn_page()),
                Next::Item(_) => {}
            }
        }
    };
    sane().map_err(|error| AofError::Format {
        file: path.to_owned(),
        offset: error.offset,
        what: error.to_string(),
    })
}

/// Says of each file what of it is kept, and why not all.
fn tell(found: &Found, kept: &Kept, disk: &dyn Disk, out: &mut dyn Write) -> io::Result<()> {
    for entry in found.manifest.files() {
        let path = entry.path(&found.dir);
        let is_base = found.manifest.base.as_ref() == Some(entry);
        let kind = if is_base { "BASE" } else { "INCR" };
        let file = name(&path);
        let cut = kept.cuts.iter().find(|cut| *cut.file == *path);
        let bytes = match cut {
            Some(cut) => cut.bytes,
            None => Source::open(disk, &path).and_then(|source| source.bytes())?,
        };
        let kept_bytes = cut.map_or(bytes, |cut| cut.kept_bytes);
        let dropped = bytes - kept_bytes;
        writeln!(
            out,
            "AOF analyzed: filename={file}, size={bytes}, ok_up_to={kept_bytes}, diff={dropped}"
        )?;
        if dropped == 0 {
            writeln!(out, "{kind} AOF {file} is valid")?;
        }
        let Some(cut) = cut else { continue };
        if let Some((first, last)) = cut.dropped_numbers {
            let chunks = cut.dropped_chunks;
            writeln!(
                out,
                "{file}: {chunks} whole chunks, from log number {first} to {last}, stand behind the end of the log"
            )?;
        }
        if let Some((offset, fault)) = &cut.fault {
            writeln!(out, "0x{offset:>16x}: {fault}")?;
        }
    }
    if let Some(until) = kept.until {
        match kept.losses().next() {
            Some(_) => writeln!(
                out,
                "The log ends with number {until}: the next one is missing or damaged"
            )?,
            None => writeln!(out, "The log is whole up to number {until}, its last")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{life, put, put_life};
    use super::*;
    use crate::runtime::disk::SimulatedDisk;

    fn run(disk: &Arc<SimulatedDisk>, file: &str, action: Action) -> (bool, String) {
        let request = Request {
            file: Path::new("/data/aof").join(file),
            action,
        };
        let (disk, mut out): (Arc<dyn Disk>, _) = (disk.clone(), Vec::new());
        let is_valid = check(&disk, &request, || true, &mut out).unwrap();
        (is_valid, String::from_utf8(out).unwrap())
    }

    const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";

    #[test]
    fn a_plain_file_is_told_and_mended_as_redis_check_aof_does() {
        let disk = SimulatedDisk::new(1);
        put(&disk, "a.manifest", b"file a.1.incr.aof seq 1 type i\n");
        put(&disk, "a.1.incr.aof", &[SET, b"*2\r\n$3\r\nGE"].concat());
        let (is_valid, text) = run(&disk, "a.manifest", Action::Look);
        assert!(!is_valid);
        let expected = "Start checking Multi Part AOF\n\
            AOF analyzed: filename=a.1.incr.aof, size=37, ok_up_to=27, diff=10\n\
            AOF a.1.incr.aof is not valid. Use the --fix option to try fixing it.\n";
        assert_eq!(text, expected);
        let (is_valid, text) = run(&disk, "a.manifest", Action::Fix);
        assert!(is_valid, "{text}");
        assert!(text.contains("This will shrink the AOF a.1.incr.aof from 37 bytes, with 10 bytes, to 27 bytes\n"));
        assert!(text.ends_with("Successfully truncated AOF a.1.incr.aof\nAll AOF files and manifest are valid\n"));
        let (is_valid, text) = run(&disk, "a.manifest", Action::Look);
        assert!(is_valid && text.contains("INCR AOF a.1.incr.aof is valid\n"), "{text}");
        // What is no command is cut off, too, if it is at the end; and of a single file.
        put(&disk, "single", &[SET, b"x"].concat());
        let (is_valid, text) = run(&disk, "single", Action::Look);
        assert!(
            !is_valid && text.starts_with("Start checking Old-Style AOF\n") && text.contains("got: 'x'"),
            "{text}"
        );
        assert!(run(&disk, "single", Action::Fix).0);
        assert_eq!(disk.content(Path::new("/data/aof/single")).as_deref(), Some(SET));
        let (is_valid, text) = run(&disk, "nothing", Action::Look);
        assert!(
            !is_valid && text.starts_with("Cannot open file /data/aof/nothing: "),
            "{text}"
        );
    }

    #[test]
    fn only_the_last_file_can_be_mended() {
        let disk = SimulatedDisk::new(1);
        let manifest = b"file a.1.incr.aof seq 1 type i\nfile a.2.incr.aof seq 2 type i\n";
        put(&disk, "a.manifest", manifest);
        put(&disk, "a.1.incr.aof", &SET[..9]);
        put(&disk, "a.2.incr.aof", SET);
        for bytes in [&SET[..9], b"x"] {
            put(&disk, "a.1.incr.aof", bytes);
            let (is_valid, text) = run(&disk, "a.manifest", Action::Fix);
            assert!(!is_valid && text.contains("a.1.incr.aof"), "{text}");
            assert_eq!(
                disk.content(Path::new("/data/aof/a.1.incr.aof")).as_deref(),
                Some(bytes)
            );
        }
    }

    /// A rewrite that never came to its cut has made increments that are empty: the one before them is the last, for a start and here.
    #[test]
    fn behind_the_last_file_may_stand_empty_ones() {
        let manifest =
            b"file a.1.incr.aof seq 1 type i\nfile a.2.incr.aof seq 2 type i\nfile a.3.incr.aof seq 3 type i\n";
        let stamped = [b"#TS:100\r\n", SET, b"#TS:200\r\n"].concat();
        let torn = [&stamped[..], &SET[..9]].concat();
        let damaged = [&stamped[..], b"x"].concat();
        for (bytes, action, kept) in [
            (&torn, Action::Fix, &stamped[..]),
            (&damaged, Action::Fix, &stamped[..]),
            (&torn, Action::TruncateTo(150), &stamped[..9 + SET.len()]),
        ] {
            let disk = SimulatedDisk::new(1);
            put(&disk, "a.manifest", manifest);
            put(&disk, "a.1.incr.aof", bytes);
            put(&disk, "a.2.incr.aof", b"");
            put(&disk, "a.3.incr.aof", b"");
            let (is_valid, text) = run(&disk, "a.manifest", action);
            assert!(is_valid, "{text}");
            let content = disk.content(Path::new("/data/aof/a.1.incr.aof"));
            assert_eq!(content.as_deref(), Some(kept));
            let (is_valid, text) = run(&disk, "a.manifest", Action::Look);
            assert!(is_valid, "{text}");
        }
        // Something in the one behind it, and it is not the last.
        let disk = SimulatedDisk::new(1);
        put(&disk, "a.manifest", manifest);
        put(&disk, "a.1.incr.aof", &damaged);
        put(&disk, "a.2.incr.aof", b"");
        put(&disk, "a.3.incr.aof", SET);
        assert!(!run(&disk, "a.manifest", Action::Fix).0);
    }

    #[test]
    fn a_life_is_told_and_mended_as_a_start_would() {
        let (disk, mut manifest) = (SimulatedDisk::new(1), Manifest::new(b"a"));
        let mut parts = life(1, 2, &[0, 1, 0, 1, 0]);
        parts[1].bytes.pop();
        put_life(&disk, &mut manifest, &parts);
        let (is_valid, text) = run(&disk, "a.manifest", Action::Look);
        assert!(!is_valid);
        for said in [
            "a.1.incr.aof: 1 whole chunks, from log number 5 to 5, stand behind the end of the log\n",
            "the chunk is cut off: 1 bytes are missing\n",
            "The log ends with number 3: the next one is missing or damaged\n",
            "AOF a.1.incr.aof is not valid. Use the --fix option to try fixing it.\n",
            "AOF a.2.incr.aof is not valid. Use the --fix option to try fixing it.\n",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        let untouched = Manifest::load(&*disk, Path::new("/data/aof"), b"a").unwrap();
        assert_eq!(untouched, Some(manifest.clone()));
        assert!(run(&disk, "a.manifest", Action::Fix).0);
        manifest.close_life(3);
        let mended = Manifest::load(&*disk, Path::new("/data/aof"), b"a").unwrap();
        assert_eq!(mended, Some(manifest));
        let (is_valid, text) = run(&disk, "a.manifest", Action::Look);
        assert!(is_valid, "{text}");
    }

    #[test]
    fn a_log_is_cut_at_a_second() {
        let disk = SimulatedDisk::new(1);
        put(&disk, "a.manifest", b"file a.1.incr.aof seq 1 type i\n");
        let bytes = [b"#TS:100\r\n", SET, b"#TS:200\r\n", SET].concat();
        put(&disk, "a.1.incr.aof", &bytes);
        let (is_valid, text) = run(&disk, "a.manifest", Action::TruncateTo(50));
        assert!(
            !is_valid && text.contains("nothing before timestamp 50, aborting..."),
            "{text}"
        );
        assert!(run(&disk, "a.manifest", Action::TruncateTo(200)).0);
        let (is_valid, text) = run(&disk, "a.manifest", Action::TruncateTo(150));
        assert!(
            is_valid && text.contains("Successfully truncated AOF a.1.incr.aof to timestamp 150\n"),
            "{text}"
        );
        let content = disk.content(Path::new("/data/aof/a.1.incr.aof"));
        assert_eq!(content.as_deref(), Some(&[b"#TS:100\r\n", SET].concat()[..]));
        // Of several shards: the chunk with the later second goes, and all behind it.
        let (disk, mut manifest) = (SimulatedDisk::new(1), Manifest::new(b"a"));
        let mut parts = life(1, 2, &[0, 1]);
        super::super::tests::add_at(&mut parts[1], 3, 300);
        super::super::tests::add_at(&mut parts[0], 4, 300);
        put_life(&disk, &mut manifest, &parts);
        for is_closed in [false, true] {
            if is_closed {
                manifest.close_life(4);
                put_life(&disk, &mut Manifest::new(b"a"), &parts);
                manifest.save(&*disk, Path::new("/data/aof")).unwrap();
            }
            let (is_valid, text) = run(&disk, "a.manifest", Action::TruncateTo(250));
            assert!(is_valid, "{text}");
            let cut = Manifest::load(&*disk, Path::new("/data/aof"), b"a").unwrap().unwrap();
            assert_eq!(cut.increments[1].part.and_then(|part| part.until), Some(2));
            let (is_valid, text) = run(&disk, "a.manifest", Action::Look);
            assert!(is_valid, "{text}");
        }
    }
}
