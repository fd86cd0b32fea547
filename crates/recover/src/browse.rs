//! Single files out of a decrypted NTFS, without writing an image.
//!
//! The `ntfs` crate reads the structures; this module gives it plain bytes, walks folders within bounds, and writes
//! files. Left out and named: compressed and EFS-encrypted content, links and other reparse points, names that mean
//! something else to a system, and whatever claims more than its volume can hold. Alternate streams are not looked at.
//! What a file never had written (behind its valid data length) comes as it lies on the disk.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ntfs::structured_values::{NtfsFileAttributeFlags, NtfsFileName, NtfsFileNamespace};
use ntfs::{Ntfs, NtfsAttributeFlags, NtfsError, NtfsFile, NtfsReadSeek};

use crate::copy::Observer;
use crate::error::RecoverError;
use crate::place::{create_new, give_name};
use crate::plain::PlainSource;

/// Records of the file system itself.
const FIRST_USER_RECORD: u64 = 16;
/// Entries of one folder that are read at most: NTFS slows down long before. They are in memory together.
const MAX_FOLDER_ENTRIES: usize = 1_000_000;
/// Entries that wait to be extracted at most, of all folders on the way down.
const MAX_WAITING_ENTRIES: usize = 4_000_000;
/// Files and folders that one extraction looks at: more than volumes have, so that indexes that share their blocks end.
const MAX_EXTRACTED_ENTRIES: u64 = 16_000_000;
/// How often the volume's size may be written in all: hard links give a content more than one name.
const MAX_WRITTEN_VOLUMES: u64 = 4;
/// Folders inside folders that are followed at most; a Windows path of 32,767 characters ends sooner in practice.
const MAX_DEPTH: usize = 256;
/// Reads that one folder may take: damaged indexes can point in circles.
const MAX_FOLDER_READS: u64 = 8_000_000;
/// Left-out files that are named one by one.
const MAX_NAMED: usize = 1000;
/// Bytes of a file copied at once.
const COPY_BYTES: usize = 1 << 20;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, a mount point, or a file that a filter driver keeps elsewhere.
    Link,
}

impl EntryKind {
    /// Returns the stable name used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Link => "link",
        }
    }
}

/// An entry of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name; text from the guest.
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Size of a file, in bytes.
    pub size_bytes: u64,
    /// Last change, in seconds since 1970 UTC.
    pub modified_unix_seconds: i64,
    record: u64,
}

/// Where extracted files go.
#[derive(Clone, Debug)]
pub struct ExtractOptions {
    /// The folder; made where it is missing.
    pub to: PathBuf,
    /// Random bytes for the names that files have until they are whole.
    pub random_id: [u8; 8],
}

/// What was extracted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtractReport {
    /// Files written.
    pub files: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files left out.
    pub left_out_count: u64,
    /// Which and why; at most a thousand.
    pub left_out: Vec<String>,
}

impl ExtractReport {
    fn leave_out(&mut self, path: &str, why: impl std::fmt::Display) {
        self.left_out_count += 1;
        if self.left_out.len() < MAX_NAMED {
            self.left_out.push(format!("{path}: {why}"));
        }
    }
}

/// The files of a decrypted NTFS.
pub struct NtfsBrowser<'s> {
    ntfs: Ntfs,
    reader: PlainReader<'s>,
}

impl<'s> NtfsBrowser<'s> {
    /// Opens the file system of a plain volume.
    ///
    /// # Errors
    /// [`RecoverError::NoFileSystem`] names what is there instead of NTFS.
    pub fn open(source: &'s dyn PlainSource) -> Result<Self, RecoverError> {
        let mut head = vec![0; 512.min(usize::try_from(source.size_bytes()).unwrap_or(512))];
        source.read(0, &mut head, false).map_err(|error| RecoverError::NoFileSystem {
            why: format!("its first sector cannot be read: {error}"),
        })?;
        match lifeboat_fve::recognise_boot_sector(&head) {
            Some(lifeboat_fve::FileSystem::Ntfs) => {}
            Some(other) => {
                let name = match other {
                    lifeboat_fve::FileSystem::Refs => "ReFS",
                    lifeboat_fve::FileSystem::Fat => "FAT",
                    lifeboat_fve::FileSystem::ExFat => "exFAT",
                    _ => "a file system",
                };
                let why = format!("it holds {name}, and only NTFS is read here");
                return Err(RecoverError::NoFileSystem { why });
            }
            None => {
                let why = "its first sector is not that of a file system".to_owned();
                return Err(RecoverError::NoFileSystem { why });
            }
        }
        let mut reader = PlainReader::new(source);
        let ntfs = guarded("/", || {
            let mut ntfs = Ntfs::new(&mut reader)?;
            // Names are compared here without it; a damaged table costs nothing else.
            let _ = ntfs.read_upcase_table(&mut reader);
            Ok(ntfs)
        })?;
        Ok(Self { ntfs, reader })
    }

