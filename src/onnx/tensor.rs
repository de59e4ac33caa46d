//! Tensors as ONNX files store them: raw bytes or typed fields, of every plain number type.

use tract_onnx::pb::TensorProto;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};

/// The numbers of a stored tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    Floats(Vec<f64>),
    /// Integers and booleans; unsigned ones above the maximum of `i64` are refused.
    Ints(Vec<i64>),
}

/// Number of elements.
///
/// # Errors
/// If a dimension is negative or the product overflows.
pub fn elements(tensor: &TensorProto) -> Result<usize, String> {
    let product = tensor
        .dims
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?))
        .filter(|&product| i64::try_from(product).is_ok());
    product
        .ok_or_else(|| format!("initializer '{}' has impossible dimensions {:?}", tensor.name, tensor.dims))
}

/// Bytes per element, for types of fixed size.
pub fn element_bytes(data_type: i32) -> Option<usize> {
    match DataType::try_from(data_type).ok()? {
        DataType::Int8 | DataType::Uint8 | DataType::Bool => Some(1),
        DataType::Float16 | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => Some(2),
        DataType::Float | DataType::Int32 | DataType::Uint32 => Some(4),
        DataType::Double | DataType::Int64 | DataType::Uint64 => Some(8),
        DataType::Undefined
        | DataType::String
        | DataType::Complex64
        | DataType::Complex128
        | DataType::Float8e4m3fn
        | DataType::Float8e4m3fnuz
        | DataType::Float8e5m2
        | DataType::Float8e5m2fnuz
        | DataType::Uint4
        | DataType::Int4
        | DataType::Float4e2m1 => None,
    }
}

/// Name of a type.
pub fn type_name(data_type: i32) -> &'static str {
    DataType::try_from(data_type).map_or("unknown", |kind| kind.as_str_name())
}

pub fn is_float(data_type: i32) -> bool {
    let floats = [DataType::Float, DataType::Double, DataType::Float16, DataType::Bfloat16];
    floats.iter().any(|&kind| kind as i32 == data_type)
}

pub fn is_external(tensor: &TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty()
}

/// Checks that a tensor holds as many numbers as its dimensions claim.
///
/// # Errors
/// A sentence that names the tensor.
pub fn check(tensor: &TensorProto) -> Result<(), String> {
    let claimed = elements(tensor)?;
    let Some(bytes) = element_bytes(tensor.data_type) else { return Ok(()) };
    let held = match tensor.raw_data.len() {
        0 => typed_length(tensor),
        raw if raw % bytes == 0 => raw / bytes,
        raw => return Err(format!("initializer '{}' holds {raw} bytes, no whole numbers", tensor.name)),
    };
    if held != claimed {
        let (name, dims) = (&tensor.name, &tensor.dims);
        return Err(format!("initializer '{name}' claims {claimed} values {dims:?} and holds {held}"));
    }
    Ok(())
}

fn typed_length(tensor: &TensorProto) -> usize {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => tensor.float_data.len(),
        Ok(DataType::Double) => tensor.double_data.len(),
        Ok(DataType::Int64) => tensor.int64_data.len(),
        Ok(DataType::Uint64 | DataType::Uint32) => tensor.uint64_data.len(),
        _ => tensor.int32_data.len(),
    }
}

/// The values of a tensor of floats as float32; half precision is widened exactly, double precision is rounded.
///
/// # Errors
/// If it does not hold floats, or not as many as it claims.
pub fn floats(tensor: &TensorProto) -> Result<Vec<f32>, String> {
    check(tensor)?;
    if tensor.data_type == DataType::Float as i32 {
        return Ok(match tensor.raw_data.len() {
            0 => tensor.float_data.clone(),
            _ => tensor
                .raw_data
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
        });
    }
    match numbers(tensor)? {
        Stored::Floats(values) => Ok(values.into_iter().map(|value| value as f32).collect()),
        Stored::Ints(_) => {
            Err(format!("'{}' is of type {}, expected floats", tensor.name, type_name(tensor.data_type)))
        }
    }
}

