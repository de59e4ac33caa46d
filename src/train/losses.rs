//! The terms of CTSL-MKT (arXiv 2101.08471) and of its relatives, as functions of tensors.
//!
//! Logits are `[batch, classes]`, embeddings `[batch, features]`; every term is a scalar.

use anyhow::Result;
use tch::{Kind, Reduction, Tensor};

/// Distances and angles within a batch, as the relational terms compare them. Both are free of the
/// embedding's dimension. Computed in float32 at least.
pub struct Relations {
    /// `d_uv / mu`, `[batch, batch]`: distances over the mean of the positive ones.
    pub distances: Tensor,
    /// `cos(u, v, w)` at vertex `u`, `[batch, batch, batch]`.
    pub angles: Tensor,
}

/// Mean cross-entropy of `logits` against `labels`, `[batch]` of int64.
///
/// # Errors
/// If the shapes do not fit.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(logits.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, 0.0)?)
}

/// `t² · KL(softmax(target / t) ‖ softmax(student / t))`, summed over classes, averaged over the
/// batch. No gradient reaches `target`.
///
/// # Errors
/// If the shapes do not fit.
pub fn response(student: &Tensor, target: &Tensor, temperature: f64) -> Result<Tensor> {
    let log_student = (student / temperature).f_log_softmax(-1, None)?;
    let log_target = (target.f_detach()? / temperature).f_log_softmax(-1, None)?;
    let divergence = log_student.f_kl_div(&log_target, Reduction::Sum, true)?;
    Ok(divergence * (temperature * temperature / student.size()[0] as f64))
}

/// Distances and angles of an embedding; the gradient flows through both and through `mu`.
///
/// # Errors
/// If libtorch runs out of memory.
pub fn relations(embedding: &Tensor) -> Result<Relations> {
    let embedding = match embedding.kind() {
        Kind::Double => embedding.shallow_clone(),
        _ => embedding.f_to_kind(Kind::Float)?,
    };
    Ok(Relations { distances: distances(&embedding)?, angles: angles(&embedding)? })
}

/// Distances over their positive mean. `cdist` without its matrix product: with it the diagonal is
/// not zero.
fn distances(embedding: &Tensor) -> Result<Tensor> {
    let distances = Tensor::f_cdist(embedding, embedding, 2.0, 2)?;
    let positive = distances.f_gt(0.0)?.f_sum(distances.kind())?.f_clamp_min(1.0)?;
    let mean = distances.f_sum(distances.kind())? / positive;
    let mean = mean.f_where_self(&mean.f_gt(0.0)?, &mean.f_ones_like()?)?;
    Ok(distances / mean)
}

/// Cosines of all ordered triplets. Where two points are the same the difference has no direction:
/// the cosine is 0 and has no gradient.
fn angles(embedding: &Tensor) -> Result<Tensor> {
    let difference = embedding.f_unsqueeze(0)? - embedding.f_unsqueeze(1)?;
    let squared = (&difference * &difference).f_sum_dim_intlist(&[2i64][..], true, None)?;
    let same = squared.f_eq(0.0)?;
    let length = squared.f_masked_fill(&same, 1.0)?.f_sqrt()?;
    let direction = (difference / length).f_masked_fill(&same, 0.0)?;
    Ok(direction.f_bmm(&direction.f_transpose(1, 2)?)?)
}

/// Mean Huber difference (delta 1) of the distances over all ordered pairs. No gradient reaches
/// `peer`.
///
/// # Errors
/// If the batches differ.
pub fn distance_term(student: &Relations, peer: &Relations) -> Result<Tensor> {
    Ok(student.distances.f_smooth_l1_loss(&peer.distances.f_detach()?, Reduction::Mean, 1.0)?)
}