    /// Lists a folder, by name; `path` takes either slash and ignores case. A file is listed as itself.
    ///
    /// # Errors
    /// [`RecoverError::NoSuchPath`], [`RecoverError::FileSystem`].
    pub fn list(&mut self, path: &str) -> Result<Vec<Entry>, RecoverError> {
        match self.find(path)? {
            Found::Folder(record) => self.entries(record, path),
            Found::Entry(entry) => Ok(vec![entry]),
        }
    }

    /// Writes a file, or a folder with everything in it, into a folder, which is made where it is missing. Nothing is
    /// overwritten and no link is followed below that folder; a file has a temporary name until it is whole.
    ///
    /// # Errors
    /// [`RecoverError::NoSuchPath`]; [`RecoverError::File`] when the folder cannot be written;
    /// [`RecoverError::ExtractInterrupted`]. What cannot be read, or have its name here, is left out and reported.
    pub fn extract(
        &mut self,
        path: &str,
        options: &ExtractOptions,
        cancel: &AtomicBool,
        observer: &dyn Observer,
    ) -> Result<ExtractReport, RecoverError> {
        let to = &options.to;
        let found = self.find(path)?;
        std::fs::create_dir_all(to).map_err(RecoverError::file(to, "made"))?;
        let mut report = ExtractReport::default();
        let mut seen = BTreeSet::new();
        let mut waiting = Vec::new();
        waiting.push(match found {
            Found::Folder(record) => {
                seen.insert(record);
                Waiting {
                    path: String::new(),
                    to: to.clone(),
                    entries: self.entries(record, path)?.into_iter(),
                }
            }
            Found::Entry(entry) => {
                Waiting { path: String::new(), to: to.clone(), entries: vec![entry].into_iter() }
            }
        });
        let mut looked_at = 0;
        while let Some(folder) = waiting.last_mut() {
            let Some(entry) = folder.entries.next() else {
                waiting.pop();
                continue;
            };
            if cancel.load(Ordering::Relaxed) {
                return Err(RecoverError::ExtractInterrupted { to: to.clone(), files: report.files });
            }
            let path = format!("{}{}", folder.path, entry.name);
            if looked_at == MAX_EXTRACTED_ENTRIES {
                report.leave_out(&path, "and all behind it: there are more files than a volume has");
                break;
            }
            looked_at += 1;
            if let Some(why) = why_not_a_name(&entry.name) {
                report.leave_out(&path, why);
                continue;
            }
            let target = folder.to.join(&entry.name);
            match entry.kind {
                EntryKind::Link => report.leave_out(&path, "a link or a file kept elsewhere (reparse point)"),
                EntryKind::Folder if waiting.len() > MAX_DEPTH => report.leave_out(&path, "too deep"),
                EntryKind::Folder if !seen.insert(entry.record) => {
                    report.leave_out(&path, "a folder that contains itself, or that was met before");
                }
                EntryKind::Folder => {
                    let have: usize = waiting.iter().map(|folder| folder.entries.len()).sum();
                    match self.entries(entry.record, &path) {
                        Ok(entries) if have + entries.len() > MAX_WAITING_ENTRIES => {
                            report.leave_out(&path, "too many entries on the way to it");
                        }
                        Ok(entries) => match make_folder(&target)? {
                            Ok(()) => {
                                let path = format!("{path}/");
                                waiting.push(Waiting { path, to: target, entries: entries.into_iter() });
                            }
                            Err(why) => report.leave_out(&path, why),
                        },
                        Err(error) => report.leave_out(&path, error),
                    }
                }
                EntryKind::File => {
                    let partial = temporary(&target, options.random_id, looked_at);
                    let may_write = self.reader.source.size_bytes().saturating_mul(MAX_WRITTEN_VOLUMES);
                    let left = may_write.saturating_sub(report.bytes);
                    match self.extract_file(&entry, &path, &partial, &target, left, cancel, observer)? {
                        Ok(bytes) => {
                            report.files += 1;
                            report.bytes += bytes;
                        }
                        Err(why) => report.leave_out(&path, why),
                    }
                }
            }
        }
        Ok(report)
    }

