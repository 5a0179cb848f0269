//! The digits by which Redis 7.2 prints a double: those of Grisu2, which read back as the same double.
//!
//! They are the fewest nearly always, and where several texts of that length read back, not always the nearest one:
//! 1155586661879542.25 is `1155586661879542.3` to Redis, where a correctly rounding printer (ryu) says `...542.2`. A score is
//! compared as text by clients and by whoever reads a log or a payload, so the digits have to be Redis's, not better ones.
//!
//! The algorithm: F. Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with Integers", PLDI 2010, in the form that
//! Redis has. A double lies in the middle of an interval of numbers that read back as it. Interval and double are scaled by
//! a cached power of ten so that the integer part has few digits; digits of the upper bound are generated until what is left is
//! within the interval, and then the last one is moved towards the double.

/// The most digits that come out.
pub const DIGIT_COUNT_MAX: usize = 18;

const FRACTION_BITS: i32 = 52;
const HIDDEN_BIT: u64 = 1 << FRACTION_BITS;
const EXPONENT_BIAS: i32 = 1023 + FRACTION_BITS;

/// A number `fraction * 2^exponent`.
#[derive(Clone, Copy)]
struct Scaled {
    fraction: u64,
    exponent: i32,
}

impl Scaled {
    /// A positive number.
    fn of(value: f64) -> Scaled {
        let bits = value.to_bits();
        let fraction = bits & (HIDDEN_BIT - 1);
        match (bits >> FRACTION_BITS & 0x7ff) as i32 {
            0 => Scaled {
                fraction,
                exponent: 1 - EXPONENT_BIAS,
            },
            exponent => Scaled {
                fraction: fraction + HIDDEN_BIT,
                exponent: exponent - EXPONENT_BIAS,
            },
        }
    }

    /// With the highest bit set.
    fn normalized(self) -> Scaled {
        let shift = self.fraction.leading_zeros();
        Scaled {
            fraction: self.fraction << shift,
            exponent: self.exponent - shift as i32,
        }
    }

    /// The middles between this number, as a double, and those next to it: below and above, with the exponent of the one above.
    fn bounds(self) -> (Scaled, Scaled) {
        let above = Scaled {
            fraction: (self.fraction << 1) + 1,
            exponent: self.exponent - 1,
        }
        .normalized();
        // Below a power of two the doubles are closer together.
        let shift = if self.fraction == HIDDEN_BIT { 2 } else { 1 };
        let exponent = self.exponent - shift;
        let below = ((self.fraction << shift) - 1) << (exponent - above.exponent);
        let below = Scaled {
            fraction: below,
            exponent: above.exponent,
        };
        (below, above)
    }

    /// The upper half of the product, rounded.
    fn times(self, other: Scaled) -> Scaled {
        let product = u128::from(self.fraction) * u128::from(other.fraction) + (1 << 63);
        Scaled {
            fraction: (product >> 64) as u64,
            exponent: self.exponent + other.exponent + 64,
        }
    }
}

/// Writes the digits of a positive finite number; how many they are, and the power of ten by which they are to be multiplied.
pub fn digits(value: f64, out: &mut [u8; DIGIT_COUNT_MAX]) -> (usize, i32) {
    let exact = Scaled::of(value);
    let (below, above) = exact.bounds();
    let (power, exponent) = power_for(above.exponent);
    let (exact, mut below, mut above) = (exact.normalized().times(power), below.times(power), above.times(power));
    // The products are wrong by less than one: what lies within by so much reads back for sure.
    below.fraction += 1;
    above.fraction -= 1;
    let (count, more) = generate(exact, below, above, out);
    (count, more - exponent)
}

