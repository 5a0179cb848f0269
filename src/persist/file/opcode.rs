//! The bytes of an RDB file that stand where the type of a value could.

/// Slots that were on their way to the node when it wrote this (Valkey 9). Redis's versions that are read have no such opcode.
pub const SLOT_IMPORT: u8 = 243;
/// A slot's sizes (Redis 7.4); may be passed over.
pub const SLOT_INFO: u8 = 244;
/// A library of functions.
pub const FUNCTION_2: u8 = 245;
/// A library of functions as release candidates of 7.0 wrote it: refused.
pub const FUNCTION_PRE_GA: u8 = 246;
/// What a module has to say apart from keys.
pub const MODULE_AUX: u8 = 247;
/// Seconds for which the next key was not used.
pub const IDLE: u8 = 248;
/// How often the next key is used: the logarithmic counter.
pub const FREQUENCY: u8 = 249;
/// A name and a value that say something of the file.
pub const AUX: u8 = 250;
/// How many keys the db has, and how many of them expire.
pub const RESIZE_DB: u8 = 251;
/// When the next key expires, Unix milliseconds.
pub const EXPIRE_TIME_MS: u8 = 252;
/// When the next key expires, Unix seconds.
pub const EXPIRE_TIME: u8 = 253;
/// The db of what follows.
pub const SELECT_DB: u8 = 254;
/// The end; a checksum follows.
pub const EOF: u8 = 255;
