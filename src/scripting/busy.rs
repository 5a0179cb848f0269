//! Scripts that do not end.
//!
//! A script holds its shard's thread, and what it needs of others. After `busy-reply-threshold` it is *busy*: from then on clients are answered BUSY,
//! but for the few commands that may end it, and SCRIPT KILL ends it, if it has called nothing that writes (FUNCTION KILL a function).
//! The interpreter asks now and then whether it shall go on ([`Watch::look`]), which is when all this comes to pass, and when the clients of its own shard
//! are looked after ([`Env::attend`]).
//!
//! Invariants: (1) the process counts a script as busy exactly from the moment at which its shard's state says so to the end of the run; (2) of a
//! script that is killed no call that may write has been made, nor will be: both are one step over the same state.

use crate::base::clock::Ticks;
use crate::engine::{BusyScripts, Env, Node};
use crate::resp::{Args, ReplyError, error};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const BUSY: u8 = 1;
const HAS_WRITTEN: u8 = 2;
const IS_FUNCTION: u8 = 4;
const KILLED: u8 = 8;

/// What runs on each shard, as far as it is busy.
#[derive(Debug)]
pub struct Busy(Box<[Seat]>);

#[derive(Debug, Default)]
struct Seat {
    state: AtomicU8,
    running: Mutex<Option<Running>>,
}

/// What is busy.
#[derive(Clone, Debug)]
pub struct Running {
    /// As it was called.
    pub command: Vec<Vec<u8>>,
    began: Ticks,
    pub elapsed_ms: u64,
}

impl Busy {
    pub fn new(shards: usize) -> Busy {
        Busy((0..shards).map(|_| Seat::default()).collect())
    }

    /// The function that is busy, if any is; where a script is, that is the error.
    pub fn function(&self, now: Ticks) -> Result<Option<Running>, ReplyError> {
        let mut found = None;
        for seat in &self.0 {
            let state = seat.state.load(Ordering::Acquire);
            if state & BUSY == 0 {
                continue;
            }
            if state & IS_FUNCTION == 0 {
                return Err(error::BUSY_SCRIPT);
            }
            let running = lock(&seat.running).clone();
            found = found.or(running.map(|running| Running {
                elapsed_ms: now.us_since(running.began) / 1000,
                ..running
            }));
        }
        Ok(found)
    }

    /// SCRIPT KILL, or FUNCTION KILL: ends those that are of that kind and have written nothing.
    pub fn kill(&self, is_function: bool) -> Result<(), ReplyError> {
        let mut answer = Err(error::NOT_BUSY);
        for Seat { state, .. } in &self.0 {
            let killed = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |seen| {
                let is_meant = seen & BUSY != 0 && (seen & IS_FUNCTION != 0) == is_function;
                (is_meant && seen & HAS_WRITTEN == 0).then_some(seen | KILLED)
            });
            match killed {
                Ok(_) => return Ok(()),
                Err(seen) if seen & BUSY == 0 => {}
                Err(seen) if (seen & IS_FUNCTION != 0) != is_function => {
                    answer = Err(match seen & IS_FUNCTION != 0 {
                        true => error::BUSY_FUNCTION,
                        false => error::BUSY_SCRIPT,
                    });
                }
                Err(_) => answer = Err(error::UNKILLABLE),
            }
        }
        answer
    }
}

/// Looks after one run.
pub struct Watch<'a> {
    seat: &'a Seat,
    /// The call.
    args: Args<'a>,
    scripts: &'a BusyScripts,
    began: Ticks,
    is_function: bool,
    is_busy: bool,
}

impl<'a> Watch<'a> {
    /// A run begins.
    pub fn new(busy: &'a Busy, node: &'a Node, env: &Env, args: Args<'a>, is_function: bool) -> Watch<'a> {
        Watch {
            seat: &busy.0[usize::from(env.shard.0)],
            args,
            scripts: &node.busy_scripts,
            began: env.ticks_now(),
            is_function,
            is_busy: false,
        }
    }

    /// The script has run for a while, and has written or not. An error ends it. A busy one has the clients of its shard looked after.
    pub fn look(&mut self, env: &mut Env, has_written: bool) -> Result<(), ReplyError> {
        let threshold_ms = env.settings.busy_reply_threshold;
        if !self.is_busy {
            if threshold_ms == 0 || env.ticks_now().us_since(self.began) / 1000 < threshold_ms {
                return Ok(());
            }
            self.is_busy = true;
            *lock(&self.seat.running) = Some(Running {
                command: self.args.iter().map(<[u8]>::to_vec).collect(),
                began: self.began,
                elapsed_ms: 0,
            });
            self.seat.state.store(self.bits(has_written), Ordering::Release);
            self.scripts.begin(self.is_function);
            tracing::warn!("Slow script detected: still in execution after {threshold_ms} milliseconds.");
        }
        env.attend();
        match self.seat.state.load(Ordering::Acquire) & KILLED {
            0 => Ok(()),
            _ => Err(error::SCRIPT_KILLED),
        }
    }

    /// The script is about to call something that writes: it can be killed no more. If it has been before that, the error is why the call must
    /// not be made.
    pub fn note_write(&self) -> Result<(), ReplyError> {
        if !self.is_busy {
            return Ok(());
        }
        let noted = self
            .seat
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |seen| {
                (seen & KILLED == 0).then_some(seen | HAS_WRITTEN)
            });
        noted.map_or(Err(error::SCRIPT_KILLED), |_| Ok(()))
    }

    fn bits(&self, has_written: bool) -> u8 {
        let mut bits = BUSY;
        if has_written {
            bits |= HAS_WRITTEN;
        }
        if self.is_function {
            bits |= IS_FUNCTION;
        }
        bits
    }
}

fn lock(running: &Mutex<Option<Running>>) -> MutexGuard<'_, Option<Running>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.is_busy {
            self.seat.state.store(0, Ordering::Release);
            *lock(&self.seat.running) = None;
            self.scripts.end(self.is_function);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    /// A run that is busy already.
    fn watched(work: impl FnOnce(&Busy, &Watch)) {
        let (busy, scripts) = (Busy::new(1), BusyScripts::default());
        let args = OwnedArgs::from_slices(&["EVAL", "while true do end", "0"]);
        busy.0[0].state.store(BUSY, Ordering::Release);
        scripts.begin(false);
        let watch = Watch {
            seat: &busy.0[0],
            args: args.as_args(),
            scripts: &scripts,
            began: Ticks::default(),
            is_function: false,
            is_busy: true,
        };
        work(&busy, &watch);
        drop(watch);
        assert_eq!(busy.kill(false), Err(error::NOT_BUSY));
        assert_eq!(scripts.refusal(), None);
    }

    #[test]
    fn what_writes_is_not_killed_and_what_is_killed_does_not_write() {
        watched(|busy, watch| {
            assert_eq!(busy.kill(true), Err(error::BUSY_SCRIPT));
            assert_eq!(watch.note_write(), Ok(()));
            assert_eq!(busy.kill(false), Err(error::UNKILLABLE));
            assert_eq!(watch.note_write(), Ok(()));
        });
        watched(|busy, watch| {
            assert_eq!(busy.kill(false), Ok(()));
            assert_eq!(watch.note_write(), Err(error::SCRIPT_KILLED));
            assert_eq!(busy.kill(false), Ok(()), "it is not over yet");
        });
    }
}
