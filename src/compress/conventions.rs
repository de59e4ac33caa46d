//! How a classifier wants its images: as options or its file say, or the usual way that does best on labelled images.

use anyhow::{Context, Result};

use crate::config::{Device, Prepare};
use crate::contract::{ChannelOrder, Fit, Layout, Normalization, PixelRange, Preparation};
use crate::data::Split;
use crate::error::InputError;
use crate::plan::Classifier;
use crate::task::Score;
use crate::train::{Evaluation, decide};

use super::given::Given;

/// One way to prepare images, and how the classifier does with it.
#[derive(Debug, Clone)]
pub struct Guess {
    pub name: String,
    pub prepare: Prepare,
    pub fit: Fit,
    pub score: Score,
}

/// Mean and deviation of ImageNet's training images on the scale from 0 to 1, red first; nearly every classifier that was
/// trained on photos has them.
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// The ways to prepare images that come into question: the one that is given or recorded, or the usual ones.
pub(super) fn prepares(
    given: &Given,
    classifier: &Classifier,
    channels: usize,
) -> Result<Vec<(String, Prepare)>> {
    if let Some(prepare) = prepare_of(given, channels)? {
        return Ok(vec![("given".into(), prepare)]);
    }
    let Some(recorded) = &classifier.contract.preparation else { return Ok(conventions(channels, given)) };
    let prepare = Prepare {
        mean: recorded.normalization.mean.clone(),
        std: recorded.normalization.std.clone(),
        range: recorded.range,
        order: Some(recorded.order),
    };
    Ok(vec![("recorded in the file".into(), prepare)])
}

/// The fits that are tried besides the data's own: none where one is given or recorded, where a pipeline says how its
/// images are read, and where all of them have the network's size.
pub(super) fn fits(given: &Given, recorded: Option<Fit>, images: &Split) -> Result<&'static [Fit]> {
    let known = given.fit.or(recorded).is_some() || given.data.is_file();
    Ok(if known || images.has_its_size()? { &[] } else { &[Fit::Crop, Fit::Letterbox] })
}

/// How the classifier does with each way and the fit of the images, and with the best of them and each other fit; the best
/// first, and of equal ones, the more common.
pub(super) fn guesses(
    ways: Vec<(String, Prepare)>,
    fits: &[Fit],
    classifier: &Classifier,
    tried: &Split,
) -> Result<Vec<Guess>> {
    let guess = |name: String, prepare: Prepare, images: &Split| -> Result<Guess> {
        let score = decided(classifier, &prepare, images)?.score;
        Ok(Guess { name, prepare, fit: images.fit().unwrap_or_default(), score })
    };
    let better = |a: &Guess, b: &Guess| b.score.compare(&a.score);
    let mut guesses = Vec::new();
    for (name, prepare) in ways {
        guesses.push(guess(name, prepare, tried)?);
    }
    guesses.sort_by(better);
    for &fit in fits {
        let Guess { name, prepare, .. } = guesses.first().context("there is a way to prepare images")?;
        let fitted = guess(format!("{name}, {}", fit.name()), prepare.clone(), &tried.fitted(fit))?;
        guesses.push(fitted);
    }
    guesses.sort_by(better);
    Ok(guesses)
}

/// What the classifier decides on images that are prepared in one way.
pub(super) fn decided(classifier: &Classifier, prepare: &Prepare, images: &Split) -> Result<Evaluation> {
    let prepared = preparation(prepare, ChannelOrder::decoded(prepare.mean.len()));
    let network = classifier.network.in_other_order(&prepared)?;
    decide(&network, Device::Auto, images, &prepared.decoded())
}

/// The preparation that the options give; mean and deviation belong together.
fn prepare_of(given: &Given, channels: usize) -> Result<Option<Prepare>, InputError> {
    let (Some(mean), Some(std)) = (&given.mean, &given.std) else {
        return match (&given.mean, &given.std) {
            (None, None) => Ok(None),
            _ => Err(InputError::new("--mean and --std belong together")
                .hint("give both, one number for each channel")),
        };
    };
    let spread = |values: &[f32]| if values.len() == 1 { vec![values[0]; channels] } else { values.to_vec() };
    let (mean, std) = (spread(mean), spread(std));
    if mean.len() != channels || std.len() != channels || !std.iter().all(|std| *std > 0.0) {
        return Err(InputError::new(format!("--mean and --std do not fit images of {channels} channels"))
            .hint("give one number for each channel, deviations above 0"));
    }
    let order = given.order.or(Some(ChannelOrder::decoded(channels)));
    Ok(Some(Prepare { mean, std, range: given.range.unwrap_or_default(), order }))
}

/// The usual preparations, the most common first.
fn conventions(channels: usize, given: &Given) -> Vec<(String, Prepare)> {
    let (mean, std) = match channels {
        3 => (IMAGENET.0.to_vec(), IMAGENET.1.to_vec()),
        // The grey of ImageNet's means and deviations.
        _ => (vec![0.449; channels], vec![0.226; channels]),
    };
    let byte = |values: &[f32]| values.iter().map(|value| 255.0 * value).collect::<Vec<f32>>();
    let plain = |name: &str, mean: f32, std: f32, range| {
        (name.to_string(), vec![mean; channels], vec![std; channels], range)
    };
    let ranges = [
        ("ImageNet's mean and deviation".to_string(), mean.clone(), std.clone(), PixelRange::Unit),
        plain("0..1", 0.0, 1.0, PixelRange::Unit),
        plain("-1..1", 0.5, 0.5, PixelRange::Unit),
        plain("0..255", 0.0, 1.0, PixelRange::Byte),
        ("0..255 less ImageNet's mean".to_string(), byte(&mean), vec![1.0; channels], PixelRange::Byte),
    ];
    let orders: &[ChannelOrder] =
        if channels == 3 { &[ChannelOrder::Rgb, ChannelOrder::Bgr] } else { &[ChannelOrder::Gray] };
    let mut ways = Vec::new();
    for &order in orders.iter().filter(|order| given.order.is_none_or(|given| given == **order)) {
        for (name, mean, std, range) in
            ranges.iter().filter(|(.., range)| given.range.is_none_or(|given| given == *range))
        {
            let (mut mean, mut std) = (mean.clone(), std.clone());
            let mut name = name.clone();
            if order == ChannelOrder::Bgr {
                mean.reverse();
                std.reverse();
                name += ", blue first";
            }
            ways.push((name, Prepare { mean, std, range: *range, order: Some(order) }));
        }
    }
    ways
}

pub(super) fn preparation(prepare: &Prepare, decoded: ChannelOrder) -> Preparation {
    let normalization = Normalization { mean: prepare.mean.clone(), std: prepare.std.clone() };
    let (order, range) = (prepare.order.unwrap_or(decoded), prepare.range);
    Preparation { order, range, ..Preparation::of(&normalization, Layout::ChannelsFirst) }
}
