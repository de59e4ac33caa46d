//! Methods as weights of the loss terms: the one list of everything the loss is made of.

use serde::{Deserialize, Serialize};

use crate::epoch::Term;

/// The kind of a number of the loss, which decides its valid range and whether the ramp applies to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermKind {
    /// The weight of the cross-entropy, which is never ramped.
    LabelWeight,
    /// The weight of another term; rises to its value during the ramp.
    Weight,
    /// A weight within the mutual terms, which `beta` multiplies.
    MutualWeight,
    /// The temperature of a term's softmax.
    Temperature,
    /// A share from 0 to below 1.
    Share,
}

/// Defines, from one line per number, what a pipeline may write of it, its value in training, its value in the method
/// `plain`, and its kind.
macro_rules! loss_terms {
    (numbers {$($(#[$doc:meta])* $key:ident: $kind:ident = $plain:expr,)*}
     switches {$($(#[$switch_doc:meta])* $switch:ident,)*}) => {
        /// Numbers of the loss as a pipeline writes them; the method decides those that are not written.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct LossWeights {
            $($(#[$doc])* pub $key: Option<f64>,)*
            $($(#[$switch_doc])* pub $switch: Option<bool>,)*
        }

        /// All numbers of the loss. With peers j ≠ k, a frozen copy of the student itself, and a frozen teacher T:
        ///
        /// `L_k = alpha·CE + beta·mean_j[beta0·distance + beta1·angle + beta2·KL(p_j‖p_k) + beta3·contrast] + gamma·self
        ///      + teacher·response(T) + teacher_distance·distance(T) + teacher_angle·angle(T) + teacher_target·target(T)
        ///      + teacher_others·others(T) + teacher_classes·classes(T) + teacher_images·images(T)
        ///      + teacher_transformed·transformed(T) + teacher_features·features(T) + smooth_teacher·smooth`
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        pub struct LossTerms {
            $($(#[$doc])* pub $key: f64,)*
            $($(#[$switch_doc])* pub $switch: bool,)*
        }

        /// Cross-entropy only.
        const PLAIN: LossTerms = LossTerms { $($key: $plain,)* $($switch: false,)* };

        impl LossTerms {
            /// Every number with its key and kind, in the order in which they are written.
            pub fn fields(&self) -> Vec<(&'static str, TermKind, f64)> {
                vec![$((stringify!($key), TermKind::$kind, self.$key),)*]
            }

            /// The switches that are on.
            pub fn switches(&self) -> Vec<&'static str> {
                [$((stringify!($switch), self.$switch)),*].into_iter().filter(|(_, on)| *on).map(|(key, _)| key).collect()
            }

            fn fields_mut(&mut self) -> Vec<(TermKind, &mut f64)> {
                vec![$((TermKind::$kind, &mut self.$key),)*]
            }

            /// All of them, as a pipeline may write them.
            pub fn written(&self) -> LossWeights {
                LossWeights { $($key: Some(self.$key),)* $($switch: Some(self.$switch),)* }
            }

            /// These numbers, except those that were written.
            fn overridden_by(self, written: &LossWeights) -> Self {
                Self {
                    $($key: written.$key.unwrap_or(self.$key),)*
                    $($switch: written.$switch.unwrap_or(self.$switch),)*
                }
            }
        }
    };
}

loss_terms! {
    numbers {
        /// Weight of the cross-entropy.
        alpha: LabelWeight = 1.0,
        /// Weight of all mutual terms together.
        beta: Weight = 0.0,
        /// Weight of the self-distillation from the frozen copy.
        gamma: Weight = 0.0,
        /// Weight of the distance relations within the mutual terms.
        beta0: MutualWeight = 0.0,
        /// Weight of the angle relations within the mutual terms.
        beta1: MutualWeight = 0.0,
        /// Weight of the peers' responses within the mutual terms.
        beta2: MutualWeight = 0.0,
        /// Weight of the contrast of the batch's images within the mutual terms.
        beta3: MutualWeight = 0.0,
        /// Temperature of that contrast's cosines.
        contrast_temperature: Temperature = 0.1,
        /// Temperature of the self-distillation.
        temperature: Temperature = 4.0,
        /// Share of a label's weight that the cross-entropy spreads over all classes.
        label_smoothing: Share = 0.0,
        /// Weight of the frozen teacher's responses.
        teacher: Weight = 0.0,
        /// Weight of the distance relations of the teacher.
        teacher_distance: Weight = 0.0,
        /// Weight of the angle relations of the teacher.
        teacher_angle: Weight = 0.0,
        /// Weight of the teacher's decision between the label and all other classes (decoupled distillation).
        teacher_target: Weight = 0.0,
        /// Weight of the teacher's shares of the classes other than the label (decoupled distillation).
        teacher_others: Weight = 0.0,
        /// Weight of the correlation of each image's classes with the teacher's (DIST).
        teacher_classes: Weight = 0.0,
        /// Weight of the correlation of each class's images with the teacher's (DIST).
        teacher_images: Weight = 0.0,
        /// Weight of the teacher's transformed probabilities (WTTM).
        teacher_transformed: Weight = 0.0,
        /// Weight of the mean square by which feature maps differ from the teacher's (SimKD).
        teacher_features: Weight = 0.0,
        /// Temperature of everything that speaks of the teacher's logits.
        teacher_temperature: Temperature = 4.0,
        /// Weight of a smoothed label as the teacher: 0.99 for the right class.
        smooth_teacher: Weight = 0.0,
        /// Temperature of the smoothed label.
        smooth_temperature: Temperature = 20.0,
    }
    switches {
        /// Whether logits are standardised before they are compared with the peers' (Sun et al. 2024).
        standardise_peers,
        /// Whether logits are standardised before they are compared with the frozen copy's.
        standardise_self,
        /// Whether logits are standardised before they are compared with the teacher's by divergence.
        standardise_teacher,
    }
}

/// A named set of loss weights; the training loop is the same for all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Cross-entropy only.
    Plain,
    /// Cross-entropy against smoothed labels (Szegedy et al. 2016).
    LabelSmoothing,
    /// Distillation from the frozen teacher (Hinton et al. 2015).
    Kd,
    /// Deep mutual learning (Zhang et al. 2018), mean over peers.
    Dml,
    /// Teacher-free self-distillation (Yuan et al. 2020).
    TfKdSelf,
    /// Teacher-free regularisation (Yuan et al. 2020): a smoothed label is the teacher.
    TfKdReg,
    /// Relational distillation (Park et al. 2019) from the frozen teacher.
    Rkd,
    RkdDistance,
    RkdAngle,
    /// Distillation on standardised logits (Sun et al. 2024).
    KdStandardised,
    /// Decoupled distillation (Zhao et al. 2022).
    Dkd,
    /// Decoupled distillation on standardised logits.
    DkdStandardised,
    /// Correlations with the teacher's probabilities (Huang et al. 2022).
    Dist,
    /// Weighted transformed teacher matching (Zheng & Yang 2024).
    Wttm,
    /// The teacher's feature maps alone, for students with the teacher's last layer (Chen et al. 2022).
    Simkd,
    /// Relational distillation between peers.
    RkdOnline,
    RkdOnlineDistance,
    RkdOnlineAngle,
    /// Deep mutual learning with contrast between peers (after Yang et al. 2022).
    Mcl,
    /// The mutual terms of CTSL-MKT, responses and relations, with weights that rise slowly so that short trainings are not
    /// harmed, see `pipelines/studies/defaults-digits.yaml` and its siblings.
    #[default]
    CtslMkt,
    /// All three kinds of knowledge (arXiv 2101.08471): also each student's own frozen copy, from a stage `pretrain`.
    CtslMktPaper,
    /// The paper's form without one of its parts.
    CtslMktPaperNoSelf,
    CtslMktPaperNoResponse,
    CtslMktPaperNoRelation,
    CtslMktPaperNoDistance,
    CtslMktPaperNoAngle,
}

/// Distances to angles as 1 to 2 (Park et al. 2019), responses with a weight of 1 as in deep mutual learning.
const CTSL_MKT: LossTerms = LossTerms { beta: 1.0, beta0: 1.0, beta1: 2.0, beta2: 1.0, ..PLAIN };

/// Fewest epochs in which the peers' terms rise to their weights: students that are still learning fast on their own lose by
/// listening to each other, so a short training is nearly one without peers.
const RAMP: usize = 40;

/// Weight of the relations between peers in the paper's form, which leaves it open: chosen on a validation split, see
/// `pipelines/studies/fashion-weights.yaml`.
const RELATIONS: f64 = 10.0;

const CTSL_MKT_PAPER: LossTerms =
    LossTerms { beta: RELATIONS, gamma: 1.0, beta0: 1.0, beta1: 2.0, beta2: 1.0 / RELATIONS, ..PLAIN };

impl LossTerms {
    /// The weight by which a measured term enters the loss.
    pub fn weight(&self, term: Term) -> f64 {
        match term {
            Term::CrossEntropy => self.alpha,
            Term::Distance => self.beta * self.beta0,
            Term::Angle => self.beta * self.beta1,
            Term::Response => self.beta * self.beta2,
            Term::SelfDistillation => self.gamma,
            Term::Teacher => self.teacher,
            Term::TeacherDistance => self.teacher_distance,
            Term::TeacherAngle => self.teacher_angle,
            Term::SmoothTeacher => self.smooth_teacher,
            Term::Contrast => self.beta * self.beta3,
            Term::TeacherTarget => self.teacher_target,
            Term::TeacherOthers => self.teacher_others,
            Term::TeacherClasses => self.teacher_classes,
            Term::TeacherImages => self.teacher_images,
            Term::TeacherTransformed => self.teacher_transformed,
            Term::TeacherFeatures => self.teacher_features,
        }
    }

    /// Whether any of these terms is on.
    pub fn any(&self, terms: &[Term]) -> bool {
        terms.iter().any(|term| self.weight(*term) > 0.0)
    }

    /// The weights at a share of the ramp: all but the cross-entropy times `exp(-5·(1 - share)²)` (Laine &
    /// Aila 2017).
    pub fn ramped(mut self, share: f64) -> Self {
        if share < 1.0 {
            let factor = (-5.0 * (1.0 - share.max(0.0)).powi(2)).exp();
            for (kind, weight) in self.fields_mut() {
                if kind == TermKind::Weight {
                    *weight *= factor;
                }
            }
        }
        self
    }

    /// Whether a student learns from its peers.
    pub fn mutual(&self) -> bool {
        self.any(&[Term::Distance, Term::Angle, Term::Response, Term::Contrast])
    }

    /// Whether peers' relations are compared.
    pub fn relational(&self) -> bool {
        self.any(&[Term::Distance, Term::Angle])
    }

    /// Whether a frozen teacher is needed.
    pub fn taught(&self) -> bool {
        self.any(&[
            Term::Teacher,
            Term::TeacherDistance,
            Term::TeacherAngle,
            Term::TeacherTarget,
            Term::TeacherOthers,
            Term::TeacherClasses,
            Term::TeacherImages,
            Term::TeacherTransformed,
            Term::TeacherFeatures,
        ])
    }
}

impl Method {
    /// The method's own numbers, except those that were written.
    pub fn terms(self, written: &LossWeights) -> LossTerms {
        self.own_terms().overridden_by(written)
    }

    fn own_terms(self) -> LossTerms {
        match self {
            Method::Plain => PLAIN,
            Method::LabelSmoothing => LossTerms { label_smoothing: 0.1, ..PLAIN },
            Method::Kd => LossTerms { alpha: 0.1, teacher: 0.9, ..PLAIN },
            Method::Dml => LossTerms { beta: 1.0, beta2: 1.0, ..PLAIN },
            Method::TfKdSelf => LossTerms { gamma: 1.0, ..PLAIN },
            Method::TfKdReg => LossTerms { alpha: 0.9, smooth_teacher: 0.1, ..PLAIN },
            Method::Rkd => LossTerms { teacher_distance: 25.0, teacher_angle: 50.0, ..PLAIN },
            Method::RkdDistance => LossTerms { teacher_distance: 25.0, ..PLAIN },
            Method::RkdAngle => LossTerms { teacher_angle: 50.0, ..PLAIN },
            Method::KdStandardised => LossTerms {
                alpha: 0.1,
                teacher: 9.0,
                teacher_temperature: 2.0,
                standardise_teacher: true,
                ..PLAIN
            },
            Method::Dkd => LossTerms { teacher_target: 1.0, teacher_others: 8.0, ..PLAIN },
            Method::DkdStandardised => LossTerms {
                teacher_target: 9.0,
                teacher_others: 72.0,
                teacher_temperature: 2.0,
                standardise_teacher: true,
                ..PLAIN
            },
            Method::Dist => LossTerms { teacher_classes: 2.0, teacher_images: 2.0, ..PLAIN },
            Method::Wttm => LossTerms { teacher_transformed: 1.0, ..PLAIN },
            Method::Simkd => LossTerms { alpha: 0.0, teacher_features: 1.0, ..PLAIN },
            Method::RkdOnline => LossTerms { beta: RELATIONS, beta0: 1.0, beta1: 2.0, ..PLAIN },
            Method::RkdOnlineDistance => LossTerms { beta: RELATIONS, beta0: 1.0, ..PLAIN },
            Method::RkdOnlineAngle => LossTerms { beta: RELATIONS, beta1: 2.0, ..PLAIN },
            Method::Mcl => LossTerms { beta: 1.0, beta2: 1.0, beta3: 1.0, ..PLAIN },
            Method::CtslMkt => CTSL_MKT,
            Method::CtslMktPaper => CTSL_MKT_PAPER,
            Method::CtslMktPaperNoSelf => LossTerms { gamma: 0.0, ..CTSL_MKT_PAPER },
            Method::CtslMktPaperNoResponse => LossTerms { beta2: 0.0, ..CTSL_MKT_PAPER },
            Method::CtslMktPaperNoRelation => LossTerms { beta0: 0.0, beta1: 0.0, ..CTSL_MKT_PAPER },
            Method::CtslMktPaperNoDistance => LossTerms { beta0: 0.0, ..CTSL_MKT_PAPER },
            Method::CtslMktPaperNoAngle => LossTerms { beta1: 0.0, ..CTSL_MKT_PAPER },
        }
    }

    /// Epochs during which every term but the cross-entropy rises to its weight in a training of so many epochs, unless the
    /// pipeline says it. It may be longer than the training.
    pub fn ramp(self, epochs: usize) -> usize {
        if self == Method::CtslMkt { RAMP.max(epochs / 2) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_raises_every_term_but_the_cross_entropy() {
        let all = LossTerms {
            teacher: 1.0,
            teacher_distance: 2.0,
            teacher_angle: 3.0,
            smooth_teacher: 4.0,
            ..CTSL_MKT_PAPER
        };
        let factor = (-5.0f64 * 0.25).exp();
        for term in Term::ALL {
            let expected = if *term == Term::CrossEntropy { 1.0 } else { factor * all.weight(*term) };
            assert!((all.ramped(0.5).weight(*term) - expected).abs() < 1e-12, "{term:?}");
        }
        assert_eq!(all.ramped(1.0), all);
    }

    #[test]
    fn what_is_written_overrides_the_method() {
        let written = LossWeights { gamma: Some(0.5), label_smoothing: Some(0.2), ..LossWeights::default() };
        let terms = Method::CtslMktPaper.terms(&written);
        assert_eq!(terms, LossTerms { gamma: 0.5, label_smoothing: 0.2, ..CTSL_MKT_PAPER });
    }

    #[test]
    fn a_term_is_on_only_if_both_of_its_weights_are() {
        assert!(!LossTerms { beta2: 1.0, ..PLAIN }.mutual());
        assert!(!LossTerms { beta: 1.0, ..PLAIN }.mutual());
        assert!(Method::Dml.own_terms().mutual() && !Method::Dml.own_terms().relational());
        assert!(Method::Mcl.own_terms().mutual() && !Method::Mcl.own_terms().taught());
        for method in
            [Method::KdStandardised, Method::Dkd, Method::DkdStandardised, Method::Dist, Method::Wttm]
        {
            assert!(method.own_terms().taught() && !method.own_terms().mutual(), "{method:?}");
        }
        let on = |method: Method| Term::ALL.iter().filter(|term| method.own_terms().any(&[**term])).count();
        assert_eq!(
            [Method::Plain, Method::CtslMkt, Method::CtslMktPaper, Method::CtslMktPaperNoAngle, Method::Rkd]
                .map(on),
            [1, 4, 5, 4, 3]
        );
    }
}
