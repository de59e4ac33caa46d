//! Relational knowledge (Park et al. 2019; arXiv 2101.08471): how the distances and the angles within a batch
//! differ between two embeddings, with gradients derived by hand.
//!
//! Embeddings are `[batch, features]`, of any width, because relations do not depend on it. The angles are
//! `batch³` numbers: they are computed block by block and never all held at once.

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::plan::{ANGLE_BLOCK, angle_vertices};

/// Floats in one block of cosines on a GPU, where few large operations are better than many small ones.
const BLOCK_ON_GPU: usize = 1 << 24;

/// A comparison in which one embedding learns from another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Index of the embedding that receives the gradient.
    pub learner: usize,
    pub other: usize,
    /// Weight of the distance term.
    pub distance: f64,
    /// Weight of the angle term.
    pub angle: f64,
}

/// The terms of one comparison, without their weights.
#[derive(Debug)]
pub struct Difference {
    /// Mean Huber difference (delta 1) of `d_uv / mu` over all ordered pairs.
    pub distance: Tensor,
    /// Mean Huber difference (delta 1) of the cosines over all ordered triplets.
    pub angle: Tensor,
}

/// Compares embeddings: returns the terms of every comparison and, per embedding, the gradient of the weighted
/// sum of the comparisons in which it learns.
///
/// # Errors
/// If memory runs out.
pub fn compare(
    embeddings: &[Tensor],
    comparisons: &[Comparison],
) -> Result<(Vec<Difference>, Vec<Option<Tensor>>)> {
    let _no_grad = tch::no_grad_guard();
    let pairs = pairs(comparisons);
    let mut gradients: Vec<Option<Tensor>> = embeddings.iter().map(|_| None).collect();
    let zero = Tensor::f_zeros([], (Kind::Double, embeddings[0].device()))?;
    let distance = match comparisons.iter().any(|one| one.distance > 0.0) {
        true => distances(embeddings, &pairs, &mut gradients)?,
        false => pairs.iter().map(|_| zero.shallow_clone()).collect(),
    };
    let angle = match comparisons.iter().any(|one| one.angle > 0.0) {
        true => angles(embeddings, &pairs, &mut gradients)?,
        false => pairs.iter().map(|_| zero.shallow_clone()).collect(),
    };
    let of = |one: &Comparison| {
        let index = pairs.iter().position(|pair| pair.is(one.learner, one.other)).unwrap_or(0);
        Difference { distance: distance[index].shallow_clone(), angle: angle[index].shallow_clone() }
    };
    Ok((comparisons.iter().map(of).collect(), gradients))
}

/// Two embeddings, with the weights of each one's learning from the other: their terms are the same, and their
/// gradients are opposite.
struct Pair {
    members: [usize; 2],
    distance: [f64; 2],
    angle: [f64; 2],
}

impl Pair {
    fn is(&self, one: usize, other: usize) -> bool {
        self.members == [one, other] || self.members == [other, one]
    }
}

fn pairs(comparisons: &[Comparison]) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = Vec::new();
    for one in comparisons {
        let index = pairs.iter().position(|pair| pair.is(one.learner, one.other)).unwrap_or_else(|| {
            pairs.push(Pair { members: [one.learner, one.other], distance: [0.0; 2], angle: [0.0; 2] });
            pairs.len() - 1
        });
        let pair = &mut pairs[index];
        let side = usize::from(pair.members[0] != one.learner);
        pair.distance[side] += one.distance;
        pair.angle[side] += one.angle;
    }
    pairs
}

/// Embeddings to which some pair gives a weight.
fn learners(count: usize, pairs: &[Pair], weights: impl Fn(&Pair) -> [f64; 2]) -> Vec<bool> {
    let mut learns = vec![false; count];
    for pair in pairs {
        for (member, weight) in pair.members.into_iter().zip(weights(pair)) {
            learns[member] |= weight > 0.0;
        }
    }
    learns
}

fn accumulate(sum: &mut Option<Tensor>, more: Tensor) -> Result<()> {
    *sum = Some(match sum.take() {
        Some(mut sum) => sum.f_add_(&more)?,
        None => more,
    });
    Ok(())
}

