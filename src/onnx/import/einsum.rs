//! Sums of products over axes that letters name: Einsum of data; Einsum, MatMul and Gemm of known numbers.

use std::rc::Rc;

use ndarray::{ArrayD, IxDyn};

use crate::graph::Op;

use super::arguments::known;
use super::arrays::{broadcast, expanded, places, strides};
use super::node::{FileNode, Images, Input};
use super::value::{Array, Budget, Numbers, Value};
use super::walk::Walk;

/// The axes of each operand and of the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letters {
    pub operands: Vec<Vec<char>>,
    pub result: Vec<char>,
}

impl Letters {
    /// Reads an equation, such as `bij,bjk->bik`, for operands with these numbers of axes. Without an arrow, the result has
    /// the letters that occur once, in the order of the alphabet. An ellipsis stands for any number of axes.
    ///
    /// # Errors
    /// If it is not one, or does not fit the operands.
    pub fn read(equation: &str, axes: &[usize]) -> Result<Self, String> {
        let problem = || format!("its equation is '{equation}'");
        let plain: String = equation.chars().filter(|letter| !letter.is_whitespace()).collect();
        let (left, right) = match plain.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (plain.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != axes.len() {
            return Err(problem());
        }
        let hidden = |term: &str, axes: usize| axes.checked_sub(term.replace("...", "").chars().count());
        let mut most = 0;
        for (term, &axes) in terms.iter().zip(axes) {
            let count = hidden(term, axes).ok_or_else(problem)?;
            if count > 0 && !term.contains("...") {
                return Err(problem());
            }
            most = most.max(count);
        }
        // Axes without a letter are numbered from the last one.
        let named = |term: &str, count: usize| -> Result<Vec<char>, String> {
            let digits: String =
                (0..count).rev().filter_map(|digit| char::from_digit(digit as u32, 10)).collect();
            let term = term.replacen("...", &digits, 1);
            let letters: Vec<char> = term.chars().collect();
            let mut sorted = letters.clone();
            sorted.sort_unstable();
            sorted.dedup();
            // An axis that is named twice is a diagonal.
            let fits = sorted.len() == letters.len() && letters.iter().all(char::is_ascii_alphanumeric);
            if fits { Ok(letters) } else { Err(problem()) }
        };
        let operands = terms
            .iter()
            .zip(axes)
            .map(|(term, &axes)| named(term, hidden(term, axes).unwrap_or(0)))
            .collect::<Result<Vec<_>, _>>()?;
        let all = || operands.iter().flatten();
        let result = match right {
            Some(right) => named(right, if right.contains("...") { most } else { 0 })?,
            None => {
                let mut once: Vec<char> = all()
                    .filter(|letter| all().filter(|other| other == letter).count() == 1)
                    .copied()
                    .collect();
                once.retain(char::is_ascii_alphabetic);
                once.sort_unstable();
                let hidden = (0..most).rev().filter_map(|digit| char::from_digit(digit as u32, 10));
                hidden.chain(once).collect()
            }
        };
        if result.iter().all(|letter| all().any(|other| other == letter)) {
            Ok(Self { operands, result })
        } else {
            Err(problem())
        }
    }

    /// The letters of a matrix product of tensors with this many axes, as NumPy's `matmul` defines it.
    pub fn of_matrices(left: usize, right: usize) -> Option<Self> {
        let outer = |axes: usize| -> Vec<char> {
            (0..axes.saturating_sub(2)).rev().filter_map(|digit| char::from_digit(digit as u32, 10)).collect()
        };
        let with = |outer: Vec<char>, inner: &[char]| [&outer[..], inner].concat();
        match (left, right) {
            (0, _) | (_, 0) | (12.., _) | (_, 12..) => None,
            (1, 1) => Some(Self { operands: vec![vec!['k'], vec!['k']], result: Vec::new() }),
            (1, axes) => Some(Self {
                operands: vec![vec!['k'], with(outer(axes), &['k', 'n'])],
                result: with(outer(axes), &['n']),
            }),
            (axes, 1) => Some(Self {
                operands: vec![with(outer(axes), &['m', 'k']), vec!['k']],
                result: with(outer(axes), &['m']),
            }),
            (left, right) => Some(Self {
                operands: vec![with(outer(left), &['m', 'k']), with(outer(right), &['k', 'n'])],
                result: with(outer(left.max(right)), &['m', 'n']),
            }),
        }
    }
}

/// The sum of products of known numbers; an axis of length 1 meets any other.
///
/// # Errors
/// If lengths do not fit, or if it takes too much.
pub fn of_known(letters: &Letters, operands: &[Rc<Array>], budget: &mut Budget) -> Result<Array, String> {
    let mut order = letters.result.clone();
    for letter in letters.operands.iter().flatten() {
        if !order.contains(letter) {
            order.push(*letter);
        }
    }
    let mut lengths = vec![1usize; order.len()];
    let position = |letter: &char| order.iter().position(|other| other == letter);
    for (names, array) in letters.operands.iter().zip(operands) {
        for (letter, &dim) in names.iter().zip(&array.dims) {
            let length = &mut lengths[position(letter).ok_or("an axis has no letter")?];
            if *length != dim && *length != 1 && dim != 1 {
                return Err(format!("axis '{letter}' is of length {length} and of length {dim}"));
            }
            *length = if dim == 1 { *length } else { dim };
        }
    }
    let (dims, summed) = lengths.split_at(letters.result.len());
    let count = budget.take(dims)?;
    let terms = budget.take(summed)?;
    budget.read(count.checked_mul(terms).ok_or("multiplies more than can be worked out in advance")?)?;
    // For each operand its numbers, where those of each result begin, and how far from there each term is.
    let mut read = Vec::new();
    for (names, array) in letters.operands.iter().zip(operands) {
        let own = strides(&array.dims);
        let stride = |letter: &char| {
            let axis = names.iter().position(|other| other == letter);
            axis.filter(|&axis| array.dims[axis] > 1).map_or(0, |axis| own[axis])
        };
        let strides: Vec<usize> = order.iter().map(stride).collect();
        let (of_result, of_term) = strides.split_at(letters.result.len());
        budget.take(dims)?;
        read.push((array.floats()?, places(dims, of_result), places(summed, of_term)));
    }
    let product = |result: usize, term: usize| -> f64 {
        read.iter().map(|(values, starts, steps)| values[starts[result] + steps[term]]).product()
    };
    let sum = |result: usize| (0..terms).map(|term| product(result, term)).sum();
    let numbers = Numbers::Floats((0..count).map(sum).collect());
    Ok(Array { dims: dims.to_vec(), numbers })
}

/// An operand of a sum of products over data: a node, and the letters of its own axes.
struct Operand {
    node: usize,
    letters: Vec<char>,
    known: bool,
}

impl<'a> Walk<'a> {
    /// An Einsum of two operands, as a matrix product between changes of the order of axes.
    pub fn einsum(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let inputs = node.all()?;
        let axes =
            inputs.iter().map(|input| self.axes_of_input(node, input)).collect::<Result<Vec<_>, _>>()?;
        let letters = Letters::read(node.text("equation", "")?, &axes)?;
        let [left, right] = inputs[..] else { return Err(format!("takes {} operands", inputs.len())) };
        let images = match node.images {
            Images::First => letters.result.first().copied(),
            Images::Within(_) => return Err("reads data with the images along an axis of their own".into()),
            Images::Nowhere => None,
        };
        let left = self.einsum_operand(left, &letters.operands[0], images)?;
        let right = self.einsum_operand(right, &letters.operands[1], images)?;
        let result = letters.result.iter().filter(|letter| Some(**letter) != images).copied().collect();
        self.contracted(node, left, right, result)
    }

