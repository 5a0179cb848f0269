//! Making last what was kept: files are cut, and synced, and then the manifest says where the life ends.

use super::walk::Kept;
use super::{AofError, Found, Recovered};
use crate::persist::file::source::Source;
use crate::runtime::disk::Disk;
use std::path::Path;

/// Whether that may be dropped, and says in the log what it is. To be called before [`keep`].
pub fn tell(kept: &Kept, loads_truncated: bool) -> Result<(), AofError> {
    for cut in kept.losses() {
        let (file, offset) = (cut.file.display(), cut.kept_bytes);
        tracing::warn!("!!! Warning: short read while loading the AOF file {file}!!!");
        if let Some((first, last)) = cut.dropped_numbers {
            tracing::warn!(
                "{file}: {} whole chunks, from log number {first} to {last}, stand behind the end of the log.",
                cut.dropped_chunks
            );
        }
        if let Some((at, fault)) = &cut.fault {
            tracing::warn!("{file}: at offset {at}: {fault}");
        }
        if !loads_truncated {
            return Err(AofError::Torn {
                file: cut.file.to_path_buf(),
                offset,
            });
        }
        tracing::warn!("!!! Truncating the AOF {file} at offset {offset} !!!");
        tracing::warn!("AOF {file} loaded anyway because aof-load-truncated is enabled");
    }
    if let Some(until) = kept.until
        && kept.losses().next().is_some()
    {
        tracing::warn!(
            "The log ends with number {until}: what follows is missing or damaged, and dropped in all increments."
        );
    }
    Ok(())
}

/// Cuts the files to what is kept, and has the manifest say so.
pub fn keep(disk: &dyn Disk, found: Found, kept: Kept) -> Result<Recovered, AofError> {
    let Found { dir, mut manifest } = found;
    for cut in &kept.cuts {
        let failed = |what| {
            move |error| AofError::Change {
                what,
                file: cut.file.to_path_buf(),
                error,
            }
        };
        let mut file = disk
            .open_to_append(&cut.file)
            .map_err(failed("Error opening the AOF file"))?;
        if cut.kept_bytes < cut.bytes {
            file.truncate(cut.kept_bytes)
                .map_err(failed("Error truncating the AOF file"))?;
        }
        file.sync().map_err(failed("Fail to fsync the AOF file"))?;
    }
    // (A single file of before has no manifest, and no lives.)
    if let Some(until) = kept.until {
        manifest.close_life(until);
        manifest.save(disk, &dir).map_err(|error| AofError::Change {
            what: "Error trying to write the AOF manifest in",
            file: dir.clone(),
            error,
        })?;
    }
    let bytes_of = |path: &Path| Source::open(disk, path).and_then(|source| source.bytes()).unwrap_or(0);
    let base_bytes = manifest.base.iter().map(|base| bytes_of(&base.path(&dir))).sum();
    let bytes = manifest.files().map(|entry| bytes_of(&entry.path(&dir))).sum();
    Ok(Recovered {
        next_number: kept.next_number,
        last_turn: kept.last_turn,
        end_offset: kept.end_offset,
        base_bytes,
        bytes,
        manifest,
    })
}
