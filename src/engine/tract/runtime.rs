//! Runs plans. Each plan keeps its state, including the memory its nodes allocated, from run to run.

use std::collections::HashMap;

use anyhow::{Context, Result, anyhow};
use ndarray::{ArrayD, ArrayView, ArrayViewD, Axis, IxDyn, concatenate};
use tract_onnx::prelude::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::{
    InferenceModel, TValue, TVec, Tensor, TractResult, TypedModel, TypedSimpleState, tvec,
};

use crate::config::EngineName;
use crate::onnx::OnnxFile;

use super::super::{Engine, EngineOptions};
use super::plan::{image_by_image, plan, read, typed};

/// A model and the plans made from it so far.
pub struct TractEngine {
    model: InferenceModel,
    outputs: Vec<String>,
    options: EngineOptions,
    pool: Option<Executor>,
    /// Whether the file takes batches of any size.
    any_batch: bool,
    /// Plans by the shape of their input.
    plans: HashMap<Vec<usize>, TypedSimpleState>,
    /// Whether batches are run image by image, by the shape of a batch of one.
    apart: HashMap<Vec<usize>, bool>,
    pub(super) bound: Option<Bound>,
}

/// A batch in the form in which it is run: whole or image by image.
pub(super) struct Bound {
    /// Shape of each part.
    pub shape: Vec<usize>,
    pub parts: Vec<TValue>,
}

impl TractEngine {
    /// Loads a file.
    ///
    /// # Errors
    /// `InputError` if tract refuses it.
    pub fn new(file: &OnnxFile, options: &EngineOptions) -> Result<Self> {
        Ok(Self {
            model: read(file)?,
            outputs: file.contract.outputs.iter().map(|output| output.tensor.name.clone()).collect(),
            options: options.clone(),
            pool: (options.threads > 1).then(|| Executor::multithread(options.threads)),
            any_batch: file.contract.batch().is_none(),
            plans: HashMap::new(),
            apart: HashMap::new(),
            bound: None,
        })
    }

    /// Copies a batch to where its plan reads it, and makes that plan if it does not exist yet.
    fn part(&mut self, images: ArrayViewD<'_, f32>) -> Result<Bound> {
        let shape = images.shape().to_vec();
        let single = [&[1], &shape[1..]].concat();
        let parts = if shape != single && self.takes_apart(&single)? {
            images.axis_chunks_iter(Axis(0), 1).map(tensor).collect::<Result<Vec<_>>>()?
        } else {
            vec![tensor(images)?]
        };
        let shape = parts.first().context("a batch has an image")?.shape().to_vec();
        self.plan(&shape)?;
        Ok(Bound { shape, parts })
    }

    /// Whether a batch is run image by image. Networks that run without rewriting are never split, because they are the
    /// baseline for the rewritten ones.
    fn takes_apart(&mut self, single: &[usize]) -> Result<bool> {
        if !self.options.optimize || !self.any_batch {
            return Ok(false);
        }
        if let Some(&apart) = self.apart.get(single) {
            return Ok(apart);
        }
        // A network that cannot be planned for a single image is run on whole batches, if at all.
        let typed = typed(&self.model, single, true).ok().filter(image_by_image);
        self.apart.insert(single.to_vec(), typed.is_some());
        match typed {
            Some(typed) => self.keep(single, typed).map(|()| true),
            None => Ok(false),
        }
    }

    fn plan(&mut self, shape: &[usize]) -> Result<()> {
        if self.plans.contains_key(shape) {
            return Ok(());
        }
        let typed = typed(&self.model, shape, self.options.optimize)?;
        self.keep(shape, typed)
    }

    fn keep(&mut self, shape: &[usize], typed: TypedModel) -> Result<()> {
        let plan = plan(typed, self.options.optimize)?;
        self.plans.insert(shape.to_vec(), plan.spawn()?);
        Ok(())
    }

    /// Runs every part with `run`, on the number of threads given in the options.
    pub(super) fn execute<T>(
        &mut self,
        bound: &Bound,
        mut run: impl FnMut(&mut TypedSimpleState, TVec<TValue>) -> TractResult<T>,
    ) -> Result<Vec<T>> {
        let state = self.plans.get_mut(&bound.shape).context("a plan was made for what is bound")?;
        let executor = self.pool.clone().unwrap_or(Executor::SingleThread);
        let parts = bound.parts.iter().map(|part| tvec!(part.clone()));
        multithread_tract_scope(executor, || parts.map(|part| run(state, part)).collect::<TractResult<_>>())
            .map_err(|error| anyhow!("tract: {error:#}"))
    }
}

impl Engine for TractEngine {
    fn name(&self) -> String {
        self.options.name(EngineName::Tract)
    }

    fn outputs(&self) -> Vec<String> {
        self.outputs.clone()
    }

    fn run(&mut self, images: ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f32>>> {
        let bound = self.part(images)?;
        let parts = self.execute(&bound, TypedSimpleState::run)?;
        let joined = (0..self.outputs.len()).map(|output| -> Result<ArrayD<f32>> {
            let views = parts.iter().map(|outputs| view(&outputs[output])).collect::<Result<Vec<_>>>()?;
            match &views[..] {
                [whole] => Ok(whole.to_owned()),
                _ => Ok(concatenate(Axis(0), &views)?),
            }
        });
        joined.collect()
    }

    fn bind(&mut self, images: ArrayViewD<'_, f32>) -> Result<()> {
        self.bound = Some(self.part(images)?);
        Ok(())
    }

    fn run_bound(&mut self) -> Result<()> {
        let bound = self.bound.take().context("no batch is bound")?;
        let done = self.execute(&bound, TypedSimpleState::run);
        self.bound = Some(bound);
        done?;
        Ok(())
    }
}

fn tensor(images: ArrayViewD<'_, f32>) -> Result<TValue> {
    let standard = images.as_standard_layout();
    let values = standard.as_slice().context("a standard layout is one slice")?;
    Ok(Tensor::from_shape(images.shape(), values).map_err(|error| anyhow!("tract: {error:#}"))?.into())
}

fn view(output: &TValue) -> Result<ArrayViewD<'_, f32>> {
    let values = output.try_as_plain_ram().and_then(|plain| plain.as_slice::<f32>());
    let values = values.map_err(|error| anyhow!("tract: {error:#}"))?;
    Ok(ArrayView::from_shape(IxDyn(output.shape()), values)?)
}
