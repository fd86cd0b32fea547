//! A host that stops at any moment leaves a log that reads as the state before or after each entry, never between.

use lifeboat_vhdx::log::entry::{LogOperation, NewLogEntry};
use lifeboat_vhdx::{Corruption, Guid, PendingLog, Source, VhdxError, VhdxReader};

use crate::fixture::{MIB, content, create, dynamic, finish, guid, open, read_all, reseal};

const LOG_OFFSET: usize = 1 << 20;
const LOG_BYTES: usize = 1 << 20;
const SECTOR: usize = 4096;

fn log_guid() -> Guid {
    guid(7)
}

/// File with four blocks of data, of which the BAT in place knows none, and the BAT page as of each update.
pub(crate) struct Interrupted {
    pub(crate) file: Vec<u8>,
    bat_offset: u64,
    /// Page number n knows the first n blocks.
    pages: Vec<Box<[u8; SECTOR]>>,
}

const BLOCKS: usize = 4;

pub(crate) fn interrupted() -> Interrupted {
    let mut writer = create(dynamic(BLOCKS as u64 * MIB));
    for block in 0..BLOCKS {
        writer.write_at(block as u64 * MIB, &vec![block as u8 + 1; MIB as usize]).unwrap();
    }
    let mut file = finish(writer).to_bytes();
    let bat_offset = VhdxReader::open(&file).unwrap().regions().bat.offset;
    let bat = bat_offset as usize..bat_offset as usize + SECTOR;
    let full: [u8; SECTOR] = file[bat.clone()].try_into().unwrap();
    let pages = (0..=BLOCKS)
        .map(|known| {
            let mut page = Box::new(full);
            page[known * 8..].fill(0);
            page
        })
        .collect();
    file[bat].fill(0);
    for header in [64 << 10, 128 << 10] {
        file[header + 48..header + 64].copy_from_slice(&log_guid().to_bytes());
        reseal(&mut file, header, 4096);
    }
    Interrupted { file, bat_offset, pages }
}

impl Interrupted {
    fn page(&self, known: usize) -> LogOperation {
        LogOperation::Data { file_offset: self.bat_offset, sector: self.pages[known].clone() }
    }

    fn entry<'a>(
        &self,
        sequence_number: u64,
        tail: usize,
        operations: &'a [LogOperation],
    ) -> NewLogEntry<'a> {
        NewLogEntry {
            log_guid: log_guid(),
            sequence_number,
            tail: tail as u32,
            flushed_file_bytes: self.file.len() as u64,
            last_file_bytes: self.file.len() as u64,
            operations,
        }
    }

    /// Writes bytes into the ring at `position`, with wrap.
    pub(crate) fn put(&mut self, position: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            self.file[LOG_OFFSET + (position + index) % LOG_BYTES] = *byte;
        }
    }

    /// Writes entries one after the other from `start`; returns the end of each, counted from `start`.
    pub(crate) fn put_sequence(
        &mut self,
        start: usize,
        first: u64,
        groups: &[Vec<LogOperation>],
    ) -> Vec<usize> {
        let mut written = 0;
        let mut ends = Vec::new();
        for (group, number) in groups.iter().zip(first..) {
            let bytes = self.entry(number, start, group).encode();
            self.put((start + written) % LOG_BYTES, &bytes);
            written += bytes.len();
            ends.push(written);
        }
        ends
    }

    /// Returns how many blocks the file knows: the answer of a reader, checked against what the blocks hold.
    fn known_blocks(&self) -> Result<usize, VhdxError> {
        let chain = open([&self.file])?;
        let mut known = 0;
        for block in 0..BLOCKS {
            let mut sector = [0; 512];
            chain.read_at(block as u64 * MIB + MIB - 512, &mut sector)?;
            if sector[0] != 0 {
                assert_eq!(sector, [block as u8 + 1; 512]);
                assert_eq!(known, block, "an earlier block is missing");
                known += 1;
            }
        }
        Ok(known)
    }
}

/// The empty entry with which Hyper-V begins, then one entry for each block.
pub(crate) fn updates(disk: &Interrupted) -> Vec<Vec<LogOperation>> {
    core::iter::once(Vec::new()).chain((1..=BLOCKS).map(|known| vec![disk.page(known)])).collect()
}

