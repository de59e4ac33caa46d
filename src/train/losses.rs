//! The terms on logits, as functions that libtorch differentiates. Logits are `[batch, classes]`; every term is a
//! scalar.

use anyhow::Result;
use tch::{Reduction, Tensor};

/// Probability of the right class in a smoothed label that acts as the teacher (Yuan et al. 2020).
const SMOOTH_TEACHER_CERTAINTY: f64 = 0.99;

/// The labels of a batch.
pub struct Targets {
    /// `[batch]` of int64.
    pub labels: Tensor,
    /// Where pairs of images are mixed: the other image's labels, and the share of the first one's.
    pub mixed: Option<(Tensor, f64)>,
}

impl Targets {
    /// Labels of images with one class each.
    pub fn plain(labels: Tensor) -> Self {
        Self { labels, mixed: None }
    }

    /// A term on labels; for mixed images, its mean over both labels by their shares.
    pub(super) fn blend(&self, term: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let own = term(&self.labels)?;
        match &self.mixed {
            Some((other, share)) => Ok(own * *share + term(other)? * (1.0 - share)),
            None => Ok(own),
        }
    }

    /// Number of right decisions in a batch, as a float scalar on the device; for mixed images, the label
    /// with the larger share counts.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn hits(&self, logits: &Tensor) -> Result<Tensor> {
        let labels = match &self.mixed {
            Some((other, share)) if *share < 0.5 => other,
            Some(_) | None => &self.labels,
        };
        Ok(logits.f_argmax(-1, false)?.f_eq_tensor(labels)?.f_sum(logits.kind())?)
    }
}

/// Mean cross-entropy with the labels, of which the share `smoothing` is spread evenly over all classes.
///
/// # Errors
/// If the shapes do not fit.
pub fn cross_entropy(logits: &Tensor, targets: &Targets, smoothing: f64) -> Result<Tensor> {
    targets.blend(|labels| {
        Ok(logits.f_cross_entropy_loss(labels, None::<&Tensor>, Reduction::Mean, -100, smoothing)?)
    })
}

/// `t² · KL(softmax(target / t) ‖ softmax(student / t))`, summed over classes and averaged over the batch. No
/// gradient reaches `target`.
///
/// # Errors
/// If the shapes do not fit.
pub fn response(student: &Tensor, target: &Tensor, temperature: f64) -> Result<Tensor> {
    let log_student = (student / temperature).f_log_softmax(-1, None)?;
    let log_target = (target.f_detach()? / temperature).f_log_softmax(-1, None)?;
    divergence(&log_student, &log_target, temperature)
}

/// `t² · KL(target ‖ student)` of logarithms of probabilities `[batch, …]`, averaged over the batch.
pub(super) fn divergence(student: &Tensor, target: &Tensor, temperature: f64) -> Result<Tensor> {
    let divergence = student.f_kl_div(target, Reduction::Sum, true)?;
    Ok(divergence * (temperature * temperature / student.size()[0] as f64))
}

