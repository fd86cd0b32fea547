//! What a capture watches beside the VM's own files: the files of its disks, with their attributes and what was read of them.
//!
//! Kept by the engine as bytes that mean nothing to it, compared here in the next run. Bytes of another program version, or
//! damaged ones, are no answer: the VM is captured again.

use std::path::PathBuf;

use lifeboat_engine::source::FileStat;
use lifeboat_schema::Digest;

use super::disks;
use crate::disk_head::CapturedHead;

/// First byte of the encoding.
const VERSION: u8 = 1;
/// Most disks, and most files of a disk, that are taken from bytes: Hyper-V allows 260 disks and chains of 50.
const MAX_COUNT: u32 = 4096;
/// Longest path that is taken from bytes.
const MAX_PATH_BYTES: u32 = 0x1_0000;

/// Disks of a VM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) disks: Vec<WatchedDisk>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchedDisk {
    /// As the configuration names it.
    pub(crate) path: String,
    /// Of what was read, or of why nothing was.
    pub(crate) digest: Digest,
    /// Its files, and its parents'; none for a disk with a problem.
    pub(crate) files: Vec<WatchedFile>,
}

/// A file with the attributes that it had; none if it was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WatchedFile {
    pub(crate) path: PathBuf,
    pub(crate) stat: Option<FileStat>,
}

impl Watched {
    pub(crate) fn push(
        &mut self,
        path: &str,
        problem: &str,
        captured: Option<&CapturedHead>,
        files: Vec<WatchedFile>,
    ) {
        let digest = disks::content_digest(problem, captured);
        self.disks.push(WatchedDisk { path: path.to_owned(), digest, files });
    }

    /// Empty for a VM without disks.
    pub(crate) fn encode(&self) -> Vec<u8> {
        if self.disks.is_empty() {
            return Vec::new();
        }
        let mut bytes = vec![VERSION];
        put_count(&mut bytes, self.disks.len());
        for disk in &self.disks {
            put_text(&mut bytes, &disk.path);
            bytes.extend_from_slice(disk.digest.as_bytes());
            put_count(&mut bytes, disk.files.len());
            for file in &disk.files {
                put_text(&mut bytes, &file.path.to_string_lossy());
                bytes.push(u8::from(file.stat.is_some()));
                if let Some(stat) = &file.stat {
                    bytes.extend_from_slice(&stat.size.to_le_bytes());
                    bytes.extend_from_slice(&stat.modified_ns.to_le_bytes());
                    bytes.extend_from_slice(&stat.changed_ns.to_le_bytes());
                    bytes.extend_from_slice(&stat.file_id.to_le_bytes());
                }
            }
        }
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let mut rest = Rest(bytes);
        if rest.take::<1>()? != [VERSION] {
            return None;
        }
        let mut watched = Self::default();
        for _ in 0..rest.count(MAX_COUNT)? {
            let (path, digest) = (rest.text()?, Digest::from_bytes(rest.take()?));
            let mut files = Vec::new();
            for _ in 0..rest.count(MAX_COUNT)? {
                let path = PathBuf::from(rest.text()?);
                let stat = match rest.take::<1>()? {
                    [0] => None,
                    _ => Some(FileStat {
                        size: u64::from_le_bytes(rest.take()?),
                        modified_ns: i128::from_le_bytes(rest.take()?),
                        changed_ns: i128::from_le_bytes(rest.take()?),
                        file_id: u64::from_le_bytes(rest.take()?),
                    }),
                };
                files.push(WatchedFile { path, stat });
            }
            watched.disks.push(WatchedDisk { path, digest, files });
        }
        rest.0.is_empty().then_some(watched)
    }
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_count(bytes, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Bytes that are not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn count(&mut self, max: u32) -> Option<u32> {
        Some(u32::from_le_bytes(self.take()?)).filter(|count| *count <= max)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.count(MAX_PATH_BYTES)?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_comes_back() {
        let stat = FileStat { size: 1, modified_ns: -2, changed_ns: 3, file_id: u64::MAX };
        let file = |path: &str, stat| WatchedFile { path: path.into(), stat };
        let mut watched = Watched::default();
        watched.push(r"C:\a.vhdx", "", None, vec![file("/x/a.vhdx", Some(stat)), file("/x/b.vhdx", None)]);
        watched.push(r"C:\c.vhdx", "not found", None, vec![]);
        let bytes = watched.encode();
        assert_eq!(Watched::parse(&bytes), Some(watched.clone()));
        assert_ne!(watched.disks[0].digest, watched.disks[1].digest);
        for length in 1..bytes.len() {
            assert_eq!(Watched::parse(&bytes[..length]), None, "{length}");
        }
        assert_eq!(Watched::parse(&[bytes.as_slice(), b"x"].concat()), None);
        assert_eq!(Watched::parse(&[2, 0, 0, 0, 0]), None);
        assert_eq!(Watched::parse(&[1, 255, 255, 255, 255]), None);
        assert_eq!(Watched::parse(&Watched::default().encode()), Some(Watched::default()));
    }
}
