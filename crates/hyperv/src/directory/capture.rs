//! Reading one VM: all of its files from one moment, or an error.
//!
//! An attempt opens every file and takes its attributes, reads the small ones into memory, proves each from those very bytes,
//! and describes the VM. Then the attributes of all files must still be what they were. Only now does the sink get anything,
//! so that a torn VM costs no sealing; large files go to the sink in parts after they were proved through the same open
//! file, and afterwards the attributes of all files must be equal once more. The heads of
//! disks come last, one at a time.
//!
//! Equal attributes prove equal content only for a file that was not written within the last tick of the file system's
//! clock, so an attempt waits until every file is older than that.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lifeboat_engine::source::{
    CaptureSink, FileStat, FoundFile, FoundVm, SinkError, SourceError, VmIdentity,
};
use lifeboat_schema::{ArtefactKind, Class, PART_BYTES, VmRecord};

use super::open::{self, Content};
use super::{DirectorySource, Step, disks};
use crate::capture_sink::write;
use crate::describe::{self, CapturedFile};
use crate::proof;

/// Largest file that is read into memory at once.
const MAX_HELD_FILE_BYTES: u64 = PART_BYTES;
/// Most bytes of one VM that are in memory at once; further files go the way of large ones.
const MAX_HELD_BYTES: u64 = 2 * PART_BYTES;
/// Attempts in a row that must find the same damage in a file with the same attributes before it is called damaged.
const EQUAL_ATTEMPTS: u32 = 3;
/// Longest tick of a file system's clock on the systems that Hyper-V's volumes are read on: 10 ms for Linux at 100 Hz, less
/// for NTFS and ReFS. FAT's two seconds are not waited for.
const CLOCK_TICK: Duration = Duration::from_millis(12);

/// Memory that is used again for the next VM.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// Contents of all held files, one behind the other.
    pub(super) held: Vec<u8>,
    /// A part of a large file.
    pub(super) part: Vec<u8>,
}

/// Why an attempt failed.
enum Trouble {
    /// A file changed, or is not there.
    Torn { file: usize, what: String },
    /// A file that may be read later is not to be had now.
    InUse { file: usize, source: io::Error },
    /// A file did not change and is not whole.
    Damaged { file: usize, stat: FileStat, damage: proof::Damage },
    /// Another attempt does not help.
    Final(SourceError),
}

struct Opened<'a> {
    found: &'a FoundFile,
    file: File,
    stat: FileStat,
    held: Option<Range<usize>>,
}

impl Opened<'_> {
    fn content<'b>(&'b self, held: &'b [u8]) -> Content<'b> {
        match &self.held {
            Some(range) => Content::Held(&held[range.clone()]),
            None => Content::Open(&self.file, self.stat.size),
        }
    }
}

/// Captures a VM in as many attempts as the options allow.
pub(crate) fn capture(
    source: &DirectorySource,
    vm: &FoundVm,
    sink: &mut dyn CaptureSink,
    buffers: &mut Buffers,
) -> Result<VmRecord, SourceError> {
    let place =
        |file: usize| vm.files.get(file).map_or(vm.place.clone(), |file| file.location.display().to_string());
    refuse_equal_paths(vm)?;
    let attempts = source.options.attempts.max(1);
    let mut last_damage: Option<(usize, FileStat, String)> = None;
    let mut equal = 0;
    let mut attempt = 1;
    loop {
        // A header that is damaged and can be spared is accepted once it is certain to lie like that on disk.
        let accepted = last_damage.as_ref().filter(|_| equal + 1 >= EQUAL_ATTEMPTS);
        let trouble = match read_once(source, vm, sink, buffers, accepted) {
            Ok(record) => return Ok(record),
            Err(Trouble::Final(error)) => return Err(error),
            Err(trouble) => trouble,
        };
        if let Trouble::Damaged { file, stat, damage } = &trouble {
            let this = (*file, *stat, damage.what.clone());
            equal = if last_damage.as_ref() == Some(&this) { equal + 1 } else { 1 };
            last_damage = Some(this);
            if equal >= EQUAL_ATTEMPTS {
                return Err(SourceError::Damaged { place: place(*file), what: damage.what.clone() });
            }
        } else {
            (equal, last_damage) = (0, None);
        }
        if attempt >= attempts {
            return Err(match trouble {
                Trouble::Torn { file, what } => SourceError::Torn { place: place(file), what, attempts },
                Trouble::InUse { file, source } => SourceError::Unreadable { place: place(file), source },
                Trouble::Damaged { file, damage, .. } => {
                    SourceError::Torn { place: place(file), what: damage.what, attempts }
                }
                Trouble::Final(error) => error,
            });
        }
        attempt += 1;
        std::thread::sleep(Duration::from_millis(source.options.retry_delay_milliseconds));
    }
}

