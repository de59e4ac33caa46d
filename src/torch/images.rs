//! Tensors as the kernels see them: float32 on the CPU, images channels-last.

use anyhow::Result;
use tch::{Device, Kind, TchError, Tensor};

/// The same values with channels-last strides, the layout in which convolutions are fastest. What is
/// no image comes back contiguous.
///
/// # Errors
/// If memory runs out.
pub fn channels_last(tensor: &Tensor) -> Result<Tensor, TchError> {
    if tensor.dim() != 4 {
        return tensor.f_contiguous();
    }
    tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

/// The channels of `groups` groups in turns, channels-last as they come. libtorch's own on a GPU views its input,
/// which not every layout allows, and gives another.
///
/// # Errors
/// If memory runs out.
pub(super) fn channel_shuffle(tensor: &Tensor, groups: i64) -> Result<Tensor, TchError> {
    channels_last(&channels_last(tensor)?.f_channel_shuffle(groups)?)
}

/// An uninitialised tensor like another, channels-last.
///
/// # Errors
/// If memory runs out.
pub(super) fn empty_like(other: &Tensor, channels: i64) -> Result<Tensor> {
    let options = (other.kind(), other.device());
    match other.size().as_slice() {
        &[batch, _, height, width] => {
            Ok(Tensor::f_empty([batch, height, width, channels], options)?.f_permute([0, 3, 1, 2])?)
        }
        size => Ok(Tensor::f_empty(size, options)?),
    }
}

/// Whether the kernels can work on a tensor at all.
pub(super) fn suits(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && crate::kernels::supported()
}

/// The floats of a tensor in memory's order, which must be channels-last or, for what is no image,
/// contiguous.
pub(super) fn floats(tensor: &Tensor) -> &[f32] {
    // SAFETY: the storage lives as long as the tensor; the length and kind are checked.
    unsafe { std::slice::from_raw_parts(start(tensor), tensor.numel()) }
}

/// As [`floats`], to write.
#[allow(clippy::mut_from_ref, reason = "libtorch's tensors are shared by nature")]
pub(super) fn floats_mut(tensor: &Tensor) -> &mut [f32] {
    // SAFETY: as in `floats`; callers write to tensors that nothing else holds a slice of.
    unsafe { std::slice::from_raw_parts_mut(start(tensor), tensor.numel()) }
}

fn start(tensor: &Tensor) -> *mut f32 {
    assert!(tensor.kind() == Kind::Float && tensor.device() == Device::Cpu);
    let ordered = match tensor.dim() {
        4 => tensor.permute([0, 2, 3, 1]).is_contiguous(),
        _ => tensor.is_contiguous(),
    };
    assert!(ordered, "strides {:?} of {:?}", tensor.stride(), tensor.size());
    tensor.data_ptr().cast()
}
