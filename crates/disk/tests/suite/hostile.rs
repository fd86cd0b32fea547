use std::path::Path;

use lifeboat_disk::fixtures::{MemoryFiles, flat, gpt_disk, id};
use lifeboat_disk::{DiskLayout, FveCapture, ParentSearch, ReadAt, VolumeReader, inspect, open_disk};
use lifeboat_fve::fixtures::VolumeOptions;
use lifeboat_vhdx::{
    NewDiskIds, NewDiskKind, ParentLocator, PortError, SparseImage, VhdxOptions, VhdxWriter,
};

use crate::containers::bitlocker;

/// Whatever the bytes are, the answer comes, and it is small.
fn look(bytes: &[u8]) {
    let files = MemoryFiles::default().with_bytes("disk", bytes);
    let Ok(disk) = open_disk(&files, Path::new("disk"), &ParentSearch::default()) else { return };
    let Ok(layout) = DiskLayout::read(&disk) else { return };
    assert!(layout.volumes.len() <= 1024);
    assert_eq!(inspect(&disk, &layout).volumes.len(), layout.volumes.len());
    for volume in &layout.volumes {
        let capture = FveCapture::read(&volume.reader(&disk));
        assert!(capture.is_ok_and(|capture| capture.regions.len() <= lifeboat_fve::MAX_COPY_PLACES));
    }
    assert!(files.read_bytes() < 64 << 20, "{} bytes read", files.read_bytes());
}

#[test]
fn every_byte_of_tables_and_boot_sector_may_lie() {
    let volume = bitlocker(VolumeOptions::default()).image;
    let disk = flat(gpt_disk(&[&volume]));
    let places = (440..520).chain(512..616).chain(1024..1160);
    let volume_start = 1 << 20;
    for place in places.chain(volume_start..volume_start + 256) {
        let mut disk = disk.clone();
        disk[place] = !disk[place];
        look(&disk);
    }
    for length in [0, 1, 511, 512, 513, 1024, 1536, 4096, 68 << 10, 1 << 20, (1 << 20) + 100] {
        look(&disk[..length]);
    }
}

/// A differencing disk with a DataWriteGuid, made from the disk with another.
fn child_of(own: u32, parent: u32) -> SparseImage {
    let ids = NewDiskIds { virtual_disk_id: id(1), file_write_guid: id(own + 500), data_write_guid: id(own) };
    let kind = NewDiskKind::Differencing(ParentLocator::new(id(parent)));
    VhdxWriter::create(SparseImage::new(), VhdxOptions::new(kind, 4 << 20, ids)).unwrap().finish().unwrap().0
}

#[test]
fn parents_in_a_circle_are_refused() {
    let files = MemoryFiles::default()
        .with("itself.avhdx", child_of(1, 1))
        .with("one.avhdx", child_of(2, 3))
        .with("two.avhdx", child_of(3, 2));
    for path in ["itself.avhdx", "one.avhdx", "two.avhdx"] {
        let error = open_disk(&files, Path::new(path), &ParentSearch::default()).unwrap_err();
        assert!(!error.to_string().is_empty());
    }
    assert!(files.read_bytes() < 64 << 20, "{} bytes read", files.read_bytes());
}

#[test]
fn a_reader_stays_inside_its_volume() {
    let reader = VolumeReader::new(vec![1, 2, 3, 4], 2, u64::MAX);
    assert_eq!(ReadAt::size_bytes(&reader), 2);
    assert_eq!(reader.read_up_to(0, usize::MAX).unwrap(), [3, 4]);
    assert!(reader.read_up_to(u64::MAX, 9).unwrap().is_empty());
    assert!(reader.read_exact_at(1, &mut [0; 2]).is_err());
    assert!(reader.read_exact_at(u64::MAX, &mut [0; 2]).is_err());
    let outside = VolumeReader::new(vec![1, 2, 3, 4], u64::MAX, 5);
    assert_eq!(ReadAt::size_bytes(&outside), 0);
}

#[test]
fn the_fuzz_target_bears_every_prefix_and_flip() {
    let volume = bitlocker(VolumeOptions::default()).image;
    let (parts, size) = gpt_disk(&[&volume[..1 << 20]]);
    let disk = lifeboat_disk::fixtures::dynamic_vhdx(&parts[..3], size).to_bytes();
    for length in (0..disk.len()).step_by(60_013) {
        lifeboat_disk::fuzzing::image(&disk[..length]);
    }
    for place in (0..disk.len()).step_by(40_009) {
        let mut disk = disk.clone();
        disk[place] ^= 0xff;
        lifeboat_disk::fuzzing::image(&disk);
    }
}

/// A disk with a place that cannot be read.
struct Unreadable<'b>(&'b [u8], std::ops::Range<u64>);

impl ReadAt for Unreadable<'_> {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        let end = offset + buffer.len() as u64;
        if offset < self.1.end && end > self.1.start {
            let source = Box::new(std::io::Error::other("a bad sector"));
            return Err(PortError::Access { offset, length: buffer.len() as u64, source });
        }
        buffer.copy_from_slice(&self.0[offset as usize..end as usize]);
        Ok(())
    }
}

#[test]
fn what_cannot_be_read_is_named_and_costs_nothing_else() {
    let volume = bitlocker(VolumeOptions::default());
    let size = volume.image.len() as u64;
    let capture = |bad: std::ops::Range<u64>| {
        FveCapture::read(&VolumeReader::new(Unreadable(&volume.image, bad), 0, size))
    };
    let whole = capture(0..0).unwrap();
    assert!(whole.unreadable.is_empty() && whole.relocated.is_some());
    let relocated = volume.virtualized_block;
    let damaged = capture(relocated + 4096..relocated + 4608).unwrap();
    assert!(damaged.relocated.is_none() && damaged.regions == whole.regions);
    assert_eq!(damaged.unreadable[0].0, relocated);
    assert!(damaged.unreadable[0].1.contains("a bad sector"), "{:?}", damaged.unreadable);
    let region = volume.metadata_offsets[1];
    let damaged = capture(region + 512..region + 1024).unwrap();
    assert_eq!(damaged.unreadable.iter().map(|one| one.0).collect::<Vec<_>>(), [region]);
    assert_eq!(
        damaged.regions.iter().map(lifeboat_disk::FveRegion::is_good).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(damaged.relocated, whole.relocated);
    assert!(capture(0..512).is_err());
}
