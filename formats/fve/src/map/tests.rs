use proptest::prelude::*;

use super::*;
use crate::fixtures::{ConversionOptions, EowOptions, VolumeOptions, ntfs_plaintext};
use crate::volume::Volume;

const MIB: usize = 1 << 20;

fn extents_of(options: &VolumeOptions) -> Vec<Extent> {
    let volume = options.format(ntfs_plaintext(MIB, options.sector_size, 1));
    let disk = Volume::open(&volume.image).unwrap();
    let map = disk.map(disk.metadata()).unwrap();
    map.extents(0..MIB as u64).collect()
}

fn kinds(extents: &[Extent]) -> Vec<(u64, u64, Content)> {
    extents.iter().map(|extent| (extent.offset, extent.length, extent.content)).collect()
}

#[test]
fn a_finished_volume() {
    let encrypted = |physical_offset| Content::Encrypted { physical_offset };
    let metadata = Content::Zeros(Reserved::Metadata);
    assert_eq!(
        kinds(&extents_of(&VolumeOptions::default())),
        [
            (0, 0x2000, encrypted(0x3_0000)),
            (0x2000, 0x1_e000, encrypted(0x2000)),
            (0x2_0000, 0x1_0000, metadata),
            (0x3_0000, 0x2000, Content::Zeros(Reserved::VirtualizedBlock)),
            (0x3_2000, 0x2_e000, encrypted(0x3_2000)),
            (0x6_0000, 0x1_0000, metadata),
            (0x7_0000, 0x3_0000, encrypted(0x7_0000)),
            (0xa_0000, 0x1_0000, metadata),
            (0xb_0000, 0x5_0000, encrypted(0xb_0000)),
        ]
    );
}

#[test]
fn a_paused_windows_7_volume_is_plain_above_the_boundary() {
    let boundary = 0x8_0000;
    let conversion = ConversionOptions::Paused { boundary };
    for extent in extents_of(&VolumeOptions { conversion, ..VolumeOptions::default() }) {
        match extent.content {
            Content::Encrypted { physical_offset } => assert!(physical_offset + extent.length <= boundary),
            Content::Plain { physical_offset } => assert!(physical_offset >= boundary),
            content => assert!(matches!(content, Content::Zeros(_))),
        }
    }
    // A boundary below the relocated block: its sectors are plain, wherever they read.
    let conversion = ConversionOptions::Paused { boundary: 0x1_0000 };
    let extents = extents_of(&VolumeOptions { conversion, ..VolumeOptions::default() });
    assert_eq!(extents[0].content, Content::Plain { physical_offset: 0x3_0000 });
    assert_eq!(extents[1].content, Content::Encrypted { physical_offset: 0x2000 });
}

#[test]
fn an_interrupted_region_is_named() {
    let conversion = ConversionOptions::Dirty { boundary: 0x8_0000, length: 0x1800 };
    let extents = extents_of(&VolumeOptions { conversion, ..VolumeOptions::default() });
    let dirty: Vec<_> =
        extents.iter().filter(|extent| extent.content == Content::Zeros(Reserved::UnderConversion)).collect();
    assert_eq!((dirty.len(), dirty[0].offset, dirty[0].length), (1, 0x8_0000, 0x1800));
}

#[test]
fn a_vista_volume_has_a_plain_head() {
    let format = VolumeFormat::Vista;
    let extents = extents_of(&VolumeOptions { format, ..VolumeOptions::default() });
    assert_eq!(extents[0].content, Content::VistaBootSector { physical_offset: 0 });
    assert_eq!((extents[0].length, extents[1].end()), (512, 0x2000));
    assert_eq!(extents[1].content, Content::Plain { physical_offset: 512 });
    assert_eq!(extents[2].content, Content::Encrypted { physical_offset: 0x2000 });
}

#[test]
fn overlapping_ranges_become_disjoint() {
    let ranges = [
        (10..20, Reserved::Metadata),
        (15..30, Reserved::EowBitmap),
        (12..14, Reserved::ConversionLog),
        (30..31, Reserved::Metadata),
        (0..5, Reserved::Metadata),
    ];
    let expected = [
        (0..5, Reserved::Metadata),
        (10..20, Reserved::Metadata),
        (20..30, Reserved::EowBitmap),
        (30..31, Reserved::Metadata),
    ];
    assert_eq!(disjoint(ranges.to_vec()), expected);
}

fn any_conversion() -> impl Strategy<Value = (VolumeFormat, ConversionOptions)> {
    prop_oneof![
        Just((VolumeFormat::Standard, ConversionOptions::Finished)),
        Just((VolumeFormat::ToGo, ConversionOptions::Finished)),
        Just((VolumeFormat::Vista, ConversionOptions::Finished)),
        Just((VolumeFormat::Standard, ConversionOptions::Decrypted)),
        (0..256u64).prop_map(|unit| {
            (VolumeFormat::Standard, ConversionOptions::Paused { boundary: unit * 4096 })
        }),
        (1..16u32, 0..=256u16).prop_map(|(pages, encrypted_of_256)| {
            let eow = EowOptions { chunk_bytes: pages * 4096, encrypted_of_256 };
            (VolumeFormat::EncryptOnWrite, ConversionOptions::EncryptOnWrite(eow))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The extents cover a range without gaps, and a part of the range is told the same as the whole.
    #[test]
    fn extents_tile_every_range(
        (format, conversion) in any_conversion(),
        large_sectors: bool,
        ranges in proptest::collection::vec((0..MIB as u64, 0..MIB as u64), 8),
    ) {
        // No password: nothing here needs a stretch.
        let protectors = alloc::vec![crate::fixtures::ProtectorOptions::ClearKey];
        let sector_size = if large_sectors { 4096 } else { 512 };
        let options = VolumeOptions { format, conversion, protectors, sector_size, ..VolumeOptions::default() };
        let volume = options.format(ntfs_plaintext(MIB, sector_size, 1));
        let disk = Volume::open(&volume.image).unwrap();
        let map = disk.map(disk.metadata()).unwrap();
        let whole: Vec<Extent> = map.extents(0..MIB as u64).collect();
        for (a, b) in ranges {
            let range = a.min(b)..a.max(b);
            let mut at = range.start;
            for extent in map.extents(range.clone()) {
                prop_assert_eq!(extent.offset, at);
                prop_assert!(extent.length > 0);
                at = extent.end();
                let outer = whole.iter().find(|outer| (outer.offset..outer.end()).contains(&extent.offset)).unwrap();
                prop_assert!(extent.end() <= outer.end());
                prop_assert_eq!(outer.content.advanced(extent.offset - outer.offset), extent.content);
            }
            prop_assert_eq!(at, range.end);
        }
    }
}