fn read_once(
    source: &DirectorySource,
    vm: &FoundVm,
    sink: &mut dyn CaptureSink,
    buffers: &mut Buffers,
    accepted: Option<&(usize, FileStat, String)>,
) -> Result<VmRecord, Trouble> {
    let Buffers { held, part } = buffers;
    held.clear();
    let mut opened = open_all(source, vm)?;
    hold_small(source, &mut opened, held)?;
    let mut files = Vec::with_capacity(opened.len());
    for (index, file) in opened.iter().enumerate() {
        let failed = |source| trouble_of(vm, index, source);
        let tried = proof::prove(file.found.kind, file.content(held)).map_err(failed)?;
        let proved = match tried {
            Ok(proved) => proved,
            Err(damage) => {
                let is_accepted =
                    damage.is_tolerable && accepted == Some(&(index, file.stat, damage.what.clone()));
                if !is_accepted {
                    // Bytes that were read while the file changed are not damage.
                    unchanged(&opened)?;
                    return Err(Trouble::Damaged { file: index, stat: file.stat, damage });
                }
                proof::accept(file.found.kind, file.content(held), &damage).map_err(failed)?
            }
        };
        files.push(CapturedFile {
            path: &file.found.path,
            kind: file.found.kind,
            container: proved.container,
            guest_state: proved.guest_state,
            remarks: proved.remarks,
        });
    }
    let described =
        describe::describe(vm, &files).map_err(|(index, source)| trouble_of(vm, index, source))?;
    unchanged(&opened)?;
    if let Some((file, what)) = described.torn {
        let damage = proof::Damage { what, is_tolerable: false };
        return Err(Trouble::Damaged { file, stat: opened[file].stat, damage });
    }

    let mut record = described.record;
    let identity =
        VmIdentity { vm_id: &record.vm_id, name: &record.name, owner_guardian: described.owner_guardian };
    let sink_failed = |error| Trouble::Final(SourceError::Sink(error));
    sink.begin_vm(&identity).map_err(sink_failed)?;
    let mut streamed = false;
    for (index, file) in opened.iter().enumerate() {
        sink.begin_file(&file.found.path, file.found.kind, Class::Machine).map_err(sink_failed)?;
        match file.content(held) {
            Content::Held([]) => {}
            Content::Held(bytes) => sink.part(bytes).map_err(sink_failed)?,
            Content::Open(open, size_bytes) => {
                streamed = true;
                let mut offset = 0;
                while offset < size_bytes {
                    // At most PART_BYTES, so the cast loses nothing.
                    let need = PART_BYTES.min(size_bytes - offset) as usize;
                    part.resize(need, 0);
                    lifeboat_disk::read_exact_at(open, offset, part)
                        .map_err(|source| trouble_of(vm, index, source))?;
                    sink.part(part).map_err(sink_failed)?;
                    offset += need as u64;
                    source.at(Step::Streamed, &file.found.location);
                }
            }
        }
        sink.end_file().map_err(sink_failed)?;
    }
    if streamed {
        unchanged(&opened)?;
    }
    // One head after the other, so that no more than one is in memory.
    let watched = disks::read_all(source, vm, &mut record.disks, &mut |head| take_head(sink, &head));
    sink.watch(watched.map_err(sink_failed)?.encode());
    Ok(record)
}

fn take_head(sink: &mut dyn CaptureSink, head: &disks::HeadFile) -> Result<(), SinkError> {
    let kind = if head.class == Class::Secret { ArtefactKind::DiskSecret } else { ArtefactKind::DiskHead };
    write(sink, &head.path, kind, head.class, &head.bytes)
}

