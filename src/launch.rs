//! Starts the program, once its library libtorch is found: the system's loader would end it with a line of its own otherwise.
//!
//! A program without training needs no libtorch, and is then this file itself. Knows nothing of what the program does, and
//! uses nothing of the library, which would link libtorch.

#[cfg(not(feature = "train"))]
#[path = "main.rs"]
mod program;

use std::process::ExitCode;

#[cfg(not(feature = "train"))]
fn main() -> ExitCode {
    program::main()
}

#[cfg(feature = "train")]
fn main() -> ExitCode {
    let problem = start::missing().unwrap_or_else(start::program);
    start::tell(&problem);
    ExitCode::from(2)
}

#[cfg(feature = "train")]
mod start {
    use std::ffi::CString;
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// The program, beside this one.
    const PROGRAM: &str = "cohort-program";

    /// The library that the program is linked with; it brings the others.
    const LIBRARY: &str = "libtorch_cpu.so";

    /// Where the library was when the program was built.
    const BUILT_WITH: Option<&str> = option_env!("COHORT_LIBTORCH");

    /// What is wrong, and what to do about it.
    pub struct Problem {
        message: String,
        hint: String,
    }

    /// Whether libtorch cannot be loaded. Looking for the file takes less time than loading it.
    pub fn missing() -> Option<Problem> {
        let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&paths).chain(BUILT_WITH.map(PathBuf::from));
        if folders.any(|folder| folder.join(LIBRARY).exists()) {
            return None;
        }
        let name = CString::new(LIBRARY).ok()?;
        // SAFETY: the name ends with a zero byte; the library's own initialisers run, as they would in the program.
        let found = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY) };
        found.is_null().then(|| Problem {
            message: match BUILT_WITH {
                Some(folder) => format!("libtorch is missing: there is no {folder}/{LIBRARY}"),
                None => format!("libtorch is missing: {LIBRARY} was not found"),
            },
            hint: "run `make setup` in the project's folder, or name its folder in LD_LIBRARY_PATH; to verify and measure only, \
                   `make without-libtorch` builds a program that needs none"
                .into(),
        })
    }

    /// Replaces this process with the program; returns only if that fails.
    pub fn program() -> Problem {
        let mut arguments = std::env::args_os();
        let own = arguments.next().unwrap_or_else(|| "cohort".into());
        let here = std::env::current_exe().unwrap_or_default();
        let program = here.parent().unwrap_or(Path::new(".")).join(PROGRAM);
        let error = Command::new(&program).arg0(own).args(arguments).exec();
        Problem {
            message: format!("cannot start {}: {error}", program.display()),
            hint: format!("`cohort` and `{PROGRAM}` belong together: build or copy both"),
        }
    }

    /// Prints an error as the program does.
    #[expect(clippy::print_stderr, reason = "the program that prints could not be started")]
    pub fn tell(problem: &Problem) {
        eprintln!("error: {}\n\n  hint: {}", problem.message, problem.hint);
    }
}
