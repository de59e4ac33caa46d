//! The sizes of a convolution, and how its image is divided into tiles.

use std::ops::Range;

use super::tiles::SIDE;
use super::vector::supported;

/// Image and top left pixel of a tile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub image: usize,
    pub top: usize,
    pub left: usize,
}

/// Sizes of a convolution with a 3×3 kernel, stride 1, padding 1 and no bias, except in the epilogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    /// Input channels: 16, 32, 64 or 128.
    pub inputs: usize,
    /// Output channels: 16, 32, 64 or 128.
    pub outputs: usize,
}

impl Convolution {
    /// Whether the kernels support this machine and these sizes.
    pub fn supported(&self) -> bool {
        let channels = |count| matches!(count, 16 | 32 | 64 | 128);
        supported() && channels(self.inputs) && channels(self.outputs)
    }

    /// Whether at most half of the area of the tiles lies outside the image; otherwise a direct sum is faster.
    pub fn worthwhile(&self) -> bool {
        self.tiles() * SIDE * SIDE <= 2 * self.pixels()
    }

    pub(super) fn pixels(&self) -> usize {
        self.batch * self.height * self.width
    }

    pub(super) fn tiles(&self) -> usize {
        self.batch * self.height.div_ceil(SIDE) * self.width.div_ceil(SIDE)
    }

    /// Places of a range of tiles, in order.
    pub(super) fn places(&self, tiles: Range<usize>) -> impl Iterator<Item = Place> + use<> {
        let (height, width) = (self.height, self.width);
        let (down, across) = (height.div_ceil(SIDE), width.div_ceil(SIDE));
        let first = tiles.start;
        let mut next = Place {
            image: first / (down * across),
            top: first / across % down * SIDE,
            left: first % across * SIDE,
        };
        tiles.map(move |_| {
            let here = next;
            next.left += SIDE;
            if next.left >= width {
                next.left = 0;
                next.top += SIDE;
                if next.top >= height {
                    next.top = 0;
                    next.image += 1;
                }
            }
            here
        })
    }
}
