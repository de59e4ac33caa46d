//! Terms between a student's and a frozen teacher's logits or feature maps that came after plain distillation, as functions
//! that libtorch differentiates. Logits are `[batch, classes]`; every term is a scalar, and no gradient reaches the teacher.

use anyhow::Result;
use tch::{Reduction, Tensor};

use super::losses::{Targets, divergence};

/// Keeps a correlation of constant values finite (Huang et al. 2022).
const CORRELATION_EPS: f64 = 1e-8;

/// Is added to a standard deviation (Sun et al. 2024), and is the smallest that is differentiated.
const DEVIATION_EPS: f64 = 1e-7;

/// Each image's logits less their mean, over their standard deviation (logit standardisation, Sun et al. 2024, arXiv 2403.01427).
///
/// # Errors
/// If libtorch fails.
pub fn standardised(logits: &Tensor) -> Result<Tensor> {
    let mean = logits.f_mean_dim(-1, true, logits.kind())?;
    let variance = logits.f_var_dim(-1, true, true)?.f_clamp_min(DEVIATION_EPS * DEVIATION_EPS)?;
    Ok(logits.f_sub(&mean)?.f_div(&(variance.f_sqrt()? + DEVIATION_EPS))?)
}

/// Divergence of the student's decision between the label and all other classes from the teacher's, times `t²`: the target
/// part of decoupled distillation (Zhao et al. 2022, arXiv 2203.08679).
///
/// # Errors
/// If the shapes do not fit.
pub fn target_class(student: &Tensor, teacher: &Tensor, targets: &Targets, t: f64) -> Result<Tensor> {
    targets.blend(|labels| {
        let of = |logits: &Tensor| -> Result<Tensor> {
            let all = logits.f_logsumexp([-1], true)?;
            let label = logits.f_gather(-1, &labels.f_unsqueeze(-1)?, false)?;
            let others = without(logits, labels, f64::NEG_INFINITY)?.f_logsumexp([-1], true)?;
            Ok(Tensor::f_cat(&[label, others], -1)?.f_sub(&all)?)
        };
        divergence(&of(&(student / t))?, &of(&(teacher.f_detach()? / t))?, t)
    })
}

/// Divergence of the student's shares of the classes other than the label from the teacher's, times `t²`: the other part of
/// decoupled distillation.
///
/// # Errors
/// If the shapes do not fit.
pub fn other_classes(student: &Tensor, teacher: &Tensor, targets: &Targets, t: f64) -> Result<Tensor> {
    targets.blend(|labels| {
        let of = |logits: &Tensor| -> Result<Tensor> {
            let shares = without(logits, labels, f64::NEG_INFINITY)?.f_log_softmax(-1, None)?;
            // What is equal on both sides adds nothing.
            without(&shares, labels, 0.0)
        };
        divergence(&of(&(student / t))?, &of(&(teacher.f_detach()? / t))?, t)
    })
}

/// `t² · (1 - mean correlation)` of the probabilities at temperature `t`: of each image over its classes, and of each class over
/// the batch's images (DIST, Huang et al. 2022, arXiv 2205.10536).
///
/// # Errors
/// If the shapes do not fit.
pub fn correlations(student: &Tensor, teacher: &Tensor, t: f64) -> Result<[Tensor; 2]> {
    let student = (student / t).f_softmax(-1, None)?;
    let teacher = (teacher.f_detach()? / t).f_softmax(-1, None)?;
    let along = |axis: i64| -> Result<Tensor> {
        let centred = |values: &Tensor| -> Result<Tensor> {
            Ok(values.f_sub(&values.f_mean_dim(axis, true, values.kind())?)?)
        };
        let (a, b) = (centred(&student)?, centred(&teacher)?);
        let norm = |values: &Tensor| values.f_norm_scalaropt_dim(2, axis, false);
        let product = a.f_mul(&b)?.f_sum_dim_intlist(axis, false, a.kind())?;
        let correlation = product.f_div(&(norm(&a)?.f_mul(&norm(&b)?)? + CORRELATION_EPS))?;
        Ok((correlation.f_mean(correlation.kind())? * -1.0 + 1.0) * (t * t))
    };
    Ok([along(1)?, along(0)?])
}

