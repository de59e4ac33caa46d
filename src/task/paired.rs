//! How the decisions of two networks on the same images differ.

use serde::{Deserialize, Serialize};

use super::score::Z_95;

/// How two networks differ in their right decisions on the same images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// Images that only this network decides rightly.
    pub only_here: usize,
    /// Images that only the other network decides rightly.
    pub only_there: usize,
    /// This network's share of right decisions less the other's.
    pub difference: f64,
    /// 95 % confidence interval of the difference.
    pub interval: [f64; 2],
}

/// Compares right decisions image by image, as McNemar's test does (1947, doi 10.1007/BF02295996): only images on which the two
/// differ count. The interval is that of Agresti and Min (2005, Statistics in Medicine 24:729-740), which adds half an image to
/// each of the four outcomes, so that it keeps a width where the two never differ.
pub fn paired(right: &[bool], other: &[bool]) -> Paired {
    let count = |here: bool| right.iter().zip(other).filter(|(one, two)| one != two && **one == here).count();
    let (only_here, only_there) = (count(true), count(false));
    let images = right.len().max(1) as f64;
    let (here, there) = (only_here as f64, only_there as f64);
    let difference = (here - there) / images;
    let all = images + 2.0;
    let middle = (here - there) / all;
    let reach = Z_95 * ((here + there + 1.0) - (here - there).powi(2) / all).sqrt() / all;
    Paired { only_here, only_there, difference, interval: [middle - reach, middle + reach] }
}

/// What two networks decide on the same labelled images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub images: usize,
    /// Share of images on which both decide the same, rightly or not.
    pub agreement: f64,
    /// Their right decisions.
    pub paired: Paired,
}

impl Comparison {
    /// Compares the decisions `here` with those of another network `there`, both in the order of `labels`.
    pub fn of(labels: &[u32], here: &[usize], there: &[usize]) -> Self {
        let right = |decisions: &[usize]| -> Vec<bool> {
            decisions.iter().zip(labels).map(|(class, label)| *class == *label as usize).collect()
        };
        let equal = here.iter().zip(there).filter(|(here, there)| here == there).count();
        Self {
            images: labels.len(),
            agreement: equal as f64 / labels.len().max(1) as f64,
            paired: paired(&right(here), &right(there)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_that_differ_count() {
        let right =
            |wrong: std::ops::Range<usize>| (0..1_000).map(|at| !wrong.contains(&at)).collect::<Vec<_>>();
        let same = paired(&right(0..50), &right(0..50));
        // ± 1.96 · √1 / 1002.
        assert_eq!((same.only_here, same.only_there, same.difference), (0, 0, 0.0));
        assert!((same.interval[1] - 0.001_956).abs() < 1e-6 && same.interval[0] == -same.interval[1]);
        // 20 images are right only here and 5 only there: 15/1002 ± 1.96 · √(26 - 15²/1002) / 1002.
        let differs = paired(&right(20..45), &right(0..40));
        assert_eq!((differs.only_here, differs.only_there), (20, 5));
        assert!((differs.difference - 0.015).abs() < 1e-12);
        assert!((differs.interval[0] - 0.005_039).abs() < 1e-5, "{:?}", differs.interval);
        assert!((differs.interval[1] - 0.024_901).abs() < 1e-5, "{:?}", differs.interval);
    }

    /// Ten images by hand: both are right on four, only the first on three, only the second on one; of the two on which
    /// both are wrong, they decide the same on one.
    #[test]
    fn decisions_are_compared_with_the_labels_and_with_each_other() {
        let labels = [0, 0, 1, 1, 2, 2, 2, 0, 1, 2];
        let here = [0, 0, 1, 1, 2, 2, 2, 1, 0, 0];
        let there = [0, 0, 1, 1, 0, 0, 1, 0, 0, 1];
        let found = Comparison::of(&labels, &here, &there);
        assert_eq!((found.images, found.paired.only_here, found.paired.only_there), (10, 3, 1));
        assert!((found.agreement - 0.5).abs() < 1e-12, "four right and one wrong decision are equal");
        // 2/12 ± 1.96 · √(5 - 2²/12) / 12 = 0.166667 ± 0.352834.
        assert!((found.paired.difference - 0.2).abs() < 1e-12);
        assert!((found.paired.interval[0] + 0.186_167).abs() < 1e-5, "{:?}", found.paired.interval);
        assert!((found.paired.interval[1] - 0.519_501).abs() < 1e-5, "{:?}", found.paired.interval);
        assert_eq!(Comparison::of(&[], &[], &[]).agreement, 0.0);
    }
}
