//! A minimal writer of VMGS files, version 3, not encrypted.
//!
//! Two header copies, file table, extended file table and files, in a fixed VHD; one half of the store is random, one half
//! zero. Reference: hyperv-formats, sections 4.2 and 4.3. It makes fixtures only: it never updates a store.

use super::stream::Stream;

/// Size of a block in bytes.
const BLOCK_BYTES: usize = 4096;
/// Size of a header in bytes.
const HEADER_BYTES: usize = 168;
/// Offsets of the header copies for disks with sectors of 512 bytes.
const HEADER_OFFSETS: [usize; 2] = [0, 512];
/// Version 3.0.
const VERSION: u32 = 0x0003_0000;
/// Size of an entry of the file table in bytes.
const ENTRY_BYTES: usize = 64;
/// Size of the VHD footer in bytes.
pub(crate) const FOOTER_BYTES: usize = 512;
/// Blocks before the first file: two for the headers, the tables behind them.
const FILE_TABLE_BLOCK: usize = 2;
const EXTENDED_TABLE_BLOCK: usize = 3;
const FIRST_DATA_BLOCK: usize = 4;
/// Largest BIOS_NVRAM in bytes.
const MAX_NVRAM_BYTES: usize = 128 << 10;

const FILE_TABLE: usize = 0;
const BIOS_NVRAM: usize = 1;
const ATTEST: usize = 5;
const VM_UNIQUE_ID: usize = 7;
const GUEST_FIRMWARE: usize = 8;
const EXTENDED_FILE_TABLE: usize = 63;

/// Writes a store of `bytes` and its footer; `sequence` is that of the current header, at least 1.
///
/// `bytes` is a multiple of the block size and at least 64 KiB, as the options of the fabric are checked.
pub(crate) fn encode(
    bytes: usize,
    sequence: u32,
    vm_id: [u8; 16],
    marker: &[u8],
    stream: &mut Stream,
) -> Vec<u8> {
    let mut file = vec![0; bytes + FOOTER_BYTES];
    let mut table = Table { next_block: FIRST_DATA_BLOCK, entries: [0; BLOCK_BYTES] };
    table.note(FILE_TABLE, FILE_TABLE_BLOCK, 1, BLOCK_BYTES);
    table.note(EXTENDED_FILE_TABLE, EXTENDED_TABLE_BLOCK, 1, BLOCK_BYTES);
    // GUID, a flag that it is not ported, padding.
    let mut unique_id = [0; 20];
    unique_id[..16].copy_from_slice(&vm_id);
    table.store(&mut file, VM_UNIQUE_ID, &unique_id);
    table.store(&mut file, ATTEST, &stream.bytes(2048));

    let random_blocks = (bytes / BLOCK_BYTES) / 2;
    let nvram_bytes = (random_blocks * BLOCK_BYTES).min(MAX_NVRAM_BYTES);
    table.store(&mut file, BIOS_NVRAM, &nvram(nvram_bytes, marker, stream));
    let firmware_bytes = random_blocks * BLOCK_BYTES - nvram_bytes;
    if firmware_bytes > 0 {
        table.store(&mut file, GUEST_FIRMWARE, &stream.bytes(firmware_bytes));
    }
    file[FILE_TABLE_BLOCK * BLOCK_BYTES..][..BLOCK_BYTES].copy_from_slice(&table.entries);
    // Odd sequences are in copy 0; the other copy is the one before.
    let current = usize::from(sequence.is_multiple_of(2));
    for (copy, sequence) in [(current, sequence), (1 - current, sequence.wrapping_sub(1))] {
        file[HEADER_OFFSETS[copy]..][..HEADER_BYTES].copy_from_slice(&header(sequence));
    }
    let footer = footer(bytes as u64, stream);
    file[bytes..].copy_from_slice(&footer);
    file
}

/// The file table and the place for the next file.
struct Table {
    next_block: usize,
    entries: [u8; BLOCK_BYTES],
}

impl Table {
    fn store(&mut self, file: &mut [u8], id: usize, content: &[u8]) {
        let blocks = content.len().div_ceil(BLOCK_BYTES);
        file[self.next_block * BLOCK_BYTES..][..content.len()].copy_from_slice(content);
        self.note(id, self.next_block, blocks, content.len());
        self.next_block += blocks;
    }

    fn note(&mut self, id: usize, block: usize, blocks: usize, valid_bytes: usize) {
        let entry = &mut self.entries[id * ENTRY_BYTES..][..ENTRY_BYTES];
        entry[..4].copy_from_slice(&(block as u32).to_le_bytes());
        entry[4..8].copy_from_slice(&(blocks as u32).to_le_bytes());
        entry[8..16].copy_from_slice(&(valid_bytes as u64).to_le_bytes());
    }
}

