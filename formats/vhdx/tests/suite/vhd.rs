use lifeboat_vhdx::vhd::layout::checksum;
use lifeboat_vhdx::vhd::{VhdChain, VhdCorruption, VhdError, VhdKind, VhdReader};
use lifeboat_vhdx::{LocalSource, Source};
use proptest::prelude::*;

const SECTOR: usize = 512;
const BLOCK: usize = 4096 * 4;
const HEADER_AT: usize = 512;
const BAT_AT: usize = 1536;

/// Footer of a disk; type 2 is fixed, 3 dynamic, 4 differencing.
fn footer(disk_type: u32, size: usize, id: u8) -> Vec<u8> {
    let mut footer = vec![0; 512];
    footer[..8].copy_from_slice(b"conectix");
    footer[8..12].copy_from_slice(&2_u32.to_be_bytes());
    footer[12..16].copy_from_slice(&0x1_0000_u32.to_be_bytes());
    let data_offset = if disk_type == 2 { u64::MAX } else { HEADER_AT as u64 };
    footer[16..24].copy_from_slice(&data_offset.to_be_bytes());
    footer[28..32].copy_from_slice(b"test");
    footer[40..48].copy_from_slice(&(size as u64).to_be_bytes());
    footer[48..56].copy_from_slice(&(size as u64).to_be_bytes());
    footer[60..64].copy_from_slice(&disk_type.to_be_bytes());
    footer[68..84].copy_from_slice(&[id; 16]);
    let sum = checksum(&footer, 64);
    footer[64..68].copy_from_slice(&sum.to_be_bytes());
    footer
}

fn seal_header(file: &mut [u8]) {
    let sum = checksum(&file[HEADER_AT..HEADER_AT + 1024], 36);
    file[HEADER_AT + 36..HEADER_AT + 40].copy_from_slice(&sum.to_be_bytes());
}

/// Writes a dynamic disk, or a differencing one when `parent` names its id, from the sectors that it holds.
fn sparse(size: usize, id: u8, parent: Option<u8>, sectors: &[(usize, u8)]) -> Vec<u8> {
    let disk_type = if parent.is_some() { 4 } else { 3 };
    let blocks = size.div_ceil(BLOCK);
    let mut file = footer(disk_type, size, id);
    let mut header = vec![0; 1024];
    header[..8].copy_from_slice(b"cxsparse");
    header[8..16].fill(0xff);
    header[16..24].copy_from_slice(&(BAT_AT as u64).to_be_bytes());
    header[24..28].copy_from_slice(&0x1_0000_u32.to_be_bytes());
    header[28..32].copy_from_slice(&(blocks as u32).to_be_bytes());
    header[32..36].copy_from_slice(&(BLOCK as u32).to_be_bytes());
    header[40..56].copy_from_slice(&[parent.unwrap_or(0); 16]);
    let name: Vec<u8> = "parent.vhd".encode_utf16().flat_map(u16::to_be_bytes).collect();
    header[64..64 + name.len()].copy_from_slice(&name);
    file.extend(header);
    file.resize(BAT_AT, 0);
    file.resize(BAT_AT + (blocks * 4).next_multiple_of(SECTOR), 0xff);
    let relative: Vec<u8> = ".\\parent.vhd".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let locator = file.len();
    file.extend(&relative);
    file.resize(locator + SECTOR, 0);
    let entry = HEADER_AT + 576;
    file[entry..entry + 4].copy_from_slice(b"W2ru");
    file[entry + 8..entry + 12].copy_from_slice(&(relative.len() as u32).to_be_bytes());
    file[entry + 16..entry + 24].copy_from_slice(&(locator as u64).to_be_bytes());
    seal_header(&mut file);
    for &(sector, byte) in sectors {
        let block = sector * SECTOR / BLOCK;
        let entry = BAT_AT + block * 4;
        let mut place = u32::from_be_bytes(file[entry..entry + 4].try_into().unwrap());
        if place == u32::MAX {
            place = (file.len() / SECTOR) as u32;
            file[entry..entry + 4].copy_from_slice(&place.to_be_bytes());
            file.resize(file.len() + SECTOR + BLOCK, 0);
        }
        let start = place as usize * SECTOR;
        let in_block = sector % (BLOCK / SECTOR);
        file[start + in_block / 8] |= 0x80 >> (in_block % 8);
        file[start + SECTOR + in_block * SECTOR..][..SECTOR].fill(byte);
    }
    file.extend(footer(disk_type, size, id));
    file
}

