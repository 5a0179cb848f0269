//! What is wrong with bytes that claim to be a packed value. They come from files, from RESTORE and from peers: all of
//! them strangers, so a reader checks everything once, says what it found and where, and what passed is never doubted again.

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at offset {offset}")]
pub struct Damaged {
    /// Where in the refused bytes.
    pub offset: usize,
    /// What is wrong there.
    pub what: Fault,
}

impl Damaged {
    /// This fault at this offset.
    pub fn at(offset: usize, what: Fault) -> Damaged {
        Damaged { offset, what }
    }
}

/// What can be wrong with packed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no room for the header and the end mark.
    #[error("{0} bytes, too few for a header")]
    TooShort(usize),
    /// The header's total is not the number of bytes given.
    #[error("the header announces {announced} bytes, there are {found}")]
    Total {
        /// By the header.
        announced: u64,
        /// In truth.
        found: usize,
    },
    /// The last byte does not end the value, or an element reaches over it.
    #[error("no end mark")]
    NoEnd,
    /// The end mark stands before the last byte.
    #[error("an end mark before the end")]
    EarlyEnd,
    /// An element begins with a byte that means nothing.
    #[error("no element begins with 0x{0:02x}")]
    Encoding(u8),
    /// An element announces more bytes than are left.
    #[error("an element of {wanted} bytes where {left} are left")]
    CutShort {
        /// Bytes announced.
        wanted: u64,
        /// Bytes left.
        left: usize,
    },
    /// The length that is kept for walking backwards is not that of the element.
    #[error("the length for walking backwards is not the element's, {0} bytes")]
    BackwardLength(usize),
    /// The header's count is not the number of elements.
    #[error("the header announces {announced} elements, there are {found}")]
    Count {
        /// By the header.
        announced: u64,
        /// In truth.
        found: usize,
    },
    /// The header's offset of the last element is wrong.
    #[error("the header says that the last element is at {announced}, it is at {found}")]
    Tail {
        /// By the header.
        announced: u64,
        /// In truth.
        found: usize,
    },
    /// Integers of a width that does not exist.
    #[error("no integers are {0} bytes wide")]
    Width(u32),
    /// The integer is not greater than the one before it.
    #[error("integers out of order")]
    Order,
    /// A field without a value.
    #[error("a field without a value")]
    NoValue,
}
