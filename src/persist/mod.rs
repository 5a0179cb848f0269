//! Data outside of the process: Redis's formats, and the fingerprint by which two data sets are compared.
//!
//! From below to above; each part knows those above it in this list only:
//!
//! | module | what |
//! |---|---|
//! | [`rdb`] | the RDB format's primitives: lengths, integers and strings in their compact forms, over a slice or into a buffer |
//! | [`value`] | one value with its type byte |
//! | [`payload`] | one value, sealed with version and checksum: DUMP and RESTORE |
//! | [`digest`] | DEBUG DIGEST: SHA-1 over a data set, whatever its order |
//! | [`file`](mod@file) | files of whole data sets |
//! | [`aof`] | the files of the append-only file: which they are, and what stands in them |
//!
//! Nothing here looks at a clock, and only `file` and `aof` know of files. Whatever is read may come from a stranger: every length is checked against what
//! is there before anything is allocated for it, and damage is an error with the offset at which it was found, never a panic.
//!
//! The format is that of Redis's RDB files, as their documentation and the files themselves show it; the tests compare with what
//! redis-server writes and reads.

pub mod aof;
pub mod digest;
pub mod file;
pub mod payload;
pub mod rdb;
pub mod value;