    /// Writes one file. The inner error says why it was left out.
    #[expect(clippy::too_many_arguments, reason = "one caller, which has them apart")]
    fn extract_file(
        &mut self,
        entry: &Entry,
        path: &str,
        partial: &Path,
        target: &Path,
        left_bytes: u64,
        cancel: &AtomicBool,
        observer: &dyn Observer,
    ) -> Result<Result<u64, String>, RecoverError> {
        match target.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Ok(Err(format!("it cannot have its name here: {error}"))),
            Ok(_) => return Ok(Err(format!("{} is there already", target.display()))),
        }
        let mut output = create_new(partial).map_err(RecoverError::file(partial, "written"))?;
        let written = self
            .copy_content(entry, path, &mut output, left_bytes, cancel, observer)
            .map_err(RecoverError::file(partial, "written"));
        let named = match written {
            Ok(Ok(bytes)) => {
                output.sync_all().map_err(RecoverError::file(partial, "written")).and_then(|()| {
                    drop(output);
                    match give_name(partial, target) {
                        Ok(()) => Ok(Ok(bytes)),
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                            Ok(Err(format!("{} is there already", target.display())))
                        }
                        Err(error) => Err(RecoverError::file(target, "written")(error)),
                    }
                })
            }
            left_out_or_failed => left_out_or_failed,
        };
        if !matches!(named, Ok(Ok(_))) {
            // Ours: it was made above, under a name of its own.
            let _ = std::fs::remove_file(partial);
        }
        named
    }

    /// Copies the content of a file. The two ways to fail: reading leaves the file out, writing ends the extraction.
    fn copy_content(
        &mut self,
        entry: &Entry,
        path: &str,
        output: &mut File,
        left_bytes: u64,
        cancel: &AtomicBool,
        observer: &dyn Observer,
    ) -> io::Result<Result<u64, String>> {
        let (ntfs, reader) = (&self.ntfs, &mut self.reader);
        let volume_bytes = reader.source.size_bytes();
        let mut write_error = None;
        let copied = guarded(path, || {
            reader.allow(MAX_FOLDER_READS);
            let file = ntfs.file(reader, entry.record)?;
            let Some(item) = file.data(reader, "") else { return Ok(Ok(0)) };
            let attribute_item = item?;
            let attribute = attribute_item.to_attribute()?;
            let flags = attribute.flags();
            if flags.contains(NtfsAttributeFlags::COMPRESSED) {
                return Ok(Err("its content is compressed (NTFS compression)".to_owned()));
            }
            if flags.contains(NtfsAttributeFlags::ENCRYPTED) {
                return Ok(Err("its content is encrypted (EFS)".to_owned()));
            }
            let mut value = attribute.value(reader)?;
            if value.len() > volume_bytes {
                return Ok(Err(format!("it claims {} bytes, more than the volume has", value.len())));
            }
            if value.len() > left_bytes {
                return Ok(Err("all files together claim more than the volume can hold".to_owned()));
            }
            let mut left = value.len();
            reader.allow(left / 512 + MAX_FOLDER_READS);
            let mut buffer = vec![0; COPY_BYTES];
            let mut copied = 0;
            while left > 0 {
                if cancel.load(Ordering::Relaxed) {
                    return Ok(Err("interrupted".to_owned()));
                }
                // At most the buffer.
                let wanted = left.min(COPY_BYTES as u64) as usize;
                let have = value.read(reader, &mut buffer[..wanted])?;
                if have == 0 {
                    return Ok(Err(format!("it ends {left} bytes early")));
                }
                if let Err(error) = output.write_all(&buffer[..have]) {
                    write_error = Some(error);
                    return Ok(Ok(copied));
                }
                left -= have as u64;
                copied += have as u64;
                observer.advanced(have as u64);
            }
            Ok(Ok(copied))
        });
        match (write_error, copied) {
            (Some(error), _) => Err(error),
            (None, Ok(copied)) => Ok(copied),
            (None, Err(error)) => Ok(Err(error.to_string())),
        }
    }

    fn find(&mut self, path: &str) -> Result<Found, RecoverError> {
        let parts: Vec<&str> =
            path.split(['/', '\\']).filter(|part| !part.is_empty() && *part != ".").collect();
        // "C:\Users" as people type it.
        let parts = match parts.split_first() {
            Some((first, rest)) if first.len() == 2 && first.ends_with(':') => rest,
            _ => parts.as_slice(),
        };
        let mut record = ntfs::KnownNtfsFileRecordNumber::RootDirectory as u64;
        for (number, part) in parts.iter().enumerate() {
            let wanted = part.to_lowercase();
            let entries = self.all_entries(record, path)?;
            let entry = entries.into_iter().find(|entry| entry.name.to_lowercase() == wanted);
            match entry {
                Some(entry) if entry.kind == EntryKind::Folder => record = entry.record,
                Some(entry) if number + 1 == parts.len() => return Ok(Found::Entry(entry)),
                Some(_) => return Err(RecoverError::NotAFolder { path: parts[..=number].join("/") }),
                None => return Err(RecoverError::NoSuchPath { path: parts[..=number].join("/") }),
            }
        }
        Ok(Found::Folder(record))
    }

    /// Lists what belongs to people, by name.
    fn entries(&mut self, record: u64, path: &str) -> Result<Vec<Entry>, RecoverError> {
        let mut entries = self.all_entries(record, path)?;
        entries.retain(|entry| entry.record >= FIRST_USER_RECORD);
        entries.sort_by_cached_key(|entry| entry.name.to_lowercase());
        Ok(entries)
    }

    fn all_entries(&mut self, record: u64, path: &str) -> Result<Vec<Entry>, RecoverError> {
        let (ntfs, reader) = (&self.ntfs, &mut self.reader);
        reader.allow(MAX_FOLDER_READS);
        guarded(path, || {
            let folder: NtfsFile<'_> = ntfs.file(reader, record)?;
            let index = folder.directory_index(reader)?;
            let mut iterator = index.entries();
            let mut entries = Vec::new();
            while let Some(entry) = iterator.next(reader) {
                let entry = entry?;
                let Some(key) = entry.key() else { continue };
                let key: NtfsFileName = key?;
                let record = entry.file_reference().file_record_number();
                // 8.3 names are second names of the same files.
                if key.namespace() == NtfsFileNamespace::Dos || record == 5 {
                    continue;
                }
                if entries.len() == MAX_FOLDER_ENTRIES {
                    return Err(NtfsError::Io(io::Error::other("the folder has too many entries")));
                }
                let attributes = key.file_attributes();
                let kind = if attributes.contains(NtfsFileAttributeFlags::REPARSE_POINT) {
                    EntryKind::Link
                } else if key.is_directory() {
                    EntryKind::Folder
                } else {
                    EntryKind::File
                };
                let modified = lifeboat_fve::FileTime(key.modification_time().nt_timestamp());
                entries.push(Entry {
                    name: key.name().to_string_lossy(),
                    kind,
                    size_bytes: if kind == EntryKind::Folder { 0 } else { key.data_size() },
                    modified_unix_seconds: modified.unix_seconds(),
                    record,
                });
            }
            Ok(entries)
        })
    }
}

