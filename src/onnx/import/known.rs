//! Arithmetic on known numbers, some of which are multiples of the batch size.

use std::rc::Rc;

use tract_onnx::pb::tensor_proto::DataType;

use super::super::tensor::is_float;
use super::arguments::{divide, multiply};
use super::value::{Array, Budget, Numbers, Whole};

const DEPENDS: &str = "depends on the batch size in a way that is not supported";

const ELEMENTWISE: [&str; 39] = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Pow",
    "Min",
    "Max",
    "Equal",
    "Less",
    "LessOrEqual",
    "Greater",
    "GreaterOrEqual",
    "And",
    "Or",
    "Where",
    "Not",
    "Neg",
    "Abs",
    "Sqrt",
    "Exp",
    "Log",
    "Reciprocal",
    "Floor",
    "Ceil",
    "Sigmoid",
    "Tanh",
    "Relu",
    "Sign",
    "Round",
    "Identity",
    "Sin",
    "Cos",
    "Tan",
    "Atan",
    "Sinh",
    "Cosh",
    "Softplus",
    "Softsign",
];

/// Whether an operator is elementwise and can be computed here.
pub fn is_elementwise(op: &str) -> bool {
    ELEMENTWISE.contains(&op)
}

/// Applies an operator to arrays of equal shape.
///
/// # Errors
/// If the number of arrays or their types do not suit the operator, if integers overflow, or if the result would
/// depend on the batch size in another way than as a multiple.
pub fn elementwise(op: &str, inputs: &[Array]) -> Result<Array, String> {
    let dims = inputs.first().ok_or("an input is missing")?.dims.clone();
    let numbers = match inputs {
        [only] => one(op, only)?,
        [condition, then, other] if op == "Where" => choose(condition, then, other)?,
        [first, rest @ ..] => {
            let mut result = first.clone();
            for next in rest {
                result.numbers = two(op, &result, next)?;
            }
            if rest.len() > 1 && !matches!(op, "Min" | "Max") {
                return Err(format!("takes two inputs, found {}", inputs.len()));
            }
            result.numbers
        }
        [] => return Err("an input is missing".into()),
    };
    Ok(Array { dims, numbers })
}

fn one(op: &str, input: &Array) -> Result<Numbers, String> {
    if let (Numbers::Whole(values), "Identity" | "Neg" | "Abs" | "Not" | "Floor" | "Ceil" | "Min" | "Max") =
        (&input.numbers, op)
    {
        let function = |&whole: &Whole| match (op, whole) {
            ("Neg", _) => multiply(whole, Whole::Plain(-1)).ok_or(DEPENDS),
            ("Abs", Whole::Plain(value)) => value.checked_abs().map(Whole::Plain).ok_or(DEPENDS),
            ("Not", Whole::Plain(value)) => Ok(Whole::Plain(i64::from(value == 0))),
            ("Abs" | "Not", Whole::Batches(_)) => Err(DEPENDS),
            _ => Ok(whole),
        };
        return Ok(Numbers::Whole(values.iter().map(function).collect::<Result<_, _>>()?));
    }
    let function: fn(f64) -> f64 = match op {
        "Identity" | "Min" | "Max" => |x| x,
        "Neg" => |x| -x,
        "Abs" => f64::abs,
        "Sqrt" => f64::sqrt,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Reciprocal" => f64::recip,
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Round" => f64::round_ties_even,
        "Sigmoid" => |x| 1.0 / (1.0 + (-x).exp()),
        "Tanh" => f64::tanh,
        "Sin" => f64::sin,
        "Cos" => f64::cos,
        "Tan" => f64::tan,
        "Atan" => f64::atan,
        "Sinh" => f64::sinh,
        "Cosh" => f64::cosh,
        // ln(1 + exp(x)) without overflow.
        "Softplus" => |x| x.max(0.0) + (-x.abs()).exp().ln_1p(),
        "Softsign" => |x| x / (1.0 + x.abs()),
        "Relu" => |x| x.max(0.0),
        "Sign" => |x| if x == 0.0 { 0.0 } else { x.signum() },
        _ => return Err("an input is missing".into()),
    };
    Ok(Numbers::Floats(input.floats()?.into_iter().map(function).collect()))
}

