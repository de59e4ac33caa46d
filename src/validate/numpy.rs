//! Reads NumPy arrays: `.npy`, and `.npz` by name
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).
//!
//! A header's sizes are checked against the file: no memory is allocated for numbers that the file does not
//! contain.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use ndarray::{ArrayD, IxDyn, ShapeBuilder};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::InputError;
use crate::onnx::float16;

/// Maximum size of a header in bytes; NumPy's own have about a hundred.
const MAX_HEADER: usize = 1 << 16;

/// Maximum numbers in an array: 1 GiB in memory.
const MAX_NUMBERS: usize = 1 << 27;

/// Maximum number of axes.
const MAX_AXES: usize = 8;

/// Reads a `.npy` file, or one named array of a `.npz` file.
///
/// # Errors
/// [`InputError`] if it is missing or damaged, does not hold plain numbers, or claims another size than it
/// has.
pub fn read_array(path: &Path, name: Option<&str>) -> Result<ArrayD<f64>, InputError> {
    let fail = |problem: String| {
        InputError::new(format!("cannot read {}: {problem}", path.display()))
            .hint("write it with numpy.save, or numpy.savez by tensor name, as plain numbers")
    };
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let Some(name) = name else {
        let size = file.metadata().map_err(|error| fail(error.to_string()))?.len();
        return array(BufReader::new(file), size).map_err(fail);
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|error| fail(error.to_string()))?;
    let names: Vec<String> = archive.file_names().map(|name| name.trim_end_matches(".npy").into()).collect();
    let entry = archive.by_name(&format!("{name}.npy")).map_err(|error| {
        if matches!(error, ZipError::FileNotFound) {
            fail(format!("it has no array '{name}', only {}", names.join(", ")))
        } else {
            fail(format!("'{name}': {error}"))
        }
    })?;
    let size = entry.size();
    array(entry, size).map_err(|problem| fail(format!("'{name}': {problem}")))
}

/// A header's description of the numbers after it.
struct Header {
    kind: Kind,
    columns_first: bool,
    dims: Vec<usize>,
}

/// How a number is stored.
#[derive(Clone, Copy)]
struct Kind {
    bytes: usize,
    big_endian: bool,
    /// Converts little-endian bytes, padded with zeros.
    value: fn([u8; 8]) -> f64,
}

/// Reads an array from a reader that claims to hold `size` bytes.
fn array(mut reader: impl Read, size: u64) -> Result<ArrayD<f64>, String> {
    let (header, before) = header(&mut reader)?;
    let Header { kind, columns_first, dims } = header;
    let count = dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim));
    let Some(count) = count.filter(|&count| count <= MAX_NUMBERS && dims.len() <= MAX_AXES) else {
        return Err(format!(
            "an array of shape {dims:?}; at most {MAX_NUMBERS} numbers and {MAX_AXES} axes are read"
        ));
    };
    let there = size.saturating_sub(before);
    let claimed = (count * kind.bytes) as u64;
    if claimed != there {
        return Err(format!("an array of shape {dims:?} has {claimed} bytes, but the file has {there}"));
    }
    let mut values = Vec::new();
    let mut chunk = vec![0; kind.bytes << 12];
    while values.len() < count {
        let numbers = (count - values.len()).min(1 << 12);
        let bytes = &mut chunk[..numbers * kind.bytes];
        reader.read_exact(bytes).map_err(said)?;
        values.extend(bytes.chunks_exact(kind.bytes).map(|bytes| kind.read(bytes)));
    }
    let shape = IxDyn(&dims).into_shape_with_order();
    let shape = if columns_first { shape.f() } else { shape };
    ArrayD::from_shape_vec(shape, values).map_err(|error| error.to_string())
}

/// The header, and the number of bytes up to its end.
fn header(reader: &mut impl Read) -> Result<(Header, u64), String> {
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(said)?;
    if start[..6] != *b"\x93NUMPY" {
        return Err("not a NumPy array".into());
    }
    let mut length = [0; 4];
    let width = if start[6] == 1 { 2 } else { 4 };
    reader.read_exact(&mut length[..width]).map_err(said)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER {
        return Err(format!("a header of {length} bytes; at most {MAX_HEADER} are read"));
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(said)?;
    let text = String::from_utf8_lossy(&text);
    let broken = || format!("an invalid header '{}'", text.trim());
    let descr = entry(&text, "descr").ok_or_else(broken)?;
    let plain = descr.strip_prefix(['\'', '"']).and_then(|rest| rest.split(['\'', '"']).next());
    let kind = plain.and_then(Kind::of).ok_or_else(|| {
        let what = plain.unwrap_or("several fields");
        format!("its numbers are of type {what}, not int, uint or float")
    })?;
    let columns_first = match entry(&text, "fortran_order").ok_or_else(broken)? {
        order if order.starts_with("True") => true,
        order if order.starts_with("False") => false,
        _ => return Err(broken()),
    };
    let shape = entry(&text, "shape").and_then(|shape| shape.strip_prefix('(')?.split(')').next());
    let dims = shape.ok_or_else(broken)?.split(',').map(str::trim).filter(|dim| !dim.is_empty());
    let dims = dims.map(str::parse).collect::<Result<Vec<usize>, _>>().map_err(|_| broken())?;
    Ok((Header { kind, columns_first, dims }, (start.len() + width + length) as u64))
}

/// The value of a key in the header.
fn entry<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let quoted = ['\'', '"'].iter().find_map(|quote| header.split_once(&format!("{quote}{key}{quote}")));
    Some(quoted?.1.trim_start().strip_prefix(':')?.trim_start())
}

