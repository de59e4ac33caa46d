//! Applies a recipe's changes to tensors on any device: on bytes with exactly the same result as in `data`, and
//! mixing on normalised images.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::data::{Change, Mix, Way};
use crate::torch::sent;

/// Changes the bytes of a batch, `[batch, channels, height, width]` of uint8; `changes` has each image's changes,
/// the same kinds for all, and `grey` has the mean of each channel, `[channels]` of uint8.
///
/// # Errors
/// If memory runs out.
pub(super) fn changed(images: Tensor, changes: &[Vec<Change>], grey: &Tensor) -> Result<Tensor> {
    let mut images = images;
    for index in 0..changes.first().map_or(0, Vec::len) {
        let step: Vec<Change> = changes.iter().map(|changes| changes[index]).collect();
        images = match step[0] {
            Change::Crop { .. } => cropped(&images, &step)?,
            Change::Flip { .. } => flipped(&images, &step)?,
            Change::Turn { .. } => turned(&images, &step)?,
            Change::CutOut { .. } => cut_out(&images, &step, grey)?,
        };
    }
    Ok(images)
}

/// Mixes the images of a normalised batch with each other.
///
/// # Errors
/// If memory runs out.
pub(super) fn mixed(images: Tensor, mix: &Mix) -> Result<Tensor> {
    let partners: Vec<i64> = mix.partners.iter().map(|&partner| partner as i64).collect();
    let others = images.f_index_select(0, &sent(&partners, images.device())?)?;
    match &mix.way {
        Way::Blend => {
            let own = images.f_to_kind(Kind::Double)? * mix.share;
            let other = others.f_to_kind(Kind::Double)? * (1.0 - mix.share);
            Ok((own + other).f_to_kind(images.kind())?)
        }
        Way::Paste { rows, columns } => {
            let part = |images: &Tensor| {
                let rows = images.f_narrow(2, rows.start as i64, rows.len() as i64)?;
                anyhow::Ok(rows.f_narrow(3, columns.start as i64, columns.len() as i64)?)
            };
            let images = images.f_detach_copy()?;
            part(&images)?.f_copy_(&part(&others)?)?;
            Ok(images)
        }
    }
}

/// One number per image, as a column `[batch, 1]` on the images' device.
fn column<T: tch::kind::Element>(
    images: &Tensor,
    step: &[Change],
    number: impl Fn(&Change) -> T,
) -> Result<Tensor> {
    let numbers: Vec<T> = step.iter().map(number).collect();
    Ok(sent(&numbers, images.device())?.f_unsqueeze(1)?)
}

/// The places along one side, `[1, side]`.
fn places(side: i64, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_arange(side, (Kind::Int64, device))?.f_unsqueeze(0)?)
}

fn sides(images: &Tensor) -> [i64; 2] {
    let size = images.size();
    [size[2], size[3]]
}

/// The pixels at the given rows and columns of each image, both `[batch, height, width]` or broadcast to it; 0
/// outside the image.
fn taken(images: &Tensor, rows: &Tensor, columns: &Tensor) -> Result<Tensor> {
    let ([height, width], size) = (sides(images), images.size());
    let inside = |at: &Tensor, side: i64| anyhow::Ok(at.f_ge(0)?.f_logical_and(&at.f_lt(side)?)?);
    let within = inside(rows, height)?.f_logical_and(&inside(columns, width)?)?;
    let index = rows.f_clamp(0, height - 1)? * width + columns.f_clamp(0, width - 1)?;
    let index = index.f_reshape([size[0], 1, height * width])?.f_expand([-1, size[1], -1], false)?;
    let taken = images.f_reshape([size[0], size[1], height * width])?.f_gather(2, &index, false)?;
    Ok(taken.f_reshape(&size)? * within.f_unsqueeze(1)?.f_to_kind(images.kind())?)
}

