//! The stage `report`: the results of all stages in one page and one JSON document.

use anyhow::Result;

use crate::files::write_atomic;
use crate::folder::write_json;
use crate::report::{collect, front_svg, markdown};

use super::{Context, Done};

pub(super) fn run(context: &Context<'_>) -> Result<Done> {
    let folder = context.folder;
    let report = collect(folder)?;
    write_json(&folder.report_json(), &report)?;
    write_atomic(&folder.report_markdown(), markdown(&report).as_bytes())?;
    let mut files = vec![folder.report_json(), folder.report_markdown()];
    if !report.front.is_empty() {
        write_atomic(&folder.front_plot(), front_svg(&report.front, &report.bench)?.as_bytes())?;
        files.push(folder.front_plot());
    }
    Ok(Done { files, gate: None })
}
