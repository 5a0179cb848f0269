//! What a command over the session may touch: the peer's session and what the shard knows by itself.
//!
//! Such a command neither waits nor looks at a key, and it is indifferent to the shard it runs on: inside EXEC it runs
//! where the transaction runs, on the session that travels with it.

use super::Command;
use super::env::Env;
use crate::client::Session;
use crate::resp::{Args, Reply};

/// One call of a command over the session.
pub struct SessionOp<'a> {
    pub args: Args<'a>,
    pub reply: Reply<'a>,
    pub session: &'a mut Session,
    pub env: &'a mut Env,
    /// It runs inside EXEC or a script.
    pub is_nested: bool,
    /// The literal that is being run.
    pub command: &'static Command,
}
