use lifeboat_fve::fixtures::{
    ConversionOptions, EowOptions, FormattedVolume, ProtectorOptions, VolumeOptions, ntfs_plaintext,
};
use lifeboat_fve::{
    Authentication, Credential, Dataset, Datum, Error, Metadata, ReadAt, ReadError, Volume, VolumeFormat,
    fuzzing,
};
use proptest::prelude::*;

const MIB: usize = 1 << 20;

fn fixture() -> FormattedVolume {
    let protectors = vec![
        ProtectorOptions::ClearKey,
        ProtectorOptions::ExternalKey,
        ProtectorOptions::Tpm(lifeboat_fve::ProtectionType::TPM),
    ];
    VolumeOptions { protectors, ..VolumeOptions::default() }.format(ntfs_plaintext(MIB, 512, 1))
}

/// Bytes of a region that the checksum or the validation covers.
fn used_bytes(region: &[u8]) -> usize {
    let information = usize::from(u16::from_le_bytes([region[8], region[9]])) << 4;
    information + 8 + 80
}

#[test]
fn every_flipped_byte_of_a_copy_is_answered_from_another() {
    let volume = fixture();
    let offset = volume.metadata_offsets[0] as usize;
    let mut image = volume.image.clone();
    let mut unnoticed = 0;
    for index in 0..used_bytes(&volume.metadata_region) {
        image[offset + index] ^= 0x5a;
        let disk = Volume::open(&image).unwrap_or_else(|error| panic!("byte {index}: {error}"));
        let opened =
            disk.unlock(&Credential::ClearKey).unwrap_or_else(|error| panic!("byte {index}: {error}"));
        assert_eq!(opened.authentication, Authentication::Authenticated, "byte {index}");
        assert_eq!(opened.volume_key.unwrap().expose(), volume.volume_key.expose(), "byte {index}");
        unnoticed += usize::from(disk.good_copies() == 3 && disk.distinct_metadata().len() == 1);
        image[offset + index] ^= 0x5a;
    }
    // Size and version of the validation, role and flags of its datum say nothing and are not judged.
    assert_eq!(unnoticed, 8);
}

#[test]
fn every_flipped_byte_of_all_copies_is_an_error_or_told() {
    let volume = fixture();
    let mut image = volume.image.clone();
    for index in 0..used_bytes(&volume.metadata_region) - 88 {
        for offset in volume.metadata_offsets {
            image[offset as usize + index] ^= 0x5a;
        }
        let error =
            Volume::open(&image).err().unwrap_or_else(|| panic!("byte {index} must spoil the checksum"));
        // A flipped place in a table is one more place that was looked at.
        assert!(matches!(&error, Error::NoUsableMetadata { copies } if copies.len() >= 3), "{error}");
        for offset in volume.metadata_offsets {
            image[offset as usize + index] ^= 0x5a;
        }
    }
}

#[test]
fn every_truncation_of_a_region_is_refused() {
    let region = fixture().metadata_region;
    let needed = used_bytes(&region) - 80;
    for length in 0..needed {
        assert!(Metadata::parse(&region[..length]).is_err(), "{length} bytes");
    }
    assert!(Metadata::parse(&region[..needed]).is_ok(), "without its validation datum it is only unproved");
}

#[test]
fn every_flipped_byte_of_sector_0_is_survived() {
    for (format, conversion) in [
        (VolumeFormat::Standard, ConversionOptions::Finished),
        (VolumeFormat::Vista, ConversionOptions::Finished),
        (
            VolumeFormat::EncryptOnWrite,
            ConversionOptions::EncryptOnWrite(EowOptions { chunk_bytes: 0x4000, encrypted_of_256: 128 }),
        ),
    ] {
        let protectors = vec![ProtectorOptions::ClearKey];
        let options = VolumeOptions { format, conversion, protectors, ..VolumeOptions::default() };
        let mut image = options.format(ntfs_plaintext(MIB, 512, 1)).image;
        for index in (0..16).chain(48..72).chain(160..216) {
            for flip in [0x01, 0x80, 0xff] {
                image[index] ^= flip;
                fuzzing::volume(&image);
                image[index] ^= flip;
            }
        }
    }
}

#[test]
fn every_flipped_byte_of_the_conversion_blocks_is_survived() {
    let eow = EowOptions { chunk_bytes: 0x4000, encrypted_of_256: 128 };
    let options = VolumeOptions {
        format: VolumeFormat::EncryptOnWrite,
        conversion: ConversionOptions::EncryptOnWrite(eow),
        protectors: vec![ProtectorOptions::ClearKey],
        ..VolumeOptions::default()
    };
    let mut image = options.format(ntfs_plaintext(MIB, 512, 1)).image;
    let information = 0xe_0000;
    for index in (information..information + 96).chain(0xe_2000..0xe_2040).chain(0xe_2200..0xe_2240) {
        image[index] ^= 0xff;
        fuzzing::volume(&image);
        image[index] ^= 0xff;
    }
}

/// A medium that counts what is read, so that a lying size shows as reading too much.
struct Counting<'a> {
    bytes: &'a [u8],
    read: std::sync::atomic::AtomicU64,
}

impl ReadAt for Counting<'_> {
    fn size_bytes(&self) -> u64 {
        // Huge, so that no offset is refused for lying behind the end.
        1 << 61
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        self.read.fetch_add(buffer.len() as u64, std::sync::atomic::Ordering::Relaxed);
        buffer.fill(0);
        self.bytes.read_at(offset, buffer)?;
        Ok(buffer.len())
    }
}

#[test]
fn lies_with_a_right_checksum_are_survived_and_cost_little() {
    let volume = fixture();
    let information =
        usize::from(u16::from_le_bytes([volume.metadata_region[8], volume.metadata_region[9]])) << 4;
    for at in (8..112).chain((112..information).step_by(3)) {
        for value in [0x00, 0x01, 0x7f, 0xff] {
            let mut region = volume.metadata_region.clone();
            region[at] = value;
            if at >= 16 {
                region[at.min(information - 8)..][..4].fill(value);
            }
            fuzzing::mend(&mut region);
            let mut image = volume.image.clone();
            for offset in volume.metadata_offsets {
                image[offset as usize..offset as usize + region.len()].copy_from_slice(&region);
            }
            let medium = Counting { bytes: &image, read: 0.into() };
            if let Ok(disk) = Volume::open(&medium) {
                let _ = disk.map(disk.metadata()).map(|map| map.extents(0..u64::MAX).take(100).count());
            }
            assert!(medium.read.into_inner() < 2 * MIB as u64, "byte {at} = {value:#x}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Datum::parse_list(&bytes);
        let _ = Dataset::parse(&bytes);
        fuzzing::metadata(&bytes);
        fuzzing::volume(&bytes);
    }

    /// Several bytes changed at once behind a right checksum.
    #[test]
    fn any_change_is_survived(changes in proptest::collection::vec((8..1200usize, any::<u8>()), 1..8)) {
        let volume = cached_fixture();
        let mut region = volume.metadata_region.clone();
        for (at, value) in changes {
            region[at] = value;
        }
        fuzzing::mend(&mut region);
        fuzzing::metadata(&region);
        let mut image = volume.image.clone();
        for offset in volume.metadata_offsets {
            image[offset as usize..offset as usize + region.len()].copy_from_slice(&region);
        }
        fuzzing::volume(&image);
    }
}

fn cached_fixture() -> &'static FormattedVolume {
    static FIXTURE: std::sync::OnceLock<FormattedVolume> = std::sync::OnceLock::new();
    FIXTURE.get_or_init(fixture)
}
