//! Checks that a shared library is complete. The system's loader maps the segments that the header declares without
//! checking the length of the file, and the process is killed when it first touches a page past the end of the file.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

/// Length of the header of a 64-bit ELF file (System V ABI, chapter 4).
const HEADER: usize = 64;
/// Length of an entry of its program header table.
const SEGMENT: usize = 56;

/// Rejects a 64-bit ELF file that is too short for its segments. Files of other kinds and missing files are left to
/// the loader, which rejects them itself.
///
/// # Errors
/// A description of the problem.
pub(super) fn whole(path: &Path) -> Result<(), String> {
    let cut_off = || "the file is truncated".to_string();
    let Ok(mut file) = File::open(path) else { return Ok(()) };
    let length = file.metadata().map_err(|error| error.to_string())?.len();
    let mut header = [0; HEADER];
    match file.read_exact(&mut header) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
        read => read.map_err(|error| error.to_string())?,
    }
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(());
    }
    let table = number(&header, 0x20);
    let entries = u16::from_le_bytes([header[0x38], header[0x39]]);
    file.seek(SeekFrom::Start(table)).map_err(|error| error.to_string())?;
    for _ in 0..entries {
        let mut segment = [0; SEGMENT];
        file.read_exact(&mut segment).map_err(|_| cut_off())?;
        let end = number(&segment, 0x08).checked_add(number(&segment, 0x20));
        if end.is_none_or(|end| end > length) {
            return Err(cut_off());
        }
    }
    Ok(())
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_cut_off_is_refused_at_any_length() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("library.so");
        for (length, holds) in [(64, false), (100, false), (4096, false), (program.len(), true)] {
            std::fs::write(&path, &program[..length]).unwrap();
            assert_eq!(whole(&path).is_ok(), holds, "{length} of {} bytes", program.len());
        }
        for (content, what) in [(&program[..63], "less than a header"), (&[b'#'; 100][..], "a text file")] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(whole(&path), Ok(()), "{what} is left to the loader");
        }
        assert_eq!(whole(&folder.path().join("missing.so")), Ok(()));
    }
}
