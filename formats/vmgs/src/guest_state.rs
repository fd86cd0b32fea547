//! A guest state file, and the verdict on a copy of one.
//!
//! [`GuestState::inspect`] is for whoever copies: it says whether the copy is whole, torn, empty or encrypted, and why.
//! [`GuestState::open`] is for whoever reads: it refuses what is not there to be read. Both write nothing and repair nothing.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::copies::Findings;
use crate::document::{self, Document, FoundDocument};
use crate::error::{Corruption, OpenError, ReadError, Remark, Unsupported};
use crate::file::{FileId, StoredFile};
use crate::footer::Footer;
use crate::gpt;
use crate::layout::{BLOCK_BYTES, FOOTER_BYTES, HEAD_BYTES, MAX_BLANK_SCAN_BYTES, SECTOR_BYTES};
use crate::read_at::ReadAt;
use crate::store::{self, FoundStore, Store};

/// Bytes that are read at a time while blank headers are looked behind.
const SCAN_BYTES: usize = 64 << 10;

/// Version of the format, `(major << 16) | minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FormatVersion(pub u32);

impl fmt::Display for FormatVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// Which of the two formats a guest state has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Version 1: a document in a partition. No rule of it was checked against a file of Hyper-V.
    Document,
    /// Version 3: a store of files.
    Store,
}

/// What a copy of a guest state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It keeps every rule, and its files are not encrypted.
    Whole,
    /// It keeps every rule that can be checked without its datastore key.
    Encrypted,
    /// Nothing was ever written to it.
    Empty,
    /// It breaks a rule; the corruptions tell which.
    Torn,
    /// It is not understood, and not damaged for all that is known.
    Unsupported(Unsupported),
    /// It carries no signature of a guest state.
    Unknown,
}

/// Verdict and its reasons.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What the copy is.
    pub verdict: Verdict,
    /// Its format, where that can be told.
    pub format: Option<Format>,
    /// Its footer, when that is whole.
    pub footer: Option<Footer>,
    /// Broken rules, in the order in which they were met.
    pub corruptions: Vec<Corruption>,
    /// Oddities that do not matter for the verdict.
    pub remarks: Vec<Remark>,
}

impl Report {
    /// Tells whether what is needed is there in spite of all corruptions, as after a crash of the host.
    #[must_use]
    pub fn is_tolerable(&self) -> bool {
        self.corruptions.iter().all(Corruption::is_tolerable)
    }
}

/// Report together with what could be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inspection<R> {
    /// The verdict and its reasons.
    pub report: Report,
    /// The guest state, unless its headers are lost, or there is none. Of a torn copy it holds what could be saved.
    pub guest_state: Option<GuestState<R>>,
}

/// What a guest state holds, by its format.
#[derive(Clone, Debug)]
pub enum Contents {
    /// Version 1.
    Document(Document),
    /// Version 3.
    Store(Box<Store>),
}

/// A guest state that was read. Reads through the port only when content is asked for.
#[derive(Debug)]
pub struct GuestState<R> {
    port: R,
    contents: Contents,
}

impl<R: ReadAt> GuestState<R> {
    /// Opens a guest state.
    ///
    /// # Errors
    /// When the port fails, when there is nothing in it, with every [`Corruption`] that is not tolerable, or when it is not
    /// understood.
    pub fn open(port: R) -> Result<Self, OpenError<R::Error>> {
        let Inspection { report, guest_state } = Self::inspect(port).map_err(OpenError::Read)?;
        match (report.verdict, guest_state) {
            (Verdict::Unsupported(unsupported), _) => Err(OpenError::Unsupported(unsupported)),
            (Verdict::Unknown, _) => Err(OpenError::Unknown),
            (Verdict::Empty, _) => Err(OpenError::Empty),
            (_, Some(guest_state)) if report.is_tolerable() => Ok(guest_state),
            _ => {
                let mut corruptions = report.corruptions.into_iter();
                let first = corruptions.next().unwrap_or(Corruption::NoValidHeader);
                Err(OpenError::Corrupt { first, more: corruptions.collect() })
            }
        }
    }

