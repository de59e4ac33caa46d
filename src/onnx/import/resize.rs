//! Resize and Upsample.

use crate::graph::{Coordinates, Filter, Op, Resize, Rounding};

use super::arguments::known;
use super::node::{FileNode, axis_of};
use super::value::Whole;
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// A resize of an image along its height and width; with the channels last, between two transpositions.
    pub fn resize(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let shape = self.shape_of(x).clone();
        if shape.len() != 3 {
            return Err(format!("resizes {shape:?}, not an image"));
        }
        let sizes = self.sizes(node, &shape)?;
        let changed: Vec<usize> = (0..3).filter(|&axis| sizes[axis].0 != shape[axis]).collect();
        let [order, back] = match changed[..] {
            [] => return Ok(x),
            _ if !changed.contains(&0) => [None, None],
            _ if !changed.contains(&2) => [Some(vec![2, 0, 1]), Some(vec![1, 2, 0])],
            _ => return Err("resizes the channels as well".into()),
        };
        let spatial = if order.is_some() { [0, 1] } else { [1, 2] };
        let scale = spatial.map(|axis| sizes[axis].1);
        let exact = spatial
            .iter()
            .zip(scale)
            .all(|(&axis, scale)| f64::from(sizes[axis].0 as f32 / shape[axis] as f32) == scale);
        let mut coordinates = coordinates(node)?;
        // Where the size was not rounded, both are the same.
        if exact && coordinates == Coordinates::HalfPixelSymmetric {
            coordinates = Coordinates::HalfPixel;
        }
        let resize = Op::Resize(Resize {
            size: spatial.map(|axis| sizes[axis].0),
            scale,
            filter: filter(node, scale)?,
            coordinates,
        });
        let (Some(order), Some(back)) = (order, back) else {
            return self.add(node, resize, &[x], Vec::new());
        };
        let turned = self.add_part(node, "turned", Op::Transpose { order }, &[x])?;
        let resized = self.add_part(node, "resized", resize, &[turned])?;
        self.add(node, Op::Transpose { order: back }, &[resized], Vec::new())
    }

    /// The new size and the scale of each axis of an image.
    fn sizes(&mut self, node: &FileNode<'a>, shape: &[usize]) -> Result<Vec<(usize, f64)>, String> {
        let old = node.op() == "Upsample" || node.opset < 11;
        let policy = node.text("keep_aspect_ratio_policy", "stretch")?;
        if policy != "stretch" || node.flag("antialias", false)? {
            return Err("keeping the aspect ratio and anti-aliasing are not supported".into());
        }
        let axes: Vec<usize> = match node.ints("axes")? {
            Some(axes) => axes.iter().map(|&axis| axis_of(axis, 4)).collect::<Result<_, _>>()?,
            None => (0..4).collect(),
        };
        let batch = self.batched(&[])[0];
        let dims: Vec<Whole> =
            std::iter::once(batch).chain(shape.iter().map(|&size| Whole::Plain(size as i64))).collect();
        let place = if old { 1 } else { 2 };
        let given =
            |input: Option<&super::node::Input<'a>>| input.filter(|input| !input.name.is_empty()).cloned();
        let scales = match given(node.optional(place)) {
            Some(input) => {
                Some(known(&input, &mut self.budget)?.floats()?).filter(|scales| !scales.is_empty())
            }
            None => None,
        };
        let scales = match scales {
            None if old => {
                let attribute = node.floats("scales")?;
                attribute.map(|scales| scales.iter().map(|&scale| f64::from(scale)).collect())
            }
            other => other,
        };
        let mut found: Vec<(Whole, f64)> = dims.iter().map(|&dim| (dim, 1.0)).collect();
        if let Some(scales) = scales {
            if scales.len() != axes.len() {
                return Err(format!("{} scales for {} axes", scales.len(), axes.len()));
            }
            for (&axis, &scale) in axes.iter().zip(&scales) {
                found[axis] = match dims[axis] {
                    dim if scale == 1.0 => (dim, 1.0),
                    Whole::Plain(size) if axis > 0 && scale > 0.0 && scale.is_finite() => {
                        // The operator multiplies in single precision.
                        let scaled = (size as f32 * scale as f32).floor();
                        (Whole::Plain(scaled as i64), scale)
                    }
                    Whole::Plain(_) | Whole::Batches(_) => {
                        return Err(format!("a scale of {scale} for axis {axis}"));
                    }
                };
            }
        } else {
            let input = node.optional(3).ok_or("neither scales nor sizes are given")?;
            let sizes = known(input, &mut self.budget)?.whole()?.to_vec();
            if sizes.len() != axes.len() {
                return Err(format!("{} sizes for {} axes", sizes.len(), axes.len()));
            }
            for (&axis, &size) in axes.iter().zip(&sizes) {
                found[axis] = match (dims[axis], size) {
                    (dim, size) if dim == size => (dim, 1.0),
                    // The operator divides in single precision.
                    (Whole::Plain(from), Whole::Plain(to)) if from > 0 => {
                        (size, f64::from(to as f32 / from as f32))
                    }
                    _ => return Err("changes the batch".into()),
                };
            }
        }
        if found[0].0 != dims[0] {
            return Err("changes the batch".into());
        }
        let plain = |(size, scale): (Whole, f64)| match size {
            Whole::Plain(size) => Ok((super::node::size("a size", size)?, scale)),
            Whole::Batches(_) => Err("a size that depends on the batch".to_string()),
        };
        found.into_iter().skip(1).map(plain).collect()
    }
}

fn filter(node: &FileNode<'_>, scale: [f64; 2]) -> Result<Filter, String> {
    let old = node.op() == "Upsample" || node.opset < 11;
    match node.text("mode", "nearest")? {
        // The old operators do not say which pixel is the nearest. Runtimes round down, and up where an image gets smaller.
        "nearest" if old && scale.iter().all(|&scale| scale >= 1.0) => Ok(Filter::Nearest(Rounding::Floor)),
        "nearest" if old && scale.iter().all(|&scale| scale <= 1.0) => Ok(Filter::Nearest(Rounding::Ceil)),
        "nearest" if old => Err(format!("makes one side larger and one smaller, by {scale:?}")),
        "nearest" => Ok(Filter::Nearest(match node.text("nearest_mode", "round_prefer_floor")? {
            "round_prefer_floor" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => return Err(format!("nearest_mode is '{other}'")),
        })),
        "linear" | "bilinear" => Ok(Filter::Linear),
        "cubic" => Ok(Filter::Cubic {
            coefficient: node.float("cubic_coeff_a", -0.75)?,
            exclude_outside: node.flag("exclude_outside", false)?,
        }),
        other => Err(format!("mode is '{other}'")),
    }
}

fn coordinates(node: &FileNode<'_>) -> Result<Coordinates, String> {
    if node.op() == "Upsample" || node.opset < 11 {
        return Ok(Coordinates::Asymmetric);
    }
    match node.text("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Ok(Coordinates::HalfPixel),
        "pytorch_half_pixel" => Ok(Coordinates::PytorchHalfPixel),
        "half_pixel_symmetric" => Ok(Coordinates::HalfPixelSymmetric),
        "align_corners" => Ok(Coordinates::AlignCorners),
        "asymmetric" => Ok(Coordinates::Asymmetric),
        other => Err(format!("coordinate_transformation_mode '{other}' is not supported")),
    }
}
