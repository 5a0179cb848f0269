//! Why an append-only file cannot be read, or cannot be used as it is, and what can be done about it.

use crate::persist::aof::manifest::{Manifest, ManifestError};
use std::io;
use std::path::PathBuf;

/// The files of an append-only file, before they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The directory that they lie in.
    pub dir: PathBuf,
    pub manifest: Manifest,
}

/// Why an append-only file cannot be read, or cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum AofError {
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    #[error("Fatal error: can't open the append log file {file} for reading: No such file or directory", file = .file.display())]
    Missing { file: PathBuf },
    #[error("Unrecoverable error reading the append only file {file}: {error}", file = .file.display())]
    Io { file: PathBuf, error: io::Error },
    #[error("{file}: at offset {offset}: {what}", file = .file.display())]
    Format { file: PathBuf, offset: u64, what: String },
    #[error("{file}: at offset {offset}: Unknown command '{name}' reading the append only file", file = .file.display(), name = .name.escape_ascii())]
    UnknownCommand { file: PathBuf, offset: u64, name: Vec<u8> },
    #[error("{file}: at offset {offset}: FATAL: Data file was created with a Redis server configured to handle more than {databases} databases. Exiting", file = .file.display())]
    Databases { file: PathBuf, offset: u64, databases: u32 },
    /// Another file than the last one is torn.
    #[error("{file}: Unexpected end of file at offset {offset}, and it is not the last file", file = .file.display())]
    TornWithin { file: PathBuf, offset: u64 },
    /// The last one is, or the end of a life, and nothing may be dropped.
    #[error("{file}: Unexpected end of file at offset {offset}", file = .file.display())]
    Torn { file: PathBuf, offset: u64 },
    /// A life that was closed is not as it was then.
    #[error("{file}: at offset {offset}: {what}", file = .file.display())]
    Closed { file: PathBuf, offset: u64, what: String },
    #[error("AOF {file} has nothing before timestamp {second}, aborting...", file = .file.display())]
    NothingBefore { file: PathBuf, second: u64 },
    #[error("Failed to truncate AOF {file} at offset {offset} because it is not the last file", file = .file.display())]
    NotLast { file: PathBuf, offset: u64 },
    #[error("{what} {file}: {error}", file = .file.display())]
    Change {
        what: &'static str,
        file: PathBuf,
        error: io::Error,
    },
}

impl AofError {
    /// What whoever runs the server can do about it. It is the last thing that the log says, as tools know it from Redis.
    pub fn remedy(&self) -> String {
        match self {
            AofError::Manifest(_) => {
                "The manifest says which files are the append-only file: put it right, or put back the one of a backup."
                    .to_owned()
            }
            AofError::Missing { .. } => {
                "The manifest lists a file that is not there: put it back, or all of them from a backup.".to_owned()
            }
            AofError::Io { .. } | AofError::Change { .. } => {
                "Look at the disk and at the rights of its files.".to_owned()
            }
            AofError::NothingBefore { .. } | AofError::NotLast { .. } => "Name a later second.".to_owned(),
            AofError::Databases { .. } => "Start with as many `databases` as the server had that wrote it.".to_owned(),
            AofError::Torn { file, .. } => format!(
                "Unexpected end of file reading the append only file {}. You can: 1) Make a backup of your AOF file, then use shardis --check-aof --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' configuration option to yes and restart the server.",
                file.display()
            ),
            AofError::UnknownCommand { file, name, .. } => format!(
                "Unknown command '{}' reading the append only file {}",
                name.escape_ascii(),
                file.display()
            ),
            AofError::Format { file, .. } | AofError::TornWithin { file, .. } | AofError::Closed { file, .. } => {
                format!(
                    "Bad file format reading the append only file {}: make a backup of your AOF file, then use shardis --check-aof --fix <filename.manifest>",
                    file.display()
                )
            }
        }
    }
}