/// Divergence of the student at temperature 1 from the teacher's probabilities to the power `1/t`, each image weighted by the sum
/// of these powers, which is large where the teacher is unsure (WTTM, Zheng & Yang 2024, arXiv 2402.11148).
///
/// # Errors
/// If the shapes do not fit.
pub fn transformed(student: &Tensor, teacher: &Tensor, t: f64) -> Result<Tensor> {
    let powers = teacher.f_detach()?.f_log_softmax(-1, None)? / t;
    let sums = powers.f_logsumexp([-1], true)?;
    let target = powers.f_sub(&sums)?;
    let difference = target.f_sub(&student.f_log_softmax(-1, None)?)?;
    let each = target.f_exp()?.f_mul(&difference)?.f_mul(&sums.f_exp()?)?;
    Ok(each.f_sum(each.kind())? / student.size()[0] as f64)
}

/// Mean square of the difference of feature maps `[batch, channels, height, width]`, the larger ones averaged to the size of
/// the smaller ones (SimKD, Chen et al. 2022, arXiv 2203.14001).
///
/// # Errors
/// If the numbers of channels differ.
pub fn feature_maps(student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
    let size = |maps: &Tensor| [maps.size()[2], maps.size()[3]];
    let [[height, width], [other_height, other_width]] = [size(student), size(teacher)];
    let common = [height.min(other_height), width.min(other_width)];
    let pooled = |maps: &Tensor| match size(maps) == common {
        true => Ok(maps.shallow_clone()),
        false => maps.f_adaptive_avg_pool2d(common),
    };
    Ok(pooled(student)?.f_mse_loss(&pooled(&teacher.f_detach()?)?, Reduction::Mean)?)
}

/// The values with those at the labels replaced.
fn without(values: &Tensor, labels: &Tensor, by: f64) -> Result<Tensor> {
    let label = labels.f_one_hot(values.size()[1])?.f_to_kind(tch::Kind::Bool)?;
    Ok(values.f_masked_fill(&label, by)?)
}

#[cfg(test)]
mod tests {
    use super::super::losses::tests::follows;
    use super::*;

    type Rows = [[f64; 4]; 3];

    const STUDENT: Rows = [[1.0, -0.5, 2.0, 0.3], [0.1, 0.2, 0.3, -1.4], [2.2, 0.4, -0.6, 0.9]];
    const TEACHER: Rows = [[0.3, 0.9, -1.0, 3.1], [1.0, 0.0, 2.0, 0.5], [-0.2, 0.7, 1.9, -2.0]];
    const LABELS: [i64; 3] = [2, 0, 3];
    const OTHERS: [i64; 3] = [1, 0, 2];

    fn tensor(rows: &Rows) -> Tensor {
        Tensor::from_slice(rows.as_flattened()).view([3, 4])
    }