/// Opens every file and takes its attributes, all of them older than a tick.
fn open_all<'a>(source: &DirectorySource, vm: &'a FoundVm) -> Result<Vec<Opened<'a>>, Trouble> {
    let mut opened = Vec::with_capacity(vm.files.len());
    let mut newest = 0;
    for (index, found) in vm.files.iter().enumerate() {
        let (file, stat) = open::open(&found.location).map_err(|source| trouble_of(vm, index, source))?;
        source.at(Step::Opened, &found.location);
        newest = newest.max(stat.modified_ns).max(stat.changed_ns);
        opened.push(Opened { found, file, stat, held: None });
    }
    if let Some(rest) = rest_of_tick(newest) {
        std::thread::sleep(rest);
        for (index, file) in opened.iter_mut().enumerate() {
            let metadata = file.file.metadata().map_err(|source| trouble_of(vm, index, source))?;
            // Should it have been written meanwhile, the attributes differ after the read or a further tick is over.
            let stat = open::stat(&metadata);
            if stat != file.stat {
                return Err(Trouble::Torn {
                    file: index,
                    what: "it was written while it was opened".to_owned(),
                });
            }
        }
    }
    Ok(opened)
}

/// Time until the tick of a write is over; `None` if it is, or if the clocks disagree so that nothing can be told.
fn rest_of_tick(written_ns: i128) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let written = Duration::from_nanos(u64::try_from(written_ns).ok()?);
    let age = now.checked_sub(written)?;
    CLOCK_TICK.checked_sub(age).filter(|rest| !rest.is_zero())
}

/// Reads files into memory as long as there is room.
fn hold_small(
    source: &DirectorySource,
    opened: &mut [Opened<'_>],
    held: &mut Vec<u8>,
) -> Result<(), Trouble> {
    for (index, file) in opened.iter_mut().enumerate() {
        let start = held.len();
        let size_bytes = file.stat.size;
        if size_bytes > MAX_HELD_FILE_BYTES || start as u64 + size_bytes > MAX_HELD_BYTES {
            continue;
        }
        open::read_held(&file.file, size_bytes, held)
            .map_err(|source| trouble_at(file.found, index, source))?;
        file.held = Some(start..held.len());
        source.at(Step::Held, &file.found.location);
    }
    Ok(())
}

/// Says which file is no longer what it was when it was opened.
fn unchanged(opened: &[Opened<'_>]) -> Result<(), Trouble> {
    for (index, file) in opened.iter().enumerate() {
        let now =
            open::stat_at(&file.found.location).map_err(|source| trouble_at(file.found, index, source))?;
        if now != file.stat {
            let what = if now.file_id != file.stat.file_id {
                "it was replaced while it was read".to_owned()
            } else if now.size != file.stat.size {
                format!("it had {} bytes and now has {}", file.stat.size, now.size)
            } else {
                "it was written while it was read".to_owned()
            };
            return Err(Trouble::Torn { file: index, what });
        }
    }
    Ok(())
}

fn trouble_of(vm: &FoundVm, index: usize, source: io::Error) -> Trouble {
    match vm.files.get(index) {
        Some(file) => trouble_at(file, index, source),
        None => Trouble::Final(SourceError::Unreadable { place: vm.place.clone(), source }),
    }
}

fn trouble_at(found: &FoundFile, file: usize, source: io::Error) -> Trouble {
    match source.kind() {
        io::ErrorKind::NotFound => Trouble::Torn { file, what: "it vanished after it was found".to_owned() },
        io::ErrorKind::UnexpectedEof => {
            Trouble::Torn { file, what: "its size changed while it was read".to_owned() }
        }
        _ if open::is_in_use(&source) => Trouble::InUse { file, source },
        _ => Trouble::Final(SourceError::Unreadable { place: found.location.display().to_string(), source }),
    }
}

/// Refuses files whose paths differ in case only: they cannot lie beside each other where they are restored.
fn refuse_equal_paths(vm: &FoundVm) -> Result<(), SourceError> {
    let mut paths = std::collections::HashSet::with_capacity(vm.files.len());
    match vm.files.iter().find(|file| !paths.insert(file.path.to_lowercase())) {
        Some(file) => Err(SourceError::Contradiction {
            place: file.location.display().to_string(),
            what: "another file of this VM has the same name in other case; keep one of them".to_owned(),
        }),
        None => Ok(()),
    }
}