fn fixed(size: usize) -> Vec<u8> {
    let mut file: Vec<u8> = (0..size).map(|index| (index / SECTOR) as u8).collect();
    file.extend(footer(2, size, 1));
    file
}

fn open(files: Vec<Vec<u8>>) -> Result<VhdChain<Vec<u8>>, VhdError> {
    VhdChain::new(files.into_iter().map(VhdReader::open).collect::<Result<_, _>>()?)
}

fn read_all(chain: &VhdChain<Vec<u8>>) -> Result<Vec<u8>, VhdError> {
    let mut bytes = vec![0xee; chain.virtual_size_bytes() as usize];
    chain.read_at(0, &mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_fixed_disk_is_its_file_without_the_footer() {
    let file = fixed(10 * SECTOR);
    let chain = open(vec![file.clone()]).unwrap();
    assert_eq!(chain.disks()[0].identity().kind, VhdKind::Fixed);
    assert_eq!(read_all(&chain).unwrap(), file[..10 * SECTOR]);
    let extents: Vec<_> = chain.resolve(100..5000).unwrap().map(Result::unwrap).collect();
    assert_eq!(extents.len(), 1);
    assert_eq!(extents[0].source, Source::Data { file_index: 0, file_offset: 100 });
}

#[test]
fn the_copy_of_the_footer_serves_when_the_footer_does_not() {
    let mut file = sparse(4 * BLOCK, 1, None, &[(3, 7)]);
    assert!(!VhdReader::open(&file).unwrap().identity().footer_damaged);
    let last = file.len() - 1;
    file[last] ^= 1;
    let reader = VhdReader::open(&file).unwrap();
    assert!(reader.identity().footer_damaged);
    assert_eq!(
        reader.resolve(BLOCK as u64..2 * BLOCK as u64).unwrap().next().unwrap().unwrap().source,
        LocalSource::Zero
    );
    file[100] ^= 1;
    assert!(matches!(VhdReader::open(&file), Err(VhdError::NotVhd)));
    // What a guest wrote at the start of a fixed disk is not a footer.
    let mut forged = fixed(8 * SECTOR);
    let copy = footer(2, SECTOR, 9);
    forged[..512].copy_from_slice(&copy);
    let end = forged.len() - 100;
    forged[end] ^= 1;
    assert!(matches!(VhdReader::open(forged), Err(VhdError::NotVhd)));
}

#[test]
fn a_parent_is_named_and_must_be_the_one() {
    let child = sparse(2 * BLOCK, 2, Some(1), &[(1, 9)]);
    let reader = VhdReader::open(&child).unwrap();
    let parent = reader.parent().unwrap();
    assert_eq!(
        (parent.name.as_str(), parent.relative_path.as_deref()),
        ("parent.vhd", Some(".\\parent.vhd"))
    );
    assert_eq!(parent.absolute_path, None);
    let right = sparse(2 * BLOCK, 1, None, &[(0, 5), (1, 5), (40, 6)]);
    let wrong = sparse(2 * BLOCK, 3, None, &[]);
    assert!(matches!(open(vec![child.clone()]), Err(VhdError::ParentMissing { index: 0, .. })));
    assert!(matches!(open(vec![child.clone(), wrong]), Err(VhdError::ParentMismatch { index: 0, .. })));
    let own = sparse(2 * BLOCK, 1, Some(1), &[]);
    assert!(matches!(open(vec![own.clone(), own]), Err(VhdError::ChainCycle { index: 1, first: 0 })));
    assert!(matches!(open(vec![right.clone(), child.clone()]), Err(VhdError::ParentUnexpected { index: 0 })));
    let bytes = read_all(&open(vec![child, right]).unwrap()).unwrap();
    assert_eq!((bytes[0], bytes[SECTOR], bytes[2 * SECTOR], bytes[40 * SECTOR]), (5, 9, 0, 6));
}

#[test]
fn hostile_structures_are_refused() {
    let good = sparse(4 * BLOCK, 1, None, &[(0, 7)]);
    let check = |place: usize, bytes: &[u8], expected: fn(&VhdError) -> bool| {
        let mut file = good.clone();
        file[HEADER_AT + place..HEADER_AT + place + bytes.len()].copy_from_slice(bytes);
        seal_header(&mut file);
        let error = match open(vec![file]) {
            Err(error) => error,
            Ok(chain) => read_all(&chain).unwrap_err(),
        };
        assert!(expected(&error), "{place}: {error}");
    };
    check(0, b"cxsparsE", |error| matches!(error, VhdError::Corrupt(VhdCorruption::Header { .. })));
    check(24, &[0, 2, 0, 0], |error| matches!(error, VhdError::UnsupportedVersion { .. }));
    for offset in [0, 300, 600, u64::MAX, good.len() as u64] {
        check(16, &offset.to_be_bytes(), |error| {
            matches!(error, VhdError::Corrupt(VhdCorruption::BatRange { .. }))
        });
    }
    check(28, &3_u32.to_be_bytes(), |error| {
        matches!(error, VhdError::Corrupt(VhdCorruption::BatTooSmall { have: 3, need: 4 }))
    });
    for block in [0_u32, 256, 1000, 1 << 29] {
        check(32, &block.to_be_bytes(), |error| {
            matches!(error, VhdError::Corrupt(VhdCorruption::InvalidSize { what: "block size", .. }))
        });
    }
    for entry in [0_u32, 1, 3, u32::MAX - 1] {
        check(BAT_AT - HEADER_AT, &entry.to_be_bytes(), |error| {
            matches!(error, VhdError::Corrupt(VhdCorruption::BlockRange { block: 0, .. }))
        });
    }
    let mut short = fixed(10 * SECTOR);
    short.drain(..SECTOR);
    assert!(matches!(VhdReader::open(short), Err(VhdError::Corrupt(VhdCorruption::DataTruncated { .. }))));
}

#[test]
fn every_truncation_and_every_flipped_byte_is_survived() {
    let good = sparse(2 * BLOCK, 2, Some(1), &[(0, 7), (40, 8)]);
    let parent = sparse(2 * BLOCK, 1, None, &[]);
    let whole = read_all(&open(vec![good.clone(), parent.clone()]).unwrap()).unwrap();
    for length in 0..good.len() {
        if let Ok(chain) = open(vec![good[..length].to_vec(), parent.clone()]) {
            // The copy of the footer serves: what is there reads as before, or not at all.
            assert!(read_all(&chain).is_err() || read_all(&chain).unwrap() == whole);
        }
    }
    for at in (0..2560).chain(good.len() - 512..good.len()) {
        let mut file = good.clone();
        file[at] ^= 0x11;
        if let Ok(chain) = open(vec![file, parent.clone()]) {
            let _ = read_all(&chain);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn chains_read_as_the_model(
        levels in prop::collection::vec(prop::collection::vec((0..200_usize, 1..=255_u8), 0..60), 1..=3),
        range in (0..102_400_u64, 0..102_400_u64),
    ) {
        let size = 200 * SECTOR;
        let mut model = vec![0; size];
        let mut files = Vec::new();
        for (level, sectors) in levels.iter().enumerate() {
            let parent = (level > 0).then_some(level as u8);
            files.insert(0, sparse(size, level as u8 + 1, parent, sectors));
            for (sector, byte) in sectors {
                model[sector * SECTOR..(sector + 1) * SECTOR].fill(*byte);
            }
        }
        let chain = open(files).unwrap();
        prop_assert!(read_all(&chain).unwrap() == model);
        let (start, end) = (range.0.min(range.1), range.0.max(range.1));
        let mut part = vec![0xee; (end - start) as usize];
        chain.read_at(start, &mut part).unwrap();
        prop_assert!(part == model[start as usize..end as usize]);
    }
}

#[test]
fn qemu_writes_what_we_read() {
    use std::process::Command;
    let folder = tempfile::tempdir().unwrap();
    let raw: Vec<u8> =
        (0..5 << 20_usize).map(|index| if index >> 19 & 1 == 0 { (index / 700) as u8 } else { 0 }).collect();
    let raw_path = folder.path().join("disk.raw");
    std::fs::write(&raw_path, &raw).unwrap();
    for (subformat, kind) in [("fixed", VhdKind::Fixed), ("dynamic", VhdKind::Dynamic)] {
        let path = folder.path().join(subformat);
        let options = format!("subformat={subformat},force_size=on");
        let status = Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "vpc", "-o", &options])
            .args([&raw_path, &path])
            .status();
        let Ok(status) = status else {
            println!("skipped: qemu-img not found");
            return;
        };
        assert!(status.success());
        let chain = open(vec![std::fs::read(path).unwrap()]).unwrap();
        assert_eq!(chain.disks()[0].identity().kind, kind);
        assert!(read_all(&chain).unwrap() == raw, "{subformat} differs");
    }
}
