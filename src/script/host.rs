//! What a script sees of the server, and what the server hears of a script.
//!
//! The interpreter knows no shard, no client and no command. It asks a [`Host`], which stands for one run of one script (or of the code of a
//! library), and ends the run in one of two ways ([`Ending`]): with an error that the client is told, or by unwinding, after which nobody has seen
//! anything of the run.
//!
//! An error reply of a command is a reply: it comes back in the buffer, as the client would have got it, and the command that made it has counted
//! it. A [`Refusal`] is for what never became a command's reply: a command that does not exist, that scripts may not call, that the run's flags forbid.
//! Both look the same to the script, and the host has counted both.

use crate::resp::{Proto, ReplyBuf, ReplyError};

/// The server, as one run of a script sees it. See the module's text.
pub trait Host {
    /// Runs a command (its name is the first argument; there is at least one) and appends its reply to `reply`, in the protocol
    /// that the script asked for with `redis.setresp`.
    fn call(&mut self, args: &[&[u8]], protocol: Proto, reply: &mut ReplyBuf) -> Result<(), Refusal>;

    /// What `math.random` begins with: for all attempts of one run the same, for another run another.
    fn random_seed(&mut self) -> u64;

    /// `redis.set_repl`: where the effects of the calls that follow go.
    fn set_replication(&mut self, target: Replication);

    /// `redis.acl_check_cmd`: whether the user of the run may run this command; nothing, if there is no such command.
    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool>;

    /// `redis.log`.
    fn log(&mut self, level: LogLevel, text: &[u8]);

    /// Counts an error that is part of the script's result and that no command has counted: its text with the code.
    fn count_error(&mut self, text: &[u8]);

    /// Asked every [`INSTRUCTIONS_PER_QUESTION`](super::INSTRUCTIONS_PER_QUESTION) instructions. With a refusal the run ends at once: no
    /// `pcall` keeps it.
    fn interrupted(&mut self) -> Result<(), Refusal>;
}

/// Why a call did not happen, or a run does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The script gets this error. From [`Host::call`] a script can catch it, and the host has counted it; from [`Host::interrupted`] it cannot, and it
    /// is not counted yet.
    Error(ReplyError),
    /// The run must end now, without a trace: it will be run again, or nobody wants its result. No script can catch it.
    Unwind,
}

/// How a run ended that did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The error that the client is told.
    Error {
        error: ReplyError,
        /// Whether the command that the error came from has counted it already.
        is_counted: bool,
    },
    /// The host asked for it ([`Refusal::Unwind`]).
    Unwind,
}

/// Where the effects of a script's calls go: `redis.REPL_AOF`, `redis.REPL_REPLICA`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    pub to_aof: bool,
    pub to_replicas: bool,
}

/// `redis.LOG_DEBUG` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Verbose,
    Notice,
    Warning,
}
