//! The ground floor: what every other module may use and what has never heard of a client or a command.
//!
//! In reading order: time ([`clock`]), numbers as text ([`numbers`], [`grisu`], [`long_double`]), where a key lives ([`slot`]),
//! patterns ([`glob`]), checksums and compression of files ([`crc64`], [`lzf`]), chance ([`random`]), the keyed hash of keys and elements
//! ([`hash`]), what the allocator gives ([`size_class`]), figures as they are read ([`section`]), and every bound of the process ([`limits`]).
//! Nothing here does input or output, and nothing here keeps state between calls.

pub mod clock;
pub mod crc64;
pub mod glob;
pub mod grisu;
pub mod hash;
pub mod limits;
pub mod long_double;
pub mod lzf;
pub mod numbers;
pub mod random;
pub mod section;
pub mod size_class;
pub mod slot;