    fn axes_of_input(&self, node: &FileNode<'a>, input: &Input<'a>) -> Result<usize, String> {
        match &input.value {
            Value::Data(data) => Ok(node.axes_in_file(self.shape_of(data.node).len())),
            Value::Unread(unread) => Ok(unread.dims().len()),
            Value::Known(array) => Ok(array.dims.len()),
            Value::Placed(_)
            | Value::Counted(_)
            | Value::Booleans(_)
            | Value::Quantized(_)
            | Value::Unknown => Err(format!("'{}' has no axis of images before the others", input.name)),
        }
    }

    fn einsum_operand(
        &mut self,
        input: &Input<'a>,
        letters: &[char],
        images: Option<char>,
    ) -> Result<Operand, String> {
        if let Value::Data(data) = input.value {
            if data.integers {
                return Err(format!("computes with the integers '{}'", input.name));
            }
            let own = match images {
                Some(images) => match letters.split_first() {
                    Some((&first, rest)) if first == images => rest,
                    _ => return Err("mixes the images of a batch".into()),
                },
                None => letters,
            };
            return Ok(Operand { node: data.node, letters: own.to_vec(), known: false });
        }
        if images.is_some_and(|images| letters.contains(&images)) {
            return Err(format!("multiplies every image with its own part of '{}'", input.name));
        }
        let node = self.constant(input, letters.len())?;
        Ok(Operand { node, letters: letters.to_vec(), known: true })
    }

