//! Stratified cutting of a split in two.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::store::Split;

/// Holds out `share` of every class and returns the remaining and the held-out images, both in the original
/// order. The same seed gives the same cut. A class of two images or more keeps at least one on each side.
pub(super) fn stratified(whole: &Split, share: f64, seed: u64) -> (Split, Split) {
    let mut held = vec![false; whole.len()];
    for (class, mut places) in by_class(whole.labels()).into_iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(class as u64);
        shuffle(&mut places, &mut rng);
        for &place in places.iter().take(cut(places.len(), share)) {
            held[place] = true;
        }
    }
    let (out, stay): (Vec<usize>, Vec<usize>) = (0..whole.len()).partition(|&place| held[place]);
    (whole.pick(&stay), whole.pick(&out))
}

/// Number of images that [`stratified`] holds out.
pub(super) fn held_out(labels: &[u32], share: f64) -> usize {
    by_class(labels).iter().map(|places| cut(places.len(), share)).sum()
}

fn by_class(labels: &[u32]) -> Vec<Vec<usize>> {
    let classes = labels.iter().max().map_or(0, |&label| label as usize + 1);
    let mut places = vec![Vec::new(); classes];
    for (place, &label) in labels.iter().enumerate() {
        places[label as usize].push(place);
    }
    places
}

/// Number of images of a class with so many that [`stratified`] holds out.
pub(super) fn cut(images: usize, share: f64) -> usize {
    let wanted = (images as f64 * share).round() as usize;
    if share <= 0.0 || images < 2 { 0 } else { wanted.clamp(1, images - 1) }
}

/// Fisher–Yates shuffle; its bias is at most 2⁻⁶⁴ · length.
pub(super) fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        let other = (u128::from(rng.next_u64()) * (last as u128 + 1)) >> 64;
        items.swap(last, other as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Store;
    use super::*;

    #[test]
    fn cuts_are_stratified_and_repeatable() {
        let labels: Vec<u32> = (0..90).map(|index| u32::from(index % 3 == 0)).collect();
        let whole = Split::whole(Store::memory([1, 1, 1], vec![0; 90]), labels.clone());
        let (train, held) = stratified(&whole, 0.1, 5);
        assert_eq!((train.len(), held.len()), (81, 9));
        assert_eq!(held.labels().iter().filter(|&&label| label == 1).count(), 3);
        assert_eq!(held_out(&labels, 0.1), 9);
        let mut all: Vec<u32> = train.samples.iter().chain(held.samples.iter()).copied().collect();
        all.sort_unstable();
        assert_eq!(all, (0..90).collect::<Vec<_>>());
        assert_eq!(stratified(&whole, 0.1, 5).1.samples, held.samples);
        assert_ne!(stratified(&whole, 0.1, 6).1.samples, held.samples);
    }
}
