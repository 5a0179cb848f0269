//! The wire: requests in, replies out, in RESP2 and RESP3 (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
//!
//! In reading order: the arguments of a command wherever they lie in memory ([`args`]), how they are found in what a client sends
//! ([`request`]), and ahead of time ([`peek`]), how a reply is written ([`reply`]), and every error text that a command can answer with ([`error`]). Nothing here
//! reads a socket: bytes come in as slices and go out as buffers.

pub mod args;
pub mod error;
pub mod peek;
pub mod reply;
pub mod request;

pub use args::{Args, OwnedArgs, Span};
pub use error::ReplyError;
pub use peek::{Peeked, peek_requests};
pub use reply::{Mark, Proto, Reply, ReplyBuf};
pub use request::{ProtocolError, RequestLimits, RequestParser, Step};
