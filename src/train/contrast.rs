//! The contrast term between peers: a student learns from its peers' embeddings how similar an image is to each other image of the
//! batch. Embeddings may have different lengths. Holds `[batch, batch]` numbers.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::losses::divergence;

/// Keeps an embedding of zeros finite.
const SHORTEST: f64 = 1e-12;

/// `KL(peer ‖ student)` of the distributions over the batch's other images by the cosine of embeddings, divided by the temperature
/// `t`; averaged over the batch. The soft contrast of mutual contrastive learning (Yang et al. 2022, arXiv 2104.11518), over the
/// batch itself instead of a memory. Embeddings are `[batch, features]`; no gradient reaches the peer's. 0 for a single image.
///
/// # Errors
/// If the shapes do not fit.
pub fn contrast(student: &Tensor, peer: &Tensor, t: f64) -> Result<Tensor> {
    let images = student.size()[0];
    if images < 2 {
        return Ok((student * 0.0).f_sum(student.kind())?);
    }
    let own = Tensor::f_eye(images, (Kind::Bool, student.device()))?;
    let alike = |embedding: &Tensor| -> Result<Tensor> {
        let length = embedding.f_norm_scalaropt_dim(2, -1, true)?.f_clamp_min(SHORTEST)?;
        let direction = embedding.f_div(&length)?;
        let cosines = direction.f_matmul(&direction.f_transpose(0, 1)?)? / t;
        let shares = cosines.f_masked_fill(&own, f64::NEG_INFINITY)?.f_log_softmax(-1, None)?;
        // What is equal on both sides adds nothing.
        Ok(shares.f_masked_fill(&own, 0.0)?)
    };
    divergence(&alike(student)?, &alike(&peer.f_detach()?)?, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<Vec<f64>>;

    fn rows(count: usize, length: usize, turn: f64) -> Rows {
        (0..count)
            .map(|row| (0..length).map(|column| (turn + (3 * row + 5 * column) as f64).sin()).collect())
            .collect()
    }

    fn tensor(rows: &Rows) -> Tensor {
        Tensor::from_slice(&rows.concat()).view([rows.len() as i64, rows[0].len() as i64])
    }

    fn shares(rows: &Rows, image: usize, t: f64) -> Vec<f64> {
        let length = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let cosine =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>() / (length(a) * length(b));
        let others = rows.iter().enumerate().filter(|(other, _)| *other != image);
        let exp: Vec<f64> = others.map(|(_, other)| (cosine(&rows[image], other) / t).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.iter().map(|e| e / sum).collect()
    }

    fn plain(student: &Rows, peer: &Rows, t: f64) -> f64 {
        let images = student.len();
        let of = |image| {
            let (p, q) = (shares(peer, image, t), shares(student, image, t));
            p.iter().zip(&q).map(|(p, q)| p * (p / q).ln()).sum::<f64>()
        };
        (0..images).map(of).sum::<f64>() / images as f64
    }

    #[test]
    fn the_term_and_its_gradient_follow_the_definition() {
        let (own, peer) = (rows(5, 3, 0.2), rows(5, 4, 1.7));
        for t in [0.1, 1.0] {
            let student = tensor(&own).set_requires_grad(true);
            let loss = contrast(&student, &tensor(&peer), t).unwrap();
            let (found, expected) = (loss.double_value(&[]), plain(&own, &peer, t));
            assert!((found - expected).abs() < 1e-11, "{found} against {expected}");
            let gradient = Tensor::run_backward(&[loss], &[&student], false, false).swap_remove(0);
            for row in 0..5 {
                for column in 0..3 {
                    let moved = |by: f64| {
                        let mut own = own.clone();
                        own[row][column] += by;
                        plain(&own, &peer, t)
                    };
                    let expected = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                    let found = gradient.double_value(&[row as i64, column as i64]);
                    assert!((found - expected).abs() < 1e-6, "{row},{column}: {found} against {expected}");
                }
            }
        }
    }

    #[test]
    fn nothing_to_compare_gives_0_and_no_gradient() {
        let peer = tensor(&rows(3, 4, 1.0));
        let zeros = Tensor::zeros([3, 2], (Kind::Double, tch::Device::Cpu));
        let one = tensor(&rows(1, 2, 1.0));
        for (student, peer) in [(zeros, peer.shallow_clone()), (one, peer.narrow(0, 0, 1))] {
            let student = student.set_requires_grad(true);
            let loss = contrast(&student, &peer, 0.1).unwrap();
            assert!(loss.double_value(&[]).is_finite());
            let gradient = Tensor::run_backward(&[loss], &[&student], false, false).swap_remove(0);
            assert_eq!(gradient.isfinite().all().int64_value(&[]), 1);
        }
    }
}