    /// Reads as much as possible and says what the copy is.
    ///
    /// Checks the footer, every checksum, both header copies and their sequences, and place and size of every file. The content
    /// of files that are not encrypted carries no checksum in this format and is not read; that of a document must be JSON.
    ///
    /// # Errors
    /// Only when the port fails.
    pub fn inspect(port: R) -> Result<Inspection<R>, R::Error> {
        let mut findings = Findings::default();
        let (footer, disk_bytes) = read_footer(&port, &mut findings)?;
        let mut head = Box::new([0; HEAD_BYTES]);
        let there = disk_bytes.min(HEAD_BYTES as u64) as usize;
        port.read_exact_at(0, &mut head[..there])?;
        let is_document = is_document(&port, &head, disk_bytes)?;
        if there < HEAD_BYTES {
            findings.corrupt(Corruption::DiskTooSmall { disk_bytes });
        }
        let found = if is_document {
            match document::read(&port, disk_bytes, &mut findings)? {
                FoundDocument::Document(document) => Found::Contents(Contents::Document(document)),
                FoundDocument::Empty => Found::Empty,
                FoundDocument::Unsupported(unsupported) => Found::Unsupported(unsupported),
                FoundDocument::Lost => Found::Lost,
            }
        } else {
            match store::read(&port, &head, disk_bytes, &mut findings)? {
                FoundStore::Store(store) => Found::Contents(Contents::Store(Box::new(store))),
                FoundStore::Blank => {
                    if let Some(data_offset) = find_data(&port, disk_bytes)? {
                        findings.corrupt(Corruption::HeadersBlank { data_offset });
                    }
                    Found::Empty
                }
                FoundStore::Unsupported(unsupported) => Found::Unsupported(unsupported),
                FoundStore::Lost => Found::Lost,
                FoundStore::Unknown => Found::Unknown,
            }
        };
        let verdict = match &found {
            Found::Unknown => Verdict::Unknown,
            Found::Lost => Verdict::Torn,
            _ if !findings.corruptions.is_empty() => Verdict::Torn,
            Found::Unsupported(unsupported) => Verdict::Unsupported(*unsupported),
            Found::Empty => Verdict::Empty,
            Found::Contents(Contents::Store(store)) if store.is_encrypted() => Verdict::Encrypted,
            Found::Contents(_) => Verdict::Whole,
        };
        let format = match &found {
            _ if is_document => Some(Format::Document),
            Found::Contents(_) | Found::Lost => Some(Format::Store),
            Found::Empty | Found::Unsupported(_) | Found::Unknown => None,
        };
        let Findings { corruptions, remarks } = findings;
        let report = Report { verdict, format, footer, corruptions, remarks };
        let guest_state = match found {
            Found::Contents(contents) => Some(GuestState { port, contents }),
            _ => None,
        };
        Ok(Inspection { report, guest_state })
    }

    /// Returns what the guest state holds.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Returns the store, of the third format.
    #[must_use]
    pub fn store(&self) -> Option<&Store> {
        match &self.contents {
            Contents::Store(store) => Some(store),
            Contents::Document(_) => None,
        }
    }

    /// Returns the document, of the first format.
    #[must_use]
    pub fn document(&self) -> Option<&Document> {
        match &self.contents {
            Contents::Document(document) => Some(document),
            Contents::Store(_) => None,
        }
    }

    /// Tells whether it holds vTPM state that is not empty.
    #[must_use]
    pub fn has_vtpm_state(&self) -> bool {
        match &self.contents {
            Contents::Store(store) => {
                store.files().iter().any(|file| file.id().is_vtpm_state() && file.size_bytes() > 0)
            }
            Contents::Document(document) => {
                document.devices().iter().any(|device| device.is_vtpm() && !device.states.is_empty())
            }
        }
    }

    /// Reads a file of at most `limit_bytes` that is not encrypted.
    ///
    /// # Errors
    /// When there is no such file, when it is larger or encrypted, or when the port fails.
    pub fn read(&self, id: FileId, limit_bytes: usize) -> Result<Vec<u8>, ReadError<R::Error>> {
        let file = self.file(id)?;
        if file.attributes().is_encrypted() {
            return Err(ReadError::Encrypted { id });
        }
        self.read_raw(file, limit_bytes)
    }

