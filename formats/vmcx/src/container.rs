//! A container as a whole: reading it, judging it, and resolving its file objects.
//!
//! There is one way to read: it collects every corruption it meets and builds what can be built. [`Container::open`] refuses
//! a container with a corruption that matters, [`Container::inspect`] hands out everything and lets the caller decide.

use alloc::vec;
use alloc::vec::Vec;

use crate::build::TreeBuilder;
use crate::error::{Corruption, OpenError, ReadError, Remark};
use crate::header::{self, ContainerHeader};
use crate::keys;
use crate::layout::HEADER_AREA_BYTES;
use crate::objects::{self, ObjectKind, Objects};
use crate::read_at::ReadAt;
use crate::replay::{Overlay, ReplayLog};
use crate::tree::{KeyKind, Node, Tree, Value};

/// Largest number of corruptions, and of remarks, that are kept; more are counted.
const MAX_FINDINGS: usize = 256;

/// What reading has come upon.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    corruptions: Vec<Corruption>,
    remarks: Vec<Remark>,
    dropped: u64,
}

impl Findings {
    pub(crate) fn corrupt(&mut self, corruption: Corruption) {
        // At most three are tolerable, so that none that matters is dropped for one that does not.
        if self.corruptions.len() < MAX_FINDINGS {
            self.corruptions.push(corruption);
        } else {
            self.dropped += 1;
        }
    }

    pub(crate) fn remark(&mut self, remark: Remark) {
        if self.remarks.len() < MAX_FINDINGS {
            self.remarks.push(remark);
        } else {
            self.dropped += 1;
        }
    }
}

/// A range of bytes of the file, as it is after replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileRange {
    /// Offset in the file.
    pub offset: u64,
    /// Size in bytes.
    pub size: u32,
}

/// The answer to "is this copy whole?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wholeness {
    /// Every structure checks and nothing is pending.
    Whole,
    /// Every structure checks once the pending log entries are applied, as Hyper-V will do when it opens the file.
    Dirty {
        /// How many entries are pending.
        pending_entries: u32,
    },
    /// Something is damaged or missing.
    Torn,
    /// A container of another format version; nothing more is known.
    Unsupported {
        /// `(major << 8) | minor`.
        format_version: u32,
    },
}

/// Counts that describe a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// Object tables.
    pub object_tables: usize,
    /// Current key tables.
    pub key_tables: usize,
    /// Nodes and values.
    pub entries: usize,
    /// Values that lie in file objects.
    pub file_objects: usize,
    /// Sum of these values in bytes.
    pub file_object_bytes: u64,
}

/// What can be said of a container without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The verdict.
    pub wholeness: Wholeness,
    /// The current header, if there is one.
    pub header: Option<ContainerHeader>,
    /// The replay log, if it could be read.
    pub log: Option<ReplayLog>,
    /// Counts.
    pub facts: Facts,
    /// Broken rules, in the order in which they were met.
    pub corruptions: Vec<Corruption>,
    /// Oddities that do not matter for the verdict.
    pub remarks: Vec<Remark>,
    /// Corruptions and remarks beyond the number that is kept.
    pub dropped: u64,
}

/// A report together with what could be read.
#[derive(Debug)]
#[non_exhaustive]
pub struct Inspection<R> {
    /// The verdict and its reasons.
    pub report: Report,
    /// The container, unless its header or a pending log is lost. Of a torn copy it holds what could be saved.
    pub container: Option<Container<R>>,
}

/// A container that has been read.
///
/// Reads through the port only when a value in a file object is asked for.
#[derive(Debug)]
pub struct Container<R> {
    port: Overlay<R>,
    header: ContainerHeader,
    log: ReplayLog,
    tree: Tree,
    corruptions: Vec<Corruption>,
}

impl<R: ReadAt> Container<R> {
    /// Opens a container, applying a pending replay log in memory.
    ///
    /// # Errors
    /// When the port fails, or with every [`Corruption`] that is not tolerable.
    pub fn open(port: R) -> Result<Self, OpenError<R::Error>> {
        let inspection = Self::inspect(port).map_err(OpenError::Read)?;
        let report = inspection.report;
        match inspection.container {
            Some(container) if report.corruptions.iter().all(Corruption::is_tolerable) => Ok(container),
            _ => {
                let mut corruptions = report.corruptions.into_iter();
                let first = corruptions.next().unwrap_or(Corruption::NoValidHeader);
                Err(OpenError::Corrupt { first, more: corruptions.collect() })
            }
        }
    }

