//! Converts arrays of `ndarray` to tensors of libtorch and back.

use anyhow::Result;
use ndarray::{ArrayD, ArrayViewD, IxDyn};
use tch::kind::Element;
use tch::{Device, Kind, Tensor};

/// Copies an array to a device.
///
/// # Errors
/// If libtorch cannot allocate it.
pub fn batch_tensor<T: Element + Copy>(array: ArrayViewD<'_, T>, device: Device) -> Result<Tensor> {
    let size = array.shape().iter().map(|&dim| dim as i64).collect::<Vec<_>>();
    let standard = array.as_standard_layout();
    let values = standard.as_slice().unwrap_or_default();
    Ok(Tensor::f_from_slice(values)?.f_view(size.as_slice())?.f_to_device(device)?)
}

/// Copies numbers to a device. Copies to a GPU start from pinned memory and are not waited for: libtorch keeps
/// that memory until the copy is done.
///
/// # Errors
/// If memory runs out.
pub fn sent<T: Element>(numbers: &[T], device: Device) -> Result<Tensor> {
    let here = Tensor::f_from_slice(numbers)?;
    match device {
        Device::Cuda(_) => {
            Ok(here.f_internal_pin_memory(device)?.f_to_device_(device, here.kind(), true, false)?)
        }
        Device::Cpu | Device::Mps | Device::Vulkan => Ok(here.f_to_device(device)?),
    }
}

/// Copies a tensor to an array of float32.
///
/// # Errors
/// If the copy fails.
pub fn to_f32(tensor: &Tensor) -> Result<ArrayD<f32>> {
    let (shape, tensor) = flattened(tensor, Kind::Float)?;
    let mut values = vec![0f32; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(ArrayD::from_shape_vec(IxDyn(&shape), values)?)
}

/// Copies a tensor to an array of float64.
///
/// # Errors
/// If the copy fails.
pub fn to_f64(tensor: &Tensor) -> Result<ArrayD<f64>> {
    let (shape, tensor) = flattened(tensor, Kind::Double)?;
    let mut values = vec![0f64; tensor.numel()];
    tensor.f_copy_data(&mut values, tensor.numel())?;
    Ok(ArrayD::from_shape_vec(IxDyn(&shape), values)?)
}

fn flattened(tensor: &Tensor, kind: Kind) -> Result<(Vec<usize>, Tensor)> {
    let shape = tensor.size().into_iter().map(|dim| dim as usize).collect();
    let flat =
        tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(kind)?.f_contiguous()?.f_reshape([-1])?;
    Ok((shape, flat))
}
