//! A graph as training walks through it: a convolution or a normalisation takes the sum and the ReLU after it
//! into the same step. Knows nodes, no tensors.

use crate::graph::{Graph, Op};

/// Nodes that are computed together. All numbers are nodes' places in the graph's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// The node that is computed.
    pub body: usize,
    /// The node that is added to it.
    pub shortcut: Option<usize>,
    /// Whether a ReLU follows.
    pub relu: bool,
    /// The last node of the step, whose value the step computes.
    pub output: usize,
    /// For a convolution: the normalisation that is its only reader and wants its moments.
    pub normalised_by: Option<usize>,
}

/// The steps of a graph, each after those that it reads.
pub(super) fn steps(graph: &Graph) -> Vec<Step> {
    let nodes = graph.nodes();
    let uses = graph.uses();
    let mut readers: Vec<Option<usize>> = vec![None; nodes.len()];
    for (other, node) in nodes.iter().enumerate() {
        node.inputs.iter().for_each(|id| readers[id.index()] = Some(other));
    }
    let reader = |node: usize| readers[node].filter(|_| uses[node] == 1);
    let mut at: Vec<Option<Step>> = vec![None; nodes.len()];
    let mut taken = vec![false; nodes.len()];
    for (body, node) in nodes.iter().enumerate() {
        if taken[body] {
            continue;
        }
        let mut step = Step { body, shortcut: None, relu: false, output: body, normalised_by: None };
        if matches!(node.op, Op::Conv2d(_) | Op::BatchNorm { .. }) {
            if let Some(sum) = reader(body).filter(|&sum| nodes[sum].op == Op::Add && !taken[sum]) {
                let mut others = nodes[sum].inputs.iter().map(|id| id.index()).filter(|&id| id != body);
                if let (Some(shortcut), None) = (others.next(), others.next()) {
                    step.shortcut = Some(shortcut);
                    step.output = sum;
                    taken[sum] = true;
                }
            }
            if let Some(relu) = reader(step.output).filter(|&relu| nodes[relu].op == Op::Relu) {
                step.relu = true;
                step.output = relu;
                taken[relu] = true;
            }
            if step.output == body {
                step.normalised_by =
                    reader(body).filter(|&norm| matches!(nodes[norm].op, Op::BatchNorm { .. }));
            }
        }
        let output = step.output;
        at[output] = Some(step);
    }
    at.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::zoo;

    fn names(model: &str) -> Vec<String> {
        let graph = zoo::build(&parse(model, "test").unwrap(), [3, 8, 8], 10).unwrap();
        let name = |node: usize| graph.nodes()[node].name.clone();
        let text = |step: Step| {
            let shortcut = step.shortcut.map_or(String::new(), |node| format!(" + {}", name(node)));
            format!("{}{shortcut}{}", name(step.body), if step.relu { " relu" } else { "" })
        };
        steps(&graph).into_iter().map(text).collect()
    }

    #[test]
    fn sums_and_relus_join_what_they_follow() {
        let steps = names("family: resnet_cifar\ndepth: 8\n");
        assert!(steps.contains(&"stem.bn relu".to_string()), "{steps:?}");
        let block = |text: &str| steps.iter().filter(|step| step.ends_with(text)).count();
        assert_eq!(block(" relu"), 7, "{steps:?}");
        assert_eq!(steps.iter().filter(|step| step.contains(" + ")).count(), 3, "{steps:?}");
    }

    #[test]
    fn what_is_read_twice_stays_alone() {
        let model = "layers:\n- conv: {out: 4}\n- residual: {body: [relu], shortcut: []}\n- global_avg_pool\n- flatten\n- linear: {out: classes}\n";
        let steps = names(model);
        assert_eq!(steps[1], "0.conv", "{steps:?}");
        assert!(steps.iter().any(|step| step == "1.body.0.relu"), "{steps:?}");
    }
}
