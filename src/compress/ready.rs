//! Models of the zoo that meet a target, beside or instead of parts of the original.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::config::{ModelSpec, StudentModel};
use crate::graph::{Cost, Graph, Model, cost};
use crate::zoo;

use super::candidates::Candidate;
use super::search::{Measured, Search};

/// A model of the zoo for the original's images and classes.
struct Ready {
    name: &'static str,
    family: &'static str,
    graph: Graph,
    macs: u64,
}

impl Search<'_> {
    /// The largest model of each family of the zoo that meets the target, of those at most `most`, the largest first; and
    /// what the smallest costs if none meets it.
    pub(super) fn ready(&self, most: usize) -> Result<(Vec<Candidate>, Option<Measured>)> {
        let mut families: BTreeMap<&str, Vec<Ready>> = BTreeMap::new();
        for ready in self.buildable()? {
            families.entry(ready.family).or_default().push(ready);
        }
        let (mut found, mut smallest) = (Vec::new(), None::<Measured>);
        for family in families.values_mut() {
            family.sort_by_key(|ready| std::cmp::Reverse(ready.macs));
            for ready in family.drain(..) {
                let model = Model::untrained(ready.graph, self.subject.seed);
                let measured = self.measured(&model)?;
                if self.met(measured) {
                    found.push((ready.macs, ready.name, model));
                    break;
                }
                if smallest.is_none_or(|smallest| measured.cost < smallest.cost) {
                    smallest = Some(measured);
                }
            }
        }
        found.sort_by_key(|(macs, ..)| std::cmp::Reverse(*macs));
        found.truncate(most);
        let candidates = found.into_iter().map(|(_, name, model)| {
            self.candidate(name.to_string(), StudentModel::Named(name.to_string()), model, None)
        });
        Ok((candidates.collect::<Result<_>>()?, smallest))
    }

    /// The models that take the original's images, with no more parameters than it and no more multiply-accumulates, if
    /// those are known: nobody wants a file that is smaller in one respect and larger in all others.
    fn buildable(&self) -> Result<Vec<Ready>> {
        let (shape, classes) = (self.subject.network.shape()?, self.subject.network.classes());
        let mut models = Vec::new();
        for (name, _) in zoo::ready() {
            let spec = zoo::find_model(name, Path::new(""))?;
            let ModelSpec::Family(family) = &spec else { continue };
            let family = family.name();
            let Ok(graph) = zoo::build(&spec, shape, classes) else { continue };
            let Cost { params, macs, .. } = cost(&graph);
            if params <= self.original.params && self.original.macs.is_none_or(|most| macs <= most) {
                models.push(Ready { name, family, graph, macs });
            }
        }
        Ok(models)
    }
}
