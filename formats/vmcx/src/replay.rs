//! The replay log and the overlay that applies it in memory.
//!
//! The overlay never copies pending data: a read of a destination is redirected to the log, where the data lies. It cannot
//! answer wrong bytes later, because a destination inside the log is a corruption.

use alloc::vec;
use alloc::vec::Vec;
use zerocopy::FromBytes;

use crate::checksum;
use crate::container::Findings;
use crate::error::{Corruption, Remark};
use crate::header::ContainerHeader;
use crate::layout::{
    FIRST_OBJECT_TABLE_OFFSET, HEADER_CHECKSUM_OFFSET, LOG_ENTRY_BYTES, LOG_ENTRY_CHECKSUM_OFFSET,
    LOG_HEADER_BYTES, LOG_SIGNATURE, MAX_REPLAY_BYTES, RawLogEntry, RawLogHeader,
};
use crate::read_at::ReadAt;

/// Largest piece of log data that is held in memory while its checksum is computed, in bytes.
const CHUNK_BYTES: usize = 0x1_0000;

/// What the replay log says (FORMAT.md section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayLog {
    /// Entries that had to be applied; zero for a clean file.
    pub pending_entries: u32,
    /// Sum of the data of these entries, in bytes.
    pub pending_bytes: u64,
    /// Entries that fit the log.
    pub max_entries: u32,
    /// Whether change tracking is on.
    pub change_tracking: bool,
}

/// A range of the file whose current bytes lie in the log.
#[derive(Clone, Copy, Debug)]
struct Patch {
    destination: u64,
    size: u64,
    source: u64,
}

/// The file as it is once its replay log is applied.
#[derive(Debug)]
pub(crate) struct Overlay<R> {
    port: R,
    patches: Vec<Patch>,
}

impl<R: ReadAt> Overlay<R> {
    /// Reads and checks the log behind `header`; `None` for the log when it is too damaged to know what is pending.
    pub(crate) fn open(
        port: R,
        header: &ContainerHeader,
        findings: &mut Findings,
    ) -> Result<(Self, Option<ReplayLog>), R::Error> {
        let mut overlay = Overlay { port, patches: Vec::new() };
        let log = overlay.read_log(header, findings)?;
        Ok((overlay, log))
    }

    /// Answers the port below.
    pub(crate) fn into_port(self) -> R {
        self.port
    }

    fn read_log(
        &mut self,
        header: &ContainerHeader,
        findings: &mut Findings,
    ) -> Result<Option<ReplayLog>, R::Error> {
        let file_bytes = self.port.len();
        let offset = header.log_offset;
        let truncated =
            |need: u64| Corruption::Truncated { what: "the replay log", offset, need, file_bytes };
        if file_bytes < offset || file_bytes - offset < LOG_HEADER_BYTES as u64 {
            findings.corrupt(truncated(LOG_HEADER_BYTES as u64));
            return Ok(None);
        }
        let mut bytes = [0; LOG_HEADER_BYTES];
        self.port.read_exact_at(offset, &mut bytes)?;
        let Ok(raw) = RawLogHeader::read_from_bytes(&bytes) else { return Ok(None) };
        if raw.signature.get() != LOG_SIGNATURE {
            findings.corrupt(Corruption::LogSignature { found: raw.signature.get() });
            return Ok(None);
        }
        if raw.checksum.get() != checksum::structure(&bytes, HEADER_CHECKSUM_OFFSET) {
            findings.corrupt(Corruption::LogChecksum);
            return Ok(None);
        }
        let (current, max) = (raw.current_entries.get(), raw.max_entries.get());
        let header_size = header.log_header_bytes;
        let room = (header_size as usize - LOG_HEADER_BYTES) / LOG_ENTRY_BYTES;
        if max == 0 || max as usize > room || current > max {
            findings.corrupt(Corruption::LogEntryCount { current, max, header_size });
            return Ok(None);
        }
        if raw.change_tracking_enabled != 0 {
            findings.remark(Remark::ChangeTracking);
        }
        // All entries lie in the header area, whose size is bounded; a file may end before unused ones.
        let present = (file_bytes - offset - LOG_HEADER_BYTES as u64) / LOG_ENTRY_BYTES as u64;
        if u64::from(current) > present {
            findings
                .corrupt(truncated(LOG_HEADER_BYTES as u64 + u64::from(current) * LOG_ENTRY_BYTES as u64));
            return Ok(None);
        }
        let readable = u64::from(max).min(present) as usize;
        let mut entries = vec![0; readable * LOG_ENTRY_BYTES];
        self.port.read_exact_at(offset + LOG_HEADER_BYTES as u64, &mut entries)?;

        let mut pending_bytes = 0;
        let mut sound = true;
        for (index, bytes) in (0u32..).zip(entries.chunks_exact(LOG_ENTRY_BYTES)) {
            let Ok(entry) = RawLogEntry::read_from_bytes(bytes) else { break };
            if index >= current {
                look_at_applied(index, &entry, bytes, header, file_bytes, findings);
                continue;
            }
            pending_bytes += u64::from(entry.size.get());
            if pending_bytes > MAX_REPLAY_BYTES {
                findings.corrupt(Corruption::LogTooLarge { found: pending_bytes, limit: MAX_REPLAY_BYTES });
                return Ok(None);
            }
            match self.check_pending(index, &entry, bytes, header)? {
                Ok(patch) => self.patches.push(patch),
                Err(corruption) => {
                    findings.corrupt(corruption);
                    sound = false;
                }
            }
        }
        let log = ReplayLog {
            pending_entries: current,
            pending_bytes,
            max_entries: max,
            change_tracking: raw.change_tracking_enabled != 0,
        };
        Ok(sound.then_some(log))
    }

