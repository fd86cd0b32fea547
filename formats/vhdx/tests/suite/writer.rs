//! What the writer puts into a file, byte by byte where it matters.

use lifeboat_vhdx::{
    BlockMark, Guid, NewDiskIds, NewDiskKind, ParentLocator, ReadAt, SparseImage, VhdxOptions,
    VhdxWriteError, VhdxWriter,
};

fn ids() -> NewDiskIds {
    let guid = |byte| Guid::from_bytes([byte; 16]);
    NewDiskIds { virtual_disk_id: guid(1), file_write_guid: guid(2), data_write_guid: guid(3) }
}

#[test]
fn only_written_blocks_take_room() {
    let mut writer =
        VhdxWriter::create(SparseImage::new(), VhdxOptions::new(NewDiskKind::Dynamic, 2 << 40, ids()))
            .unwrap();
    writer.write_at(1 << 40, &[7; 5000]).unwrap();
    writer.mark_block(0, BlockMark::Zero).unwrap();
    let (image, report) = writer.finish().unwrap();
    assert_eq!(report.allocated_blocks, 1);
    assert_eq!(report.file_bytes, image.size_bytes());
    // Header area, log, metadata, BAT of 65,536 blocks, one block of 32 MiB.
    assert_eq!(report.file_bytes, (1 + 1 + 1 + 1 + 32) << 20);
    let held: usize = image.extents().map(|(_, bytes)| bytes.len()).sum();
    assert!(held < 256 << 10, "the image holds {held} bytes for 5000 bytes of data");
}

#[test]
fn the_same_calls_make_the_same_bytes() {
    let make = || {
        let mut writer =
            VhdxWriter::create(SparseImage::new(), VhdxOptions::new(NewDiskKind::Dynamic, 8 << 20, ids()))
                .unwrap();
        writer.write_at(12345, b"guest data").unwrap();
        writer.finish().unwrap().0.to_bytes()
    };
    assert_eq!(make(), make());
}

#[test]
fn refuses_what_the_format_cannot_hold() {
    let check = |change: fn(&mut VhdxOptions)| {
        let mut options = VhdxOptions::new(NewDiskKind::Dynamic, 8 << 20, ids());
        change(&mut options);
        assert!(VhdxWriter::create(SparseImage::new(), options).is_err());
    };
    check(|options| options.virtual_size_bytes = 0);
    check(|options| options.virtual_size_bytes = 1000);
    check(|options| options.virtual_size_bytes = (64 << 40) + 512);
    check(|options| options.block_bytes = 3 << 20);
    check(|options| options.block_bytes = 512 << 20);
    check(|options| options.logical_sector_bytes = 1024);
    check(|options| options.physical_sector_bytes = 0);
    check(|options| options.log_bytes = 4096);
    check(|options| options.creator = "x".repeat(257));
}

#[test]
fn a_differencing_disk_takes_whole_sectors_only() {
    let kind = NewDiskKind::Differencing(ParentLocator::new(Guid::from_bytes([9; 16])));
    let mut writer = VhdxWriter::create(SparseImage::new(), VhdxOptions::new(kind, 8 << 20, ids())).unwrap();
    assert!(matches!(writer.write_at(100, &[1; 512]), Err(VhdxWriteError::PartialSector { .. })));
    assert!(matches!(writer.write_at(8 << 20, &[1; 512]), Err(VhdxWriteError::BeyondDisk { .. })));
    writer.write_at(512, &[1; 512]).unwrap();
    assert!(matches!(writer.mark_block(0, BlockMark::Zero), Err(VhdxWriteError::BlockInUse { block: 0 })));
    writer.finish().unwrap();
}