fn cropped(images: &Tensor, step: &[Change]) -> Result<Tensor> {
    let [height, width] = sides(images);
    let start =
        |of: fn(&Change) -> i64, side| anyhow::Ok(column(images, step, of)? + places(side, images.device())?);
    let rows = start(
        |change| match *change {
            Change::Crop { padding, top, .. } => top as i64 - padding as i64,
            Change::Flip { .. } | Change::Turn { .. } | Change::CutOut { .. } => 0,
        },
        height,
    )?;
    let columns = start(
        |change| match *change {
            Change::Crop { padding, left, .. } => left as i64 - padding as i64,
            Change::Flip { .. } | Change::Turn { .. } | Change::CutOut { .. } => 0,
        },
        width,
    )?;
    taken(images, &rows.f_unsqueeze(2)?, &columns.f_unsqueeze(1)?)
}

fn flipped(images: &Tensor, step: &[Change]) -> Result<Tensor> {
    let turn = column(images, step, |change| matches!(change, Change::Flip { flipped: true }))?;
    Ok(images.f_flip([3])?.f_where_self(&turn.f_view([-1, 1, 1, 1])?, images)?)
}

fn turned(images: &Tensor, step: &[Change]) -> Result<Tensor> {
    let [height, width] = sides(images);
    let angle = column(images, step, |change| match *change {
        Change::Turn { radians } => radians,
        Change::Crop { .. } | Change::Flip { .. } | Change::CutOut { .. } => 0.0,
    })?;
    let (sin, cos) = (angle.f_sin()?.f_unsqueeze(2)?, angle.f_cos()?.f_unsqueeze(2)?);
    let middle = [height, width].map(|side| (side as f64 - 1.0) / 2.0);
    let from_middle =
        |side, middle: f64| anyhow::Ok(places(side, images.device())?.f_to_kind(Kind::Double)? - middle);
    let (down, across) =
        (from_middle(height, middle[0])?.f_unsqueeze(2)?, from_middle(width, middle[1])?.f_unsqueeze(1)?);
    let from_row = &cos * &down + middle[0] - &sin * &across;
    let from_column = &sin * &down + middle[1] + &cos * &across;
    let (first_row, first_column) = (from_row.f_floor()?, from_column.f_floor()?);
    let low = (&from_row - &first_row).f_unsqueeze(1)?;
    let right = (&from_column - &first_column).f_unsqueeze(1)?;
    let (row, column) = (first_row.f_to_kind(Kind::Int64)?, first_column.f_to_kind(Kind::Int64)?);
    let at = |down: i64, across: i64| {
        anyhow::Ok(taken(images, &(&row + down), &(&column + across))?.f_to_kind(Kind::Double)?)
    };
    let between = |left: Tensor, other: Tensor| left * (1.0 - &right) + other * &right;
    let upper = between(at(0, 0)?, at(0, 1)?);
    let lower = between(at(1, 0)?, at(1, 1)?);
    let values = upper * (1.0 - &low) + lower * &low;
    let values: Tensor = values + 0.5;
    Ok(values.f_floor()?.f_to_kind(images.kind())?)
}

