//! The sizes that the allocator really gives out, so that we ask for exactly these.
//!
//! jemalloc rounds every request up to a *size class*: 8, then multiples of 16 up to 128, then four steps for each
//! doubling (160, 192, 224, 256, 320, ...). Asking for the whole class makes the slack ours: an entry that grows within
//! its class is changed in place, a page of the table gets as many places as fit, and the memory account is exact
//! without asking the allocator. The rule is documented in jemalloc's manual (`SIZE CLASSES`, quantum 16). With another
//! allocator all of this stays correct, only less tight.

/// The size class that a request of `bytes` (not 0) falls into.
#[inline]
pub const fn size_class(bytes: usize) -> usize {
    if bytes <= 8 {
        8
    } else if bytes <= 128 {
        (bytes + 15) & !15
    } else {
        // Between 2^n and 2^(n+1) the step is 2^(n-2).
        let step = 1 << ((bytes - 1).ilog2() - 2);
        (bytes + step - 1) & !(step - 1)
    }
}

/// What an allocation of `bytes` takes: its size class, or nothing if there is no allocation at all.
#[inline]
pub const fn allocated(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { size_class(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_jemalloc() {
        let expected = [
            8, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 896, 1024, 1280,
            1536, 1792, 2048, 2560, 3072, 3584, 4096, 5120, 6144, 7168, 8192, 10240, 12288, 14336, 16384, 20480, 24576,
        ];
        let mut below = 0;
        for class in expected {
            for bytes in below + 1..=class {
                assert_eq!(size_class(bytes), class, "of {bytes}");
            }
            below = class;
        }
        assert_eq!(allocated(0), 0);
        assert_eq!(allocated(1), 8);
    }
}
