//! ONNX Runtime as an engine, on the CPU and on CUDA.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use ndarray::{ArrayD, ArrayViewD};
use ort::ep::{self, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, NoSelectedOutputs, RunOptions, Session};
use ort::value::{Tensor, TensorRef};

use crate::config::{ConvSearch, EngineName};
use crate::contract::Precision;
use crate::error::InputError;
use crate::onnx::OnnxFile;

use super::super::{Engine, EngineOptions, INTER_OP_THREADS, Placement};
use super::library::{environment, prepare_cuda};
use super::placement;

/// ONNX Runtime's name for the CUDA provider.
const CUDA_PROVIDER: &str = "CUDAExecutionProvider";

/// Hint for when the CUDA provider does not load.
const CUDA_NEEDS: &str = "the CUDA provider needs an NVIDIA GPU and its driver, ONNX Runtime's CUDA build, and the \
                          libraries of CUDA and cuDNN on the loader's path; `cohort doctor` tries it";

/// Hint for when the GPU runs out of memory.
const CUDA_MEMORY: &str = "the GPU is out of memory: choose a smaller batch, or run fewer at once";

/// How the provider's own messages begin; source locations and function signatures come before them.
const CUDA_PROBLEMS: [&str; 4] =
    ["Failed to load library", "CUDA failure", "CUDNN failure", "CUBLAS failure"];

/// A session and the batch that is bound to it.
pub struct OrtEngine {
    session: Session,
    name: String,
    input: String,
    outputs: Vec<String>,
    cuda: bool,
    /// Whether bound runs are recorded as CUDA graphs, one per bound batch.
    graphs: bool,
    batches: i32,
    bound: Option<(IoBinding, RunOptions<NoSelectedOutputs>)>,
    /// Options of runs without a bound batch. Their input may lie at any address, so no CUDA graph can replay them.
    unbound: RunOptions<NoSelectedOutputs>,
}

/// Run option that tells the CUDA provider which graph a run is recorded in and replayed from.
const GRAPH: &str = "gpu_graph_id";
/// Value of [`GRAPH`] for a run without a CUDA graph.
const NO_GRAPH: i32 = -1;

impl OrtEngine {
    /// Loads a file for the CPU provider.
    ///
    /// # Errors
    /// [`InputError`] if the library is missing or refuses the file.
    pub fn cpu(file: &OnnxFile, options: &EngineOptions) -> Result<Self> {
        Self::new(file, options, EngineName::OrtCpu, None, None)
    }

    /// Loads a file for the CUDA provider.
    ///
    /// # Errors
    /// [`InputError`] if the provider cannot load, or if a compute node would run elsewhere: by default, ONNX
    /// Runtime silently falls back to the CPU.
    pub fn cuda(file: &OnnxFile, options: &EngineOptions) -> Result<Self> {
        prepare_cuda()
            .map_err(|problem| refusal(&options.name(EngineName::OrtCuda), file, &problem, true))?;
        // According to its source, ONNX Runtime keeps half precision off the tensor cores as well when TF32 is off.
        let provider = ep::CUDA::default()
            .with_tf32(options.cuda.tf32 || file.contract.precision == Precision::Float16)
            .with_cuda_graph(options.cuda.graph)
            .with_conv_algorithm_search(search(options.cuda.conv_search))
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            .build()
            .error_on_failure();
        let engine = Self::new(file, options, EngineName::OrtCuda, Some(provider), None)?;
        placement::require(&engine.session, CUDA_PROVIDER)
            .map_err(|error| InputError::new(format!("{}: {error:#}", file.path.display())))?;
        Ok(engine)
    }

    /// Loads a file for the CPU provider with node profiling on. [`OrtEngine::end_times`] writes the times to a file
    /// whose path begins with `times`.
    ///
    /// # Errors
    /// Those of [`OrtEngine::cpu`].
    pub(super) fn timed(file: &OnnxFile, options: &EngineOptions, times: &Path) -> Result<Self> {
        Self::new(file, options, EngineName::OrtCpu, None, Some(times))
    }

    /// Ends the node profiling and returns the path of the file that holds the times.
    pub(super) fn end_times(&mut self) -> Result<PathBuf> {
        Ok(self.session.end_profiling()?.into())
    }

