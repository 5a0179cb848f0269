//! What a unit of work keeps that is run again because it has found out late which slots it lacks.
//!
//! Each attempt draws the same random numbers: a script that chooses its keys by chance would else lack other ones each time. And what finds
//! its slots one by one does not run again for each of them: after a few attempts it gets the whole keyspace. What everything is
//! taken for by mistake costs one message for each shard; a hundred attempts cost a hundred times the unit.

use super::env::Env;
use crate::base::random::Random;
use crate::shard::Footprint;

/// Attempts that get the slots that the one before has asked for; the next one gets everything.
const ATTEMPTS_BY_SLOTS: u32 = 3;

/// See the essay above.
pub(super) struct Again {
    pub(super) random: Random,
    attempts: u32,
}

impl Again {
    /// Of a unit that begins now.
    pub(super) fn new(env: &mut Env) -> Again {
        Again {
            random: env.random.fork(),
            attempts: 0,
        }
    }

    /// What the next attempt is to have, when the last one lacked this.
    pub(super) fn widen(&mut self, lacking: Footprint) -> Footprint {
        self.attempts += 1;
        match self.attempts < ATTEMPTS_BY_SLOTS {
            true => lacking,
            false => Footprint::Everything,
        }
    }
}