enum Found {
    Folder(u64),
    Entry(Entry),
}

/// Runs the file-system reader. It should not panic on damaged structures, but it is not ours: a panic is an error too.
fn guarded<T>(path: &str, work: impl FnOnce() -> Result<T, NtfsError>) -> Result<T, RecoverError> {
    let failed = |why: String| RecoverError::FileSystem { path: path.to_owned(), why };
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed("its structures are damaged in a way that the reader does not bear".to_owned())),
    }
}

/// Entries of a folder that are still to be extracted.
struct Waiting {
    /// Path on the volume, with its closing slash.
    path: String,
    to: PathBuf,
    entries: std::vec::IntoIter<Entry>,
}

/// A name beside a file that nothing else has.
fn temporary(target: &Path, random_id: [u8; 8], number: u64) -> PathBuf {
    target.with_file_name(format!(".lifeboat-{}-{number}.partial", crate::journal::hex(&random_id)))
}

/// Makes a folder, or takes one that is there. The inner error says why not.
fn make_folder(target: &Path) -> Result<Result<(), String>, RecoverError> {
    match std::fs::create_dir(target) {
        Ok(()) => Ok(Ok(())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A link could lead anywhere.
            let is_folder = target.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
            let why = || format!("{} is there already, and is no folder", target.display());
            Ok(if is_folder { Ok(()) } else { Err(why()) })
        }
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput) =>
        {
            Ok(Err(format!("it cannot have its name here: {error}")))
        }
        Err(error) => Err(RecoverError::file(target, "made")(error)),
    }
}