fn two(op: &str, a: &Array, b: &Array) -> Result<Numbers, String> {
    if let (Numbers::Whole(a), Numbers::Whole(b)) = (&a.numbers, &b.numbers) {
        let result = a.iter().zip(b).map(|(&a, &b)| of_wholes(op, a, b));
        return Ok(Numbers::Whole(result.collect::<Result<_, _>>()?));
    }
    let (a, b) = (a.floats()?, b.floats()?);
    let pairs = a.into_iter().zip(b);
    let function: fn(f64, f64) -> f64 = match op {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        "Pow" => f64::powf,
        "Min" => f64::min,
        "Max" => f64::max,
        "Mod" => |a, b| a % b,
        "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" => {
            let truth = |(a, b): (f64, f64)| Ok(Whole::Plain(i64::from(compare(op, a.partial_cmp(&b))?)));
            return Ok(Numbers::Whole(pairs.map(truth).collect::<Result<_, String>>()?));
        }
        _ => return Err("takes no floats here".into()),
    };
    Ok(Numbers::Floats(pairs.map(|(a, b)| function(a, b)).collect()))
}

fn compare(op: &str, order: Option<std::cmp::Ordering>) -> Result<bool, String> {
    let Some(order) = order else { return Ok(false) };
    match op {
        "Equal" => Ok(order.is_eq()),
        "Less" => Ok(order.is_lt()),
        "LessOrEqual" => Ok(order.is_le()),
        "Greater" => Ok(order.is_gt()),
        "GreaterOrEqual" => Ok(order.is_ge()),
        other => Err(format!("{other} is not a comparison")),
    }
}

fn of_wholes(op: &str, a: Whole, b: Whole) -> Result<Whole, String> {
    let found = match (op, a, b) {
        ("Mul", ..) => multiply(a, b),
        ("Div", Whole::Plain(a), Whole::Plain(b)) => a.checked_div(b).map(Whole::Plain),
        ("Div", ..) => divide(a, b),
        ("Add", Whole::Batches(a), Whole::Batches(b)) => a.checked_add(b).map(Whole::Batches),
        ("Sub", Whole::Batches(a), Whole::Batches(b)) => a.checked_sub(b).map(Whole::Batches),
        ("Add" | "Sub", Whole::Batches(_), Whole::Plain(0)) => Some(a),
        ("Add", Whole::Plain(0), Whole::Batches(_)) => Some(b),
        // A batch has at least one image.
        ("Equal", Whole::Batches(many), Whole::Plain(few))
        | ("Equal", Whole::Plain(few), Whole::Batches(many))
            if many > 0 && few <= 0 =>
        {
            Some(Whole::Plain(0))
        }
        (
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual",
            Whole::Batches(a),
            Whole::Batches(b),
        )
        | (
            "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual",
            Whole::Plain(a),
            Whole::Plain(b),
        ) => Some(Whole::Plain(i64::from(compare(op, Some(a.cmp(&b)))?))),
        (_, Whole::Plain(a), Whole::Plain(b)) => match op {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mod" => a.checked_rem_euclid(b).filter(|_| b > 0),
            "Pow" => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            "Min" => Some(a.min(b)),
            "Max" => Some(a.max(b)),
            "And" => Some(i64::from(a != 0 && b != 0)),
            "Or" => Some(i64::from(a != 0 || b != 0)),
            _ => None,
        }
        .map(Whole::Plain),
        (_, Whole::Batches(_), _) | (_, _, Whole::Batches(_)) => return Err(DEPENDS.into()),
    };
    found.ok_or_else(|| format!("{op} of integers has no result here"))
}

fn choose(condition: &Array, then: &Array, other: &Array) -> Result<Numbers, String> {
    let condition = condition.ints()?;
    if let (Numbers::Whole(then), Numbers::Whole(other)) = (&then.numbers, &other.numbers) {
        let pick =
            |((&choice, &then), &other): ((&i64, &Whole), &Whole)| if choice != 0 { then } else { other };
        return Ok(Numbers::Whole(condition.iter().zip(then).zip(other).map(pick).collect()));
    }
    let (then, other) = (then.floats()?, other.floats()?);
    let pick = |((&choice, &then), &other): ((&i64, &f64), &f64)| if choice != 0 { then } else { other };
    Ok(Numbers::Floats(condition.iter().zip(&then).zip(&other).map(pick).collect()))
}

/// Numbers converted to another type.
///
/// # Errors
/// If that is not a plain type, or if a float does not fit.
pub fn cast(array: &Array, to: i64) -> Result<Array, String> {
    let to = i32::try_from(to).map_err(|_| "casts to an unknown type")?;
    let numbers = match (DataType::try_from(to), &array.numbers) {
        (Ok(_), _) if is_float(to) => Numbers::Floats(array.floats()?),
        (Ok(DataType::Bool), Numbers::Floats(values)) => {
            Numbers::Whole(values.iter().map(|&value| Whole::Plain(i64::from(value != 0.0))).collect())
        }
        (Ok(DataType::Bool), Numbers::Whole(_)) => {
            Numbers::Whole(array.ints()?.iter().map(|&value| Whole::Plain(i64::from(value != 0))).collect())
        }
        (Ok(DataType::Int64 | DataType::Int32), Numbers::Whole(_)) => array.numbers.clone(),
        (Ok(DataType::Int64 | DataType::Int32), Numbers::Floats(values)) => {
            let whole = |&value: &f64| {
                let fits = value.is_finite() && value.abs() < 2f64.powi(62);
                fits.then_some(Whole::Plain(value as i64)).ok_or_else(|| format!("{value} is not an integer"))
            };
            Numbers::Whole(values.iter().map(whole).collect::<Result<_, _>>()?)
        }
        _ => return Err(format!("casts to {}", super::super::tensor::type_name(to))),
    };
    Ok(Array { dims: array.dims.clone(), numbers })
}

