//! Which key a request asks for: uniform, or Zipf with any exponent above zero.
//!
//! Key number 0 is the most popular one under Zipf, 1 the next, and so on. The numbers are not scrambled: a hot key
//! can be named when the result is looked at, and a server that places keys by hash spreads neighbours anyway.
//!
//! Zipf is drawn by rejection-inversion (W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates from
//! monotone discrete distributions", ACM TOMACS 6(3), 1996). The obvious alternative, a table of cumulated
//! probabilities, costs a cache miss for each draw and memory in proportion to the key space, and the approximation
//! that is customary in YCSB needs a sum over all keys at the start and does not exist for an exponent of 1 or more.
//! Rejection-inversion is exact, needs no table, and accepts the first candidate in most cases.
//!
//! Invariants:
//! 1. A draw from a space of `n` keys is in `0..n`.
//! 2. The sequence of draws is a function of the generator's seed alone.

use fastrand::Rng;

/// How the numbers of keys are drawn.
#[derive(Debug, Clone)]
pub enum KeyDistribution {
    /// Every key is as likely as any other.
    Uniform {
        /// Size of the key space.
        key_count: u64,
    },
    /// The key of rank `k` (from 1) has a probability in proportion to `k^-theta`.
    Zipf(Zipf),
}

impl KeyDistribution {
    /// Draws the number of a key.
    #[inline]
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        match self {
            KeyDistribution::Uniform { key_count } => rng.u64(..*key_count),
            KeyDistribution::Zipf(zipf) => zipf.draw(rng),
        }
    }
}

/// Zipf's distribution over `1..=n`, shifted to `0..n`.
#[derive(Debug, Clone)]
pub struct Zipf {
    key_count: u64,
    theta: f64,
    /// Integral of the density up to 1.5, less the mass of rank 1: the lower end of what is inverted.
    area_low: f64,
    /// Integral up to n + 0.5: the upper end.
    area_high: f64,
    /// Candidates this close to their rank are accepted without evaluating the density.
    shortcut: f64,
}

impl Zipf {
    /// A distribution over `key_count` keys with exponent `theta`; both must be above zero.
    pub fn new(key_count: u64, theta: f64) -> Zipf {
        assert!(key_count > 0, "a key space has at least one key");
        assert!(theta > 0.0 && theta.is_finite(), "Zipf's exponent is positive");
        Zipf {
            key_count,
            theta,
            area_low: area(1.5, theta) - 1.0,
            area_high: area(key_count as f64 + 0.5, theta),
            shortcut: 2.0 - area_inverse(area(2.5, theta) - density(2.0, theta), theta),
        }
    }

    /// Draws the number of a key, 0 being the most popular.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        loop {
            let target = self.area_high + rng.f64() * (self.area_low - self.area_high);
            let position = area_inverse(target, self.theta);
            // The cast saturates, so that a position that rounding errors have pushed outside is clamped by the bounds.
            let rank = ((position + 0.5) as u64).clamp(1, self.key_count);
            let rank_real = rank as f64;
            if rank_real - position <= self.shortcut
                || target >= area(rank_real + 0.5, self.theta) - density(rank_real, self.theta)
            {
                return rank - 1;
            }
        }
    }
}

/// The density `x^-theta`.
fn density(x: f64, theta: f64) -> f64 {
    (-theta * x.ln()).exp()
}

/// An antiderivative of the density: `(x^(1-theta) - 1) / (1-theta)`, which tends to `ln x` as theta tends to 1.
/// `exp_m1` keeps the digits that the plain formula would lose near 1.
fn area(x: f64, theta: f64) -> f64 {
    let complement = 1.0 - theta;
    if complement == 0.0 {
        x.ln()
    } else {
        (complement * x.ln()).exp_m1() / complement
    }
}

/// The inverse of [`area`].
fn area_inverse(y: f64, theta: f64) -> f64 {
    let complement = 1.0 - theta;
    if complement == 0.0 {
        y.exp()
    } else {
        // Rounding may push the argument just below -1, where the logarithm does not exist.
        ((y * complement).max(-1.0).ln_1p() / complement).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frequencies(distribution: &KeyDistribution, key_count: usize, draws: usize) -> Vec<f64> {
        let mut rng = Rng::with_seed(7);
        let mut counts = vec![0u64; key_count];
        for _ in 0..draws {
            counts[distribution.draw(&mut rng) as usize] += 1;
        }
        counts.iter().map(|&count| count as f64 / draws as f64).collect()
    }

    #[test]
    fn zipf_agrees_with_the_exact_probabilities() {
        for theta in [0.2, 0.5, 0.99, 1.0, 1.2, 2.5] {
            let key_count = 50;
            let weights: Vec<f64> = (1..=key_count).map(|rank| (rank as f64).powf(-theta)).collect();
            let total: f64 = weights.iter().sum();
            let draws = 400_000;
            let seen = frequencies(
                &KeyDistribution::Zipf(Zipf::new(key_count, theta)),
                key_count as usize,
                draws,
            );
            for (rank, weight) in weights.iter().enumerate() {
                let expected = weight / total;
                // Six standard deviations of a binomial frequency: the seed is fixed, so this never flickers.
                let allowed = 6.0 * (expected / draws as f64).sqrt();
                assert!(
                    (seen[rank] - expected).abs() < allowed,
                    "theta {theta} rank {rank}: {} instead of {expected}",
                    seen[rank]
                );
            }
        }
    }

    #[test]
    fn uniform_reaches_every_key_about_as_often() {
        let seen = frequencies(&KeyDistribution::Uniform { key_count: 20 }, 20, 200_000);
        for share in seen {
            assert!((share - 0.05).abs() < 0.005, "{share}");
        }
    }

    #[test]
    fn draws_stay_inside_the_key_space() {
        for key_count in [1, 2, 3, 1_000_000_007, u64::MAX / 4] {
            for theta in [0.01, 0.99, 1.0, 5.0] {
                let zipf = Zipf::new(key_count, theta);
                let mut rng = Rng::with_seed(key_count);
                for _ in 0..2_000 {
                    assert!(zipf.draw(&mut rng) < key_count);
                }
            }
        }
    }

    #[test]
    fn the_seed_decides_the_sequence() {
        let zipf = Zipf::new(1000, 0.99);
        let sequence = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..100).map(|_| zipf.draw(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(sequence(1), sequence(1));
        assert_ne!(sequence(1), sequence(2));
    }
}