/// The values of a tensor.
///
/// # Errors
/// If its type is not a plain number type, or if it does not hold as many as it claims.
#[expect(clippy::wildcard_enum_match_arm, reason = "ONNX's types, of which these are read")]
pub fn numbers(tensor: &TensorProto) -> Result<Stored, String> {
    check(tensor)?;
    let unsupported = || format!("'{}' is of type {}", tensor.name, type_name(tensor.data_type));
    let bytes = element_bytes(tensor.data_type).ok_or_else(unsupported)?;
    let kind = DataType::try_from(tensor.data_type).map_err(|_| unsupported())?;
    let raw = &tensor.raw_data;
    let words = || -> Vec<u64> {
        if raw.is_empty() {
            return match kind {
                DataType::Uint64 | DataType::Uint32 => tensor.uint64_data.clone(),
                DataType::Int64 => tensor.int64_data.iter().map(|&value| value as u64).collect(),
                _ => tensor.int32_data.iter().map(|&value| i64::from(value) as u64).collect(),
            };
        }
        let word = |chunk: &[u8]| chunk.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        raw.chunks_exact(bytes).map(word).collect()
    };
    let floats = |float: fn(u64) -> f64| Stored::Floats(words().into_iter().map(float).collect());
    let ints = |int: fn(u64) -> i64| Stored::Ints(words().into_iter().map(int).collect());
    Ok(match kind {
        DataType::Float if raw.is_empty() => {
            Stored::Floats(tensor.float_data.iter().map(|&v| v.into()).collect())
        }
        DataType::Double if raw.is_empty() => Stored::Floats(tensor.double_data.clone()),
        DataType::Float => floats(|word| f32::from_bits(word as u32).into()),
        DataType::Double => floats(f64::from_bits),
        DataType::Float16 => floats(|word| float16(word as u16)),
        DataType::Bfloat16 => floats(|word| f32::from_bits((word as u32) << 16).into()),
        DataType::Int8 => ints(|word| i64::from(word as i8)),
        DataType::Int16 => ints(|word| i64::from(word as i16)),
        DataType::Int32 => ints(|word| i64::from(word as i32)),
        DataType::Int64 => ints(|word| word as i64),
        DataType::Uint8 => ints(|word| i64::from(word as u8)),
        DataType::Uint16 => ints(|word| i64::from(word as u16)),
        DataType::Uint32 => ints(|word| i64::from(word as u32)),
        DataType::Bool => ints(|word| i64::from(word != 0)),
        DataType::Uint64 if words().iter().all(|&word| i64::try_from(word).is_ok()) => {
            ints(|word| word as i64)
        }
        _ => return Err(unsupported()),
    })
}

/// Decodes an IEEE 754 binary16 number.
pub fn float16(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data_type: DataType, count: i64) -> TensorProto {
        TensorProto {
            name: "t".into(),
            dims: vec![count],
            data_type: data_type as i32,
            ..TensorProto::default()
        }
    }

    #[test]
    fn every_field_is_read() {
        let halves = vec![0x3c00, 0xc000, 0x3555, 0x0001, 0x7bff];
        let widened = vec![1.0, -2.0, 0.333_251_953_125, 2f64.powi(-24), 65504.0];
        let raw_halves = halves.iter().flat_map(|&half| (half as u16).to_le_bytes()).collect();
        for (proto, expected) in [
            (TensorProto { float_data: vec![1.5, -2.0], ..tensor(DataType::Float, 2) }, vec![1.5, -2.0]),
            (TensorProto { double_data: vec![0.1], ..tensor(DataType::Double, 1) }, vec![0.1]),
            (TensorProto { raw_data: 0.1f64.to_le_bytes().into(), ..tensor(DataType::Double, 1) }, vec![0.1]),
            (TensorProto { int32_data: halves, ..tensor(DataType::Float16, 5) }, widened.clone()),
            (TensorProto { raw_data: raw_halves, ..tensor(DataType::Float16, 5) }, widened),
            (TensorProto { int32_data: vec![0x3fc0], ..tensor(DataType::Bfloat16, 1) }, vec![1.5]),
        ] {
            assert_eq!(numbers(&proto), Ok(Stored::Floats(expected)), "{proto:?}");
        }
        for (proto, expected) in [
            (TensorProto { int64_data: vec![-3], ..tensor(DataType::Int64, 1) }, -3),
            (TensorProto { raw_data: (-3i32).to_le_bytes().into(), ..tensor(DataType::Int32, 1) }, -3),
            (TensorProto { raw_data: vec![200], ..tensor(DataType::Int8, 1) }, -56),
            (TensorProto { raw_data: vec![200], ..tensor(DataType::Uint8, 1) }, 200),
            (TensorProto { int32_data: vec![1], ..tensor(DataType::Bool, 1) }, 1),
            (TensorProto { uint64_data: vec![7], ..tensor(DataType::Uint32, 1) }, 7),
        ] {
            assert_eq!(numbers(&proto), Ok(Stored::Ints(vec![expected])), "{proto:?}");
        }
        let beyond = TensorProto { uint64_data: vec![u64::MAX], ..tensor(DataType::Uint64, 1) };
        assert!(numbers(&beyond).is_err());
        assert!(numbers(&tensor(DataType::String, 0)).is_err());
    }

    #[test]
    fn claims_are_checked() {
        let wrong_field = TensorProto { int64_data: vec![1], ..tensor(DataType::Float, 1) };
        assert!(check(&wrong_field).unwrap_err().contains("holds 0"));
        let odd = TensorProto { raw_data: vec![0; 7], ..tensor(DataType::Float, 1) };
        assert!(check(&odd).unwrap_err().contains("no whole numbers"));
        let huge = TensorProto { dims: vec![1 << 40, 1 << 40], ..tensor(DataType::Float, 1) };
        assert!(check(&huge).unwrap_err().contains("impossible"));
        let negative = TensorProto { dims: vec![-1], ..tensor(DataType::Float, 1) };
        assert!(check(&negative).unwrap_err().contains("impossible"));
    }
}
