//! Files of Redis's format that hold a data set.
//!
//! ```text
//! "REDIS" + 4 digits | AUX ... | parts ... | EOF | CRC-64 of all before it
//!                                '--- [SELECTDB db] [EXPIRETIME_MS] [IDLE | FREQ] type key value ...
//! ```
//!
//! | module | owns |
//! |---|---|
//! | `opcode` | the numbers that stand where a type could |
//! | `reader` | a file of any server as a row of items, page by page |
//! | `source` | a file of a disk, as the reader wants it |
//! | `writer` | entries as bytes; parts, and how they become one file |
//! | `set` | which files are one snapshot, and how they come to bear their names |
//!
//! A *part* is what one shard has written: a run of complete db sections, which can stand anywhere between header and end. So a file of any
//! server can be laid together from parts, and be read by any: an AUX field says where the parts lie, for who wants to read them in
//! parallel.

pub mod opcode;
pub mod reader;
pub mod set;
pub mod source;
pub mod writer;