    fn new(
        file: &OnnxFile,
        options: &EngineOptions,
        engine: EngineName,
        provider: Option<ExecutionProviderDispatch>,
        times: Option<&Path>,
    ) -> Result<Self> {
        let environment = environment()?;
        let cuda = provider.is_some();
        let name = options.name(engine);
        let session = session(environment, file, options, provider, times)
            .map_err(|problem| refusal(&name, file, &told(&problem), cuda))?;
        let input = session.inputs().first().context("the session has no input")?.name().to_string();
        let outputs = session.outputs().iter().map(|output| output.name().to_string()).collect();
        let graphs = cuda && options.cuda.graph;
        let unbound = run_options(graphs.then_some(NO_GRAPH))?;
        Ok(Self { session, name, input, outputs, cuda, graphs, batches: 0, bound: None, unbound })
    }
}

fn refusal(name: &str, file: &OnnxFile, problem: &dyn Display, on_cuda: bool) -> InputError {
    let refused = InputError::new(format!("{name} refuses {}: {problem}", file.path.display()));
    if on_cuda { refused.hint(CUDA_NEEDS) } else { refused }
}

fn run_options(graph: Option<i32>) -> Result<RunOptions<NoSelectedOutputs>> {
    let mut options = RunOptions::new()?;
    if let Some(graph) = graph {
        options.set(GRAPH, graph.to_string())?;
    }
    Ok(options)
}

/// Converts the failure of a run into an error: on CUDA most failures come from the machine, not from a bug here.
fn failed(error: &ort::Error, on_cuda: bool) -> anyhow::Error {
    let text = error.to_string();
    if !on_cuda {
        return anyhow!(text);
    }
    let hint = if text.contains("allocate") { CUDA_MEMORY } else { CUDA_NEEDS };
    InputError::new(format!("on CUDA: {}", told(&text))).hint(hint).into()
}

fn search(search: ConvSearch) -> ep::cuda::ConvAlgorithmSearch {
    match search {
        ConvSearch::Exhaustive => ep::cuda::ConvAlgorithmSearch::Exhaustive,
        ConvSearch::Heuristic => ep::cuda::ConvAlgorithmSearch::Heuristic,
        ConvSearch::Default => ep::cuda::ConvAlgorithmSearch::Default,
    }
}

fn session(
    environment: &ort::environment::Environment,
    file: &OnnxFile,
    options: &EngineOptions,
    provider: Option<ExecutionProviderDispatch>,
    times: Option<&Path>,
) -> Result<Session, String> {
    let level = if options.optimize { GraphOptimizationLevel::All } else { GraphOptimizationLevel::Disable };
    let mut builder = Session::builder(environment).map_err(text)?;
    builder = builder.with_log_level(LogLevel::Error).map_err(text)?;
    builder = builder.with_intra_threads(options.threads).map_err(text)?;
    builder = builder.with_inter_threads(INTER_OP_THREADS).map_err(text)?;
    builder = builder.with_optimization_level(level).map_err(text)?;
    builder = builder.with_config_entry("session.force_spinning_stop", "1").map_err(text)?;
    builder = builder.with_config_entry("session.record_ep_graph_assignment_info", "1").map_err(text)?;
    if options.exact_int8 {
        builder = builder.with_config_entry("session.x64quantprecision", "1").map_err(text)?;
    }
    if let Some(times) = times {
        builder = builder.with_profiling(times).map_err(text)?;
    }
    if let Some(provider) = provider {
        builder = builder.with_execution_providers([provider]).map_err(text)?;
    }
    builder.commit_from_memory(&file.bytes).map_err(text)
}

fn text<R>(error: ort::Error<R>) -> String {
    error.to_string()
}

/// A provider's error message without its source location.
fn told(problem: &str) -> &str {
    let starts = CUDA_PROBLEMS.iter().filter_map(|mark| problem.rfind(mark));
    let own = starts.max().map_or(problem, |start| &problem[start..]);
    own.split(" ; GPU=").next().unwrap_or(own).trim()
}

impl Engine for OrtEngine {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn outputs(&self) -> Vec<String> {
        self.outputs.clone()
    }