/// Says why a name from a volume is not taken as a name here: it could leave its folder, mean a device to Windows, or
/// deceive whoever reads it. Windows refuses such names too, so only forged or foreign volumes have them.
fn why_not_a_name(name: &str) -> Option<&'static str> {
    const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\\']) {
        return Some("its name leads elsewhere");
    }
    if name.chars().any(char::is_control) {
        return Some("its name has control characters");
    }
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_lowercase();
    let is_port = ["com", "lpt"].iter().any(|port| {
        let rest = stem.strip_prefix(port).map(|rest| rest.chars().collect::<Vec<_>>());
        matches!(rest.as_deref(), Some(['0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}']))
    });
    if is_port || DEVICES.contains(&stem.as_str()) {
        return Some("its name is that of a device on Windows");
    }
    if cfg!(windows) && (name.ends_with(['.', ' ']) || name.contains(['<', '>', ':', '"', '|', '?', '*'])) {
        return Some("Windows takes no such name");
    }
    None
}

/// Bytes read at once for structures.
const BLOCK_BYTES: usize = 64 << 10;

/// A plain source with a cursor, one block of memory, and a budget of reads.
struct PlainReader<'s> {
    source: &'s dyn PlainSource,
    position: u64,
    block: Vec<u8>,
    block_offset: u64,
    reads_left: u64,
}

impl<'s> PlainReader<'s> {
    fn new(source: &'s dyn PlainSource) -> Self {
        Self { source, position: 0, block: Vec::new(), block_offset: 0, reads_left: MAX_FOLDER_READS }
    }

    /// Grants a new budget.
    fn allow(&mut self, reads: u64) {
        self.reads_left = reads;
    }
}

impl Read for PlainReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads_left = self
            .reads_left
            .checked_sub(1)
            .ok_or_else(|| io::Error::other("it takes more reads than a whole structure could"))?;
        let size = self.source.size_bytes();
        let left = size.saturating_sub(self.position);
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let failed = |error: lifeboat_fve::ReadError| io::Error::other(error.to_string());
        if wanted >= BLOCK_BYTES {
            self.source.read(self.position, &mut buffer[..wanted], false).map_err(failed)?;
            self.position += wanted as u64;
            return Ok(wanted);
        }
        let block_offset = self.position - self.position % BLOCK_BYTES as u64;
        if self.block.is_empty() || self.block_offset != block_offset {
            // At most a block.
            let length = (size - block_offset).min(BLOCK_BYTES as u64) as usize;
            self.block.clear();
            let mut block = vec![0; length];
            self.source.read(block_offset, &mut block, false).map_err(failed)?;
            (self.block, self.block_offset) = (block, block_offset);
        }
        let start = (self.position - block_offset) as usize;
        let have = wanted.min(self.block.len() - start);
        buffer[..have].copy_from_slice(&self.block[start..start + have]);
        self.position += have as u64;
        Ok(have)
    }
}

impl Seek for PlainReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.source.size_bytes().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_something_else_are_left_out() {
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "..\\b",
            "a\0",
            "a\nb",
            "\u{1b}[2J",
            "\u{85}",
            "nul",
            "NUL",
            "Con.txt",
            "aux .tar.gz",
            "com1",
            "LPT9.log",
            "com\u{b2}",
            "CONIN$",
        ] {
            assert!(why_not_a_name(name).is_some(), "{name:?}");
        }
        for name in
            ["a", "Größe.txt", "console", "com", "com10", "nul_", ".nul", "a..b", "auxiliary.c", "..."]
        {
            assert!(cfg!(windows) || why_not_a_name(name).is_none(), "{name:?}");
        }
    }
}
