use lifeboat_vhdx::{
    BlockMark, Corruption, Guid, NewDiskKind, ParentLocator, Source, SparseImage, VhdxError, VhdxOptions,
};
use proptest::prelude::*;

use crate::fixture::{MIB, create, differencing, dynamic, finish, ids, open, read_all};

#[test]
fn every_block_state_over_a_parent() {
    let size = 7 * MIB;
    let mut parent = create(dynamic(size));
    parent.write_at(0, &vec![0xaa; size as usize]).unwrap();
    let mut child = create(differencing(size, 1));
    child.mark_block(1, BlockMark::Undefined).unwrap();
    child.mark_block(2, BlockMark::Zero).unwrap();
    child.mark_block(3, BlockMark::Unmapped).unwrap();
    child.write_at(4 * MIB, &vec![0xbb; MIB as usize]).unwrap();
    child.write_at(5 * MIB + 512, &[0xcc; 1024]).unwrap();
    child.mark_block(6, BlockMark::Zero).unwrap();
    child.write_at(6 * MIB + 4096, &[0xdd; 512]).unwrap();
    let chain = open([finish(child), finish(parent)]).unwrap();

    let report = chain.disks()[0].verify_bat().unwrap();
    assert_eq!((report.not_present_blocks, report.zero_blocks), (1, 3));
    assert_eq!((report.full_blocks, report.partial_blocks, report.bitmap_blocks), (2, 1, 1));
    assert_eq!(report.finding_count, 0, "{:?}", report.findings);

    let mut expected = vec![0xaa; size as usize];
    expected[MIB as usize..4 * MIB as usize].fill(0);
    expected[4 * MIB as usize..5 * MIB as usize].fill(0xbb);
    expected[5 * MIB as usize + 512..][..1024].fill(0xcc);
    expected[6 * MIB as usize..].fill(0);
    expected[6 * MIB as usize + 4096..][..512].fill(0xdd);
    assert!(read_all(&chain).unwrap() == expected);

    let kinds: Vec<_> = chain
        .resolve(5 * MIB - 512..5 * MIB + 2048)
        .unwrap()
        .map(Result::unwrap)
        .map(|extent| {
            let file = match extent.source {
                Source::Data { file_index, .. } => Some(file_index),
                _ => None,
            };
            (extent.offset - (5 * MIB - 512), extent.length, file)
        })
        .collect();
    assert_eq!(kinds, [(0, 512, Some(0)), (512, 512, Some(1)), (1024, 1024, Some(0)), (2048, 512, Some(1))]);
}

#[test]
fn links_that_do_not_hold_are_refused() {
    let parent = || finish(create(dynamic(4 * MIB)));
    let child = || finish(create(differencing(4 * MIB, 1)));
    let check = |files: Vec<SparseImage>, expected: fn(&VhdxError) -> bool| {
        let error = open(files).unwrap_err();
        assert!(expected(&error), "{error}");
    };
    check(vec![], |error| matches!(error, VhdxError::ChainEmpty));
    check(vec![child()], |error| matches!(error, VhdxError::ParentMissing { index: 0, .. }));
    check(vec![parent(), parent()], |error| matches!(error, VhdxError::ParentUnexpected { index: 0 }));
    check(vec![child(), child()], |error| matches!(error, VhdxError::ParentMismatch { index: 0, .. }));

    // A parent that was written after the child was made.
    let mut options = dynamic(4 * MIB);
    options.ids.data_write_guid = Guid::from_bytes([7; 16]);
    let changed = finish(create(options));
    check(vec![child(), changed], |error| matches!(error, VhdxError::ParentMismatch { index: 0, .. }));

    let mut options = dynamic(4 * MIB);
    options.logical_sector_bytes = 4096;
    let coarse = finish(create(options));
    check(vec![child(), coarse], |error| matches!(error, VhdxError::SectorSizeMismatch { index: 0, .. }));

    // A disk that names itself.
    let locator = ParentLocator::new(ids(1).data_write_guid);
    let own = VhdxOptions::new(NewDiskKind::Differencing(locator), 4 * MIB, ids(1));
    let own = || finish(create(own.clone()));
    check(vec![own(), own()], |error| matches!(error, VhdxError::ChainCycle { index: 1, first: 0 }));
    open([child(), parent()]).unwrap();
}

#[test]
fn the_second_linkage_counts_and_the_zero_one_does_not() {
    let child =
        |locator| finish(create(VhdxOptions::new(NewDiskKind::Differencing(locator), 4 * MIB, ids(1))));
    let wrong = Guid::from_bytes([9; 16]);
    let right = ids(0).data_write_guid;
    let parent = || finish(create(dynamic(4 * MIB)));
    open([child(ParentLocator::new(wrong).with_linkage2(right)), parent()]).unwrap();

    let mut options = dynamic(4 * MIB);
    options.ids.data_write_guid = Guid::ZERO;
    let nameless = finish(create(options));
    let error = open([child(ParentLocator::new(wrong).with_linkage2(Guid::ZERO)), nameless]).unwrap_err();
    assert!(matches!(error, VhdxError::ParentMismatch { .. }), "{error}");
}

#[test]
fn beyond_a_smaller_parent_is_zero() {
    let mut parent = create(dynamic(2 * MIB));
    parent.write_at(0, &vec![0xaa; 2 * MIB as usize]).unwrap();
    let mut child = create(differencing(4 * MIB, 1));
    child.write_at(3 * MIB, &[0xbb; 512]).unwrap();
    let chain = open([finish(child), finish(parent)]).unwrap();
    let bytes = read_all(&chain).unwrap();
    assert!(bytes[..2 * MIB as usize].iter().all(|byte| *byte == 0xaa));
    assert!(bytes[2 * MIB as usize..3 * MIB as usize].iter().all(|byte| *byte == 0));
    assert_eq!(bytes[3 * MIB as usize], 0xbb);
}