/// Mean Huber difference (delta 1) of the cosines over all ordered triplets. No gradient reaches
/// `peer`.
///
/// # Errors
/// If the batches differ.
pub fn angle_term(student: &Relations, peer: &Relations) -> Result<Tensor> {
    Ok(student.angles.f_smooth_l1_loss(&peer.angles.f_detach()?, Reduction::Mean, 1.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedding(rows: &[[f64; 3]]) -> Tensor {
        let flat: Vec<f64> = rows.iter().flatten().copied().collect();
        Tensor::from_slice(&flat).view([rows.len() as i64, 3])
    }

    const STUDENT: [[f64; 3]; 4] = [[0.3, -1.2, 0.5], [1.1, 0.4, -0.7], [-0.6, 0.9, 0.2], [0.8, 0.8, 1.5]];
    const PEER: [[f64; 3]; 4] = [[1.0, 0.1, 0.0], [-0.4, 0.7, 0.3], [0.2, -0.9, 1.1], [0.5, 0.5, -0.5]];

    fn huber(difference: f64) -> f64 {
        if difference.abs() < 1.0 { 0.5 * difference * difference } else { difference.abs() - 0.5 }
    }

    fn plain_distances(rows: &[[f64; 3]]) -> Vec<Vec<f64>> {
        let between =
            |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
        let all: Vec<Vec<f64>> = rows.iter().map(|a| rows.iter().map(|b| between(a, b)).collect()).collect();
        let positive: Vec<f64> = all.iter().flatten().copied().filter(|d| *d > 0.0).collect();
        let mean = positive.iter().sum::<f64>() / positive.len() as f64;
        all.into_iter().map(|row| row.into_iter().map(|d| d / mean).collect()).collect()
    }

    fn plain_angle(rows: &[[f64; 3]], u: usize, v: usize, w: usize) -> f64 {
        let direction = |to: usize| {
            let d: Vec<f64> = (0..3).map(|i| rows[to][i] - rows[u][i]).collect();
            let length = d.iter().map(|x| x * x).sum::<f64>().sqrt();
            if length == 0.0 { vec![0.0; 3] } else { d.iter().map(|x| x / length).collect() }
        };
        direction(v).iter().zip(direction(w)).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn relational_terms_are_the_plain_sums() {
        let (student, peer) =
            (relations(&embedding(&STUDENT)).unwrap(), relations(&embedding(&PEER)).unwrap());
        let (ds, dp) = (plain_distances(&STUDENT), plain_distances(&PEER));
        let mut distance = 0.0;
        let mut angle = 0.0;
        for u in 0..4 {
            for v in 0..4 {
                distance += huber(ds[u][v] - dp[u][v]);
                for w in 0..4 {
                    angle += huber(plain_angle(&STUDENT, u, v, w) - plain_angle(&PEER, u, v, w));
                }
            }
        }
        let found = distance_term(&student, &peer).unwrap().double_value(&[]);
        assert!((found - distance / 16.0).abs() < 1e-12, "{found} against {}", distance / 16.0);
        let found = angle_term(&student, &peer).unwrap().double_value(&[]);
        assert!((found - angle / 64.0).abs() < 1e-12, "{found} against {}", angle / 64.0);
    }

    #[test]
    fn response_is_the_plain_divergence() {
        let (student, target) = ([1.0, -0.5, 2.0, 0.1, 0.2, 0.3], [0.3, 0.9, -1.0, 1.0, 0.0, 2.0]);
        let t = 4.0;
        let softmax = |row: &[f64]| {
            let exp: Vec<f64> = row.iter().map(|z| (z / t).exp()).collect();
            let sum: f64 = exp.iter().sum();
            exp.into_iter().map(|e| e / sum).collect::<Vec<_>>()
        };
        let mut expected = 0.0;
        for row in 0..2 {
            let (p, q) = (softmax(&target[3 * row..][..3]), softmax(&student[3 * row..][..3]));
            expected += p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        }
        expected *= t * t / 2.0;
        let as_tensor = |values: &[f64]| Tensor::from_slice(values).view([2, 3]);
        let found = response(&as_tensor(&student), &as_tensor(&target), t).unwrap().double_value(&[]);
        assert!((found - expected).abs() < 1e-12, "{found} against {expected}");
    }

    #[test]
    fn equal_samples_give_zero_and_no_gradient() {
        let student = embedding(&[[1.0, 2.0, 3.0]; 4]).set_requires_grad(true);
        let own = relations(&student).unwrap();
        let peer = relations(&embedding(&PEER)).unwrap();
        let loss = distance_term(&own, &peer).unwrap() + angle_term(&own, &peer).unwrap();
        let gradients = Tensor::run_backward(&[loss], &[&student], false, false);
        assert_eq!(gradients[0].abs().sum(Kind::Double).double_value(&[]), 0.0);
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let peer = relations(&embedding(&PEER)).unwrap();
        let loss = |student: &Tensor| -> Tensor {
            let own = relations(student).unwrap();
            distance_term(&own, &peer).unwrap() + 2.0 * angle_term(&own, &peer).unwrap()
        };
        let student = embedding(&STUDENT).set_requires_grad(true);
        let gradients = Tensor::run_backward(&[loss(&student)], &[&student], false, false);
        for (row, column) in [(0, 0), (1, 2), (2, 1), (3, 0)] {
            let moved = |by: f64| {
                let mut rows = STUDENT;
                rows[row][column] += by;
                loss(&embedding(&rows)).double_value(&[])
            };
            let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            let found = gradients[0].double_value(&[row as i64, column as i64]);
            assert!((found - expected).abs() < 1e-7, "at {row},{column}: {found} against {expected}");
        }
    }
}