fn generate(exact: Scaled, below: Scaled, above: Scaled, out: &mut [u8; DIGIT_COUNT_MAX]) -> (usize, i32) {
    let shift = -above.exponent;
    let one = 1u64 << shift;
    let wanted = above.fraction - exact.fraction;
    let mut delta = above.fraction - below.fraction;
    let (mut whole, mut rest) = (above.fraction >> shift, above.fraction & (one - 1));
    let mut count = 0;
    let mut push = |digit: u64, count: &mut usize| {
        if digit != 0 || *count > 0 {
            out[*count] = b'0' + digit as u8;
            *count += 1;
        }
    };
    for place in (0..10u32).rev() {
        let unit = 10u64.pow(place);
        push(whole / unit, &mut count);
        whole %= unit;
        let left = (whole << shift) + rest;
        if left <= delta {
            approach(&mut out[count - 1], delta, left, unit << shift, wanted);
            return (count, place as i32);
        }
    }
    let (mut place, mut scale) = (0, 1u64);
    loop {
        rest *= 10;
        delta *= 10;
        scale = scale.wrapping_mul(10);
        place -= 1;
        push(rest >> shift, &mut count);
        rest &= one - 1;
        if rest < delta {
            approach(&mut out[count - 1], delta, rest, one, wanted.wrapping_mul(scale));
            return (count, place);
        }
    }
}

/// Lowers the last digit as long as that leads nearer to the double and not out of the interval.
fn approach(digit: &mut u8, delta: u64, mut left: u64, unit: u64, wanted: u64) {
    while left < wanted && delta - left >= unit && (left + unit < wanted || wanted - left > left + unit - wanted) {
        *digit -= 1;
        left += unit;
    }
}

/// The power of ten that brings a number with this binary exponent to one from -60 to -32, and its decimal exponent.
fn power_for(exponent: i32) -> (Scaled, i32) {
    const LOG_10_OF_2: f64 = 0.301_029_995_663_981_14;
    let approximate = (f64::from(-(exponent + POWERS.len() as i32)) * LOG_10_OF_2) as i32;
    let mut index = ((approximate - FIRST_POWER) / POWER_STEP) as usize;
    loop {
        let (fraction, binary) = POWERS[index];
        match exponent + binary + 64 {
            ..-60 => index += 1,
            -60..=-32 => {
                let power = Scaled {
                    fraction,
                    exponent: binary,
                };
                return (power, FIRST_POWER + index as i32 * POWER_STEP);
            }
            _ => index -= 1,
        }
    }
}

const FIRST_POWER: i32 = -348;
const POWER_STEP: i32 = 8;