#[test]
fn chunks_have_their_own_bitmaps() {
    // With 512-byte sectors a chunk covers 4 GiB.
    let places = [0, (4 << 30) - 512, 4 << 30, (8 << 30) + 512];
    let mut child = create(differencing(9 << 30, 1));
    for (place, byte) in places.into_iter().zip(1..) {
        child.write_at(place, &[byte; 512]).unwrap();
    }
    let mut parent = create(dynamic(9 << 30));
    parent.write_at((4 << 30) - 1024, &[0xaa; 2048]).unwrap();
    let chain = open([finish(child), finish(parent)]).unwrap();
    assert_eq!(chain.disks()[0].verify_bat().unwrap().bitmap_blocks, 3);
    for (place, byte) in places.into_iter().zip(1..) {
        let mut sector = [0; 512];
        chain.read_at(place, &mut sector).unwrap();
        assert_eq!(sector, [byte; 512]);
    }
    let mut around = [0; 2048];
    chain.read_at((4 << 30) - 1024, &mut around).unwrap();
    let expected = [[0xaa; 512], [2; 512], [3; 512], [0xaa; 512]].concat();
    assert_eq!(around.as_slice(), expected);
}

#[test]
fn a_partial_block_without_its_bitmap_is_corrupt() {
    let mut child = create(differencing(4 * MIB, 1));
    child.write_at(512, &[1; 512]).unwrap();
    let mut child = finish(child).to_bytes();
    let bat = open([&finish(create(dynamic(MIB))).to_bytes()]).unwrap().disks()[0].regions().bat.offset;
    // With 1 MiB blocks the chunk ratio is 4096.
    child[bat as usize + 4096 * 8..][..8].fill(0);
    let parent = finish(create(dynamic(4 * MIB))).to_bytes();
    let chain = open([&child, &parent]).unwrap();
    let error = read_all(&chain).unwrap_err();
    assert!(matches!(error, VhdxError::Corrupt(Corruption::BitmapMissing { block: 0, chunk: 0 })), "{error}");
    let report = chain.disks()[0].verify_bat().unwrap();
    assert_eq!(report.findings, [Corruption::BitmapMissing { block: 0, chunk: 0 }]);
}

/// Change of one disk of a chain.
#[derive(Clone, Debug)]
enum Change {
    Write { sector: u64, sectors: u64, byte: u8 },
    Mark { block: u64, mark: BlockMark },
}

fn change() -> impl Strategy<Value = Change> {
    let mark = prop_oneof![Just(BlockMark::Zero), Just(BlockMark::Undefined), Just(BlockMark::Unmapped)];
    prop_oneof![
        6 => (0..8192_u64, 1..600_u64, 1..=255_u8)
            .prop_map(|(sector, sectors, byte)| Change::Write { sector, sectors, byte }),
        1 => (0..4_u64, mark).prop_map(|(block, mark)| Change::Mark { block, mark }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Chains of one to three disks read as a plain array of bytes to which the same was done.
    #[test]
    fn chains_read_as_the_model(
        levels in prop::collection::vec(prop::collection::vec(change(), 0..12), 1..=3),
        block_bits in prop::collection::vec(20..=22_u32, 3),
        coarse in any::<bool>(),
        tail_sectors in 0..8_u64,
        ranges in prop::collection::vec((0..4_300_000_u64, 0..200_000_u64), 8),
    ) {
        let sector = if coarse { 4096 } else { 512 };
        let size = 4 * MIB + tail_sectors * sector;
        let mut model = vec![0_u8; size as usize];
        let mut files = Vec::new();
        for (level, changes) in levels.iter().enumerate() {
            let mut options =
                if level == 0 { dynamic(size) } else { differencing(size, level as u32) };
            options.block_bytes = 1 << block_bits[level];
            options.logical_sector_bytes = sector as u32;
            let block_bytes = u64::from(options.block_bytes);
            let mut writer = create(options);
            for change in changes {
                match *change {
                    Change::Write { sector: first, sectors, byte } => {
                        let start = first * sector % size;
                        let end = (start + sectors * sector).min(size);
                        writer.write_at(start, &vec![byte; (end - start) as usize]).unwrap();
                        model[start as usize..end as usize].fill(byte);
                    }
                    Change::Mark { block, mark } => {
                        if writer.mark_block(block, mark).is_ok() {
                            let start = (block * block_bytes).min(size);
                            let end = (start + block_bytes).min(size);
                            model[start as usize..end as usize].fill(0);
                        }
                    }
                }
            }
            files.push(finish(writer));
        }
        files.reverse();
        let chain = open(files).unwrap();
        for disk in chain.disks() {
            let report = disk.verify_bat().unwrap();
            prop_assert_eq!(report.finding_count, 0, "{:?}", report.findings);
        }
        prop_assert!(read_all(&chain).unwrap() == model, "the whole disk differs");
        for (start, length) in ranges {
            let (start, end) = (start.min(size), (start + length).min(size));
            let mut part = vec![0xee; (end - start) as usize];
            chain.read_at(start, &mut part).unwrap();
            prop_assert!(part == model[start as usize..end as usize], "{start}..{end} differs");
            let mut position = start;
            for extent in chain.resolve(start..end).unwrap() {
                let extent = extent.unwrap();
                prop_assert_eq!(extent.offset, position);
                prop_assert!(extent.length > 0);
                position += extent.length;
            }
            prop_assert_eq!(position, end);
        }
    }
}
