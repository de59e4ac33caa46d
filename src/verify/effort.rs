//! How much a verification does: how many samples of each kind, and how long it searches, by what one image costs.
//!
//! The numbers depend on the network and on the chosen effort, never on the machine, so that two machines compare the same
//! inputs. Knows no network, only its cost.

/// Multiply-accumulates in float64 that noise may take at normal effort: some ten seconds on two cores.
const NOISE_MACS: u64 = 60_000_000_000;

/// The same in float32 for the pool of samples, and for images.
const POOL_MACS: u64 = 200_000_000_000;
const IMAGES_MACS: u64 = 460_000_000_000;

/// Multiply-accumulates per set of inputs for an engine that runs without its optimiser.
const SLOW_MACS: u64 = 15_000_000_000;

/// The cost that is assumed for a network whose own is not known.
const UNKNOWN: u64 = 4_000_000_000;

/// How thoroughly a file is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Effort {
    /// A verdict on few samples, without a search for adversarial inputs.
    Quick,
    #[default]
    Normal,
    /// More samples and a longer search.
    Thorough,
}

/// Numbers of samples and steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Samples of noise within the range of images.
    pub noise: usize,
    /// Samples of far too small noise, and of far too large noise.
    pub unreal: usize,
    /// Images of a data set.
    pub images: usize,
    /// Samples in the pool from which those with small margins are chosen; 0 for no adversarial inputs.
    pub pool: usize,
    /// Samples with small margins that are kept.
    pub narrow: usize,
    /// Samples from which the search starts, and its steps.
    pub searched: usize,
    pub steps: usize,
    /// Samples of each set for an engine that runs without its optimiser.
    pub slow: usize,
}

impl Effort {
    pub const ALL: [Self; 3] = [Effort::Quick, Effort::Normal, Effort::Thorough];

    /// Its name among options.
    pub fn key(self) -> &'static str {
        match self {
            Effort::Quick => "quick",
            Effort::Normal => "default",
            Effort::Thorough => "thorough",
        }
    }

    /// The amount for a network with these multiply-accumulates for one image; `None` if they are not known.
    pub fn amount(self, macs: Option<u64>) -> Amount {
        let macs = macs.unwrap_or(UNKNOWN).max(1);
        let within = |total: u64, least: usize, most: usize| {
            usize::try_from(total / macs).unwrap_or(usize::MAX).clamp(least, most)
        };
        match self {
            Effort::Quick => Amount {
                noise: within(NOISE_MACS / 8, 2, 8),
                unreal: 2,
                images: within(IMAGES_MACS / 8, 8, 32),
                pool: 0,
                narrow: 0,
                searched: 0,
                steps: 0,
                slow: within(SLOW_MACS / 8, 1, 2),
            },
            Effort::Normal => Amount {
                noise: within(NOISE_MACS, 4, 32),
                unreal: within(NOISE_MACS / 4, 2, 8),
                images: within(IMAGES_MACS, 16, 256),
                pool: within(POOL_MACS, 16, 1024),
                narrow: within(NOISE_MACS, 4, 16),
                searched: within(NOISE_MACS / 4, 1, 4),
                steps: 5,
                slow: within(SLOW_MACS, 1, 8),
            },
            Effort::Thorough => Amount {
                noise: within(8 * NOISE_MACS, 32, 128),
                unreal: 8,
                images: within(8 * IMAGES_MACS, 256, 2048),
                pool: within(8 * POOL_MACS, 64, 1024),
                narrow: within(8 * NOISE_MACS, 16, 64),
                searched: within(2 * NOISE_MACS, 4, 16),
                steps: 15,
                slow: within(8 * SLOW_MACS, 8, 64),
            },
        }
    }
}

impl Default for Amount {
    /// The amount for a small network at normal effort.
    fn default() -> Self {
        Effort::Normal.amount(Some(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_more_gets_fewer_samples() {
        let normal = |macs| Effort::Normal.amount(Some(macs));
        let small = Amount {
            noise: 32,
            unreal: 8,
            images: 256,
            pool: 1024,
            narrow: 16,
            searched: 4,
            steps: 5,
            slow: 8,
        };
        assert_eq!((normal(0), normal(40_000_000), Amount::default()), (small, small, small));
        let resnet50 = normal(4_100_000_000);
        assert_eq!((resnet50.noise, resnet50.pool, resnet50.slow), (14, 48, 3));
        let vgg16 = normal(15_500_000_000);
        assert!(vgg16.noise == 4 && vgg16.searched == 1 && vgg16.slow == 1, "{vgg16:?}");
        for macs in [0, 1_000_000, 4_100_000_000, 1 << 60] {
            let [quick, normal, thorough] = Effort::ALL.map(|effort| effort.amount(Some(macs)));
            assert!(quick.noise <= normal.noise && normal.noise <= thorough.noise, "{macs}");
            assert!(quick.pool == 0 && normal.pool <= thorough.pool && normal.pool > 0, "{macs}");
        }
    }
}