/// The sum of Huber differences of two tensors, and its derivative: the difference, clamped to ±1.
fn huber(one: &Tensor, other: &Tensor) -> Result<(Tensor, Tensor)> {
    let difference = one.f_sub(other)?;
    let slope = difference.f_clamp(-1.0, 1.0)?;
    let (flat_slope, flat) = (slope.f_reshape([-1])?, difference.f_reshape([-1])?);
    let value = flat_slope.f_dot(&flat)? - flat_slope.f_dot(&flat_slope)? * 0.5;
    Ok((value.f_to_kind(Kind::Double)?, slope))
}

/// Distances divided by their positive mean, and the backward pass through both.
struct Distances {
    distances: Tensor,
    mean: Tensor,
    /// Number of positive distances.
    positive: Tensor,
    normalised: Tensor,
}

impl Distances {
    /// `cdist` without its matrix product, with which the diagonal would not be zero.
    fn of(embedding: &Tensor) -> Result<Self> {
        let distances = Tensor::f_cdist(embedding, embedding, 2.0, 2)?;
        let positive = distances.f_gt(0.0)?.f_sum(distances.kind())?.f_clamp_min(1.0)?;
        let mean = distances.f_sum(distances.kind())? / &positive;
        let mean = mean.f_where_self(&mean.f_gt(0.0)?, &mean.f_ones_like()?)?;
        let normalised = &distances / &mean;
        Ok(Self { distances, mean, positive, normalised })
    }

    /// Turns the gradient of the normalised distances, which is symmetric, into that of the embedding.
    fn back(&self, gradient: &Tensor, embedding: &Tensor) -> Result<Tensor> {
        let none = self.distances.f_eq(0.0)?;
        // The mean passes the same gradient to every positive distance; zeros are masked below.
        let by_mean =
            (gradient * &self.distances).f_sum(gradient.kind())? / (&self.mean * &self.mean * &self.positive);
        let gradient = gradient / &self.mean - by_mean;
        let pull = (gradient / &self.distances).f_masked_fill(&none, 0.0)? * 2.0;
        let total = pull.f_sum_dim_intlist(&[1i64][..], true, None)?;
        Ok(total * embedding - pull.f_matmul(embedding)?)
    }
}

fn distances(embeddings: &[Tensor], pairs: &[Pair], gradients: &mut [Option<Tensor>]) -> Result<Vec<Tensor>> {
    let all = embeddings.iter().map(Distances::of).collect::<Result<Vec<_>>>()?;
    let count = all[0].distances.numel() as f64;
    let mut slopes: Vec<Option<Tensor>> = embeddings.iter().map(|_| None).collect();
    let mut values = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let [one, other] = pair.members;
        let (value, slope) = huber(&all[one].normalised, &all[other].normalised)?;
        values.push(value / count);
        for (member, weight) in [(one, pair.distance[0]), (other, -pair.distance[1])] {
            if weight != 0.0 {
                accumulate(&mut slopes[member], &slope * (weight / count))?;
            }
        }
    }
    for (member, slope) in slopes.into_iter().enumerate() {
        if let Some(slope) = slope {
            accumulate(&mut gradients[member], all[member].back(&slope, &embeddings[member])?)?;
        }
    }
    Ok(values)
}

/// The directions from some vertices to all samples, and their cosines. Between identical samples there is no
/// direction: the cosine is 0 and has no gradient.
struct Directions {
    /// `[vertices, batch, 1]`; 0 where there is no direction.
    inverse_lengths: Tensor,
    /// `[vertices, batch, features]`.
    directions: Tensor,
    /// `[vertices, batch, batch]`.
    cosines: Tensor,
}

impl Directions {
    fn of(embedding: &Tensor, first: i64, vertices: i64) -> Result<Self> {
        let corners = embedding.f_narrow(0, first, vertices)?.f_unsqueeze(1)?;
        let differences = embedding.f_unsqueeze(0)? - corners;
        let squares = (&differences * &differences).f_sum_dim_intlist(&[2i64][..], true, None)?;
        let inverse_lengths = squares.f_rsqrt()?.f_masked_fill(&squares.f_eq(0.0)?, 0.0)?;
        let directions = differences * &inverse_lengths;
        let cosines = directions.f_bmm(&directions.f_transpose(1, 2)?)?;
        Ok(Self { inverse_lengths, directions, cosines })
    }