    fn check_pending(
        &self,
        index: u32,
        entry: &RawLogEntry,
        bytes: &[u8],
        header: &ContainerHeader,
    ) -> Result<Result<Patch, Corruption>, R::Error> {
        if entry.checksum.get() != checksum::structure(bytes, LOG_ENTRY_CHECKSUM_OFFSET) {
            return Ok(Err(Corruption::LogEntryChecksum { index }));
        }
        let size = entry.size.get();
        let Some(source) = data_place(entry, header, self.port.len()) else {
            return Ok(Err(Corruption::LogDataOutside { index, offset: entry.data_offset.get(), size }));
        };
        let destination = entry.file_offset.get();
        let log_end = header.log_offset + header.log_bytes;
        let fits = destination.checked_add(u64::from(size)).is_some_and(|end| {
            // Nobody has seen the log write to a header, and it would move the log that is being applied.
            destination >= FIRST_OBJECT_TABLE_OFFSET
                && end <= self.port.len()
                && (end <= header.log_offset || destination >= log_end)
        });
        if !fits {
            return Ok(Err(Corruption::LogDestination { index, offset: destination, size }));
        }
        if self.data_checksum(source, size)? != entry.data_checksum.get() {
            return Ok(Err(Corruption::LogDataChecksum { index }));
        }
        Ok(Ok(Patch { destination, size: u64::from(size), source }))
    }

    fn data_checksum(&self, source: u64, size: u32) -> Result<u32, R::Error> {
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; CHUNK_BYTES.min(size as usize)];
        let mut done = 0;
        while done < u64::from(size) {
            let part = (u64::from(size) - done).min(CHUNK_BYTES as u64) as usize;
            self.port.read_exact_at(source + done, &mut buffer[..part])?;
            hasher.update(&buffer[..part]);
            done += part as u64;
        }
        Ok(hasher.finalize())
    }
}

/// Answers where in the file the data of an entry lies, if that is in the data area of the log and in the file.
fn data_place(entry: &RawLogEntry, header: &ContainerHeader, file_bytes: u64) -> Option<u64> {
    let offset = entry.data_offset.get();
    let end = offset.checked_add(u64::from(entry.size.get()))?;
    let inside = offset >= u64::from(header.log_header_bytes) && end <= header.log_bytes;
    // The log itself does not overflow, the header was checked for that.
    (inside && header.log_offset + end <= file_bytes).then(|| header.log_offset + offset)
}

/// Notices that the file ends before data that an applied entry had.
fn look_at_applied(
    index: u32,
    entry: &RawLogEntry,
    bytes: &[u8],
    header: &ContainerHeader,
    file_bytes: u64,
    findings: &mut Findings,
) {
    let end = entry.data_offset.get().checked_add(u64::from(entry.size.get()));
    let Some(end) = end.filter(|&end| end <= header.log_bytes) else { return };
    if header.log_offset + end > file_bytes
        && entry.checksum.get() == checksum::structure(bytes, LOG_ENTRY_CHECKSUM_OFFSET)
    {
        findings.remark(Remark::AppliedLogCut { index });
    }
}

impl<R: ReadAt> ReadAt for Overlay<R> {
    type Error = R::Error;

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), R::Error> {
        self.port.read_exact_at(offset, buf)?;
        // The read succeeded, so this end lies in the file and cannot overflow.
        let end = offset + buf.len() as u64;
        for patch in &self.patches {
            let from = offset.max(patch.destination);
            let to = end.min(patch.destination + patch.size);
            if from < to {
                let part = &mut buf[(from - offset) as usize..(to - offset) as usize];
                self.port.read_exact_at(patch.source + (from - patch.destination), part)?;
            }
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.port.len()
    }
}