/// Makes variables of the firmware: packed records up to exactly `bytes`, with the marker in the first.
fn nvram(bytes: usize, marker: &[u8], stream: &mut Stream) -> Vec<u8> {
    const RECORD_HEADER_BYTES: usize = 4 + 4 + 4 + 16 + 16 + 2 + 2;
    const MAX_DATA_BYTES: usize = 16 << 10;
    const MIN_RECORD_BYTES: usize = 256;
    // Non-volatile, boot service access, runtime access.
    const ATTRIBUTES: u32 = 7;
    let mut records = Vec::with_capacity(bytes);
    let mut number = 0;
    while records.len() < bytes {
        let name: Vec<u8> =
            format!("Synthetic{number:04}\0").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let head = RECORD_HEADER_BYTES + name.len();
        let left = bytes - records.len();
        // The last record takes what is too little for another.
        let fits = left <= MAX_DATA_BYTES + MIN_RECORD_BYTES;
        let data_bytes = if fits { left.saturating_sub(head) } else { MAX_DATA_BYTES - head };
        let mut data = stream.bytes(data_bytes);
        if number == 0 {
            data[..marker.len()].copy_from_slice(marker);
        }
        let length = (head + data.len()) as u32;
        records.extend([0_u32.to_le_bytes(), length.to_le_bytes(), ATTRIBUTES.to_le_bytes()].concat());
        records.extend([0; 16]);
        records.extend(stream.array::<16>());
        records.extend([(name.len() as u16).to_le_bytes(), (data.len() as u16).to_le_bytes()].concat());
        records.extend(name);
        records.extend(data);
        number += 1;
    }
    records
}

fn header(sequence: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(b"GUESTRTS");
    let mut put = |at: usize, number: u32| header[at..at + 4].copy_from_slice(&number.to_le_bytes());
    put(8, VERSION);
    put(16, sequence);
    put(20, HEADER_BYTES as u32);
    put(24, FILE_TABLE_BLOCK as u32);
    // Size of the file table in blocks.
    put(28, 1);
    let checksum = crc32fast::hash(&header);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Makes the footer of a fixed VHD, which is big-endian.
fn footer(disk_bytes: u64, stream: &mut Stream) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[..8].copy_from_slice(b"conectix");
    footer[8..12].copy_from_slice(&2_u32.to_be_bytes());
    footer[12..16].copy_from_slice(&0x0001_0000_u32.to_be_bytes());
    footer[16..24].fill(0xff);
    // Original and current size.
    footer[40..48].copy_from_slice(&disk_bytes.to_be_bytes());
    footer[48..56].copy_from_slice(&disk_bytes.to_be_bytes());
    footer[60..64].copy_from_slice(&2_u32.to_be_bytes());
    footer[68..84].copy_from_slice(&stream.guid().to_bytes());
    let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    #[test]
    fn store_is_as_the_format_says() {
        for (bytes, sequence) in [(64 << 10, 1), (128 << 10, 2), (1 << 20, 7)] {
            let mut stream = Stream::new(1, "test", &[]);
            let file = encode(bytes, sequence, [9; 16], b"the marker", &mut stream);
            assert_eq!(file.len(), bytes + 512);
            let mut sequences = HEADER_OFFSETS.map(|at| {
                let mut header = file[at..at + HEADER_BYTES].to_vec();
                let checksum = number(&header, 12);
                header[12..16].fill(0);
                assert_eq!(checksum, crc32fast::hash(&header) as usize);
                assert_eq!((&header[..8], number(&header, 24)), (&b"GUESTRTS"[..], 2));
                number(&header, 16)
            });
            sequences.sort_unstable();
            assert_eq!(sequences, [sequence as usize - 1, sequence as usize]);
            // Files lie inside and do not overlap.
            let mut taken = vec![false; bytes / BLOCK_BYTES];
            for entry in file[2 * BLOCK_BYTES..3 * BLOCK_BYTES].chunks(ENTRY_BYTES) {
                let (block, blocks) = (number(entry, 0), number(entry, 4));
                assert!(number(entry, 8) <= blocks * BLOCK_BYTES);
                for taken in &mut taken[block..block + blocks] {
                    assert!(!std::mem::replace(taken, true));
                }
            }
            // The records of the firmware's variables fill their file exactly.
            let entry = &file[2 * BLOCK_BYTES + BIOS_NVRAM * ENTRY_BYTES..][..ENTRY_BYTES];
            let nvram = &file[number(entry, 0) * BLOCK_BYTES..][..number(entry, 8)];
            let mut at = 0;
            while at < nvram.len() {
                assert_eq!(number(nvram, at), 0);
                at += number(nvram, at + 4);
            }
            assert_eq!(at, nvram.len());
            assert!(nvram.windows(10).any(|window| window == b"the marker"));
            let zeros = file.iter().filter(|byte| **byte == 0).count();
            assert!((bytes * 45 / 100..bytes * 55 / 100).contains(&zeros), "{zeros} of {bytes}");
            let mut footer = file[bytes..].to_vec();
            let checksum = u32::from_be_bytes(footer[64..68].try_into().unwrap());
            footer[64..68].fill(0);
            assert_eq!(checksum, !footer.iter().map(|byte| u32::from(*byte)).sum::<u32>());
        }
    }
}
