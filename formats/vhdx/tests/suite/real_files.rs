//! Expected values were reproduced by two other implementations; the differencing counts by one.

use lifeboat_vhdx::{DiskKind, LocalSource, ReadAt, VhdxError, VhdxReader, guid};

use crate::fixture::{content, open, sha256, test_data};

#[test]
fn dynamic_disk_of_hyper_v() {
    let Some(file) = test_data("dissect-dynamic.vhdx.gz") else { return };
    assert_eq!(sha256(&file), "72e9aa1af9cc53c84585a8017246f14f7c9f2dd54bb3f52e3b70919b2af600b9");
    let reader = VhdxReader::open(&file).unwrap();
    assert_eq!(reader.header().sequence_number, 15);
    assert_eq!((reader.header().log_guid, reader.header().log_offset), (None, 1 << 20));
    assert_eq!((reader.regions().metadata.offset, reader.regions().bat.offset), (2 << 20, 3 << 20));
    assert!(reader.regions().metadata.is_required && reader.regions().bat.is_required);
    let identity = reader.identity();
    assert_eq!(identity.kind, DiskKind::Dynamic);
    assert_eq!((identity.virtual_size_bytes, identity.block_bytes), (10_485_760, 32 << 20));
    assert_eq!((identity.logical_sector_bytes, identity.physical_sector_bytes), (512, 4096));
    assert!(identity.creator.starts_with("Microsoft Windows 10."), "{}", identity.creator);
    assert_eq!(reader.geometry().chunk_ratio(), 128);
    assert_eq!(reader.replayed_entries(), 0);
    let extents: Vec<_> = reader.resolve(0..10_485_760).unwrap().map(Result::unwrap).collect();
    assert_eq!(extents.len(), 1);
    assert_eq!(extents[0].source, LocalSource::Data { file_offset: 4 << 20 });
    let report = reader.verify_bat().unwrap();
    assert_eq!((report.full_blocks, report.finding_count), (1, 0));
    assert_eq!(
        sha256(&content(&file).unwrap()),
        "8e2b5e9265d694b42b81819e3bff29770eff4ed0f4f9f311693ff3dbdc93efac"
    );
}

#[test]
fn differencing_disk_of_hyper_v() {
    let Some(file) = test_data("dissect-differencing.avhdx.gz") else { return };
    assert_eq!(sha256(&file), "a4bf6f9ccaaf8f90b0e9a5b6f964e2b21ca3a9b1675c3a92e73206b04cfb1fbf");
    let reader = VhdxReader::open(&file).unwrap();
    assert_eq!(reader.header().sequence_number, 7);
    assert_eq!(reader.replayed_entries(), 0, "stale entries must not be replayed");
    let identity = reader.identity();
    assert_eq!(identity.kind, DiskKind::Differencing);
    assert_eq!(identity.data_write_guid, guid!("b298d413-f67e-412a-9a72-c7c7fc9b6cb5"));
    assert_eq!((identity.virtual_size_bytes, identity.block_bytes), (8 << 30, 2 << 20));
    let geometry = reader.geometry();
    assert_eq!((geometry.chunk_ratio(), geometry.block_count()), (2048, 4096));
    assert_eq!((geometry.chunk_count(), geometry.bat_entry_count()), (2, 4098));

    let parent = reader.parent().unwrap();
    assert_eq!(parent.linkage(), guid!("ff34003b-11ed-4cf8-a166-b2be05e20b80"));
    assert_eq!(parent.linkage2(), None, "the all-zero linkage means none");
    assert_eq!(parent.value("parent_linkage2"), Some("{00000000-0000-0000-0000-000000000000}"));
    assert!(parent.relative_path().unwrap().starts_with(".\\"));
    assert!(parent.absolute_path().is_some() && parent.volume_path().is_some());

    let report = reader.verify_bat().unwrap();
    assert_eq!((report.partial_blocks, report.not_present_blocks, report.bitmap_blocks), (32, 4064, 2));
    assert_eq!(report.finding_count, 0, "{:?}", report.findings);

    let present: Vec<_> = reader
        .resolve(0..8 << 30)
        .unwrap()
        .map(Result::unwrap)
        .filter(|extent| extent.source != LocalSource::Parent)
        .collect();
    assert_eq!(present.iter().map(|extent| extent.length).sum::<u64>(), 6200 * 512);
    for (block, data, sectors) in
        [(0, 0x1a0_0000, 8), (256, 0x180_0000, 32), (923, 0x2c0_0000, 56), (1018, 0x2e0_0000, 32)]
    {
        let in_block = present.iter().filter(|extent| extent.offset >> 21 == block);
        let held: u64 = in_block.clone().map(|extent| extent.length / 512).sum();
        assert_eq!(held, sectors, "block {block}");
        for extent in in_block {
            let file_offset = data + extent.offset % (2 << 20);
            assert_eq!(extent.source, LocalSource::Data { file_offset }, "block {block}");
        }
    }
    assert!(matches!(open([&file]), Err(VhdxError::ParentMissing { index: 0, .. })));
}

#[test]
fn dirty_log_of_qemu() {
    let Some(file) = test_data("synth-qemu-dirtylog.vhdx.gz") else { return };
    assert_eq!(sha256(&file), "16579233a92db918af926dc8d230f84f03a4d51f42d3b5d362fddbc9b07dfc09");
    let reader = VhdxReader::open(&file).unwrap();
    assert_eq!(reader.header().sequence_number, 8);
    assert_eq!(reader.header().log_guid, Some(guid!("50a2e2a3-e305-9644-93d4-b6669c152c48")));
    assert_eq!(reader.replayed_entries(), 1);
    assert_eq!((reader.regions().bat.offset, reader.regions().metadata.offset), (2 << 20, 3 << 20));
    assert!(!reader.regions().bat.is_required, "qemu does not set the required bit");
    let report = reader.verify_bat().unwrap();
    assert_eq!((report.zero_blocks, report.full_blocks, report.finding_count), (14, 2, 0));
    assert_eq!(
        sha256(&content(&file).unwrap()),
        "5fadeb9a152d95d790a7e1e1a75a5770bf9bc253e42f0a4279d952986b01ce14"
    );

    // Whoever ignores the log gets zeros: a check that this file needs it.
    let mut ignorant = file.clone();
    for header in [64 << 10, 128 << 10] {
        if ignorant[header..header + 4] == *b"head" {
            ignorant[header + 48..header + 64].fill(0);
            crate::fixture::reseal(&mut ignorant, header, 4096);
        }
    }
    assert_eq!(
        sha256(&content(&ignorant).unwrap()),
        "080acf35a507ac9849cfcba47dc2ad83e01b75663a516279c8b9d243b719643e"
    );
    assert_eq!(file.size_bytes(), 10_485_760);
}