    /// Reads as much as possible and says whether the copy is whole.
    ///
    /// Checks every checksum, the place and size of every structure, that file objects lie in the file where an object table
    /// lists them, that regions do not overlap, and that each entry has its own place below an existing parent. The bytes
    /// of file objects carry no checksum in this format and are not read.
    ///
    /// # Errors
    /// Only when the port fails.
    pub fn inspect(port: R) -> Result<Inspection<R>, R::Error> {
        let mut findings = Findings::default();
        let mut facts = Facts { file_bytes: port.len(), ..Facts::default() };
        let Some(header) = header::read(&port, &mut findings)? else {
            return Ok(Inspection { report: report(findings, None, None, facts), container: None });
        };
        let (overlay, log) = Overlay::open(port, &header, &mut findings)?;
        let Some(log) = log else {
            return Ok(Inspection { report: report(findings, Some(header), None, facts), container: None });
        };
        let objects = objects::read(&overlay, &mut findings)?;
        let (tree, key_tables) = keys::read(&overlay, &objects, &mut findings)?;
        check_regions(&header, &objects, &mut findings);
        facts.object_tables = objects.tables.len();
        facts.key_tables = key_tables;
        facts.entries = tree.nodes.len() - 1;
        check_file_objects(&tree, &objects, &mut facts, &mut findings);
        let report = report(findings, Some(header), Some(log), facts);
        let corruptions = report.corruptions.clone();
        let container = Container { port: overlay, header, log, tree, corruptions };
        Ok(Inspection { report, container: Some(container) })
    }

    /// Answers the values.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Answers the current header.
    pub fn header(&self) -> &ContainerHeader {
        &self.header
    }

    /// Answers what the replay log said.
    pub fn log(&self) -> &ReplayLog {
        &self.log
    }

    /// Answers the corruptions; of an opened container only tolerable ones.
    pub fn corruptions(&self) -> &[Corruption] {
        &self.corruptions
    }

    /// Gives the port back.
    pub fn into_port(self) -> R {
        self.port.into_port()
    }

    /// Reads bytes of the file as it is after replay.
    ///
    /// # Errors
    /// When the range does not lie in the file or the port fails.
    pub fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError<R::Error>> {
        let (size_bytes, file_bytes) = (buf.len() as u64, self.port.len());
        if offset.checked_add(size_bytes).is_none_or(|end| end > file_bytes) {
            return Err(ReadError::OutOfFile { offset, size_bytes, file_bytes });
        }
        self.port.read_exact_at(offset, buf).map_err(ReadError::Read)
    }