    /// Reads a document of the first format, as JSON without the NULs at its end.
    ///
    /// # Errors
    /// When the guest state has another format, or when the port fails.
    pub fn read_document(&self) -> Result<String, ReadError<R::Error>> {
        let document = self.document().ok_or(ReadError::NoDocument)?;
        document::text(&self.port, document).map_err(ReadError::Read)?.map_err(ReadError::Document)
    }

    /// Gives the port back.
    #[must_use]
    pub fn into_port(self) -> R {
        self.port
    }

    pub(crate) fn file(&self, id: FileId) -> Result<&StoredFile, ReadError<R::Error>> {
        self.store().and_then(|store| store.file(id)).ok_or(ReadError::NoSuchFile { id })
    }

    /// Reads the bytes of a file as they are on the disk.
    pub(crate) fn read_raw(
        &self,
        file: &StoredFile,
        limit_bytes: usize,
    ) -> Result<Vec<u8>, ReadError<R::Error>> {
        let limit_bytes = limit_bytes as u64;
        if file.size_bytes() > limit_bytes {
            return Err(ReadError::TooLarge { size_bytes: file.size_bytes(), limit_bytes });
        }
        // Lies on the disk, and is not larger than a usize.
        let mut bytes = vec![0; file.size_bytes() as usize];
        self.port.read_exact_at(file.offset(), &mut bytes).map_err(ReadError::Read)?;
        Ok(bytes)
    }
}

enum Found {
    Contents(Contents),
    Empty,
    Unsupported(Unsupported),
    Lost,
    Unknown,
}

/// Reads the footer; the number is the size of the disk before it, or of the file when there is none.
fn read_footer<R: ReadAt>(port: &R, findings: &mut Findings) -> Result<(Option<Footer>, u64), R::Error> {
    let file_bytes = port.len();
    let Some(disk_bytes) = file_bytes.checked_sub(FOOTER_BYTES as u64) else {
        findings.corrupt(Corruption::FooterMissing);
        return Ok((None, file_bytes));
    };
    let mut bytes = [0; FOOTER_BYTES];
    port.read_exact_at(disk_bytes, &mut bytes)?;
    match Footer::parse(&bytes, file_bytes) {
        Ok(footer) => Ok((Some(footer), disk_bytes)),
        Err(corruption) => {
            let is_missing = corruption == Corruption::FooterMissing;
            findings.corrupt(corruption);
            Ok((None, if is_missing { file_bytes } else { disk_bytes }))
        }
    }
}

/// Tells whether the disk carries a GPT, in either place.
fn is_document<R: ReadAt>(port: &R, head: &[u8; HEAD_BYTES], disk_bytes: u64) -> Result<bool, R::Error> {
    if gpt::begins_at(port, disk_bytes, 1)? {
        return Ok(true);
    }
    // The last sector of a store may hold what a guest wrote.
    let is_store = store::is_signed(head);
    let last_sector = (disk_bytes / SECTOR_BYTES).saturating_sub(1);
    Ok(!is_store && gpt::begins_at(port, disk_bytes, last_sector)?)
}

/// Looks for data behind blank headers.
fn find_data<R: ReadAt>(port: &R, disk_bytes: u64) -> Result<Option<u64>, R::Error> {
    let end = disk_bytes.min(MAX_BLANK_SCAN_BYTES);
    let mut buffer = vec![0; SCAN_BYTES];
    // The first blocks are those of the headers.
    let mut offset = u64::min(2 * BLOCK_BYTES, end);
    while offset < end {
        let need = (end - offset).min(SCAN_BYTES as u64) as usize;
        port.read_exact_at(offset, &mut buffer[..need])?;
        if let Some(at) = buffer[..need].iter().position(|byte| *byte != 0) {
            return Ok(Some(offset + at as u64));
        }
        offset += need as u64;
    }
    Ok(None)
}