    fn run(&mut self, images: ArrayViewD<'_, f32>) -> Result<Vec<ArrayD<f32>>> {
        let images = images.as_standard_layout();
        let input = TensorRef::from_array_view(images.view())?;
        let (inputs, cuda) = (ort::inputs![self.input.as_str() => input], self.cuda);
        let outputs = self.session.run_with_options(inputs, &self.unbound);
        let outputs = outputs.map_err(|error| failed(&error, cuda))?;
        let mut arrays = Vec::with_capacity(self.outputs.len());
        for name in &self.outputs {
            arrays.push(outputs[name.as_str()].try_extract_array::<f32>()?.to_owned());
        }
        Ok(arrays)
    }

    fn bind(&mut self, images: ArrayViewD<'_, f32>) -> Result<()> {
        self.bound = None;
        let shapes: Vec<Vec<i64>> = self
            .run(images.view())?
            .iter()
            .map(|output| output.shape().iter().map(|&dim| dim as i64).collect())
            .collect();
        let mut binding = self.session.create_binding()?;
        let input = Tensor::from_array(images.as_standard_layout().into_owned())?;
        if self.cuda {
            binding.bind_input(self.input.as_str(), &input.to(AllocationDevice::CUDA, 0)?)?;
            let device =
                MemoryInfo::new(AllocationDevice::CUDA, 0, AllocatorType::Device, MemoryType::Default)?;
            let allocator = Allocator::new(&self.session, device)?;
            // Allocated once, because a recorded CUDA graph always writes to the addresses it was recorded with.
            for (name, shape) in self.outputs.iter().zip(shapes) {
                binding.bind_output(name.as_str(), Tensor::<f32>::new(&allocator, shape)?)?;
            }
        } else {
            binding.bind_input(self.input.as_str(), &input)?;
            for (name, shape) in self.outputs.iter().zip(shapes) {
                let output = Tensor::<f32>::new(self.session.allocator(), shape)?;
                binding.bind_output(name.as_str(), output)?;
            }
        }
        binding.synchronize_inputs()?;
        self.batches += 1;
        self.bound = Some((binding, run_options(self.graphs.then_some(self.batches))?));
        Ok(())
    }

    fn run_into(&mut self, images: ArrayViewD<'_, f32>, outputs: &mut [ArrayD<f32>]) -> Result<()> {
        let images = images.as_standard_layout();
        let input = TensorRef::from_array_view(images.view())?;
        let (inputs, cuda) = (ort::inputs![self.input.as_str() => input], self.cuda);
        let values = self.session.run_with_options(inputs, &self.unbound);
        let values = values.map_err(|error| failed(&error, cuda))?;
        for (name, output) in self.outputs.iter().zip(outputs) {
            output.assign(&values[name.as_str()].try_extract_array::<f32>()?);
        }
        Ok(())
    }

    fn placement(&self) -> Result<Placement> {
        placement::count(&self.session)
    }

    fn run_bound(&mut self) -> Result<()> {
        let (binding, options) = self.bound.as_ref().ok_or_else(|| anyhow!("no batch is bound"))?;
        let cuda = self.cuda;
        self.session.run_binding_with_options(binding, options).map_err(|error| failed(&error, cuda))?;
        if self.cuda {
            binding.synchronize_outputs()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tails of the messages of ONNX Runtime 1.30 without a driver and without a device.
    #[test]
    fn a_provider_is_quoted_without_its_source() {
        let unloadable = "/src/provider_bridge_ort.cc:1988 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() \
                          [ONNXRuntimeError] : 1 : FAIL : Failed to load library /lib/libonnxruntime_providers_cuda.so \
                          with error: libcuda.so.1: cannot open shared object file: No such file or directory\n";
        assert_eq!(
            told(unloadable),
            "Failed to load library /lib/libonnxruntime_providers_cuda.so with error: libcuda.so.1: cannot open \
             shared object file: No such file or directory"
        );
        let deviceless = "/src/cuda_call.cc:154 void CudaCall(ERRTYPE, const char*) [with ERRTYPE = cudaError; bool \
                          THRW = true] CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=vm ; \
                          file=cuda_execution_provider.cc ; line=352 ; expr=cudaSetDevice(info_.device_id); \n\n";
        assert_eq!(told(deviceless), "CUDA failure 100: no CUDA-capable device is detected");
        assert_eq!(told("Load model failed: no such operator"), "Load model failed: no such operator");
    }
}