#[test]
fn torn_at_every_point() {
    // The last start makes the entries wrap at each of their borders and inside them.
    for start in [0, 8192, LOG_BYTES - SECTOR, LOG_BYTES - 3 * SECTOR, LOG_BYTES - 4 * SECTOR] {
        for garbage in [0x00, 0xa5] {
            let mut disk = interrupted();
            let groups = updates(&disk);
            let ends = disk.put_sequence(start, u64::from(u32::MAX) - 1, &groups);
            let whole = disk.file.clone();
            let total = *ends.last().unwrap();
            // Every 512-byte sector, and every byte around the borders of log sectors.
            let near = |point: usize| point % SECTOR < 9 || point % SECTOR > SECTOR - 9;
            for torn in (0..=total).filter(|point| point % 512 == 0 || near(*point)) {
                disk.file.copy_from_slice(&whole);
                disk.put(start + torn, &vec![garbage; total - torn]);
                // Garbage that equals what was to be written is no tear.
                let is_whole = |end: &usize| {
                    (torn.min(*end)..*end).all(|at| {
                        let place = LOG_OFFSET + (start + at) % LOG_BYTES;
                        disk.file[place] == whole[place]
                    })
                };
                let complete = ends.iter().take_while(|end| is_whole(end)).count();
                match disk.known_blocks() {
                    Ok(known) => assert_eq!(known + 1, complete, "torn at {torn} from {start}"),
                    Err(VhdxError::Corrupt(Corruption::LogWithoutSequence)) => {
                        assert_eq!(complete, 0, "torn at {torn} from {start}");
                    }
                    Err(error) => panic!("torn at {torn} from {start}: {error}"),
                }
            }
        }
    }
}

#[test]
fn torn_while_it_was_applied() {
    let mut disk = interrupted();
    let groups = updates(&disk);
    disk.put_sequence(0, 1, &groups);
    let bat = disk.bat_offset as usize;
    for applied in (0..=SECTOR).step_by(64) {
        let page = disk.pages[BLOCKS].clone();
        disk.file[bat..bat + SECTOR].fill(0xa5);
        disk.file[bat..bat + applied].copy_from_slice(&page[..applied]);
        assert_eq!(disk.known_blocks().unwrap(), BLOCKS);
    }
}

#[test]
fn any_changed_byte_of_an_entry_ends_the_sequence_before_it() {
    let mut disk = interrupted();
    let groups = updates(&disk);
    let ends = disk.put_sequence(0, 1, &groups);
    let whole = disk.file.clone();
    for at in (0..*ends.last().unwrap()).step_by(61) {
        disk.file[LOG_OFFSET + at] ^= 0x10;
        let complete = ends.iter().filter(|end| **end <= at).count();
        match disk.known_blocks() {
            Ok(known) => assert_eq!(known + 1, complete, "byte {at}"),
            Err(VhdxError::Corrupt(Corruption::LogWithoutSequence)) => assert_eq!(complete, 0, "byte {at}"),
            Err(error) => panic!("byte {at}: {error}"),
        }
        disk.file[LOG_OFFSET + at] = whole[LOG_OFFSET + at];
    }
}

#[test]
fn replay_begins_at_the_tail_of_the_last_entry() {
    let mut disk = interrupted();
    // The first entry would hide the second block; it was applied and undone since.
    let first = disk.entry(1, 0, &[disk.page(1)]).encode();
    let second = disk.entry(2, first.len(), &[]).encode();
    let bat = disk.bat_offset as usize;
    let page = disk.pages[2].clone();
    disk.file[bat..bat + SECTOR].copy_from_slice(page.as_slice());
    disk.put(0, &first);
    assert_eq!(disk.known_blocks().unwrap(), 1);
    disk.put(first.len(), &second);
    assert_eq!(disk.known_blocks().unwrap(), 2);
}

