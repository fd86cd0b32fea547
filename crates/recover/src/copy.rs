//! Decryption to a file: on all cores, in bounded memory, resumable, cancellable.
//!
//! The output is cut in segments; each core takes the next one, reads, decrypts and writes it in chunks of one MiB, and
//! notes its digest in the journal. What cannot be read is left as zeros and reported, and its segment is not called
//! complete. Going on, a segment that the journal has is read back and compared before it counts.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::RecoverError;
use crate::journal::{Earlier, Journal, hex};
use crate::place::{is_taken, refuse_source};
use crate::plain::PlainSource;
use crate::space::free_bytes;
use crate::target::{OutputKind, Target, journal_path, partial_path};

/// Bytes that a core works on at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of a segment: what an interruption costs per core.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Cores used at most: each holds a chunk, and no storage feeds more.
const MAX_CORES: usize = 16;
/// Where a chunk cannot be read, smaller parts are tried, down to this.
const SMALLEST_READ_BYTES: usize = 4096;
/// Missing ranges that are reported one by one; the sum counts all.
pub const MAX_REPORTED_RANGES: usize = 1000;

/// What to write, and how.
#[derive(Clone, Debug)]
pub struct DecryptOptions {
    /// The output. Must not exist.
    pub output: PathBuf,
    /// Its form.
    pub kind: OutputKind,
    /// Leave encrypted blocks that no file holds empty, instead of decrypting zeros to noise.
    pub skip_unallocated: bool,
    /// Whether to refuse when the file system may have too little room.
    pub check_space: bool,
    /// Random bytes for the three ids of a VHDX.
    pub random_ids: [u8; 48],
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecryptReport {
    /// Plain bytes of the output, missing ones included.
    pub plain_bytes: u64,
    /// Bytes that the volume or disk should have.
    pub stated_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Bytes that an earlier run had written, proved by their digests.
    pub resumed_bytes: u64,
    /// Bytes inside the output that could not be read and are zeros.
    pub missing_bytes: u64,
    /// Where they are; at most [`MAX_REPORTED_RANGES`].
    pub missing: Vec<Range<u64>>,
    /// What the first failed read reported.
    pub first_failure: Option<String>,
}

impl DecryptReport {
    /// Tells whether everything that should be there is there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.missing_bytes == 0 && self.plain_bytes >= self.stated_bytes
    }
}

/// Who watches a decryption. Called from any thread.
pub trait Observer: Sync {
    /// So many plain bytes are to be written.
    fn planned(&self, bytes: u64);
    /// So many more are done.
    fn advanced(&self, bytes: u64);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn planned(&self, _: u64) {}
    fn advanced(&self, _: u64) {}
}

/// Writes a plain source to a file. Nothing stands under the output's name before it is whole; no file of the source,
/// and none that another made, is written to.
///
/// # Errors
/// [`RecoverError::IsSource`], [`RecoverError::Exists`] and [`RecoverError::OtherPartial`] before anything is written;
/// [`RecoverError::Interrupted`] after `cancel` was set; what is complete stays for the next run, as it does after
/// every failure to write.
pub fn decrypt_to(
    source: &dyn PlainSource,
    options: &DecryptOptions,
    cancel: &AtomicBool,
    observer: &dyn Observer,
) -> Result<DecryptReport, RecoverError> {
    copy_to(source, options, &[], cancel, observer)
}

/// Writes a plain source to a file, with other bytes at the places of `patches`.
pub(crate) fn copy_to(
    source: &dyn PlainSource,
    options: &DecryptOptions,
    patches: &[(u64, &[u8])],
    cancel: &AtomicBool,
    observer: &dyn Observer,
) -> Result<DecryptReport, RecoverError> {
    let output = &options.output;
    let (partial, journal_path) = (partial_path(output), journal_path(output));
    for path in [output, &partial, &journal_path] {
        refuse_source(path, source.files())?;
    }
    if is_taken(output) {
        return Err(RecoverError::Exists { path: output.clone() });
    }
    let kind = match options.kind {
        OutputKind::Raw => "raw",
        OutputKind::Vhdx => "vhdx",
    };
    let form = match (patches, options.skip_unallocated) {
        ([_, ..], _) => "patched",
        ([], true) => "allocated",
        ([], false) => "all",
    };
    let purpose = format!("{kind} {form} {}", hex(&source.fingerprint()));
    if options.check_space && !is_taken(&partial) {
        check_space(source.copied_bytes(options.skip_unallocated), source, options)?;
    }
    let (journal, earlier) = Journal::open(&journal_path, &partial, &purpose, options.random_ids)?;
    if options.check_space && earlier.ids.is_some() {
        // What an earlier run wrote has its room already.
        let written = SEGMENT_BYTES * earlier.segments.len() as u64;
        check_space(source.copied_bytes(options.skip_unallocated).saturating_sub(written), source, options)?;
    }
    let size = source.size_bytes();
    let sector = source.sector_bytes();
    let target = Target::open(output, options.kind, size, sector, options.random_ids, &earlier)?;
    observer.planned(size);
    let copy = Copy {
        source,
        target: &target,
        journal: &journal,
        earlier: &earlier,
        skip_unallocated: options.skip_unallocated,
        cancel,
        observer,
        next_segment: AtomicU64::new(0),
        resumed_bytes: AtomicU64::new(0),
        is_failed: AtomicBool::new(false),
        missing: Mutex::new(Missing::default()),
    };
    copy.run()?;
    let resumed_bytes = copy.resumed_bytes.load(Ordering::Relaxed);
    let missing = copy.missing.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut ranges = missing.ranges;
    ranges.sort_by_key(|range| range.start);
    // After all else, so that a segment that the journal calls complete has the bytes of the source.
    for (offset, bytes) in patches {
        target.overwrite(*offset, bytes, &journal)?;
    }
    let file_bytes = target.finish(journal)?;
    Ok(DecryptReport {
        plain_bytes: size,
        stated_bytes: source.stated_bytes(),
        file_bytes,
        resumed_bytes,
        missing_bytes: missing.bytes,
        missing: joined(ranges),
        first_failure: missing.first_failure,
    })
}