    fn softmax(row: &[f64], t: f64) -> Vec<f64> {
        let exp: Vec<f64> = row.iter().map(|z| (z / t).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.iter().map(|e| e / sum).collect()
    }

    fn plain_divergence(target: &[f64], student: &[f64]) -> f64 {
        target.iter().zip(student).map(|(p, q)| p * (p / q).ln()).sum()
    }

    /// The mean over the batch of what each image adds.
    fn mean(student: &Rows, labels: &[i64; 3], of: impl Fn(&[f64], &[f64], usize) -> f64) -> f64 {
        let images = student.iter().zip(&TEACHER).zip(labels);
        images.map(|((student, teacher), label)| of(student, teacher, *label as usize)).sum::<f64>() / 3.0
    }

    fn plain_target(student: &Rows, labels: &[i64; 3], t: f64) -> f64 {
        let pair = |row: &[f64], label: usize| {
            let right = softmax(row, t)[label];
            [right, 1.0 - right]
        };
        mean(student, labels, |student, teacher, label| {
            t * t * plain_divergence(&pair(teacher, label), &pair(student, label))
        })
    }

    fn plain_others(student: &Rows, labels: &[i64; 3], t: f64) -> f64 {
        let rest = |row: &[f64], label: usize| {
            let rest: Vec<f64> =
                row.iter().enumerate().filter(|(class, _)| *class != label).map(|(_, z)| *z).collect();
            softmax(&rest, t)
        };
        mean(student, labels, |student, teacher, label| {
            t * t * plain_divergence(&rest(teacher, label), &rest(student, label))
        })
    }

    fn pearson(a: &[f64], b: &[f64]) -> f64 {
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let (ma, mb) = (mean(a), mean(b));
        let (mut product, mut aa, mut bb) = (0.0, 0.0, 0.0);
        for (x, y) in a.iter().zip(b) {
            product += (x - ma) * (y - mb);
            aa += (x - ma) * (x - ma);
            bb += (y - mb) * (y - mb);
        }
        product / (aa.sqrt() * bb.sqrt() + 1e-8)
    }

    fn plain_correlations(student: &Rows, t: f64) -> [f64; 2] {
        let probabilities = |rows: &Rows| rows.map(|row| softmax(&row, t));
        let (a, b) = (probabilities(student), probabilities(&TEACHER));
        let images: f64 = a.iter().zip(&b).map(|(a, b)| pearson(a, b)).sum::<f64>() / 3.0;
        let column =
            |rows: &[Vec<f64>; 3], class: usize| rows.iter().map(|row| row[class]).collect::<Vec<_>>();
        let classes: f64 =
            (0..4).map(|class| pearson(&column(&a, class), &column(&b, class))).sum::<f64>() / 4.0;
        [images, classes].map(|mean| t * t * (1.0 - mean))
    }

    fn plain_transformed(student: &Rows, t: f64) -> f64 {
        mean(student, &LABELS, |student, teacher, _| {
            let powers: Vec<f64> = softmax(teacher, 1.0).iter().map(|p| p.powf(1.0 / t)).collect();
            let sum: f64 = powers.iter().sum();
            let target: Vec<f64> = powers.iter().map(|p| p / sum).collect();
            sum * plain_divergence(&target, &softmax(student, 1.0))
        })
    }

    #[track_caller]
    fn agrees(ours: impl Fn(&Tensor) -> Result<Tensor>, plain: impl Fn(&Rows) -> f64) {
        follows(&STUDENT, ours, plain);
    }

    #[test]
    fn terms_and_gradients_follow_their_definitions() {
        let labels = || Targets::plain(Tensor::from_slice(&LABELS));
        let teacher = tensor(&TEACHER);
        for t in [1.0, 4.0] {
            agrees(|z| target_class(z, &teacher, &labels(), t), |rows| plain_target(rows, &LABELS, t));
            agrees(|z| other_classes(z, &teacher, &labels(), t), |rows| plain_others(rows, &LABELS, t));
            agrees(|z| transformed(z, &teacher, t), |rows| plain_transformed(rows, t));
            for which in [0, 1] {
                let ours = |z: &Tensor| Ok(correlations(z, &teacher, t)?[which].shallow_clone());
                agrees(ours, |rows| plain_correlations(rows, t)[which]);
            }
        }
    }

    /// Rows as maps of 2×2: against maps of the same size, against one number each, and one number each against maps.
    #[test]
    fn feature_maps_are_compared_at_the_smaller_size() {
        let maps = |rows: &Tensor| rows.view([3, 1, 2, 2]);
        let teacher = maps(&tensor(&TEACHER));
        let square = |a: f64, b: f64| (a - b) * (a - b);
        let average = |row: &[f64; 4]| row.iter().sum::<f64>() / 4.0;
        agrees(
            |z| feature_maps(&maps(z), &teacher),
            |rows| {
                let pairs = rows.as_flattened().iter().zip(TEACHER.as_flattened());
                pairs.map(|(a, b)| square(*a, *b)).sum::<f64>() / 12.0
            },
        );
        let one = Tensor::from_slice(&[0.5, -1.0, 2.0]).view([3, 1, 1, 1]);
        agrees(
            |z| feature_maps(&maps(z), &one),
            |rows| {
                rows.iter().zip([0.5, -1.0, 2.0]).map(|(row, b)| square(average(row), b)).sum::<f64>() / 3.0
            },
        );
        agrees(
            |z| feature_maps(&z.view([3, 4, 1, 1]), &Tensor::from_slice(&[1.0; 48]).view([3, 4, 2, 2])),
            |rows| rows.as_flattened().iter().map(|a| square(*a, 1.0)).sum::<f64>() / 12.0,
        );
    }

    /// Decoupled distillation with the teacher's own share of the other classes is plain distillation (Zhao et al. 2022).
    #[test]
    fn both_parts_of_decoupled_distillation_make_the_whole() {
        let whole = |rows: &Rows| {
            mean(rows, &LABELS, |student, teacher, _| {
                plain_divergence(&softmax(teacher, 1.0), &softmax(student, 1.0))
            })
        };
        let parts = mean(&STUDENT, &LABELS, |student, teacher, label| {
            let (student, teacher): (Vec<f64>, Vec<f64>) = (student.to_vec(), teacher.to_vec());
            let only = |row: &[f64]| [row.try_into().unwrap(); 1];
            let others = 1.0 - softmax(&teacher, 1.0)[label];
            let [s]: [[f64; 4]; 1] = only(&student);
            let [z]: [[f64; 4]; 1] = only(&teacher);
            let [s, z] = [s, z].map(|row| Tensor::from_slice(&row).view([1, 4]));
            let labels = Targets::plain(Tensor::from_slice(&[label as i64]));
            let term = |term: Tensor| term.double_value(&[]);
            term(target_class(&s, &z, &labels, 1.0).unwrap())
                + others * term(other_classes(&s, &z, &labels, 1.0).unwrap())
        });
        assert!((whole(&STUDENT) - parts).abs() < 1e-12, "{} against {parts}", whole(&STUDENT));
    }

    #[test]
    fn mixed_labels_share_the_terms_of_labels() {
        let mixed = || Targets {
            labels: Tensor::from_slice(&LABELS),
            mixed: Some((Tensor::from_slice(&OTHERS), 0.3)),
        };
        let teacher = tensor(&TEACHER);
        let blend = |plain: fn(&Rows, &[i64; 3], f64) -> f64, rows: &Rows| {
            0.3 * plain(rows, &LABELS, 2.0) + 0.7 * plain(rows, &OTHERS, 2.0)
        };
        agrees(|z| target_class(z, &teacher, &mixed(), 2.0), |rows| blend(plain_target, rows));
        agrees(|z| other_classes(z, &teacher, &mixed(), 2.0), |rows| blend(plain_others, rows));
    }

    #[test]
    fn standardised_logits_have_mean_0_and_deviation_1() {
        let found = standardised(&tensor(&STUDENT)).unwrap();
        for (row, logits) in STUDENT.iter().enumerate() {
            let mean = logits.iter().sum::<f64>() / 4.0;
            let deviation = (logits.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
            for (column, z) in logits.iter().enumerate() {
                let found = found.double_value(&[row as i64, column as i64]);
                assert!((found - (z - mean) / deviation).abs() < 1e-6, "{row},{column}: {found}");
            }
        }
        let equal = Tensor::ones([2, 4], (tch::Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        let found = standardised(&equal).unwrap();
        let gradient =
            Tensor::run_backward(&[found.square().sum(None)], &[&equal], false, false).swap_remove(0);
        for values in [found, gradient] {
            assert_eq!(values.abs().max().double_value(&[]), 0.0);
        }
    }

    /// A teacher that is certain to the last bit of float32 gives finite terms and gradients.
    #[test]
    fn certainty_stays_finite() {
        let certain = Tensor::from_slice(&[300.0f32, 0.0, -300.0, 1.0]).view([1, 4]);
        let labels = || Targets::plain(Tensor::from_slice(&[0i64]));
        for (student, teacher) in [(&certain, &certain.flip([1])), (&certain.flip([1]), &certain)] {
            let student = student.copy().set_requires_grad(true);
            let [images, classes] = correlations(&student, teacher, 1.0).unwrap();
            let terms = [
                target_class(&student, teacher, &labels(), 1.0).unwrap(),
                other_classes(&student, teacher, &labels(), 1.0).unwrap(),
                transformed(&student, teacher, 4.0).unwrap(),
                images,
                classes,
            ];
            for term in terms {
                let gradient = Tensor::run_backward(&[&term], &[&student], true, false).swap_remove(0);
                let finite = |values: &Tensor| values.isfinite().all().int64_value(&[]) == 1;
                assert!(finite(&term) && finite(&gradient), "{term:?} {gradient}");
            }
        }
    }
}
