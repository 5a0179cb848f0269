//! The reader, what it reads from, and the numbers that it knows.

#[path = "../../../../../src/persist/file/opcode.rs"]
pub mod opcode;
#[path = "../../../../../src/persist/file/reader.rs"]
pub mod reader;
#[path = "../../../../../src/persist/file/source.rs"]
pub mod source;
