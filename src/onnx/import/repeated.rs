//! Known numbers that are repeated for every image of a batch: a class token, position embeddings, zeros. They are
//! constants of the graph, which stand for all images.

use ndarray::{ArrayD, IxDyn};

use crate::graph::Op;

use super::arguments::known;
use super::arrays::tiled;
use super::fold::{plain, plain_dims};
use super::node::{FileNode, Images};
use super::value::{Array, Data, Numbers, Value, Whole, look_into};
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// The value of an operator that repeats known numbers for every image; `None` if the node is not one.
    pub fn repeated(&mut self, node: &FileNode<'a>) -> Result<Option<Value<'a>>, String> {
        if node.images != Images::Nowhere || !matches!(node.op(), "Expand" | "Tile" | "ConstantOfShape") {
            return Ok(None);
        }
        let place = if node.op() == "ConstantOfShape" { 0 } else { 1 };
        let asked = known(node.input(place)?, &mut self.budget)?;
        let asked = asked.whole()?.to_vec();
        if !asked.iter().any(|dim| matches!(dim, Whole::Batches(_))) {
            return Ok(None);
        }
        let array = match node.op() {
            "ConstantOfShape" => match node.tensor("value")? {
                Some(tensor) => look_into(tensor, &mut self.budget)?.with_dims(Vec::new()),
                None => Array::number(0.0),
            },
            _ => (*known(node.input(0)?, &mut self.budget)?).clone(),
        };
        let problem = || "repeats numbers over a batch in a way that is not supported".to_string();
        if matches!(array.numbers, Numbers::Whole(_)) || array.dims.len() > asked.len() {
            return Err(problem());
        }
        // As many axes as the result has.
        let dims = [&vec![1; asked.len() - array.dims.len()][..], &array.dims].concat();
        let array = array.with_dims(dims);
        let repeats: Vec<Whole> = match node.op() {
            "Tile" => asked,
            _ => plain(&array.dims)
                .into_iter()
                .zip(asked)
                .map(|pair| match pair {
                    (Whole::Plain(has), Whole::Plain(wanted)) if has == wanted || wanted == 1 => {
                        Ok(Whole::Plain(1))
                    }
                    (Whole::Plain(1), wanted) => Ok(wanted),
                    _ => Err(problem()),
                })
                .collect::<Result<_, _>>()?,
        };
        let Some((Whole::Batches(1), rest)) = repeats.split_first() else { return Err(problem()) };
        let own = array.with_dims(array.dims[1..].to_vec());
        if array.dims[0] != 1 {
            return Err(problem());
        }
        let repeats = plain_dims(rest)?;
        let values = tiled(&own, &repeats, &mut self.budget)?;
        let dims = IxDyn(&values.dims);
        let numbers = values.floats()?.into_iter().map(|value| value as f32).collect();
        let values = ArrayD::from_shape_vec(dims, numbers).map_err(|error| error.to_string())?;
        let name = match node.op() {
            "ConstantOfShape" => node.name.as_str(),
            _ => node.input(0)?.name,
        };
        let node = self.draft.add(name, name, Op::Constant { values }, &[], Vec::new())?;
        Ok(Some(Value::Data(Data { node, integers: false })))
    }
}
