//! Dirty files.

use crate::support::{SparseFile, every_damage, patch_log_entry, patch_log_header};
use lifeboat_vmcx::layout::MAX_REPLAY_BYTES;
use lifeboat_vmcx::{Container, Corruption, OpenError, TreeBuilder, VmcxWriter, Wholeness, WriteOptions};

fn tree() -> TreeBuilder {
    let mut tree = TreeBuilder::new().set("/configuration/properties/name", "web01");
    for number in 0..150 {
        tree.put(&format!("/configuration/manifest/vdev{number:03}/name"), format!("device {number}"));
    }
    tree
}

fn write(pending_entries: u32) -> Vec<u8> {
    VmcxWriter::with_options(WriteOptions { pending_entries, ..WriteOptions::default() })
        .encode(&tree())
        .expect("no mistake")
}

/// Where the log of these files lies.
fn log_of(file: &[u8]) -> usize {
    Container::open(file).expect("a sound file").header().log_offset as usize
}

fn corruption_of(file: &[u8]) -> Corruption {
    match Container::open(file) {
        Err(OpenError::Corrupt { first, .. }) => first,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn a_dirty_file_has_the_tree_of_the_clean_one() {
    let clean = write(0);
    let expected = Container::open(&clean[..]).expect("a whole file");
    for pending_entries in [1, 2, 3, 7, 145] {
        let dirty = write(pending_entries);
        let inspection = Container::inspect(&dirty[..]).expect("a slice");
        assert_eq!(inspection.report.wholeness, Wholeness::Dirty { pending_entries });
        assert!(inspection.container.expect("readable").tree() == expected.tree());
    }
}

#[test]
fn entries_are_applied_in_order() {
    // The first entry holds wrong bytes; without the later ones nothing is readable.
    let mut dirty = write(4);
    let log = log_of(&dirty);
    patch_log_header(&mut dirty, log, |header| header.current_entries = 1.into());
    assert!(matches!(corruption_of(&dirty), Corruption::ObjectTableSignature { offset: 0x2000, .. }));
    // The same when the first comes last.
    let mut swapped = write(4);
    let (first, last) = (log + 34, log + 34 + 28 * 3);
    for byte in 0..28 {
        swapped.swap(first + byte, last + byte);
    }
    assert!(matches!(corruption_of(&swapped), Corruption::ObjectTableSignature { offset: 0x2000, .. }));
}

#[test]
fn a_log_that_is_applied_stays_applied() {
    let mut done = write(3);
    let log = log_of(&done);
    patch_log_header(&mut done, log, |header| header.current_entries = 0.into());
    // The destinations are zero, which shows that nothing was applied.
    assert!(matches!(corruption_of(&done), Corruption::ObjectTableSignature { found: 0, .. }));
}

#[test]
fn damaged_pending_entries_are_refused() {
    let dirty = write(3);
    let log = log_of(&dirty);
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = dirty.clone();
        change(&mut file);
        let inspection = Container::inspect(&file[..]).expect("a slice");
        assert_eq!(inspection.report.wholeness, Wholeness::Torn);
        assert!(inspection.container.is_none(), "nothing can be said of a file whose log is lost");
        corruption_of(&file)
    };
    assert_eq!(damaged(&|file| file[log] ^= 1), Corruption::LogSignature { found: 0x0111_0002 });
    assert_eq!(damaged(&|file| file[log + 8] ^= 1), Corruption::LogChecksum);
    assert_eq!(damaged(&|file| file[log + 34 + 28] ^= 1), Corruption::LogEntryChecksum { index: 1 });
    assert_eq!(damaged(&|file| file[log + 0x1000 + 17] ^= 1), Corruption::LogDataChecksum { index: 0 });
    let count = |current, max| Corruption::LogEntryCount { current, max, header_size: 0x1000 };
    assert_eq!(
        damaged(&|file| patch_log_header(file, log, |header| header.current_entries = 146.into())),
        count(146, 145)
    );
    assert_eq!(
        damaged(&|file| patch_log_header(file, log, |header| header.max_entries = 0.into())),
        count(3, 0)
    );
    assert_eq!(
        damaged(&|file| patch_log_header(file, log, |header| header.max_entries = 146.into())),
        count(3, 146)
    );
    for offset in [0, 0xfff, dirty.len() as u64, u64::MAX] {
        let found = damaged(&|file| patch_log_entry(file, log, 2, |entry| entry.data_offset = offset.into()));
        assert!(
            matches!(found, Corruption::LogDataOutside { index: 2, offset: at, .. } if at == offset),
            "{found}"
        );
    }
    for offset in [0, 0x1fff, log as u64, log as u64 - 1, dirty.len() as u64 - 1, u64::MAX] {
        let found = damaged(&|file| patch_log_entry(file, log, 2, |entry| entry.file_offset = offset.into()));
        assert!(
            matches!(found, Corruption::LogDestination { index: 2, offset: at, .. } if at == offset),
            "{found}"
        );
    }
}

#[test]
fn too_much_pending_data_is_not_read() {
    // Every entry claims the same gibibyte of a sparse file.
    let mut dirty = write(3);
    let log = log_of(&dirty);
    let (size, log_bytes) = (1u32 << 30, 2u64 << 30);
    for copy in 0..2 {
        crate::support::patch_header(&mut dirty, copy, |header| header.replay_log_size = log_bytes.into());
    }
    patch_log_entry(&mut dirty, log, 0, |entry| entry.size = size.into());
    let mut file = SparseFile::of(&dirty);
    file.len = 4 << 30;
    match Container::open(&file) {
        Err(OpenError::Corrupt { first, .. }) => {
            assert_eq!(first, Corruption::LogTooLarge { found: u64::from(size), limit: MAX_REPLAY_BYTES });
        }
        _ => panic!("accepted"),
    }
    assert!(file.read_bytes.get() < 0x4000);
}

#[test]
fn every_flip_of_a_dirty_file_is_refused_or_harmless() {
    let dirty = write(5);
    let outcomes = every_damage("dirty", &dirty, dirty.len(), |which, copy| {
        copy[which] ^= 0xff;
        copy.len()
    });
    // All data in the log counts, and nothing of what it replaces.
    assert!(outcomes.refused.len() > 0x5000 && outcomes.harmless > 0x4000);
}
