//! Alignment of two graphs: which of their nodes correspond to each other.

use std::collections::HashMap;

use crate::graph::{Graph, Node, Op};

/// Maximum number of cells in the table that aligns two lists of nodes.
const MAX_CELLS: usize = 25_000_000;

/// The index of each node's partner in `reference`.
///
/// Nodes with the same name and shape are partners. If fewer than half of the nodes have one, the names are
/// another exporter's; then the longest common subsequence of operation kinds and shapes is used if it pairs
/// more nodes.
pub fn align(graph: &Graph, reference: &Graph) -> Vec<Option<usize>> {
    let named = by_name(graph, reference);
    if 2 * named.iter().flatten().count() >= graph.nodes().len() {
        return named;
    }
    let in_order = in_order(graph.nodes(), reference.nodes());
    let count = |pairs: &[Option<usize>]| pairs.iter().flatten().count();
    if count(&in_order) > count(&named) { in_order } else { named }
}

/// How well an alignment explains both graphs: the number of pairs with equal operations minus the number of
/// nodes without a partner.
pub fn score(graph: &Graph, reference: &Graph, pairs: &[Option<usize>]) -> i64 {
    let same =
        |(node, pair): (&Node, &Option<usize>)| pair.is_some_and(|at| reference.nodes()[at].op == node.op);
    let same = graph.nodes().iter().zip(pairs).filter(|&pair| same(pair)).count();
    let paired = pairs.iter().flatten().count();
    let alone = graph.nodes().len() + reference.nodes().len() - 2 * paired;
    same as i64 - alone as i64
}

fn by_name(graph: &Graph, reference: &Graph) -> Vec<Option<usize>> {
    let places: HashMap<&str, usize> =
        reference.nodes().iter().enumerate().map(|(place, node)| (node.name.as_str(), place)).collect();
    let partner = |node: &Node| {
        let is_input = matches!(node.op, Op::Input { .. });
        if is_input { Some(0) } else { places.get(node.name.as_str()).copied() }
    };
    let fits = |node: &Node, place: usize| reference.nodes()[place].shape == node.shape;
    graph.nodes().iter().map(|node| partner(node).filter(|&place| fits(node, place))).collect()
}

fn in_order(nodes: &[Node], reference: &[Node]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; nodes.len()];
    let (rows, columns) = (nodes.len(), reference.len());
    if rows.saturating_mul(columns) > MAX_CELLS {
        return pairs;
    }
    let same = |a: &Node, b: &Node| a.op.kind() == b.op.kind() && a.shape == b.shape;
    // lengths[i][j]: length of the longest common subsequence of nodes[i..] and reference[j..].
    let mut lengths = vec![vec![0u32; columns + 1]; rows + 1];
    for i in (0..rows).rev() {
        for j in (0..columns).rev() {
            lengths[i][j] = if same(&nodes[i], &reference[j]) {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < rows && j < columns {
        if same(&nodes[i], &reference[j]) {
            pairs[i] = Some(j);
            (i, j) = (i + 1, j + 1);
        } else if lengths[i + 1][j] >= lengths[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Builder, Conv2d};

    fn chain(names: &[&str], with_relu: bool) -> Graph {
        let (mut builder, image) = Builder::new(vec![2, 4, 4]).unwrap();
        let first = builder.add(names[0], Op::Conv2d(Conv2d::square(3, 3, 1)), &[image]).unwrap();
        let middle = if with_relu { builder.add(names[1], Op::Relu, &[first]).unwrap() } else { first };
        let last = builder.add(names[2], Op::Conv2d(Conv2d::square(5, 3, 2)), &[middle]).unwrap();
        builder.finish(&[(Graph::LOGITS, last)])
    }

    #[test]
    fn nodes_meet_by_name_or_in_order() {
        let whole = chain(&["a", "b", "c"], true);
        assert_eq!(align(&whole, &whole), [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(align(&chain(&["a", "b", "c"], false), &whole), [Some(0), Some(1), Some(3)]);
        assert_eq!(align(&chain(&["x", "y", "z"], false), &whole), [Some(0), Some(1), Some(3)]);
        assert!(score(&whole, &whole, &align(&whole, &whole)) > 0);
    }
}
