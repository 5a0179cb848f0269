//! The way through an append-only file, and what is kept of it.

#[allow(dead_code, reason = "a load uses all of it")]
#[path = "../../../../../src/durability/aof/buffer.rs"]
mod buffer;
#[path = "../../../../../src/durability/aof/error.rs"]
mod error;
#[path = "../../../../../src/durability/aof/keep.rs"]
pub mod keep;
#[allow(dead_code, reason = "a load uses all of it")]
#[path = "../../../../../src/durability/aof/life.rs"]
pub mod life;
#[allow(dead_code, reason = "a load uses all of it")]
#[path = "../../../../../src/durability/aof/walk.rs"]
pub mod walk;

pub use crate::persist::aof::recovered::Recovered;
pub use error::{AofError, Found};

use crate::runtime::disk::Disk;
use std::sync::Arc;
use walk::{Kept, Step, Walk};

/// What stands in it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// With its db.
    Command(u32, Vec<Vec<u8>>),
    Multi,
    Exec,
    Timestamp(u64),
}

/// Goes all the way; None: a file begins with keys, which others read.
pub fn read(disk: Arc<dyn Disk>, found: &Found, databases: u32) -> Result<Option<(Vec<Word>, Kept)>, AofError> {
    let mut walk = Walk::new(disk, found, databases);
    let mut words = Vec::new();
    loop {
        words.push(match walk.go()? {
            Step::Keys => return Ok(None),
            Step::Command => Word::Command(walk.db(), walk.args().iter().map(<[u8]>::to_vec).collect()),
            Step::Multi => Word::Multi,
            Step::Exec => Word::Exec,
            Step::Timestamp(second) => Word::Timestamp(second),
            Step::End => return Ok(Some((words, walk.into_kept()))),
        });
    }
}
