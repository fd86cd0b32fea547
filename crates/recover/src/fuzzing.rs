//! Entry point for the fuzz target: any bytes as a plain NTFS, whose folders are listed.

use lifeboat_fve as fve;

use crate::browse::{EntryKind, NtfsBrowser};
use crate::plain::PlainSource;

/// Folders that are listed.
const MAX_FOLDERS: usize = 16;

struct Bytes<'b>(&'b [u8]);

impl PlainSource for Bytes<'_> {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn stated_bytes(&self) -> u64 {
        self.size_bytes()
    }

    fn sector_bytes(&self) -> u32 {
        512
    }

    fn read(&self, offset: u64, buffer: &mut [u8], _: bool) -> Result<(), fve::ReadError> {
        let start = usize::try_from(offset)?;
        let end = start.checked_add(buffer.len()).ok_or("beyond the end")?;
        buffer.copy_from_slice(self.0.get(start..end).ok_or("beyond the end")?);
        Ok(())
    }

    fn copied_bytes(&self, _: bool) -> u64 {
        self.size_bytes()
    }

    fn fingerprint(&self) -> [u8; 32] {
        [0; 32]
    }

    fn files(&self) -> &[std::path::PathBuf] {
        &[]
    }
}

/// Lists folders of whatever the bytes are.
pub fn files(bytes: &[u8]) {
    let source = Bytes(bytes);
    let Ok(mut browser) = NtfsBrowser::open(&source) else { return };
    let mut folders = vec!["/".to_owned()];
    for _ in 0..MAX_FOLDERS {
        let Some(folder) = folders.pop() else { return };
        let Ok(entries) = browser.list(&folder) else { continue };
        let inner = entries.into_iter().filter(|entry| entry.kind == EntryKind::Folder);
        folders.extend(inner.take(MAX_FOLDERS).map(|entry| format!("{folder}/{}", entry.name)));
    }
}
