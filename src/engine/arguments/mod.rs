//! Reading the arguments of a command: a cursor over its options, and the kinds of numbers and times that many commands share.
//!
//! Redis reads options from left to right, and refuses the first that it does not know; so does a handler with [`Options`]:
//!
//! ```text
//! let mut options = Options::behind(op.args, 3);
//! while !options.is_empty() {
//!     if options.flag(b"NX") {
//!         ..
//!     } else if options.flag(b"COUNT") {
//!         count = options.integer()?;
//!     } else {
//!         return Err(error::SYNTAX);
//!     }
//! }
//! ```

pub mod element_scan;
pub mod expiry;
pub mod numbers;
pub mod timeout;

use crate::resp::{Args, ReplyError, error};
use numbers::integer;

/// A cursor over what stands behind the fixed arguments of a call.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    args: Args<'a>,
    next: usize,
}

impl<'a> Options<'a> {
    /// From the argument of that index on.
    pub fn behind(args: Args<'a>, next: usize) -> Options<'a> {
        Options { args, next }
    }

    /// Whether there is none left.
    pub fn is_empty(&self) -> bool {
        self.next >= self.args.len()
    }

    /// The index of the next one among the arguments.
    pub fn index(&self) -> usize {
        self.next
    }

    /// The next one, which is left where it is.
    pub fn peek(&self) -> Option<&'a [u8]> {
        self.args.get(self.next)
    }

    /// Takes the next one if it is this word, in any letter case.
    pub fn flag(&mut self, word: &[u8]) -> bool {
        let is_it = self.peek().is_some_and(|next| next.eq_ignore_ascii_case(word));
        self.next += usize::from(is_it);
        is_it
    }

    /// Takes the next one, whatever it is; a syntax error if there is none.
    pub fn word(&mut self) -> Result<&'a [u8], ReplyError> {
        let word = self.peek().ok_or(error::SYNTAX)?;
        self.next += 1;
        Ok(word)
    }

    /// Takes the next one, which must be an integer; a syntax error if there is none.
    pub fn integer(&mut self) -> Result<i64, ReplyError> {
        integer(self.word()?)
    }

    /// Takes all that are left.
    pub fn rest(&mut self) -> Args<'a> {
        let rest = self.args.slice_from(self.next.min(self.args.len()));
        self.next = self.args.len();
        rest
    }
}

/// Whether the argument at `index` is this word, in any letter case.
pub fn is_word(args: Args, index: usize, word: &[u8]) -> bool {
    args.get(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    #[test]
    fn options_are_taken_from_left_to_right() {
        let words = OwnedArgs::from_slices(&["zadd", "key", "nx", "Count", "12", "x", "rest"]);
        let mut options = Options::behind(words.as_args(), 2);
        assert!(!options.flag(b"XX") && options.flag(b"NX") && options.flag(b"COUNT"));
        assert_eq!(options.integer().ok(), Some(12));
        assert!(options.integer().is_err(), "x is no integer");
        assert_eq!((options.index(), options.is_empty()), (6, false));
        assert_eq!(options.rest().len(), 1);
        assert!(options.is_empty() && options.word().is_err() && !options.flag(b"NX"));
        assert_eq!(options.rest().len(), 0);
    }
}
