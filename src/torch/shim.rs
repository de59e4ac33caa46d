//! The few calls into libtorch that `tch` does not offer, through `shim.cpp`.

use std::ffi::{CStr, c_char};

use anyhow::{Result, anyhow, ensure};
use tch::Tensor;
use torch_sys::C_tensor;

use crate::graph::Conv2d;

unsafe extern "C" {
    fn cohort_free(text: *const c_char);
    fn cohort_set_convolutions(tf32: bool, timed: bool) -> *const c_char;
    fn cohort_convolution_backward(
        gradient: *const C_tensor,
        input: *const C_tensor,
        weight: *const C_tensor,
        geometry: *const i64,
        groups: i64,
        of_input: bool,
        of_bias: bool,
        with_onednn: bool,
        out: *mut *mut C_tensor,
    ) -> *const c_char;
    fn cohort_batch_norm_backward(
        gradient: *const C_tensor,
        input: *const C_tensor,
        weight: *const C_tensor,
        mean: *const C_tensor,
        inverse_deviation: *const C_tensor,
        eps: f64,
        out: *mut *mut C_tensor,
    ) -> *const c_char;
}

/// Sets how convolutions of float32 on a GPU are computed, in the whole process: whether they may round their factors to
/// TF32, and whether cuDNN times its algorithms for every new shape, which pays for thousands of batches of one shape.
/// Matrix products never round to TF32, because the relations between embeddings are small differences of large sums.
/// Until this is called, libtorch's own default holds, which lets convolutions round.
///
/// # Errors
/// libtorch's error message.
pub fn set_convolutions(tf32: bool, timed: bool) -> Result<()> {
    // SAFETY: takes no pointer; libtorch's context is made at the first call and lives on.
    done(unsafe { cohort_set_convolutions(tf32, timed) })
}

/// Gradients of a convolution's input (if asked for), weight, and bias (if it has one).
///
/// # Errors
/// libtorch's error message.
pub(super) fn convolution_backward(
    gradient: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    conv: &Conv2d,
    of_input: bool,
) -> Result<[Option<Tensor>; 3]> {
    let pairs = [conv.stride, conv.padding, conv.dilation];
    let geometry: Vec<i64> = pairs.iter().flatten().map(|&number| number as i64).collect();
    let mut out = [std::ptr::null_mut(); 3];
    // SAFETY: the tensors live through the call, the geometry has six numbers, `out` three places.
    let problem = unsafe {
        cohort_convolution_backward(
            gradient.as_ptr(),
            input.as_ptr(),
            weight.as_ptr(),
            geometry.as_ptr(),
            conv.groups as i64,
            of_input,
            conv.bias,
            !writes_out_of_bounds(conv, input),
            out.as_mut_ptr(),
        )
    };
    taken(problem, out)
}

/// Whether oneDNN, in libtorch 2.11, computes this convolution's weight gradient with its AVX2 code for 1 × 1
/// kernels and a number of channels that is not a multiple of the eight in a register. That code writes past the
/// end of the gradient (valgrind: `jit_avx2_1x1_convolution_bwd_weights_t`), so that results differ from run to
/// run.
fn writes_out_of_bounds(conv: &Conv2d, input: &Tensor) -> bool {
    const LANES: usize = 8;
    let channels = [input.size()[1] as usize / conv.groups, conv.out_channels / conv.groups];
    let partly_filled = channels.iter().any(|channels| !channels.is_multiple_of(LANES));
    conv.kernel == [1, 1] && partly_filled && input.device() == tch::Device::Cpu && !has_avx512()
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512f")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

/// Gradients of a normalisation's input, weight and bias, with the batch's own statistics.
///
/// # Errors
/// libtorch's error message.
pub(super) fn batch_norm_backward(
    gradient: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    [mean, inverse_deviation]: [&Tensor; 2],
    eps: f64,
) -> Result<[Option<Tensor>; 3]> {
    let mut out = [std::ptr::null_mut(); 3];
    // SAFETY: as above.
    let problem = unsafe {
        cohort_batch_norm_backward(
            gradient.as_ptr(),
            input.as_ptr(),
            weight.as_ptr(),
            mean.as_ptr(),
            inverse_deviation.as_ptr(),
            eps,
            out.as_mut_ptr(),
        )
    };
    taken(problem, out)
}

/// Turns a call's message into an error.
fn done(problem: *const c_char) -> Result<()> {
    if problem.is_null() {
        return Ok(());
    }
    // SAFETY: a message is a C string that is ours until it is freed.
    let text = unsafe {
        let text = CStr::from_ptr(problem).to_string_lossy().into_owned();
        cohort_free(problem);
        text
    };
    Err(anyhow!("libtorch: {text}"))
}

/// Turns a call's result into an error or its tensors.
fn taken(problem: *const c_char, out: [*mut C_tensor; 3]) -> Result<[Option<Tensor>; 3]> {
    done(problem)?;
    ensure!(!out[1].is_null(), "libtorch gave no gradient of the weight");
    // SAFETY: tensors that come back belong to the caller.
    Ok(out.map(|tensor| (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) })))
}