/// [`response`] to a teacher that gives the label nearly all probability and the other classes equal shares.
///
/// # Errors
/// If the shapes do not fit.
pub fn smooth_teacher(student: &Tensor, targets: &Targets, temperature: f64) -> Result<Tensor> {
    let classes = student.size()[1];
    let others = (1.0 - SMOOTH_TEACHER_CERTAINTY) / (classes - 1).max(1) as f64;
    targets.blend(|labels| {
        let right = labels.f_one_hot(classes)?.f_to_kind(student.kind())?;
        let probabilities = right * (SMOOTH_TEACHER_CERTAINTY - others) + others;
        response(student, &probabilities.f_log()?, temperature)
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const STUDENT: [[f64; 3]; 2] = [[1.0, -0.5, 2.0], [0.1, 0.2, 0.3]];
    const TEACHER: [[f64; 3]; 2] = [[0.3, 0.9, -1.0], [1.0, 0.0, 2.0]];
    const LABELS: [i64; 2] = [2, 0];
    const OTHERS: [i64; 2] = [1, 0];

    fn tensor(rows: &[[f64; 3]; 2]) -> Tensor {
        Tensor::from_slice(rows.as_flattened()).view([2, 3])
    }

    fn softmax(row: &[f64; 3], t: f64) -> [f64; 3] {
        let exp = row.map(|z| (z / t).exp());
        let sum: f64 = exp.iter().sum();
        exp.map(|e| e / sum)
    }

    fn divergence(target: &[f64; 3], student: &[f64; 3]) -> f64 {
        target.iter().zip(student).map(|(p, q)| p * (p / q).ln()).sum()
    }

    fn plain_response(student: &[[f64; 3]; 2], target: &[[f64; 3]; 2], t: f64) -> f64 {
        let rows = student.iter().zip(target);
        rows.map(|(student, target)| t * t * divergence(&softmax(target, t), &softmax(student, t)) / 2.0)
            .sum()
    }

    fn plain_cross_entropy(student: &[[f64; 3]; 2], labels: &[i64; 2], smoothing: f64) -> f64 {
        let mut sum = 0.0;
        for (row, label) in student.iter().zip(labels) {
            for (class, probability) in softmax(row, 1.0).into_iter().enumerate() {
                let right = if class as i64 == *label { 1.0 - smoothing } else { 0.0 };
                sum -= (right + smoothing / 3.0) * probability.ln() / 2.0;
            }
        }
        sum
    }

    fn plain_smooth_teacher(student: &[[f64; 3]; 2], labels: &[i64; 2], t: f64) -> f64 {
        let mut sum = 0.0;
        for (row, label) in student.iter().zip(labels) {
            let certain = [0, 1, 2].map(|class: i64| if class == *label { 0.99f64 } else { 0.005 });
            let raised = certain.map(|p| p.powf(1.0 / t));
            let total: f64 = raised.iter().sum();
            sum += t * t * divergence(&raised.map(|p| p / total), &softmax(row, t)) / 2.0;
        }
        sum
    }

    fn mixed(share: f64) -> Targets {
        Targets { labels: Tensor::from_slice(&LABELS), mixed: Some((Tensor::from_slice(&OTHERS), share)) }
    }

    /// Compares a term by libtorch, and its gradient, with plain loops and finite differences.
    #[track_caller]
    pub fn follows<const IMAGES: usize, const CLASSES: usize>(
        student: &[[f64; CLASSES]; IMAGES],
        ours: impl Fn(&Tensor) -> Result<Tensor>,
        plain: impl Fn(&[[f64; CLASSES]; IMAGES]) -> f64,
    ) {
        let logits = Tensor::from_slice(student.as_flattened()).view([IMAGES as i64, CLASSES as i64]);
        let logits = logits.set_requires_grad(true);
        let loss = ours(&logits).unwrap();
        let (found, expected) = (loss.double_value(&[]), plain(student));
        assert!((found - expected).abs() < 1e-12, "{found} against {expected}");
        let gradients = Tensor::run_backward(&[loss], &[&logits], false, false);
        for row in 0..IMAGES {
            for column in 0..CLASSES {
                let moved = |by: f64| {
                    let mut rows = *student;
                    rows[row][column] += by;
                    plain(&rows)
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let found = gradients[0].double_value(&[row as i64, column as i64]);
                assert!((found - expected).abs() < 1e-7, "at {row},{column}: {found} against {expected}");
            }
        }
    }

    #[track_caller]
    fn agrees(ours: impl Fn(&Tensor) -> Result<Tensor>, plain: impl Fn(&[[f64; 3]; 2]) -> f64) {
        follows(&STUDENT, ours, plain);
    }

    #[test]
    fn terms_and_gradients_follow_their_definitions() {
        let plain = || Targets::plain(Tensor::from_slice(&LABELS));
        for smoothing in [0.0, 0.1] {
            agrees(
                |z| cross_entropy(z, &plain(), smoothing),
                |rows| plain_cross_entropy(rows, &LABELS, smoothing),
            );
        }
        for t in [1.0, 4.0] {
            agrees(|z| response(z, &tensor(&TEACHER), t), |rows| plain_response(rows, &TEACHER, t));
        }
        agrees(|z| smooth_teacher(z, &plain(), 20.0), |rows| plain_smooth_teacher(rows, &LABELS, 20.0));
    }

    #[test]
    fn mixed_labels_share_every_term_of_labels() {
        let blend = |term: &dyn Fn(&[i64; 2]) -> f64| 0.3 * term(&LABELS) + 0.7 * term(&OTHERS);
        agrees(
            |z| cross_entropy(z, &mixed(0.3), 0.1),
            |rows| blend(&|labels| plain_cross_entropy(rows, labels, 0.1)),
        );
        agrees(
            |z| smooth_teacher(z, &mixed(0.3), 5.0),
            |rows| blend(&|labels| plain_smooth_teacher(rows, labels, 5.0)),
        );
        let logits = tensor(&[[0.0, 9.0, 0.0], [0.0, 9.0, 0.0]]);
        assert_eq!(mixed(0.3).hits(&logits).unwrap().double_value(&[]), 1.0);
        assert_eq!(mixed(0.7).hits(&logits).unwrap().double_value(&[]), 0.0);
    }
}
