//! Slots: places of channels that stay or go together, joined as rules find them (union–find).

use std::rc::Rc;

use super::super::build::NodeId;

/// The slot of each index of an axis; `None` where every index stays.
pub type Label = Option<Rc<[u32]>>;

/// Why an axis stays whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// The node that needs all of it.
    pub node: NodeId,
    /// Continues a sentence that starts with the node: `runs over it`.
    pub why: &'static str,
}

/// All slots of a graph.
pub struct Slots {
    parents: Vec<u32>,
    /// Of each root, why it stays.
    reasons: Vec<Option<Reason>>,
}

impl Slots {
    /// Starts with one slot that stays, for indices that are joined with others though they have no slots. `image` is the
    /// node that needs it.
    pub fn new(image: NodeId) -> Self {
        Self { parents: vec![0], reasons: vec![Some(Reason { node: image, why: "is read whole" })] }
    }

    /// The slot that always stays.
    pub const STAYS: u32 = 0;

    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// New slots, one for each index of an axis.
    pub fn fresh(&mut self, count: usize) -> Rc<[u32]> {
        (0..count).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> u32 {
        let slot = self.parents.len() as u32;
        self.parents.push(slot);
        self.reasons.push(None);
        slot
    }

    /// The slot that stands for all that are joined with this one.
    pub fn root(&self, mut slot: u32) -> u32 {
        while self.parents[slot as usize] != slot {
            slot = self.parents[slot as usize];
        }
        slot
    }

    /// Why a slot stays, if it must.
    pub fn reason(&self, slot: u32) -> Option<Reason> {
        self.reasons[self.root(slot) as usize]
    }

    /// From now on both stay or go together.
    pub fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        if a == b {
            return;
        }
        // The slot of everything that stays has no other name, so that reasons are not mixed up.
        let (into, from) = if a < b { (a, b) } else { (b, a) };
        if into == Self::STAYS {
            let reason = self.reasons[into as usize];
            self.reasons[from as usize] = self.reasons[from as usize].or(reason);
            return;
        }
        self.parents[from as usize] = into;
        self.reasons[into as usize] = self.reasons[into as usize].or(self.reasons[from as usize]);
    }

    /// The root, with a shorter way to it for the next time.
    fn find(&mut self, slot: u32) -> u32 {
        let root = self.root(slot);
        let mut at = slot;
        while self.parents[at as usize] != root {
            at = std::mem::replace(&mut self.parents[at as usize], root);
        }
        root
    }

    /// All indices of an axis stay.
    pub fn pin(&mut self, label: &Label, reason: Reason) {
        for &slot in label.iter().flat_map(|label| label.iter()) {
            let root = self.find(slot) as usize;
            self.reasons[root] = self.reasons[root].or(Some(reason));
        }
    }

    /// Joins two axes of equal length index by index, and returns the label of both.
    pub fn tie(&mut self, a: &Label, b: &Label, node: NodeId) -> Label {
        match (a, b) {
            (Some(left), Some(right)) => {
                left.iter().zip(right.iter()).for_each(|(&left, &right)| self.join(left, right));
                a.clone()
            }
            (Some(_), None) | (None, Some(_)) => {
                let one = if a.is_some() { a } else { b };
                self.pin(one, Reason { node, why: "joins it with values that stay" });
                one.clone()
            }
            (None, None) => None,
        }
    }
}
