//! The stages of a run, declared once: name, order, folder, what each needs and what its result depends on.
//!
//! Everything else follows from this table: where a stage's files are, which orders a pipeline may have, and what
//! a stage's key hashes, and so when its files are reused. Knows no settings and none of a stage's work.

use std::path::Path;

/// One of the stages, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StageKind {
    Slim,
    Pretrain,
    Collaborate,
    Select,
    Export,
    Verify,
    Bench,
    Report,
}

/// What the result of a stage depends on, besides its own settings and the pipeline's name and seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The images, their labels and how they are split.
    Data,
    /// Name, network and learning rate factor of every student.
    Students,
    /// What all training stages share: device, precision, augmentation.
    Training,
    /// The device on which libtorch computes.
    Device,
    /// The frozen teacher, if a loss term uses it.
    Teacher,
    /// The interface of exported files, which a teacher's file may give.
    Interface,
    /// The processor and the versions of the runtimes.
    Machine,
    /// The version of this program.
    Program,
    /// Every file that another stage has written.
    Files(StageKind),
    /// The settings of another stage.
    Settings(StageKind),
}

/// What the program must know about a stage before it runs it.
#[derive(Debug)]
pub struct Declaration {
    /// The stage's key in a pipeline file.
    pub name: &'static str,
    /// Version of the stage's own behaviour, raised when the same settings give other files.
    pub version: u32,
    /// Stages that a pipeline with this one must also have.
    pub needs: &'static [StageKind],
    pub reads: &'static [Read],
}

use Read::{Data, Device, Files, Interface, Machine, Program, Settings, Students, Teacher, Training};
use StageKind::{Bench, Collaborate, Export, Pretrain, Report, Select, Slim, Verify};

const SLIM: Declaration =
    Declaration { name: "slim", version: 1, needs: &[], reads: &[Data, Students, Device, Teacher] };

const PRETRAIN: Declaration =
    Declaration { name: "pretrain", version: 2, needs: &[], reads: &[Data, Students, Training, Files(Slim)] };

const COLLABORATE: Declaration = Declaration {
    name: "collaborate",
    version: 2,
    needs: &[],
    reads: &[Data, Students, Training, Teacher, Files(Slim), Files(Pretrain)],
};

const SELECT: Declaration = Declaration {
    name: "select",
    version: 3,
    needs: &[],
    // A candidate's ONNX bytes are those of the file that the export would write.
    reads: &[
        Data,
        Students,
        Teacher,
        Interface,
        Files(Slim),
        Files(Pretrain),
        Files(Collaborate),
        Settings(Export),
    ],
};

const EXPORT: Declaration = Declaration {
    name: "export",
    version: 2,
    needs: &[Select],
    reads: &[Data, Students, Interface, Files(Slim), Files(Pretrain), Files(Collaborate), Files(Select)],
};

const VERIFY: Declaration = Declaration {
    name: "verify",
    version: 2,
    needs: &[Export],
    reads: &[
        Data,
        Students,
        Machine,
        Files(Slim),
        Files(Pretrain),
        Files(Collaborate),
        Files(Select),
        Files(Export),
        Settings(Export),
    ],
};

const BENCH: Declaration = Declaration {
    name: "bench",
    version: 3,
    needs: &[Export],
    reads: &[
        Data,
        Students,
        Teacher,
        Machine,
        Files(Slim),
        Files(Pretrain),
        Files(Collaborate),
        Files(Select),
        Files(Export),
    ],
};

const REPORT: Declaration = Declaration {
    name: "report",
    version: 2,
    needs: &[Select],
    reads: &[
        Data,
        Program,
        Files(Slim),
        Files(Pretrain),
        Files(Collaborate),
        Files(Select),
        Files(Export),
        Files(Verify),
        Files(Bench),
    ],
};

impl StageKind {
    /// Every stage, in order.
    pub const ALL: [StageKind; 8] = [Slim, Pretrain, Collaborate, Select, Export, Verify, Bench, Report];

    /// The stages that give students weights, the last first: of those present, the first one's weights are used from
    /// there on.
    pub const TRAINING: [StageKind; 3] = [Collaborate, Pretrain, Slim];

    pub fn declaration(self) -> &'static Declaration {
        match self {
            Slim => &SLIM,
            Pretrain => &PRETRAIN,
            Collaborate => &COLLABORATE,
            Select => &SELECT,
            Export => &EXPORT,
            Verify => &VERIFY,
            Bench => &BENCH,
            Report => &REPORT,
        }
    }

    pub fn name(self) -> &'static str {
        self.declaration().name
    }

    /// Name of the stage's folder in a run folder, such as `02-collaborate`. `None` for the report, whose
    /// files lie beside the folders.
    pub fn folder(self) -> Option<String> {
        match self {
            Report => None,
            Slim | Pretrain | Collaborate | Select | Export | Verify | Bench => {
                Some(format!("{:02}-{}", self as usize, self.name()))
            }
        }
    }

    /// The stage that owns a file, given by its path in the run folder.
    pub fn of_file(path: &Path) -> Self {
        let first = path.components().next().map(|component| component.as_os_str().to_string_lossy());
        let owner = Self::ALL.into_iter().find(|stage| stage.folder().as_deref() == first.as_deref());
        owner.unwrap_or(Report)
    }

    pub fn reads(self, what: Read) -> bool {
        self.declaration().reads.contains(&what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_numbered_in_order_and_found_again() {
        let folders: Vec<Option<String>> = StageKind::ALL.map(StageKind::folder).to_vec();
        let expected =
            ["00-slim", "01-pretrain", "02-collaborate", "03-select", "04-export", "05-verify", "06-bench"];
        assert_eq!(folders[..7], expected.map(|folder| Some(folder.to_string())));
        assert_eq!(folders[7], None);
        assert_eq!(StageKind::of_file(Path::new("04-export/student.onnx")), Export);
        assert_eq!(StageKind::of_file(Path::new("report.md")), Report);
    }

    /// A report that did not read a stage's files would stay the same when they change.
    #[test]
    fn the_report_reads_the_files_of_every_other_stage() {
        for stage in StageKind::ALL.into_iter().filter(|stage| *stage != Report) {
            assert!(Report.reads(Files(stage)), "{stage:?}");
        }
    }

    /// A key can only hash what was written before.
    #[test]
    fn stages_read_files_of_earlier_stages_only() {
        for stage in StageKind::ALL {
            let declaration = stage.declaration();
            for read in declaration.reads {
                if let Files(other) = read {
                    assert!(*other < stage, "{stage:?} reads files of {other:?}");
                }
            }
            for needed in declaration.needs {
                assert!(*needed < stage && stage.reads(Files(*needed)), "{stage:?} needs {needed:?}");
            }
        }
    }
}