#[test]
fn a_sequence_with_a_foreign_tail_does_not_count() {
    let mut disk = interrupted();
    let old = disk.entry(5, 0, &[disk.page(1)]).encode();
    // Newer, but its tail names a place that is not part of it.
    let newer = disk.entry(9, 0x8000, &[disk.page(3)]).encode();
    disk.put(0x4000, &newer);
    let error = disk.known_blocks().unwrap_err();
    assert!(matches!(error, VhdxError::Corrupt(Corruption::LogWithoutSequence)), "{error}");
    disk.put(0, &old);
    assert_eq!(disk.known_blocks().unwrap(), 1);
    let right = disk.entry(10, 0x10000, &[disk.page(4)]).encode();
    disk.put(0x10000, &right);
    assert_eq!(disk.known_blocks().unwrap(), 4);
}

#[test]
fn zero_descriptors_clear_and_later_changes_win() {
    let mut disk = interrupted();
    let bat = disk.bat_offset as usize;
    disk.file[bat..bat + 3 * SECTOR].fill(0xa5);
    let clear = LogOperation::Zero { file_offset: disk.bat_offset, length: 3 * SECTOR as u64 };
    // Enough descriptors to need three descriptor sectors.
    let many: Vec<_> = core::iter::repeat_n(clear.clone(), 300).collect();
    disk.put_sequence(0, 1, &[many]);
    assert_eq!(disk.known_blocks().unwrap(), 0);
    let then_data = vec![clear, disk.page(3)];
    disk.put_sequence(0x20000, 7, &[then_data]);
    assert_eq!(disk.known_blocks().unwrap(), 3);
}

#[test]
fn regions_and_metadata_are_read_after_the_replay() {
    let mut disk = interrupted();
    let table = |file: &[u8], offset: usize| -> Vec<LogOperation> {
        file[offset..offset + (64 << 10)]
            .chunks_exact(SECTOR)
            .enumerate()
            .map(|(index, page)| LogOperation::Data {
                file_offset: (offset + index * SECTOR) as u64,
                sector: Box::new(page.try_into().unwrap()),
            })
            .collect()
    };
    let metadata =
        VhdxReader::open(&finish(create(dynamic(MIB))).to_bytes()).unwrap().regions().metadata.offset;
    let groups = vec![
        table(&disk.file, 192 << 10),
        table(&disk.file, metadata as usize),
        table(&disk.file, metadata as usize + (64 << 10)),
        vec![disk.page(2)],
    ];
    disk.file[192 << 10..320 << 10].fill(0xff);
    disk.file[metadata as usize..metadata as usize + (128 << 10)].fill(0xff);
    disk.put_sequence(0, 1, &groups);
    assert_eq!(disk.known_blocks().unwrap(), 2);
}

#[test]
fn a_file_shorter_than_its_log_testifies_is_truncated() {
    let mut disk = interrupted();
    let mut entry = disk.entry(1, 0, &[]);
    entry.flushed_file_bytes += 1;
    let bytes = entry.encode();
    disk.put(0, &bytes);
    let error = disk.known_blocks().unwrap_err();
    assert!(matches!(error, VhdxError::Corrupt(Corruption::FileTruncated { .. })), "{error}");
}

#[test]
fn a_file_that_the_log_extends_reads_as_zeros_there() {
    let mut disk = interrupted();
    let mut page = disk.pages[1].clone();
    let beyond = disk.file.len() as u64;
    page[8..16].copy_from_slice(&(beyond | 6).to_le_bytes());
    let operations = [LogOperation::Data { file_offset: disk.bat_offset, sector: page }];
    let mut entry = disk.entry(1, 0, &operations);
    entry.last_file_bytes = beyond + MIB;
    let bytes = entry.encode();
    disk.put(0, &bytes);
    assert_eq!(disk.known_blocks().unwrap(), 1);
    let chain = open([&disk.file]).unwrap();
    let second = chain.resolve(MIB..2 * MIB).unwrap().next().unwrap().unwrap();
    assert_eq!((second.length, second.source), (MIB, Source::Zero));
    entry = disk.entry(1, 0, &operations);
    entry.last_file_bytes = u64::MAX;
    let bytes = entry.encode();
    disk.put(0, &bytes);
    let error = disk.known_blocks().unwrap_err();
    assert!(matches!(error, VhdxError::Corrupt(Corruption::LogGrowth { .. })), "{error}");
}