fn check_space(
    need_bytes: u64,
    source: &dyn PlainSource,
    options: &DecryptOptions,
) -> Result<(), RecoverError> {
    let folder = options.output.parent().unwrap_or(Path::new(""));
    match free_bytes(folder) {
        Some(free_bytes) if free_bytes < need_bytes => Err(RecoverError::NoRoom {
            path: options.output.clone(),
            free_bytes,
            need_bytes,
            skip_helps: !options.skip_unallocated && source.copied_bytes(true) <= free_bytes,
        }),
        _ => Ok(()),
    }
}

/// What could not be read so far.
#[derive(Default)]
struct Missing {
    bytes: u64,
    ranges: Vec<Range<u64>>,
    first_failure: Option<String>,
}

struct Copy<'a> {
    source: &'a dyn PlainSource,
    target: &'a Target,
    journal: &'a Journal,
    earlier: &'a Earlier,
    skip_unallocated: bool,
    cancel: &'a AtomicBool,
    observer: &'a dyn Observer,
    next_segment: AtomicU64,
    resumed_bytes: AtomicU64,
    is_failed: AtomicBool,
    missing: Mutex<Missing>,
}

impl Copy<'_> {
    /// Runs all cores until everything is done, one fails, or a person stops it.
    fn run(&self) -> Result<(), RecoverError> {
        let segments = self.source.size_bytes().div_ceil(SEGMENT_BYTES);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let cores = cores.min(MAX_CORES).min(usize::try_from(segments).unwrap_or(MAX_CORES));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(|| self.work(segments))).collect();
            let mut result = Ok(());
            for worker in workers {
                let ended = match worker.join() {
                    Ok(ended) => ended,
                    Err(panic) => std::panic::resume_unwind(panic),
                };
                result = result.and(ended);
            }
            result
        })
    }

    fn work(&self, segments: u64) -> Result<(), RecoverError> {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let segment = self.next_segment.fetch_add(1, Ordering::Relaxed);
            if segment >= segments || self.is_failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if let Err(error) = self.segment(segment, &mut buffer) {
                self.is_failed.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
    }

    fn segment(&self, segment: u64, buffer: &mut [u8]) -> Result<(), RecoverError> {
        let start = segment * SEGMENT_BYTES;
        let end = self.source.size_bytes().min(start + SEGMENT_BYTES);
        if let Some(digest) = self.earlier.segments.get(&segment)
            && self.is_written(start..end, digest, buffer)?
        {
            self.resumed_bytes.fetch_add(end - start, Ordering::Relaxed);
            self.observer.advanced(end - start);
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        let mut is_complete = true;
        for offset in (start..end).step_by(CHUNK_BYTES) {
            self.stop_if_asked()?;
            // At most a chunk.
            let length = (end - offset).min(CHUNK_BYTES as u64) as usize;
            let chunk = &mut buffer[..length];
            is_complete &= self.read(offset, chunk);
            hasher.update(chunk);
            self.target.write(offset, chunk, self.journal)?;
            self.observer.advanced(length as u64);
        }
        if is_complete {
            self.journal.complete(segment, hasher.finalize().as_bytes())?;
        }
        Ok(())
    }

    fn stop_if_asked(&self) -> Result<(), RecoverError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(RecoverError::Interrupted { partial: self.target.partial().to_owned() });
        }
        Ok(())
    }

    /// Compares what an earlier run wrote with the digest that it noted.
    fn is_written(
        &self,
        range: Range<u64>,
        digest: &[u8; 32],
        buffer: &mut [u8],
    ) -> Result<bool, RecoverError> {
        let mut hasher = blake3::Hasher::new();
        for offset in range.clone().step_by(CHUNK_BYTES) {
            self.stop_if_asked()?;
            let length = (range.end - offset).min(CHUNK_BYTES as u64) as usize;
            self.target.read_back(offset, &mut buffer[..length])?;
            hasher.update(&buffer[..length]);
        }
        Ok(hasher.finalize() == *digest)
    }

    /// Reads a chunk; what cannot be read is zeros and noted. Answers whether all of it was read.
    fn read(&self, offset: u64, chunk: &mut [u8]) -> bool {
        match self.source.read(offset, chunk, self.skip_unallocated) {
            Ok(()) => true,
            Err(error) => {
                if chunk.len() > SMALLEST_READ_BYTES {
                    // Halves of whole pages: at most 2 x 256 reads for a chunk.
                    let half = (chunk.len() / 2).next_multiple_of(SMALLEST_READ_BYTES).min(chunk.len());
                    let (first, second) = chunk.split_at_mut(half);
                    let first_read = self.read(offset, first);
                    return (second.is_empty() || self.read(offset + half as u64, second)) && first_read;
                }
                chunk.fill(0);
                let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
                missing.bytes += chunk.len() as u64;
                missing.first_failure.get_or_insert_with(|| lifeboat_disk::error_chain(error.as_ref()));
                let range = offset..offset + chunk.len() as u64;
                let has_room = missing.ranges.len() < MAX_REPORTED_RANGES;
                match missing.ranges.iter_mut().rev().take(MAX_CORES).find(|last| last.end == range.start) {
                    Some(last) => last.end = range.end,
                    None if has_room => missing.ranges.push(range),
                    None => {}
                }
                false
            }
        }
    }
}

/// Joins neighbours of sorted ranges.
fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}
