//! Tensors in the form that the kernels need: float32 on the CPU, images channels-last.

use anyhow::Result;
use tch::{Device, Kind, TchError, Tensor};

/// The same values with channels-last strides, the layout in which convolutions are fastest. A tensor that is not
/// an image is returned contiguous.
///
/// # Errors
/// If memory runs out.
pub fn channels_last(tensor: &Tensor) -> Result<Tensor, TchError> {
    if tensor.dim() != 4 {
        return tensor.f_contiguous();
    }
    tensor.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])
}

/// Interleaves the channels of `groups` groups and keeps the channels-last layout. libtorch's own function on a
/// GPU views its input, which not every layout allows, and returns another layout.
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

/// Whether the kernels can work on a tensor.
pub(super) fn suits(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && crate::kernels::supported()
}

/// A new tensor like another, channels-last, whose floats `fill` writes in the order of memory, and the value
/// that `fill` returns. The floats are uninitialised before.
///
/// # Errors
/// If memory runs out.
pub(super) fn filled_like<T>(
    other: &Tensor,
    channels: i64,
    fill: impl FnOnce(&mut [f32]) -> T,
) -> Result<(Tensor, T)> {
    let mut tensor = empty_like(other, channels)?;
    // SAFETY: the tensor is new, and nothing else has a handle to its storage before it is returned.
    let returned = fill(unsafe { floats_mut(&mut tensor) });
    Ok((tensor, returned))
}

/// The floats of a tensor in the order of memory. The tensor must be channels-last or, if it is not an image,
/// contiguous.
///
/// # Safety
/// Nothing may write to the tensor's storage while the slice is in use. Borrowing the tensor does not ensure that: a
/// tensor is a handle, and other handles to the same storage (shallow clones, views) can be written to.
pub(super) unsafe fn floats(tensor: &Tensor) -> &[f32] {
    // SAFETY: `start` checked that the tensor's floats lie in one block; the tensor keeps the storage alive for as long
    // as it is borrowed, and the caller sees to it that nothing writes there.
    unsafe { std::slice::from_raw_parts(start(tensor), tensor.numel()) }
}

/// As [`floats`], for writing.
///
/// # Safety
/// Nothing else may read or write these floats while the slice is in use, through this handle or another to the same
/// storage.
pub(super) unsafe fn floats_mut(tensor: &mut Tensor) -> &mut [f32] {
    // SAFETY: as in `floats`; the caller sees to it that nothing else uses these floats. Memory that was never written
    // to comes from libtorch's allocator, and any bits are a float.
    unsafe { std::slice::from_raw_parts_mut(start(tensor), tensor.numel()) }
}

/// The address of a tensor's floats, which lie in one block in channels-last order.
fn start(tensor: &Tensor) -> *mut f32 {
    assert!(tensor.kind() == Kind::Float && tensor.device() == Device::Cpu);
    let ordered = match tensor.dim() {
        4 => tensor.permute([0, 2, 3, 1]).is_contiguous(),
        _ => tensor.is_contiguous(),
    };
    assert!(ordered, "strides {:?} of {:?}", tensor.stride(), tensor.size());
    tensor.data_ptr().cast()
}