fn cut_out(images: &Tensor, step: &[Change], grey: &Tensor) -> Result<Tensor> {
    let within = |axis: usize, side: i64| {
        let bound = |end: bool| {
            column(images, step, |change| match *change {
                Change::CutOut { centre, size } if end => (centre[axis] + size - size / 2) as i64,
                Change::CutOut { centre, size } => centre[axis] as i64 - (size / 2) as i64,
                Change::Crop { .. } | Change::Flip { .. } | Change::Turn { .. } => 0,
            })
        };
        let places = places(side, images.device())?;
        anyhow::Ok(places.f_ge_tensor(&bound(false)?)?.f_logical_and(&places.f_lt_tensor(&bound(true)?)?)?)
    };
    let [height, width] = sides(images);
    let square = within(0, height)?.f_unsqueeze(2)?.f_logical_and(&within(1, width)?.f_unsqueeze(1)?)?;
    Ok(grey.f_view([1, -1, 1, 1])?.f_where_self(&square.f_unsqueeze(1)?, images)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 3] = [2, 7, 5];

    /// Compares tensors with `data` on the same bytes.
    #[track_caller]
    fn as_data_does(changes: &[Vec<Change>]) {
        let image: usize = SHAPE.iter().product();
        let bytes: Vec<u8> = (0..changes.len() * image).map(|index| (index * 37 % 251) as u8).collect();
        let size = [changes.len() as i64, 2, 7, 5];
        let tensor = Tensor::from_slice(&bytes).view(size);
        let found = changed(tensor, changes, &Tensor::from_slice(&[3u8, 200])).unwrap();
        assert_eq!(found.size(), size);
        let found: Vec<u8> = Vec::try_from(found.contiguous().view(-1)).unwrap();
        for (index, changes) in changes.iter().enumerate() {
            let expected = crate::data::changed(&bytes[index * image..][..image], SHAPE, changes, &[3, 200]);
            assert_eq!(found[index * image..][..image], expected, "{changes:?}");
        }
    }

    #[test]
    fn changes_are_those_of_data() {
        let crop = |padding, top, left| vec![Change::Crop { padding, top, left }];
        as_data_does(&[crop(2, 0, 0), crop(2, 4, 4), crop(2, 2, 2), crop(2, 1, 3), crop(9, 0, 18)]);
        as_data_does(&[vec![Change::Flip { flipped: true }], vec![Change::Flip { flipped: false }]]);
        let turn = |radians| vec![Change::Turn { radians }];
        as_data_does(&[turn(0.0), turn(0.3), turn(-1.1), turn(std::f64::consts::FRAC_PI_2), turn(3.0)]);
        let cut = |row, column, size| vec![Change::CutOut { centre: [row, column], size }];
        as_data_does(&[cut(0, 0, 4), cut(6, 4, 3), cut(3, 2, 1), cut(3, 2, 99)]);
        let all = |flipped, top| {
            vec![
                Change::Crop { padding: 1, top, left: 2 },
                Change::Flip { flipped },
                Change::Turn { radians: 0.2 },
                Change::CutOut { centre: [top, 3], size: 3 },
            ]
        };
        as_data_does(&[all(true, 0), all(false, 2), all(true, 1)]);
        as_data_does(&[vec![], vec![]]);
    }

    #[test]
    fn images_are_mixed_as_their_labels_are() {
        let labels = [0.0, 1.0, 2.0];
        let images = Tensor::from_slice(&labels.map(|label| [10.0 * label as f32; 40]).concat());
        let images = images.view([3, 2, 4, 5]);
        let paste = Way::Paste { rows: 1..3, columns: 0..4 };
        for (way, share) in [(Way::Blend, 0.3), (paste, 1.0 - 8.0 / 20.0)] {
            let mix = Mix { partners: vec![2, 0, 1], share, way };
            let found = mixed(images.shallow_clone(), &mix).unwrap();
            for (index, label) in labels.iter().enumerate() {
                let expected = 10.0 * (label * share + labels[mix.partners[index]] * (1.0 - share));
                let mean = found.get(index as i64).mean(Kind::Float).double_value(&[]);
                assert!((mean - expected).abs() < 1e-5, "{mix:?}: {mean}, not {expected}");
            }
        }
        assert_eq!(images.double_value(&[1, 0, 0, 0]), 10.0, "the batch itself stays as it was");
        let mix = Mix { partners: vec![2, 0, 1], share: 0.6, way: Way::Paste { rows: 1..3, columns: 0..4 } };
        let found = mixed(images, &mix).unwrap();
        assert_eq!([found.double_value(&[0, 1, 1, 0]), found.double_value(&[0, 1, 1, 4])], [20.0, 0.0]);
        assert_eq!([found.double_value(&[0, 1, 0, 0]), found.double_value(&[0, 1, 3, 3])], [0.0, 0.0]);
    }
}
