//! The Attention operator, as its formula.

use ndarray::ArrayD;

use crate::graph::{Binary, Op, Shape};

use super::arguments::known;
use super::node::{FileNode, size};
use super::value::{Numbers, Value};
use super::walk::Walk;

impl<'a> Walk<'a> {
    /// `softmax(q · kᵀ · scale + mask) · v` for each head (Vaswani et al. 2017). Queries, keys and values are `[heads, length,
    /// features]` for each image, or `[length, heads · features]`.
    pub fn attention(&mut self, node: &FileNode<'a>) -> Result<usize, String> {
        for (name, place) in [("past_key", 4), ("past_value", 5), ("nonpad_kv_seqlen", 6)] {
            if node.optional(place).is_some() {
                return Err(format!("reads '{name}', which is not supported"));
            }
        }
        if node.float("softcap", 0.0)? != 0.0 {
            return Err("has a softcap, which is not supported".into());
        }
        let rows = self.shape_of(self.data(node, 0)?).len() == 2;
        let [query, key, value] =
            [(0, "query", "q_num_heads"), (1, "key", "kv_num_heads"), (2, "value", "kv_num_heads")]
                .map(|(place, part, heads)| self.by_heads(node, place, part, heads));
        let (query, key, value) = (query?, key?, value?);
        let (of_query, of_key) = (self.shape_of(query).clone(), self.shape_of(key).clone());
        let (&[heads, length, features], &[others, reach, _]) = (&of_query[..], &of_key[..]) else {
            return Err(format!("reads {of_query:?} and {of_key:?}"));
        };
        if heads != others {
            return Err(format!("has {heads} heads for queries and {others} for keys"));
        }
        let turned = self.add_part(node, "turned", Op::Transpose { order: vec![0, 2, 1] }, &[key])?;
        let product = self.add_part(node, "product", Op::MatMul, &[query, turned])?;
        let scale = match node.float("scale", 0.0)? {
            0.0 => 1.0 / (features as f64).sqrt(),
            scale => scale,
        };
        let mut scores = self.with_number(node, "scores", Binary::Mul, product, scale)?;
        if let Some(mask) = self.attention_mask(node, length, reach)? {
            scores = self.add_part(node, "masked", Op::Binary(Binary::Add), &[scores, mask])?;
        }
        let shares = self.add_part(node, "shares", Op::Softmax { axis: 2 }, &[scores])?;
        if !rows {
            return self.add(node, Op::MatMul, &[shares, value], Vec::new());
        }
        let mixed = self.add_part(node, "mixed", Op::MatMul, &[shares, value])?;
        let turned = self.add_part(node, "tokens", Op::Transpose { order: vec![1, 0, 2] }, &[mixed])?;
        let shape: Shape = match self.shape_of(turned)[..] {
            [length, heads, features] => vec![length, heads * features],
            _ => return Err("reads no rows of features".into()),
        };
        self.reshape(node, turned, shape)
    }

    /// An input with an axis of heads.
    fn by_heads(
        &mut self,
        node: &FileNode<'a>,
        place: usize,
        part: &str,
        heads: &str,
    ) -> Result<usize, String> {
        let x = self.data(node, place)?;
        let shape = self.shape_of(x).clone();
        let &[length, features] = &shape[..] else { return Ok(x) };
        let heads = size(heads, node.int(heads, 0)?)?;
        if heads == 0 || !features.is_multiple_of(heads) {
            return Err(format!("{features} features do not divide into {heads} heads"));
        }
        let seen = self.add_part(
            node,
            &format!("{part}.heads"),
            Op::Reshape { shape: vec![length, heads, features / heads] },
            &[x],
        )?;
        self.add_part(node, part, Op::Transpose { order: vec![1, 0, 2] }, &[seen])
    }

    /// The mask that is added to the attention scores of `length` queries and `reach` keys, as a node: a known one, and
    /// minus infinity for the keys after each query if the operator is causal.
    fn attention_mask(
        &mut self,
        node: &FileNode<'a>,
        length: usize,
        reach: usize,
    ) -> Result<Option<usize>, String> {
        let mut mask = match node.optional(3) {
            Some(input) if matches!(input.value, Value::Unread(_) | Value::Known(_)) => {
                let array = known(input, &mut self.budget)?;
                let values: Vec<f32> = match &array.numbers {
                    Numbers::Floats(values) => values.iter().map(|&value| value as f32).collect(),
                    Numbers::Whole(_) => {
                        let part = |taken: i64| if taken == 0 { f32::NEG_INFINITY } else { 0.0 };
                        array.ints()?.into_iter().map(part).collect()
                    }
                };
                let mut dims = array.dims.clone();
                // For all images.
                if dims.len() == 4 && dims[0] == 1 {
                    dims.remove(0);
                }
                dims.splice(0..0, std::iter::repeat_n(1, 3usize.saturating_sub(dims.len())));
                Some(ArrayD::from_shape_vec(dims, values).map_err(|error| error.to_string())?)
            }
            Some(input) => return Err(format!("its mask '{}' depends on the image", input.name)),
            None => None,
        };
        if node.flag("is_causal", false)? {
            self.budget.take(&[length, reach])?;
            let causal = ArrayD::from_shape_fn(vec![1, length, reach], |at| {
                if at[2] > at[1] { f32::NEG_INFINITY } else { 0.0 }
            });
            mask = Some(match mask {
                Some(mask) => {
                    let both = mask.broadcast([mask.shape()[0], length, reach]);
                    let both = both.ok_or_else(|| format!("its mask has shape {:?}", mask.shape()))?;
                    &both + &causal
                }
                None => causal,
            });
        }
        mask.map(|values| self.add_part(node, "mask", Op::Constant { values }, &[])).transpose()
    }
}