    fn contracted(
        &mut self,
        node: &FileNode<'a>,
        left: Operand,
        right: Operand,
        result: Vec<char>,
    ) -> Result<usize, String> {
        // Weights come second.
        let (left, right) = if left.known { (right, left) } else { (left, right) };
        let both = |letter: &&char| left.letters.contains(letter) && right.letters.contains(letter);
        let shared: Vec<char> = result.iter().filter(both).copied().collect();
        let only = |of: &[char], other: &[char]| -> Vec<char> {
            result.iter().filter(|letter| of.contains(letter) && !other.contains(letter)).copied().collect()
        };
        let (rows, columns) = (only(&left.letters, &right.letters), only(&right.letters, &left.letters));
        let inner: Vec<char> =
            left.letters.iter().filter(both).filter(|letter| !result.contains(letter)).copied().collect();
        for operand in [&left, &right] {
            let counted = |letter: &char| result.contains(letter) || inner.contains(letter);
            if let Some(letter) = operand.letters.iter().find(|letter| !counted(letter)) {
                return Err(format!("sums '{letter}' of one operand alone"));
            }
        }
        let length = |letter: &char| {
            let of = |operand: &Operand| {
                let axis = operand.letters.iter().position(|other| other == letter)?;
                self.shape_of(operand.node).get(axis).copied()
            };
            of(&left).or_else(|| of(&right)).unwrap_or(1)
        };
        let dims = |letters: &[char]| -> Vec<usize> { letters.iter().map(length).collect() };
        let (outer, high, deep, wide) = (dims(&shared), dims(&rows), dims(&inner), dims(&columns));
        let flat = |dims: &[usize]| dims.iter().product::<usize>();
        let (m, k, n) = (flat(&high), flat(&deep), flat(&wide));
        let ordered = [&shared[..], &rows, &inner].concat();
        let a = self.in_order(node, "left", &left, &ordered, [&outer[..], &[m, k]].concat())?;
        let product = if shared.is_empty()
            && let Op::Constant { values } = &self.draft.node(right.node).op
        {
            let order = [&columns[..], &inner].concat();
            let order =
                order.iter().filter_map(|letter| right.letters.iter().position(|other| other == letter));
            let weight = values.view().permuted_axes(IxDyn(&order.collect::<Vec<_>>()));
            let weight = ArrayD::from_shape_vec(IxDyn(&[n, k]), weight.iter().copied().collect());
            let weight = Rc::new(weight.map_err(|error| error.to_string())?);
            let op = Op::Linear { out_features: n, bias: false };
            self.draft.add(&format!("{}.product", node.name), &node.name, op, &[a], vec![weight])?
        } else {
            let ordered = [&shared[..], &inner, &columns].concat();
            let b = self.in_order(node, "right", &right, &ordered, [&outer[..], &[k, n]].concat())?;
            self.add_part(node, "product", Op::MatMul, &[a, b])?
        };
        let found = Operand { node: product, letters: [&shared[..], &rows, &columns].concat(), known: false };
        let seen = self.reshape(node, product, [outer, high, wide].concat())?;
        let shape = dims_of(&result, &found.letters, self.shape_of(seen));
        self.in_order(node, "result", &Operand { node: seen, ..found }, &result, shape)
    }

    /// An operand with its axes in the order of some letters, and then in a shape.
    fn in_order(
        &mut self,
        node: &FileNode<'a>,
        part: &str,
        operand: &Operand,
        letters: &[char],
        shape: Vec<usize>,
    ) -> Result<usize, String> {
        let order = letters.iter().map(|letter| operand.letters.iter().position(|other| other == letter));
        let order = order.collect::<Option<Vec<usize>>>().ok_or("its letters do not fit")?;
        let turned = if order.is_sorted() {
            operand.node
        } else {
            self.add_part(node, part, Op::Transpose { order }, &[operand.node])?
        };
        self.reshape(node, turned, shape)
    }

    /// The value of a Gemm of known numbers, or of a convolution of them over single pixels.
    pub fn known_layer(&mut self, node: &FileNode<'a>) -> Result<Array, String> {
        let mut read = |place: usize| known(node.input(place)?, &mut self.budget);
        let (x, mut weight) = (read(0)?, read(1)?);
        let bias = if node.optional(2).is_some() { Some(read(2)?) } else { None };
        let gemm = node.op() == "Gemm";
        let (equation, alpha, beta) = if gemm {
            let equation = match [node.flag("transA", false)?, node.flag("transB", false)?] {
                [false, false] => "mk,kn->mn",
                [false, true] => "mk,nk->mn",
                [true, false] => "km,kn->mn",
                [true, true] => "km,nk->mn",
            };
            (equation, node.float("alpha", 1.0)?, node.float("beta", 1.0)?)
        } else {
            let all = |name: &str, value: i64| -> Result<bool, String> {
                Ok(node.ints(name)?.is_none_or(|list| list.iter().all(|&number| number == value)))
            };
            let single = matches!(weight.dims[..], [_, _, 1, 1]) && all("strides", 1)? && all("pads", 0)?;
            if !single || node.int("group", 1)? != 1 {
                return Err("is not worked out in advance for more than single pixels".into());
            }
            weight = Rc::new(weight.with_dims(weight.dims[..2].to_vec()));
            ("nchw,oc->nohw", 1.0, 1.0)
        };
        let letters = Letters::read(equation, &[x.dims.len(), weight.dims.len()])?;
        let product = of_known(&letters, &[x, weight], &mut self.budget)?;
        let mut values = product.floats()?;
        values.iter_mut().for_each(|value| *value *= alpha);
        if let Some(bias) = bias {
            let dims = if gemm { bias.dims.clone() } else { vec![bias.len(), 1, 1] };
            if broadcast(&dims, &product.dims)? != product.dims {
                return Err(format!("a bias of {dims:?} for {:?}", product.dims));
            }
            let bias = expanded(&bias.with_dims(dims), &product.dims).floats()?;
            values.iter_mut().zip(bias).for_each(|(value, bias)| *value += beta * bias);
        }
        Ok(Array { dims: product.dims, numbers: Numbers::Floats(values) })
    }