/// 10^-348, 10^-340 ... 10^340: fractions of 64 bits, rounded, and binary exponents.
#[rustfmt::skip]
const POWERS: [(u64, i32); 87] = [
    (0xfa8fd5a0081c0288, -1220),
    (0xbaaee17fa23ebf76, -1193),
    (0x8b16fb203055ac76, -1166),
    (0xcf42894a5dce35ea, -1140),
    (0x9a6bb0aa55653b2d, -1113),
    (0xe61acf033d1a45df, -1087),
    (0xab70fe17c79ac6ca, -1060),
    (0xff77b1fcbebcdc4f, -1034),
    (0xbe5691ef416bd60c, -1007),
    (0x8dd01fad907ffc3c, -980),
    (0xd3515c2831559a83, -954),
    (0x9d71ac8fada6c9b5, -927),
    (0xea9c227723ee8bcb, -901),
    (0xaecc49914078536d, -874),
    (0x823c12795db6ce57, -847),
    (0xc21094364dfb5637, -821),
    (0x9096ea6f3848984f, -794),
    (0xd77485cb25823ac7, -768),
    (0xa086cfcd97bf97f4, -741),
    (0xef340a98172aace5, -715),
    (0xb23867fb2a35b28e, -688),
    (0x84c8d4dfd2c63f3b, -661),
    (0xc5dd44271ad3cdba, -635),
    (0x936b9fcebb25c996, -608),
    (0xdbac6c247d62a584, -582),
    (0xa3ab66580d5fdaf6, -555),
    (0xf3e2f893dec3f126, -529),
    (0xb5b5ada8aaff80b8, -502),
    (0x87625f056c7c4a8b, -475),
    (0xc9bcff6034c13053, -449),
    (0x964e858c91ba2655, -422),
    (0xdff9772470297ebd, -396),
    (0xa6dfbd9fb8e5b88f, -369),
    (0xf8a95fcf88747d94, -343),
    (0xb94470938fa89bcf, -316),
    (0x8a08f0f8bf0f156b, -289),
    (0xcdb02555653131b6, -263),
    (0x993fe2c6d07b7fac, -236),
    (0xe45c10c42a2b3b06, -210),
    (0xaa242499697392d3, -183),
    (0xfd87b5f28300ca0e, -157),
    (0xbce5086492111aeb, -130),
    (0x8cbccc096f5088cc, -103),
    (0xd1b71758e219652c, -77),
    (0x9c40000000000000, -50),
    (0xe8d4a51000000000, -24),
    (0xad78ebc5ac620000, 3),
    (0x813f3978f8940984, 30),
    (0xc097ce7bc90715b3, 56),
    (0x8f7e32ce7bea5c70, 83),
    (0xd5d238a4abe98068, 109),
    (0x9f4f2726179a2245, 136),
    (0xed63a231d4c4fb27, 162),
    (0xb0de65388cc8ada8, 189),
    (0x83c7088e1aab65db, 216),
    (0xc45d1df942711d9a, 242),
    (0x924d692ca61be758, 269),
    (0xda01ee641a708dea, 295),
    (0xa26da3999aef774a, 322),
    (0xf209787bb47d6b85, 348),
    (0xb454e4a179dd1877, 375),
    (0x865b86925b9bc5c2, 402),
    (0xc83553c5c8965d3d, 428),
    (0x952ab45cfa97a0b3, 455),
    (0xde469fbd99a05fe3, 481),
    (0xa59bc234db398c25, 508),
    (0xf6c69a72a3989f5c, 534),
    (0xb7dcbf5354e9bece, 561),
    (0x88fcf317f22241e2, 588),
    (0xcc20ce9bd35c78a5, 614),
    (0x98165af37b2153df, 641),
    (0xe2a0b5dc971f303a, 667),
    (0xa8d9d1535ce3b396, 694),
    (0xfb9b7cd9a4a7443c, 720),
    (0xbb764c4ca7a44410, 747),
    (0x8bab8eefb6409c1a, 774),
    (0xd01fef10a657842c, 800),
    (0x9b10a4e5e9913129, 827),
    (0xe7109bfba19c0c9d, 853),
    (0xac2820d9623bf429, 880),
    (0x80444b5e7aa7cf85, 907),
    (0xbf21e44003acdd2d, 933),
    (0x8e679c2f5e44ff8f, 960),
    (0xd433179d9c8cb841, 986),
    (0x9e19db92b4e31ba9, 1013),
    (0xeb96bf6ebadf77d9, 1039),
    (0xaf87023b9bf0ee6b, 1066),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let mut out = [0; DIGIT_COUNT_MAX];
        let (count, exponent) = digits(value, &mut out);
        format!("{}e{exponent}", String::from_utf8_lossy(&out[..count]))
    }

    #[test]
    fn redis_prints_these() {
        // ZSCORE, redis-server 8.2.3 and valkey-server 9.1.2.
        for (value, expected) in [
            (1155586661879542.0 + 0.25, "11555866618795423e-1"),
            (5e-324, "5e-324"),
            (1.7976931348623157e308, "17976931348623157e292"),
            (0.1, "1e-1"),
            (0.30000000000000004, "30000000000000004e-17"),
            (1e21, "1e21"),
            (123456789012345680.0, "12345678901234568e1"),
            (2.2250738585072014e-308, "22250738585072014e-324"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn all_digits_read_back() {
        let mut random = fastrand::Rng::with_seed(29);
        for _ in 0..200_000 {
            let value = f64::from_bits(random.u64(..) >> 1);
            if value.is_finite() && value > 0.0 {
                assert_eq!(text(value).parse(), Ok(value), "{value:e}");
            }
        }
    }
}
