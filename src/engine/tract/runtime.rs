//! Plans of a model, and running them.
//!
//! A plan is made for each batch size, with every shape known: that is how tract is fastest.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use tract_onnx::prelude::multithread::{Executor, multithread_tract_scope};
use tract_onnx::prelude::{
    Datum, Framework, InferenceModel, InferenceModelExt, IntoRunnable, RunnableModel, TValue, TVec, Tensor,
    TractResult, TypedFact, TypedOp, tvec,
};
use tract_onnx::tract_hir::infer::InferenceFact;

use crate::config::EngineName;
use crate::error::InputError;
use crate::onnx::OnnxFile;

use super::super::{Engine, EngineOptions};

type Plan = Arc<RunnableModel<TypedFact, Box<dyn TypedOp>>>;

/// A model, and the plans made of it so far.
pub struct TractEngine {
    model: InferenceModel,
    outputs: Vec<String>,
    options: EngineOptions,
    pool: Option<Executor>,
    plans: HashMap<Vec<usize>, Plan>,
    pub(super) bound: Option<Bound>,
}

/// A batch with the plan it runs in.
pub(super) struct Bound {
    pub plan: Plan,
    pub inputs: TVec<TValue>,
}

impl TractEngine {
    /// Loads a file.
    ///
    /// # Errors
    /// [`InputError`] if tract refuses it.
    pub fn new(file: &OnnxFile, options: &EngineOptions) -> Result<Self> {
        let model = read(file)?;
        Ok(Self {
            model,
            outputs: file.outputs.iter().map(|output| output.name.clone()).collect(),
            options: options.clone(),
            pool: (options.threads > 1).then(|| Executor::multithread(options.threads)),
            plans: HashMap::new(),
            bound: None,
        })
    }

    fn plan(&mut self, shape: &[usize]) -> Result<Plan> {
        if let Some(plan) = self.plans.get(shape) {
            return Ok(Arc::clone(plan));
        }
        let (model, optimize) = (self.model.clone(), self.options.optimize);
        let plan = guarded(|| {
            let model = model.with_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), shape))?;
            let typed = if optimize { model.into_optimized()? } else { model.into_typed()? };
            typed.into_runnable()
        })
        .with_context(|| format!("tract cannot plan for input {shape:?}"))?;
        self.plans.insert(shape.to_vec(), Arc::clone(&plan));
        Ok(plan)
    }

    fn execute(&self, plan: &Plan, inputs: TVec<TValue>) -> Result<TVec<TValue>> {
        self.scoped(|| plan.run(inputs))
    }

    /// Does what tract computes on as many threads as the options say.
    pub(super) fn scoped<T>(&self, work: impl FnOnce() -> TractResult<T>) -> Result<T> {
        let executor = self.pool.clone().unwrap_or(Executor::SingleThread);
        multithread_tract_scope(executor, work).map_err(|error| anyhow!("tract: {error:#}"))
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
        let plan = self.plan(images.shape())?;
        let outputs = self.execute(&plan, tvec!(tensor(images)?.into()))?;
        let arrays = outputs.iter().map(|output| -> Result<ArrayD<f32>> {
            let values = output.try_as_plain_ram().and_then(|plain| plain.as_slice::<f32>());
            let values = values.map_err(|error| anyhow!("tract: {error:#}"))?;
            Ok(ArrayD::from_shape_vec(IxDyn(output.shape()), values.to_vec())?)
        });
        arrays.collect()
    }

    fn bind(&mut self, images: ArrayViewD<'_, f32>) -> Result<()> {
        let plan = self.plan(images.shape())?;
        self.bound = Some(Bound { plan, inputs: tvec!(tensor(images)?.into()) });
        Ok(())
    }

    fn run_bound(&mut self) -> Result<()> {
        let bound = self.bound.as_ref().context("no batch is bound")?;
        self.execute(&bound.plan, bound.inputs.clone())?;
        Ok(())
    }
}

/// Shape of every tensor that can be inferred, by name, for one sample of shape `sample`.
///
/// # Errors
/// [`InputError`] if tract refuses the file.
pub fn tensor_shapes(file: &OnnxFile, sample: &[usize]) -> Result<HashMap<String, Vec<usize>>> {
    let model = read(file)?;
    let fact = InferenceFact::dt_shape(f32::datum_type(), [&[1], sample].concat());
    let model = guarded(|| {
        let mut model = model.with_input_fact(0, fact)?;
        model.analyse(false)?;
        Ok(model)
    })?;
    let mut shapes = HashMap::new();
    for node in model.nodes() {
        for (slot, output) in node.outputs.iter().enumerate() {
            let Some(shape) = output.fact.shape.as_concrete_finite().ok().flatten() else { continue };
            let label = model.outlet_label((node.id, slot).into()).unwrap_or(&node.name);
            shapes.insert(label.to_string(), shape.to_vec());
        }
    }
    Ok(shapes)
}

fn read(file: &OnnxFile) -> Result<InferenceModel> {
    guarded(|| tract_onnx::onnx().model_for_read(&mut file.bytes_without_inner_shapes().as_ref()))
        .map_err(|error| InputError::new(format!("tract refuses {}: {error:#}", file.path.display())).into())
}

/// tract panics on some models that it cannot handle; here that is an error like any other.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| anyhow!("{error:#}")),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave up");
            Err(anyhow!("tract: {text}"))
        }
    }
}

fn tensor(images: ArrayViewD<'_, f32>) -> Result<Tensor> {
    let standard = images.as_standard_layout();
    let values = standard.as_slice().context("a standard layout is one slice")?;
    Tensor::from_shape(images.shape(), values).map_err(|error| anyhow!("tract: {error:#}"))
}
