//! The reader, and the numbers that it knows.

#[path = "../../../../../src/persist/file/opcode.rs"]
pub mod opcode;
#[path = "../../../../../src/persist/file/reader.rs"]
pub mod reader;