    /// The value of an Einsum or a MatMul of known numbers.
    pub fn known_product(&mut self, node: &FileNode<'a>) -> Result<Array, String> {
        let operands = node
            .all()?
            .into_iter()
            .map(|input| known(input, &mut self.budget))
            .collect::<Result<Vec<_>, _>>()?;
        let axes: Vec<usize> = operands.iter().map(|array| array.dims.len()).collect();
        let letters = match (node.op(), &axes[..]) {
            ("Einsum", _) => Letters::read(node.text("equation", "")?, &axes)?,
            (_, &[left, right]) => Letters::of_matrices(left, right).ok_or("is no product of matrices")?,
            _ => return Err("takes two inputs".into()),
        };
        of_known(&letters, &operands, &mut self.budget)
    }
}

/// The dimensions in the order of some letters.
fn dims_of(letters: &[char], of: &[char], shape: &[usize]) -> Vec<usize> {
    let length =
        |letter: &char| of.iter().position(|other| other == letter).and_then(|axis| shape.get(axis).copied());
    letters.iter().filter_map(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(equation: &str, axes: &[usize]) -> Letters {
        Letters::read(equation, axes).unwrap()
    }

    #[test]
    fn equations_are_read() {
        let plain = letters("bij, bjk -> bik", &[3, 3]);
        assert_eq!(plain.operands, [vec!['b', 'i', 'j'], vec!['b', 'j', 'k']]);
        assert_eq!(plain.result, ['b', 'i', 'k']);
        assert_eq!(letters("ij,jk", &[2, 2]).result, ['i', 'k']);
        assert_eq!(letters("...ij,...jk", &[4, 3]).result, ['1', '0', 'i', 'k']);
        assert_eq!(letters("...ij,jk->...ik", &[4, 2]).operands[0], ['1', '0', 'i', 'j']);
        for (wrong, axes) in
            [("ii->i", &[2][..]), ("ij->ik", &[2]), ("ij,jk->ik", &[2]), ("ij", &[3]), ("i*->i", &[2])]
        {
            assert!(Letters::read(wrong, axes).is_err(), "{wrong}");
        }
    }

    #[test]
    fn known_products_are_those_of_ndarray() {
        let array = |dims: &[usize], start: f64| {
            let count = dims.iter().product::<usize>();
            let numbers = Numbers::Floats((0..count).map(|n| start + (n as f64).sin()).collect());
            Rc::new(Array { dims: dims.to_vec(), numbers })
        };
        let (a, b) = (array(&[2, 3, 4], 0.5), array(&[4, 5], -0.25));
        let mut budget = Budget::limited(10_000);
        let product =
            of_known(&Letters::of_matrices(3, 2).unwrap(), &[Rc::clone(&a), Rc::clone(&b)], &mut budget);
        let product = product.unwrap();
        let left = ndarray::Array2::from_shape_vec((6, 4), a.floats().unwrap()).unwrap();
        let right = ndarray::Array2::from_shape_vec((4, 5), b.floats().unwrap()).unwrap();
        let expected = left.dot(&right);
        assert_eq!(product.dims, [2, 3, 5]);
        let apart =
            product.floats().unwrap().iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(apart < 1e-12, "{apart}");
        let turned = of_known(&letters("hwc->chw", &[3]), &[Rc::clone(&a)], &mut budget).unwrap();
        assert_eq!(
            (turned.dims.clone(), turned.floats().unwrap()[1]),
            (vec![4, 2, 3], a.floats().unwrap()[4])
        );
        let wrong = array(&[3, 5], 0.0);
        assert!(
            of_known(&Letters::of_matrices(3, 2).unwrap(), &[Rc::clone(&a), wrong], &mut budget).is_err()
        );
        let large = array(&[100], 0.0);
        assert!(of_known(&letters("i,j,k->ijk", &[1; 3]), &vec![large; 3], &mut budget).is_err());
    }
}
