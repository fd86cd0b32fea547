//! The journal beside a partial output: what is complete, and how to prove it.
//!
//! Lines of text, only ever appended. A line says that a block of a VHDX was given room (`A block`), in that order, or
//! that a segment is complete and what its plain bytes hash to (`S segment digest`). The digest is the proof: whoever
//! goes on reads a segment back and compares, so that a crash, a full disk or a line that outlived its data costs a
//! segment, never a wrong byte. A line cut short ends the journal.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::RecoverError;
use crate::place::{create_new, is_taken, open_own};

const MAGIC: &str = "lifeboat-recover-journal 1";
/// Longest line that is looked at.
const MAX_LINE_BYTES: u64 = 256;

/// What an earlier run left.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    /// Ids of the VHDX, as they were chosen then.
    pub(crate) ids: Option<[u8; 48]>,
    /// Blocks of the VHDX in the order in which they were given room.
    pub(crate) blocks: Vec<u64>,
    /// Digests of complete segments.
    pub(crate) segments: BTreeMap<u64, [u8; 32]>,
}

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Opens the journal, locked against other processes, and reads what an earlier run left. A partial output that no
    /// journal tells of, and a journal of something else, are someone else's and stay as they are.
    pub(crate) fn open(
        path: &Path,
        partial: &Path,
        purpose: &str,
        ids: [u8; 48],
    ) -> Result<(Self, Earlier), RecoverError> {
        let other = || RecoverError::OtherPartial { partial: partial.to_owned(), journal: path.to_owned() };
        let mut file = match create_new(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                open_own(path).map_err(RecoverError::file(path, "read"))?.ok_or_else(other)?
            }
            Err(error) => return Err(RecoverError::file(path, "written")(error)),
        };
        if let Err(std::fs::TryLockError::WouldBlock) = file.try_lock() {
            return Err(RecoverError::Busy { path: partial.to_owned() });
        }
        let has_partial = is_taken(partial);
        let (earlier, good_bytes) = match read(&file, purpose).map_err(RecoverError::file(path, "read"))? {
            Read::Journal(earlier, good_bytes) if has_partial => (earlier, good_bytes),
            // The output that it spoke of is gone.
            Read::Journal(..) => (Earlier::default(), 0),
            // The first line is written before the output is made.
            Read::Empty if !has_partial => (Earlier::default(), 0),
            Read::Empty => {
                // Made just now, or by a run that came no further: nothing is lost with it.
                let is_empty = file.metadata().is_ok_and(|metadata| metadata.len() == 0);
                drop(file);
                if is_empty {
                    let _ = std::fs::remove_file(path);
                }
                return Err(other());
            }
            Read::Other => return Err(other()),
        };
        file.set_len(good_bytes)
            .and_then(|()| file.seek(SeekFrom::End(0)).map(drop))
            .map_err(RecoverError::file(path, "written"))?;
        let journal = Self { path: path.to_owned(), file: Mutex::new(file) };
        if good_bytes == 0 {
            journal.line(&format!("{MAGIC} {purpose} {}", hex(&ids)))?;
        }
        Ok((journal, earlier))
    }

    /// Notes that a block was given room.
    pub(crate) fn allocated(&self, block: u64) -> Result<(), RecoverError> {
        self.line(&format!("A {block}"))
    }

    /// Notes that a segment is complete.
    pub(crate) fn complete(&self, segment: u64, digest: &[u8; 32]) -> Result<(), RecoverError> {
        self.line(&format!("S {segment} {}", hex(digest)))
    }

    fn line(&self, text: &str) -> Result<(), RecoverError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{text}\n").as_bytes()).map_err(RecoverError::file(&self.path, "written"))
    }

    /// Removes the journal of a finished output.
    pub(crate) fn remove(self) -> Result<(), RecoverError> {
        drop(self.file);
        std::fs::remove_file(&self.path).map_err(RecoverError::file(&self.path, "removed"))
    }
}

enum Read {
    Empty,
    Other,
    /// With the bytes up to the last whole line.
    Journal(Earlier, u64),
}

fn read(file: &File, purpose: &str) -> std::io::Result<Read> {
    use std::io::Read as _;
    let mut lines = BufReader::new(file);
    let mut earlier = Earlier::default();
    let mut good_bytes = 0;
    loop {
        let mut line = Vec::new();
        let length = (&mut lines).take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        let text = std::str::from_utf8(&line).ok().and_then(|text| text.strip_suffix('\n'));
        if good_bytes == 0 {
            // A first line cut short says that nothing was written yet.
            let is_cut =
                text.is_none() && (MAGIC.as_bytes().starts_with(&line) || line.starts_with(MAGIC.as_bytes()));
            if length == 0 || is_cut {
                return Ok(Read::Empty);
            }
            let ids = text
                .and_then(|text| text.strip_prefix(MAGIC)?.strip_prefix(' ')?.strip_prefix(purpose))
                .and_then(|ids| unhex::<48>(ids.trim_start()));
            let Some(ids) = ids else { return Ok(Read::Other) };
            earlier.ids = Some(ids);
        } else if text.and_then(|text| note(&mut earlier, text)).is_none() {
            return Ok(Read::Journal(earlier, good_bytes));
        }
        good_bytes += length as u64;
    }
}

/// Takes in one line; none when it is not one.
fn note(earlier: &mut Earlier, text: &str) -> Option<()> {
    let mut words = text.split(' ');
    match (words.next()?, words.next()?.parse().ok()?, words.next(), words.next()) {
        ("A", block, None, None) => earlier.blocks.push(block),
        ("S", segment, Some(digest), None) => {
            earlier.segments.insert(segment, unhex(digest)?);
        }
        _ => return None,
    }
    Some(())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_cut_line_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, partial) = (folder.path().join("journal"), folder.path().join("partial"));
        let (journal, earlier) = Journal::open(&path, &partial, "raw 01", [7; 48]).unwrap();
        assert!(earlier.ids.is_none() && earlier.segments.is_empty());
        std::fs::write(&partial, b"").unwrap();
        journal.allocated(9).unwrap();
        journal.complete(3, &[5; 32]).unwrap();
        assert!(matches!(Journal::open(&path, &partial, "raw 01", [7; 48]), Err(RecoverError::Busy { .. })));
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for length in 0..=whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
            if length < first {
                // Before the first line stood there was no output: this one is another's.
                let refused = Journal::open(&path, &partial, "raw 01", [8; 48]);
                assert!(matches!(refused, Err(RecoverError::OtherPartial { .. })), "{length}");
                continue;
            }
            let (_, earlier) = Journal::open(&path, &partial, "raw 01", [8; 48]).unwrap();
            let second = first + b"A 9\n".len();
            assert_eq!(earlier.ids, Some([7; 48]), "{length}");
            assert_eq!(earlier.blocks.len(), usize::from(length >= second), "{length}");
            assert_eq!(earlier.segments.len(), usize::from(length == whole.len()), "{length}");
        }
        std::fs::write(&path, &whole).unwrap();
        assert!(matches!(
            Journal::open(&path, &partial, "raw 02", [7; 48]),
            Err(RecoverError::OtherPartial { .. })
        ));
        std::fs::write(&path, b"something else").unwrap();
        assert!(matches!(
            Journal::open(&path, &partial, "raw 01", [7; 48]),
            Err(RecoverError::OtherPartial { .. })
        ));
        std::fs::write(&path, &whole).unwrap();
        std::fs::remove_file(&partial).unwrap();
        assert!(Journal::open(&path, &partial, "raw 01", [7; 48]).unwrap().1.segments.is_empty());
    }
}
