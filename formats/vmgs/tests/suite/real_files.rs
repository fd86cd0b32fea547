use lifeboat_vmgs::{FileId, GuestState, Verdict};

use crate::support::{files, report, test_data};

#[test]
fn a_store_of_vmgstool_reads_as_its_manifest_says() {
    let Some(image) = test_data("synth-vmgstool-plain.vmgs.gz") else { return };
    let report = report(&image);
    assert_eq!(report.verdict, Verdict::Whole, "{report:?}");
    assert!(report.corruptions.is_empty() && report.remarks.is_empty());
    assert_eq!(report.footer.unwrap().disk_bytes, 4 << 20);
    let guest_state = GuestState::open(&image[..]).unwrap();
    let store = guest_state.store().unwrap();
    assert_eq!((store.header_copy(), store.sequence(), store.file_table_block()), (0, 3, 2));
    assert_eq!((store.sector_bytes(), store.is_encrypted(), store.datastore_keys()), (512, false, 0));
    let found: Vec<_> = store
        .files()
        .iter()
        .map(|file| (file.id().0, file.offset() / 4096, file.allocated_bytes() / 4096, file.size_bytes()))
        .collect();
    assert_eq!(found, [(0, 2, 1, 4096), (3, 5, 8, 32768), (6, 13, 1, 2060), (63, 3, 1, 4096)]);
    assert!(store.files().iter().all(|file| file.attributes().0 == 0));
    let contents = files(&image, None).unwrap();
    let pattern = |factor: u32, length: u32| (0..length).map(|at| (at * factor) as u8).collect::<Vec<_>>();
    assert_eq!(contents[&3], pattern(13, 32768));
    assert_eq!(contents[&6], pattern(7, 2060));
    assert_eq!(guest_state.read(FileId::EXTENDED_FILE_TABLE, 4096).unwrap(), [0; 4096]);
    for length in (0..image.len()).step_by(4093).chain(image.len() - 600..image.len()) {
        assert!(GuestState::open(&image[..length]).is_err(), "{length} bytes");
    }
}
