//! The execution provider that actually runs each node.

use std::ffi::{CStr, c_char};
use std::ptr;

use anyhow::{Result, bail};
use ort::AsPointer;
use ort::session::Session;

use super::super::Placement;

/// Operators of shape arithmetic, which ONNX Runtime keeps on the CPU; all other nodes must run on the requested
/// provider.
const ON_SHAPES: &[&str] = &[
    "Add",
    "And",
    "Cast",
    "Ceil",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Div",
    "Equal",
    "Floor",
    "Gather",
    "Greater",
    "Identity",
    "Less",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Not",
    "Or",
    "Range",
    "ReduceProd",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Squeeze",
    "Sub",
    "Unsqueeze",
    "Where",
];

/// One node of the graph as it was partitioned among the providers, before they fuse nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub provider: String,
    pub name: String,
    pub op: String,
}

/// Rejects a session in which any node other than shape arithmetic runs on a provider other than `wanted`.
pub(super) fn require(session: &Session, wanted: &str) -> Result<()> {
    let placed = read(session)?;
    if placed.is_empty() {
        bail!("ONNX Runtime does not report which provider runs each node");
    }
    let elsewhere: Vec<String> = placed
        .iter()
        .filter(|node| node.provider != wanted && !ON_SHAPES.contains(&node.op.as_str()))
        .map(|node| format!("{} ({}) on {}", node.name, node.op, node.provider))
        .collect();
    if elsewhere.is_empty() { Ok(()) } else { bail!("not on {wanted}: {}", elsewhere.join(", ")) }
}

/// Number of nodes that each provider runs, by operator.
pub(super) fn count(session: &Session) -> Result<Placement> {
    let mut placement = Placement::new();
    for node in read(session)? {
        *placement.entry(node.provider).or_default().entry(node.op).or_default() += 1;
    }
    Ok(placement)
}

/// Reads the assignment that the option `session.record_ep_graph_assignment_info` makes the session keep.
fn read(session: &Session) -> Result<Vec<Placed>> {
    let api = ort::api();
    let mut placed = Vec::new();
    // SAFETY: the session outlives this call and owns all that is read here; every pointer is
    // written by the call before it is read, and its status is checked.
    unsafe {
        let (mut subgraphs, mut count) = (ptr::null(), 0usize);
        check((api.Session_GetEpGraphAssignmentInfo)(session.ptr(), &mut subgraphs, &mut count))?;
        for subgraph in (0..count).map(|index| *subgraphs.add(index)) {
            let provider = text(|out| (api.EpAssignedSubgraph_GetEpName)(subgraph, out))?;
            let (mut nodes, mut count) = (ptr::null(), 0usize);
            check((api.EpAssignedSubgraph_GetNodes)(subgraph, &mut nodes, &mut count))?;
            for node in (0..count).map(|index| *nodes.add(index)) {
                placed.push(Placed {
                    provider: provider.clone(),
                    name: text(|out| (api.EpAssignedNode_GetName)(node, out))?,
                    op: text(|out| (api.EpAssignedNode_GetOperatorType)(node, out))?,
                });
            }
        }
    }
    Ok(placed)
}

/// Reads a string that ONNX Runtime owns.
///
/// # Safety
/// `read` must write a C string that lives as long as the session.
unsafe fn text(read: impl FnOnce(*mut *const c_char) -> ort_sys::OrtStatusPtr) -> Result<String> {
    let mut out = ptr::null();
    check(read(&mut out))?;
    if out.is_null() {
        return Ok(String::new());
    }
    // SAFETY: the call succeeded, so it wrote a C string, which lives as long as the object it belongs to.
    Ok(unsafe { CStr::from_ptr(out) }.to_string_lossy().into_owned())
}

fn check(status: ort_sys::OrtStatusPtr) -> Result<()> {
    if status.0.is_null() {
        return Ok(());
    }
    let api = ort::api();
    // SAFETY: a status that is not null is ours to read and to release.
    let message = unsafe {
        let message = CStr::from_ptr((api.GetErrorMessage)(status.0)).to_string_lossy().into_owned();
        (api.ReleaseStatus)(status.0);
        message
    };
    bail!("ONNX Runtime: {message}")
}