impl Kind {
    /// Parses NumPy's name of a type, such as `<f4`.
    fn of(name: &str) -> Option<Self> {
        let (order, kind) = name.split_at_checked(1)?;
        let big_endian = match order {
            "<" | "|" | "=" => false,
            ">" => true,
            _ => return None,
        };
        let (bytes, value): (usize, fn([u8; 8]) -> f64) = match kind {
            "f2" => (2, |bytes| float16(u64::from_le_bytes(bytes) as u16)),
            "f4" => (4, |bytes| f64::from(f32::from_bits(u64::from_le_bytes(bytes) as u32))),
            "f8" => (8, f64::from_le_bytes),
            "u1" => (1, |bytes| f64::from(bytes[0])),
            "u2" | "u4" | "u8" => {
                (usize::from(kind.as_bytes()[1] - b'0'), |bytes| u64::from_le_bytes(bytes) as f64)
            }
            "i1" => (1, |bytes| f64::from(bytes[0] as i8)),
            "i2" => (2, |bytes| f64::from(u64::from_le_bytes(bytes) as i16)),
            "i4" => (4, |bytes| f64::from(u64::from_le_bytes(bytes) as i32)),
            "i8" => (8, |bytes| i64::from_le_bytes(bytes) as f64),
            _ => return None,
        };
        Some(Self { bytes, big_endian, value })
    }

    fn read(self, stored: &[u8]) -> f64 {
        let mut bytes = [0; 8];
        bytes[..self.bytes].copy_from_slice(stored);
        if self.big_endian {
            bytes[..self.bytes].reverse();
        }
        (self.value)(bytes)
    }
}

fn said(error: std::io::Error) -> String {
    if error.kind() == ErrorKind::UnexpectedEof { "it ends too early".into() } else { error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(header: &str, data: &[u8]) -> Vec<u8> {
        let length = (header.len() as u16).to_le_bytes();
        [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), data].concat()
    }

    fn of(descr: &str, order: &str, shape: &str) -> String {
        format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n")
    }

    fn read(bytes: &[u8]) -> Result<ArrayD<f64>, String> {
        array(bytes, bytes.len() as u64)
    }

    #[test]
    fn every_kind_of_number_is_read() {
        let cases: [(&str, &[u8], f64); 10] = [
            ("'<f2'", &[0x00, 0xc1], -2.5),
            ("'<f4'", &(-2.5f32).to_le_bytes(), -2.5),
            ("'>f8'", &(-2.5f64).to_be_bytes(), -2.5),
            ("'|u1'", &[200], 200.0),
            ("'|i1'", &[200], -56.0),
            ("'<u2'", &[1, 2], 513.0),
            ("'>u4'", &[0, 0, 1, 2], 258.0),
            ("'<i2'", &(-7i16).to_le_bytes(), -7.0),
            ("'<i4'", &(-7i32).to_le_bytes(), -7.0),
            ("\"<i8\"", &(-7i64).to_le_bytes(), -7.0),
        ];
        for (descr, data, expected) in cases {
            let found = read(&npy(&of(descr, "False", "(1,)"), data)).unwrap();
            assert_eq!((found.shape(), found[[0].as_slice()]), ([1].as_slice(), expected), "{descr}");
        }
        let turned = read(&npy(&of("'|u1'", "True", "(2, 3)"), &[0, 1, 2, 3, 4, 5])).unwrap();
        assert_eq!(turned, ndarray::array![[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]].into_dyn());
        assert_eq!(read(&npy(&of("'|u1'", "False", "()"), &[9])).unwrap().ndim(), 0);
    }

    #[test]
    fn headers_are_believed_as_far_as_the_file_bears_them_out() {
        let float = |shape: &str| npy(&of("'<f4'", "False", shape), &[0; 8]);
        let mut long = b"\x93NUMPY\x02\x00".to_vec();
        long.extend(u32::MAX.to_le_bytes());
        let cases = [
            (float("(3,)"), "has 12 bytes, but the file has 8"),
            (float("(1,)"), "has 4 bytes, but the file has 8"),
            (float("(100000000, 1)"), "has 400000000 bytes, but the file has 8"),
            (float("(1099511627776,)"), "at most 134217728 numbers"),
            (float("(9223372036854775807, 9223372036854775807, 4)"), "at most 134217728 numbers"),
            (float("(1, 1, 1, 1, 1, 1, 1, 1, 2)"), "at most 134217728 numbers"),
            (float("(-1,)"), "an invalid header"),
            (float("(99999999999999999999999,)"), "an invalid header"),
            (float("2"), "an invalid header"),
            (npy(&of("'|O'", "False", "(2,)"), &[0; 16]), "of type |O, not int"),
            (npy(&of("[('a', '<f4')]", "False", "(2,)"), &[0; 8]), "of type several fields"),
            (npy(&of("'<c8'", "False", "(1,)"), &[0; 8]), "of type <c8"),
            (npy(&of("'<f4'", "Maybe", "(2,)"), &[0; 8]), "an invalid header"),
            (npy("{}", &[]), "an invalid header"),
            (long, "a header of 4294967295 bytes"),
            (b"\x93NUMPY\x01\x00".to_vec(), "it ends too early"),
            (b"PK\x03\x04 something else".to_vec(), "not a NumPy array"),
            (Vec::new(), "it ends too early"),
        ];
        for (bytes, problem) in cases {
            let error = read(&bytes).unwrap_err();
            assert!(error.contains(problem), "{error} should say {problem}");
        }
        // The size that an archive claims for an entry is no more reliable than a header's.
        let error = array(float("(100000000,)").as_slice(), 400_000_000 + 68).unwrap_err();
        assert!(error.contains("it ends too early") || error.contains("but the file has"), "{error}");
    }
}
