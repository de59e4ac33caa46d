//! Elementwise functions: those with an operation of their own, and those that are composed of others.

use ndarray::ArrayD;

use crate::graph::{Binary, Op, Unary};

use super::super::idioms::hard_swish;
use super::arguments::known;
use super::node::{FileNode, Input};
use super::value::Value;
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// The value of an elementwise operator; `None` if the node has another operator.
    pub fn pointwise(&mut self, node: &FileNode<'a>) -> Result<Option<usize>, String> {
        let unary = match node.op() {
            "LeakyRelu" => Unary::LeakyRelu { slope: node.float("alpha", 0.01)? },
            "Sigmoid" => Unary::Sigmoid,
            "HardSigmoid" => {
                Unary::HardSigmoid { alpha: node.float("alpha", 0.2)?, beta: node.float("beta", 0.5)? }
            }
            "Tanh" => Unary::Tanh,
            "Erf" => Unary::Erf,
            "Exp" => Unary::Exp,
            "Log" => Unary::Log,
            "Sqrt" => Unary::Sqrt,
            "Abs" => Unary::Abs,
            "Neg" => Unary::Neg,
            "Reciprocal" => Unary::Reciprocal,
            "Softplus" => Unary::Softplus,
            "Floor" => Unary::Floor,
            "Ceil" => Unary::Ceil,
            "Round" => Unary::Round,
            "Sign" => Unary::Sign,
            "Sin" => Unary::Sin,
            "Cos" => Unary::Cos,
            "Tan" => Unary::Tan,
            "Asin" => Unary::Asin,
            "Acos" => Unary::Acos,
            "Atan" => Unary::Atan,
            "Sinh" => Unary::Sinh,
            "Cosh" => Unary::Cosh,
            "Asinh" => Unary::Asinh,
            "Acosh" => Unary::Acosh,
            "Atanh" => Unary::Atanh,
            "Add" | "Sum" => return self.chain(node, Binary::Add, &node.name).map(Some),
            "Mean" => return self.mean_of_inputs(node).map(Some),
            "Sub" => return self.pair(node, Binary::Sub).map(Some),
            "Mul" => return self.pair(node, Binary::Mul).map(Some),
            "Div" => return self.pair(node, Binary::Div).map(Some),
            "Pow" => return self.pair(node, Binary::Pow).map(Some),
            "Max" => return self.chain(node, Binary::Max, &node.name).map(Some),
            "Min" => return self.chain(node, Binary::Min, &node.name).map(Some),
            "Relu" => {
                let x = self.data(node, 0)?;
                return self.add(node, Op::Relu, &[x], Vec::new()).map(Some);
            }
            "Clip" => return self.clip(node).map(Some),
            "Gelu" => return self.gelu(node).map(Some),
            "HardSwish" => return self.gated(node, "gate", hard_swish()).map(Some),
            "Swish" => return self.gated(node, "gate", Unary::Sigmoid).map(Some),
            "Mish" => return self.mish(node).map(Some),
            _ => return self.activation(node),
        };
        let x = self.data(node, 0)?;
        self.add(node, Op::Unary(unary), &[x], Vec::new()).map(Some)
    }

    /// An operand of a function of two elements, with as many axes as the other one.
    pub fn operand(&mut self, node: &FileNode<'a>, place: usize, axes: usize) -> Result<usize, String> {
        let input = node.input(place)?;
        match &input.value {
            Value::Data(_) => self.data(node, place),
            Value::Unread(_)
            | Value::Known(_)
            | Value::Placed(_)
            | Value::Counted(_)
            | Value::Quantized(_)
            | Value::Booleans(_)
            | Value::Unknown => self.constant(input, axes),
        }
    }

    fn pair(&mut self, node: &FileNode<'a>, function: Binary) -> Result<usize, String> {
        if node.inputs.len() != 2 {
            return Err(format!("takes two inputs, found {}", node.inputs.len()));
        }
        self.chain(node, function, &node.name)
    }

    /// A function of two elements over any number of inputs, from left to right; the last result has the given name.
    pub fn chain(&mut self, node: &FileNode<'a>, function: Binary, named: &str) -> Result<usize, String> {
        let varies = |input: &&Input<'a>| matches!(input.value, Value::Data(_));
        let inputs = node.all()?;
        let place = inputs.iter().position(varies).ok_or("reads nothing that depends on the image")?;
        let axes = self.shape_of(self.data(node, place)?).len();
        let mut result = self.operand(node, 0, axes)?;
        for place in 1..inputs.len() {
            let other = self.operand(node, place, axes)?;
            let last = place + 1 == inputs.len();
            let name = if last { named.to_string() } else { format!("{}.term{place}", node.name) };
            result = if let Some(biased) = self.with_either_bias(node, &name, function, result, other)? {
                biased
            } else if let Some(values) = self.of_constants(function, result, other) {
                self.draft.add(&name, &node.name, Op::Constant { values }, &[], Vec::new())?
            } else {
                let op = Op::Binary(function);
                self.draft.add(&name, &node.name, op, &[result, other], Vec::new())?
            };
        }
        Ok(result)
    }

    fn with_either_bias(
        &mut self,
        node: &FileNode<'a>,
        name: &str,
        function: Binary,
        x: usize,
        y: usize,
    ) -> Result<Option<usize>, String> {
        if function != Binary::Add {
            return Ok(None);
        }
        match self.with_bias(node, name, x, y)? {
            Some(biased) => Ok(Some(biased)),
            None => self.with_bias(node, name, y, x),
        }
    }

    /// What a function of two constants gives, as more than two inputs may begin with such; `None` if they are none.
    fn of_constants(&self, function: Binary, x: usize, y: usize) -> Option<ArrayD<f32>> {
        let (Op::Constant { values: a }, Op::Constant { values: b }) =
            (&self.draft.node(x).op, &self.draft.node(y).op)
        else {
            return None;
        };
        let shape = Op::Binary(function).infer(&[self.shape_of(x), self.shape_of(y)]).ok()?;
        let function: fn(f64, f64) -> f64 = match function {
            Binary::Add => |a, b| a + b,
            Binary::Max => f64::max,
            Binary::Min => f64::min,
            Binary::Sub
            | Binary::Mul
            | Binary::Div
            | Binary::Pow
            | Binary::Equal
            | Binary::Less
            | Binary::LessOrEqual
            | Binary::And
            | Binary::Or => return None,
        };
        let (a, b) = (a.broadcast(shape.as_slice())?, b.broadcast(shape.as_slice())?);
        let of_two = |(&a, &b): (&f32, &f32)| function(a.into(), b.into()) as f32;
        ArrayD::from_shape_vec(shape.as_slice(), a.iter().zip(b.iter()).map(of_two).collect()).ok()
    }

    fn clip(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let mut bound = |place: usize, name: &str, open: f32| match node.optional(place) {
            Some(input) => {
                let bound = known(input, &mut self.budget)?.floats()?;
                let single = bound.first().filter(|_| bound.len() == 1).copied();
                single
                    .map(|bound| f64::from(bound as f32))
                    .ok_or_else(|| format!("its {name} is not one number"))
            }
            None => node.float(name, open),
        };
        let min = bound(1, "min", f32::NEG_INFINITY)?;
        let max = bound(2, "max", f32::INFINITY)?;
        self.add(node, Op::Clip { min, max }, &[x], Vec::new())
    }

    /// `x · f(x)`.
    fn gated(&mut self, node: &FileNode<'a>, part: &str, gate: Unary) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let gate = self.add_part(node, part, Op::Unary(gate), &[x])?;
        self.add(node, Op::Binary(Binary::Mul), &[x, gate], Vec::new())
    }

    /// `x · tanh(ln(1 + exp(x)))` (Misra 2019).
    fn mish(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let soft = self.add_part(node, "softplus", Op::Unary(Unary::Softplus), &[x])?;
        let gate = self.add_part(node, "gate", Op::Unary(Unary::Tanh), &[soft])?;
        self.add(node, Op::Binary(Binary::Mul), &[x, gate], Vec::new())
    }

    /// A function of `x` and a number, as part of a node.
    pub fn with_number(
        &mut self,
        node: &FileNode<'a>,
        part: &str,
        function: Binary,
        x: usize,
        number: f64,
    ) -> Result<usize, String> {
        let axes = self.shape_of(x).len();
        let number = self.number(node, &format!("{part}.by"), number, axes)?;
        self.add_part(node, part, Op::Binary(function), &[x, number])
    }

    /// `x/2 · (1 + erf(x/√2))`, or with tanh (Hendrycks & Gimpel 2016).
    fn gelu(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        let x = self.data(node, 0)?;
        let curve = match node.text("approximate", "none")? {
            "none" => {
                let scaled = self.with_number(node, "scaled", Binary::Div, x, std::f64::consts::SQRT_2)?;
                self.add_part(node, "erf", Op::Unary(Unary::Erf), &[scaled])?
            }
            "tanh" => {
                let cube = self.with_number(node, "cube", Binary::Pow, x, 3.0)?;
                let small = self.with_number(node, "small", Binary::Mul, cube, 0.044_715)?;
                let sum = self.add_part(node, "sum", Op::Add, &[x, small])?;
                let factor = (2.0 / std::f64::consts::PI).sqrt();
                let scaled = self.with_number(node, "scaled", Binary::Mul, sum, factor)?;
                self.add_part(node, "tanh", Op::Unary(Unary::Tanh), &[scaled])?
            }
            other => return Err(format!("approximate is '{other}'")),
        };
        let above = self.with_number(node, "above", Binary::Add, curve, 1.0)?;
        let product = self.add_part(node, "product", Op::Binary(Binary::Mul), &[x, above])?;
        let axes = self.shape_of(x).len();
        let half = self.number(node, "half", 0.5, axes)?;
        self.add(node, Op::Binary(Binary::Mul), &[product, half], Vec::new())
    }
}