#[test]
fn payload_in_the_log_is_answered_as_such() {
    let mut disk = interrupted();
    let block = u64::from_le_bytes(disk.pages[1][..8].try_into().unwrap()) & !0xf_ffff;
    let operations =
        [disk.page(1), LogOperation::Data { file_offset: block + 4096, sector: Box::new([0x77; SECTOR]) }];
    let bytes = disk.entry(1, 0, &operations).encode();
    disk.put(0, &bytes);
    let chain = open([&disk.file]).unwrap();
    let extents: Vec<_> = chain.resolve(0..MIB).unwrap().map(Result::unwrap).collect();
    assert_eq!(extents.len(), 3);
    assert_eq!((extents[1].offset, extents[1].length), (4096, 4096));
    assert_eq!(extents[1].source, Source::Replayed { file_index: 0, file_offset: block + 4096 });
    let bytes = read_all(&chain).unwrap();
    assert!(bytes[4096..8192].iter().all(|byte| *byte == 0x77));
    assert!(bytes[..4096].iter().chain(&bytes[8192..MIB as usize]).all(|byte| *byte == 1));
}

#[test]
fn entries_must_not_change_headers_or_the_log() {
    for file_offset in [0, 64 << 10, 128 << 10, LOG_OFFSET as u64, (LOG_OFFSET + LOG_BYTES - SECTOR) as u64] {
        for operation in [
            LogOperation::Data { file_offset, sector: Box::new([0; SECTOR]) },
            LogOperation::Zero { file_offset, length: SECTOR as u64 },
            LogOperation::Zero { file_offset, length: (u64::MAX - file_offset) & !0xfff },
            LogOperation::Zero { file_offset: file_offset + 512, length: SECTOR as u64 },
        ] {
            let mut disk = interrupted();
            let bytes = disk.entry(1, 0, &[operation]).encode();
            disk.put(0, &bytes);
            let error = disk.known_blocks().unwrap_err();
            assert!(matches!(error, VhdxError::Corrupt(Corruption::LogWithoutSequence)), "{error}");
        }
    }
}

#[test]
fn stale_entries_of_a_clean_file_are_not_looked_at() {
    let mut disk = interrupted();
    let groups = updates(&disk);
    disk.put_sequence(0, 1, &groups);
    for header in [64 << 10, 128 << 10] {
        disk.file[header + 48..header + 64].fill(0);
        reseal(&mut disk.file, header, 4096);
    }
    assert_eq!(disk.known_blocks().unwrap(), 0);
}

#[test]
fn what_the_writer_leaves_pending_reads_as_written() {
    for (start, pages_per_entry) in [(0, 1), (4096, 2), ((1 << 20) - 4096, 1), ((1 << 20) - 8192, 3)] {
        let make = |pending_log| {
            // Enough blocks for several BAT pages.
            let mut options = dynamic(2000 * MIB);
            options.pending_log = pending_log;
            let mut writer = create(options);
            for block in (0..2000).step_by(101) {
                writer.write_at(block * MIB + 1000, &block.to_le_bytes()).unwrap();
            }
            finish(writer)
        };
        let log = PendingLog { log_guid: log_guid(), first_sequence_number: 900, start, pages_per_entry };
        let (dirty, clean) = (make(Some(log)), make(None));
        let [dirty, clean] = [open([dirty]).unwrap(), open([clean]).unwrap()];
        assert!(dirty.disks()[0].replayed_entries() > 1);
        let extents = |chain: &lifeboat_vhdx::VhdxChain<_>| -> Vec<_> {
            chain.resolve(0..2000 * MIB).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(extents(&dirty), extents(&clean));
        assert_eq!(extents(&clean).iter().filter(|extent| extent.source != Source::Zero).count(), 20);
    }
}

#[test]
fn the_reader_does_not_change_the_file() {
    let mut disk = interrupted();
    let groups = updates(&disk);
    disk.put_sequence(0, 1, &groups);
    let before = disk.file.clone();
    content(&disk.file).unwrap();
    assert!(disk.file == before);
}
