//! What the logs are good for: the effects of all units, in the order in which these took effect, must make of another server what
//! this one is.
//!
//! They are run there one by one, and every now and then, and when all have ended, the two are compared: keys, values, and when each expires.

use super::engine::Record;
use super::judge::{Failure, Judge};
use super::story::shortened;

/// So many units and replies apart what the logs make is compared.
const COMPARED_EVERY: u64 = 16;

impl Judge {
    /// The effects of all units, in the order in which these took effect, must make of another server what this one is.
    pub(super) fn replicate(&mut self, record: &Record) -> Result<(), Failure> {
        self.latest = self.latest.max(record.now);
        let Some(replica) = &mut self.replica else {
            return Ok(());
        };
        for (db, command) in &record.effects {
            replica.apply(*db, command, record.now).map_err(|error| {
                let text = format!("{} was logged, and elsewhere it answers {error}", shortened(command));
                Failure::new("log", text)
            })?;
        }
        match self.progress.is_multiple_of(COMPARED_EVERY) {
            true => self.compare_replica(),
            false => Ok(()),
        }
    }

    /// Compares the two as of the latest time of any unit.
    pub(super) fn compare_replica(&mut self) -> Result<(), Failure> {
        let Some(replica) = &self.replica else { return Ok(()) };
        let (here, there) = (self.reference.picture(self.latest), replica.picture(self.latest));
        let differs = here.iter().find(|(key, value)| there.get(*key) != Some(*value));
        let differs = differs
            .map(|(key, _)| key)
            .or_else(|| there.keys().find(|key| !here.contains_key(*key)));
        match differs {
            None => Ok(()),
            Some((db, key)) => Err(Failure::new(
                "log",
                format!(
                    "key {} of db {db} is {:?} here, and the log makes {:?} of it",
                    shortened(key),
                    here.get(&(*db, key.clone())),
                    there.get(&(*db, key.clone()))
                ),
            )),
        }
    }
}