    /// Reads a whole range of at most `limit_bytes`.
    ///
    /// # Errors
    /// When the range is larger, does not lie in the file, or the port fails.
    pub fn read_range(&self, range: FileRange, limit_bytes: usize) -> Result<Vec<u8>, ReadError<R::Error>> {
        let (size_bytes, file_bytes) = (u64::from(range.size), self.port.len());
        if size_bytes > limit_bytes as u64 {
            return Err(ReadError::TooLarge { size_bytes, limit_bytes: limit_bytes as u64 });
        }
        // Before the allocation, so that a hostile size costs nothing.
        if range.offset.checked_add(size_bytes).is_none_or(|end| end > file_bytes) {
            return Err(ReadError::OutOfFile { offset: range.offset, size_bytes, file_bytes });
        }
        let mut bytes = vec![0; range.size as usize];
        self.read_at(range.offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Answers the value of a node with a file object of at most `limit_bytes` loaded.
    ///
    /// # Errors
    /// When the file object is larger, cannot be read, or makes no value of its kind.
    pub fn load_value(&self, node: Node<'_>, limit_bytes: usize) -> Result<Value, ReadError<R::Error>> {
        let Value::External { kind, range } = *node.value() else { return Ok(node.value().clone()) };
        let bytes = self.read_range(range, limit_bytes)?;
        let malformed = || ReadError::Malformed { kind, size_bytes: u64::from(range.size) };
        match kind {
            KeyKind::ARRAY => Ok(Value::Array(bytes)),
            KeyKind::STRING => Value::from_utf16(&bytes).ok_or_else(malformed),
            KeyKind::INT | KeyKind::UINT | KeyKind::DOUBLE | KeyKind::BOOL => {
                keys::scalar(kind, &bytes).ok_or_else(malformed)
            }
            _ => Ok(Value::Unknown { kind, bytes }),
        }
    }

    /// Copies all values, file objects of up to `limit_bytes` each included, into a builder that can be changed and written.
    ///
    /// # Errors
    /// When a file object is larger or cannot be read.
    pub fn to_builder(&self, limit_bytes: usize) -> Result<TreeBuilder, ReadError<R::Error>> {
        let mut builder = TreeBuilder::new();
        let mut open = vec![(self.tree.root(), builder.root())];
        while let Some((node, target)) = open.pop() {
            for child in node.children() {
                let value = self.load_value(child, limit_bytes)?;
                let flags = child.flags();
                let id = builder.append(target, child.name(), value);
                builder.set_flags(id, flags);
                open.push((child, id));
            }
        }
        Ok(builder)
    }
}

fn report(
    findings: Findings,
    header: Option<ContainerHeader>,
    log: Option<ReplayLog>,
    facts: Facts,
) -> Report {
    let Findings { corruptions, remarks, dropped } = findings;
    let unsupported = corruptions.iter().find_map(|corruption| match corruption {
        Corruption::UnsupportedVersion { format_version } => Some(*format_version),
        _ => None,
    });
    let pending_entries = log.map_or(0, |log| log.pending_entries);
    let wholeness = match unsupported {
        Some(format_version) => Wholeness::Unsupported { format_version },
        None if !corruptions.is_empty() => Wholeness::Torn,
        None if pending_entries > 0 => Wholeness::Dirty { pending_entries },
        None => Wholeness::Whole,
    };
    Report { wholeness, header, log, facts, corruptions, remarks, dropped }
}

/// Checks that no two regions of the file lie on each other.
fn check_regions(header: &ContainerHeader, objects: &Objects, findings: &mut Findings) {
    let mut regions = vec![
        (0, 2 * HEADER_AREA_BYTES, "the headers"),
        (header.log_offset, header.log_offset + header.log_bytes, "the replay log"),
    ];
    regions.extend(objects.tables.iter().map(|&(offset, size)| (offset, offset + size, "an object table")));
    let mut free = Vec::new();
    for object in &objects.listed {
        let region = |name| (object.offset, object.offset.saturating_add(u64::from(object.size)), name);
        match object.kind {
            ObjectKind::KEY_TABLE => regions.push(region("a key table")),
            ObjectKind::FILE_OBJECT => regions.push(region("a file object")),
            ObjectKind::FREE_SPACE => free.push(region("free space")),
            ObjectKind(kind) => {
                findings.remark(Remark::UnknownObject { kind, offset: object.offset, size: object.size });
            }
        }
    }
    regions.sort_unstable();
    let mut reach = (0, 0, "");
    for &(start, end, name) in regions.iter().filter(|region| region.0 < region.1) {
        if start < reach.1 {
            findings.corrupt(Corruption::Overlap {
                first: reach.2,
                first_offset: reach.0,
                second: name,
                second_offset: start,
            });
        }
        if end > reach.1 {
            reach = (start, end, name);
        }
    }
    for (start, end, _) in free {
        let next = regions.partition_point(|region| region.0 < end);
        // Used regions do not overlap, or that has been said already.
        if next.checked_sub(1).is_some_and(|before| regions[before].1 > start) {
            findings.remark(Remark::FreeSpaceOverlap { offset: start });
        }
    }
}

/// Checks that each pointer to a file object is the only one, and points to an object that is listed and lies in the file.
fn check_file_objects(tree: &Tree, objects: &Objects, facts: &mut Facts, findings: &mut Findings) {
    let mut listed: Vec<(u64, u32, bool)> = objects
        .listed
        .iter()
        .filter(|object| object.kind == ObjectKind::FILE_OBJECT)
        .map(|object| (object.offset, object.size, false))
        .collect();
    let has_pointers = tree.nodes.iter().any(|node| matches!(node.value, Value::External { .. }));
    if listed.is_empty() && !has_pointers {
        return;
    }
    listed.sort_unstable();
    for node in tree.iter() {
        let Value::External { range: FileRange { offset, size }, .. } = *node.value() else { continue };
        facts.file_objects += 1;
        facts.file_object_bytes += u64::from(size);
        let file_bytes = facts.file_bytes;
        if offset.checked_add(u64::from(size)).is_none_or(|end| end > file_bytes) {
            findings.corrupt(Corruption::FileObjectOutside { path: node.path(), offset, size, file_bytes });
            continue;
        }
        let found = listed.binary_search_by_key(&offset, |object| object.0).ok().map(|at| &mut listed[at]);
        match found.filter(|object| size <= object.1) {
            None => findings.corrupt(Corruption::FileObjectUnlisted { path: node.path(), offset, size }),
            Some((_, _, true)) => {
                findings.corrupt(Corruption::FileObjectShared { path: node.path(), offset })
            }
            Some((_, _, used)) => *used = true,
        }
    }
    let unused = listed.iter().filter(|object| !object.2).count();
    if unused > 0 {
        findings.remark(Remark::UnusedFileObjects { objects: unused as u32 });
    }
}