    /// Adds to `gradient`, `[batch, features]`, the part that comes from the gradient of the cosines, which
    /// is symmetric in its last two dimensions.
    fn back(&self, cosines: &Tensor, first: i64, gradient: &mut Tensor) -> Result<()> {
        let along = cosines.f_bmm(&self.directions)? * 2.0;
        let radial = (&along * &self.directions).f_sum_dim_intlist(&[2i64][..], true, None)?;
        let across = (along - &self.directions * radial) * &self.inverse_lengths;
        *gradient = gradient.f_add_(&across.f_sum_dim_intlist(&[0i64][..], false, None)?)?;
        let corners = across.f_sum_dim_intlist(&[1i64][..], false, None)?;
        let mut target = gradient.f_narrow(0, first, corners.size()[0])?;
        let _ = target.f_sub_(&corners)?;
        Ok(())
    }
}

fn angles(embeddings: &[Tensor], pairs: &[Pair], gradients: &mut [Option<Tensor>]) -> Result<Vec<Tensor>> {
    let batch = embeddings[0].size()[0];
    let count = (batch * batch * batch) as f64;
    let floats = if embeddings[0].device() == Device::Cpu { ANGLE_BLOCK } else { BLOCK_ON_GPU };
    let step = angle_vertices(batch as usize, floats);
    let learns = learners(embeddings.len(), pairs, |pair| pair.angle);
    let mut values = Vec::with_capacity(pairs.len());
    for _ in pairs {
        values.push(Tensor::f_zeros([], (Kind::Double, embeddings[0].device()))?);
    }
    let mut sums = embeddings.iter().map(Tensor::f_zeros_like).collect::<Result<Vec<_>, _>>()?;
    for first in (0..batch).step_by(step) {
        let vertices = (step as i64).min(batch - first);
        let block = |embedding: &Tensor| Directions::of(embedding, first, vertices);
        let all = embeddings.iter().map(block).collect::<Result<Vec<_>>>()?;
        let mut slopes: Vec<Option<Tensor>> = embeddings.iter().map(|_| None).collect();
        for (pair, value) in pairs.iter().zip(&mut values) {
            let [one, other] = pair.members;
            let (more, slope) = huber(&all[one].cosines, &all[other].cosines)?;
            *value = value.f_add_(&(more / count))?;
            for (member, weight) in [(one, pair.angle[0]), (other, -pair.angle[1])] {
                if weight != 0.0 {
                    accumulate(&mut slopes[member], &slope * (weight / count))?;
                }
            }
        }
        for ((directions, slope), sum) in all.iter().zip(slopes).zip(&mut sums) {
            if let Some(slope) = slope {
                directions.back(&slope, first, sum)?;
            }
        }
    }
    for ((sum, learns), gradient) in sums.into_iter().zip(learns).zip(gradients) {
        if learns {
            accumulate(gradient, sum)?;
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<Vec<f64>>;

    /// Rows of different widths that, in `rows`, contain one sample twice.
    fn rows(count: usize, width: usize, seed: u64) -> Rows {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64 / f64::from(1 << 23) - 1.0
        };
        (0..count).map(|_| (0..width).map(|_| next()).collect()).collect()
    }

    fn tensor(rows: &Rows) -> Tensor {
        let flat: Vec<f64> = rows.iter().flatten().copied().collect();
        Tensor::from_slice(&flat).view([rows.len() as i64, rows[0].len() as i64])
    }

    fn plain_huber(difference: f64) -> f64 {
        if difference.abs() < 1.0 { 0.5 * difference * difference } else { difference.abs() - 0.5 }
    }

    fn plain_distances(rows: &Rows) -> Rows {
        let between =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
        let all: Rows = rows.iter().map(|a| rows.iter().map(|b| between(a, b)).collect()).collect();
        let positive: Vec<f64> = all.iter().flatten().copied().filter(|d| *d > 0.0).collect();
        let mean = positive.iter().sum::<f64>() / positive.len() as f64;
        all.into_iter().map(|row| row.into_iter().map(|d| d / mean).collect()).collect()
    }

    fn plain_angle(rows: &Rows, u: usize, v: usize, w: usize) -> f64 {
        let direction = |to: usize| {
            let d: Vec<f64> = rows[to].iter().zip(&rows[u]).map(|(to, from)| to - from).collect();
            let length = d.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length == 0.0 { vec![0.0; d.len()] } else { d.iter().map(|x| x / length).collect() }
        };
        direction(v).iter().zip(direction(w)).map(|(a, b)| a * b).sum()
    }

    /// The distance and the angle term by their definition.
    fn plain(student: &Rows, peer: &Rows) -> [f64; 2] {
        let count = student.len();
        let (ds, dp) = (plain_distances(student), plain_distances(peer));
        let (mut distance, mut angle) = (0.0, 0.0);
        for u in 0..count {
            for v in 0..count {
                distance += plain_huber(ds[u][v] - dp[u][v]);
                for w in 0..count {
                    angle += plain_huber(plain_angle(student, u, v, w) - plain_angle(peer, u, v, w));
                }
            }
        }
        let count = count as f64;
        [distance / (count * count), angle / (count * count * count)]
    }

    fn cohort() -> [Rows; 3] {
        let mut first = rows(7, 3, 1);
        first[4] = first[2].clone();
        // Far apart in one coordinate, so that some differences leave Huber's quadratic range.
        let mut second = rows(7, 5, 2);
        second[0][0] += 9.0;
        [first, second, rows(7, 2, 3)]
    }

    const COMPARISONS: [Comparison; 3] = [
        Comparison { learner: 0, other: 1, distance: 0.7, angle: 1.3 },
        Comparison { learner: 1, other: 0, distance: 0.2, angle: 0.0 },
        Comparison { learner: 0, other: 2, distance: 0.0, angle: 2.1 },
    ];

    #[test]
    fn terms_are_the_plain_sums() {
        let rows = cohort();
        let embeddings = rows.each_ref().map(tensor);
        let (found, gradients) = compare(&embeddings, &COMPARISONS).unwrap();
        for (comparison, found) in COMPARISONS.iter().zip(found) {
            let [distance, angle] = plain(&rows[comparison.learner], &rows[comparison.other]);
            assert!((found.distance.double_value(&[]) - distance).abs() < 1e-12, "{comparison:?}");
            assert!((found.angle.double_value(&[]) - angle).abs() < 1e-12, "{comparison:?}");
        }
        assert!(gradients[2].is_none());
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let rows = cohort();
        let (_, gradients) = compare(&rows.each_ref().map(tensor), &COMPARISONS).unwrap();
        for member in 0..2 {
            let loss = |own: &Rows| -> f64 {
                let mine = COMPARISONS.iter().filter(|one| one.learner == member);
                mine.map(|one| {
                    let [distance, angle] = plain(own, &rows[one.other]);
                    one.distance * distance + one.angle * angle
                })
                .sum()
            };
            let gradient = gradients[member].as_ref().unwrap();
            for row in [0, 1, 3, 6] {
                for column in 0..rows[member][0].len() {
                    let moved = |by: f64| {
                        let mut own = rows[member].clone();
                        own[row][column] += by;
                        loss(&own)
                    };
                    let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    let found = gradient.double_value(&[row as i64, column as i64]);
                    assert!(
                        (found - expected).abs() < 1e-8,
                        "{member} at {row},{column}: {found} against {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn blocks_change_nothing() {
        let embeddings = [rows(70, 4, 5), rows(70, 6, 6)].map(|rows| tensor(&rows).to_kind(Kind::Float));
        let both =
            [0, 1].map(|learner| Comparison { learner, other: 1 - learner, distance: 1.0, angle: 1.0 });
        assert!(angle_vertices(70, ANGLE_BLOCK) < 70, "the batch takes more than one block");
        let (_, found) = compare(&embeddings, &both).unwrap();
        let doubles = embeddings.each_ref().map(|embedding| embedding.to_kind(Kind::Double));
        let (_, wanted) = compare(&doubles, &both).unwrap();
        for (found, wanted) in found.into_iter().zip(wanted) {
            let (found, wanted) = (found.unwrap().to_kind(Kind::Double), wanted.unwrap());
            let error = (&found - &wanted).abs().max().double_value(&[]);
            assert!(error < 1e-6 * wanted.abs().max().double_value(&[]), "{error}");
        }
    }

    #[test]
    fn equal_samples_give_zero_and_no_gradient() {
        let embeddings = [tensor(&vec![vec![1.0, 2.0, 3.0]; 4]), tensor(&rows(4, 3, 9))];
        let comparison = Comparison { learner: 0, other: 1, distance: 1.0, angle: 1.0 };
        let (_, gradients) = compare(&embeddings, &[comparison]).unwrap();
        assert_eq!(gradients[0].as_ref().unwrap().abs().sum(Kind::Double).double_value(&[]), 0.0);
    }
}
