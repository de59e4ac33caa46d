//! Memory that a training step needs besides activations.

/// Floats in one block of cosines on the CPU, which fits a second-level cache.
pub const ANGLE_BLOCK: usize = 1 << 18;

/// Number of vertices whose angles are computed together, so that there are at most `floats` cosines.
pub fn angle_vertices(batch: usize, floats: usize) -> usize {
    (floats / (batch * batch).max(1)).clamp(1, batch.max(1))
}

/// Bytes that the relational terms hold at once on the CPU, for `members` embeddings of a batch.
pub fn relation_bytes(members: usize, batch: usize, features: usize) -> usize {
    let vertices = angle_vertices(batch, ANGLE_BLOCK);
    let cosines = vertices * batch * batch;
    let directions = vertices * batch * features;
    // A member's cosines and their gradient, and a pair's difference and slope; differences, directions and
    // two steps of the backward pass; four matrices of distances.
    4 * ((2 * members + 2) * cosines + 4 * members * directions + 4 * members * batch * batch)
}