/// All numbers reduced to one.
///
/// # Errors
/// If there are none, or as [`elementwise`].
pub fn reduce(op: &str, array: &Array) -> Result<Array, String> {
    let pairwise = match op {
        "ReduceProd" => "Mul",
        "ReduceSum" => "Add",
        "ReduceMax" => "Max",
        _ => "Min",
    };
    let none = "reduces nothing";
    let numbers = match &array.numbers {
        Numbers::Whole(values) => {
            let mut rest = values.iter().copied();
            let first = rest.next().ok_or(none)?;
            Numbers::Whole(vec![rest.try_fold(first, |sum, next| of_wholes(pairwise, sum, next))?])
        }
        Numbers::Floats(values) => {
            let joined = values.iter().copied().reduce(match pairwise {
                "Mul" => |a, b| a * b,
                "Add" => |a, b| a + b,
                "Max" => f64::max,
                _ => f64::min,
            });
            Numbers::Floats(vec![joined.ok_or(none)?])
        }
    };
    Ok(Array { dims: Vec::new(), numbers })
}

/// The numbers from a start to before an end.
///
/// # Errors
/// If the three are not single numbers, or if the result is too long.
pub fn range(ends: &[Rc<Array>], budget: &mut Budget) -> Result<Array, String> {
    let [start, end, step] = ends else { return Err("takes a start, an end and a step".into()) };
    if [start, end, step].iter().any(|array| array.len() != 1) {
        return Err("takes single numbers".into());
    }
    let (from, to, by) = (start.floats()?[0], end.floats()?[0], step.floats()?[0]);
    let count = ((to - from) / by).ceil().max(0.0);
    if !count.is_finite() || count > 1e9 {
        return Err(format!("goes from {from} to {to} by {by}"));
    }
    let count = budget.take(&[count as usize])?;
    let values = (0..count).map(|index| from + index as f64 * by);
    let numbers = match start.numbers {
        Numbers::Floats(_) => Numbers::Floats(values.collect()),
        Numbers::Whole(_) => Numbers::Whole(values.map(|value| Whole::Plain(value as i64)).collect()),
    };
    Ok(Array { dims: vec![count], numbers })
}

#[cfg(test)]
mod tests {
    use super::Whole::{Batches, Plain};
    use super::*;

    #[test]
    fn the_batch_goes_through_as_a_multiple() {
        for (op, a, b, expected) in [
            ("Mul", Batches(2), Plain(3), Ok(Batches(6))),
            ("Div", Batches(6), Batches(2), Ok(Plain(3))),
            ("Div", Plain(7), Plain(2), Ok(Plain(3))),
            ("Div", Batches(3), Plain(2), Err(())),
            ("Div", Plain(1), Plain(0), Err(())),
            ("Div", Plain(i64::MIN), Plain(-1), Err(())),
            ("Add", Batches(1), Plain(1), Err(())),
            ("Add", Plain(i64::MAX), Plain(1), Err(())),
            ("Equal", Batches(1), Plain(-1), Ok(Plain(0))),
            ("Equal", Batches(1), Plain(4), Err(())),
            ("Less", Plain(1), Plain(4), Ok(Plain(1))),
            ("Mod", Plain(7), Plain(0), Err(())),
            ("Mul", Batches(1), Batches(1), Err(())),
            ("Pow", Plain(10), Plain(40), Err(())),
        ] {
            assert_eq!(of_wholes(op, a, b).map_err(|_| ()), expected, "{op} {a:?} {b:?}");
        }
        assert!(reduce("ReduceProd", &Array::list(vec![])).is_err());
        let product = reduce("ReduceProd", &Array::list(vec![Plain(2), Batches(3), Plain(4)])).unwrap();
        assert_eq!(product.whole(), Ok(&[Batches(24)][..]));
        let bounds =
            [0.0, 1e300, 1e-3].map(|x| Rc::new(Array { dims: vec![], numbers: Numbers::Floats(vec![x]) }));
        assert!(range(&bounds, &mut Budget::limited(10)).is_err());
    }
}
