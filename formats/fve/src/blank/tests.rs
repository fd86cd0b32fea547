//! Regions with every kind of BitLocker protector, with a clear key and without.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::fixtures::{ProtectorOptions, VolumeOptions, ntfs_plaintext};
use crate::guid::{FileTime, Guid};
use crate::secret::Key256;
use crate::unlock::Credential;
use crate::{ValidationDatum, fixtures};

fn format(protectors: Vec<ProtectorOptions>, windows_7_datums: bool) -> fixtures::FormattedVolume {
    let options =
        VolumeOptions { protectors, windows_7_datums, unknown_datums: true, ..VolumeOptions::default() };
    options.format(ntfs_plaintext(fixtures::MIN_VOLUME_BYTES as usize, 512, 3))
}

fn every_kind() -> Vec<ProtectorOptions> {
    vec![
        ProtectorOptions::Tpm(ProtectionType::TPM),
        ProtectorOptions::RecoveryPassword { backup_info: true, pbkdf2: false },
        ProtectorOptions::ExternalKey,
        ProtectorOptions::PublicKey,
        ProtectorOptions::Password("p".into()),
        ProtectorOptions::Unknown(0x4000),
    ]
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

#[test]
fn metadata_without_a_plain_key_stays_as_it_is() {
    for windows_7 in [false, true] {
        let volume = format(every_kind(), windows_7);
        let blanked = BlankedRegion::of(&volume.metadata_region).unwrap();
        assert!(!blanked.is_changed());
        assert_eq!(blanked.bytes, volume.metadata_region);
    }
}

#[test]
fn a_clear_key_is_blanked_and_everything_else_stays() {
    for windows_7 in [false, true] {
        let volume = format([every_kind(), vec![ProtectorOptions::ClearKey]].concat(), windows_7);
        let whole = Metadata::parse(&volume.metadata_region).unwrap();
        let clear = whole.protectors().last().unwrap();
        let key = *clear.clear_key().unwrap().expose();
        assert!(holds(&volume.metadata_region, &key));
        assert!(whole.unlock(&Credential::ClearKey).is_ok());

        let blanked = BlankedRegion::of(&volume.metadata_region).unwrap();
        assert_eq!((blanked.keys, blanked.has_remnants), (1, false));
        assert!(!holds(&blanked.bytes, &key));
        // Only the 32 bytes of the key and the four of the CRC differ.
        let differing = blanked.bytes.iter().zip(&volume.metadata_region).filter(|(a, b)| a != b).count();
        assert!(differing <= 36, "{differing} bytes differ");
        let parsed = Metadata::parse(&blanked.bytes).unwrap();
        assert_eq!(parsed.summaries(), whole.summaries());
        assert!(parsed.has_clear_key() && parsed.malformed.is_empty());
        assert!(parsed.unlock(&Credential::ClearKey).is_err());
        // Blanking is final, and finds nothing the second time.
        let again = BlankedRegion::of(&blanked.bytes).unwrap();
        assert!(!again.is_changed());
        // Every other way in is still there.
        let crate::fixtures::WrittenSecret::Bek(bek) = volume.secret(2) else { panic!("an external key") };
        let bek = crate::ExternalKey::parse(bek).unwrap();
        assert!(parsed.unlock(&Credential::ExternalKey(bek)).is_ok());
    }
}

#[test]
fn metadata_suspended_on_paper_is_blanked_too() {
    let volume = format(every_kind(), false);
    let metadata = Metadata::parse(&volume.metadata_region).unwrap();
    let key = Key256::new([0x5a; 32]);
    let suspended =
        metadata.suspended(&volume.vmk, &key, Guid([7; 16]), FileTime(132_300_000_000_000_000)).unwrap();
    let blanked = BlankedRegion::of(&suspended.region).unwrap();
    assert_eq!(blanked.keys, 1);
    assert!(!holds(&blanked.bytes, key.expose()));
}

#[test]
fn remnants_of_an_older_generation_are_blanked() {
    let volume = format(vec![ProtectorOptions::recovery_password(), ProtectorOptions::ClearKey], false);
    let key = {
        let metadata = Metadata::parse(&volume.metadata_region).unwrap();
        *metadata.protectors()[1].clear_key().unwrap().expose()
    };
    let resumed = volume.next_generation(vec![ProtectorOptions::recovery_password()], 9, false);
    let mut region = resumed.metadata_region.clone();
    let end = region.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    // Where a shorter generation left the end of a longer one.
    region[end + 5..end + 5 + 32].copy_from_slice(&key);
    let blanked = BlankedRegion::of(&region).unwrap();
    assert_eq!((blanked.keys, blanked.has_remnants), (0, true));
    assert_eq!(blanked.bytes, resumed.metadata_region);
}

#[test]
fn what_was_erased_is_blanked_wherever_it_stands() {
    let volume = format([every_kind(), vec![ProtectorOptions::ClearKey]].concat(), false);
    let region = &volume.metadata_region;
    let metadata = Metadata::parse(region).unwrap();
    let key = *metadata.protectors().last().unwrap().clear_key().unwrap().expose();
    let key_at = region.windows(32).position(|window| window == key).unwrap();
    let (first, end) =
        BlankedRegion { bytes: region.clone(), keys: 0, has_remnants: false }.datums().unwrap();
    // The types of the protector's datum and of the key's inside it, each erased in turn.
    let mut starts = vec![key_at - size_of::<RawKey>() - size_of::<RawDatum>()];
    let mut at = first;
    while at < end {
        let (datum, _) = Datum::parse(&region[at..end]).unwrap();
        if (at..at + datum.encoded_bytes()).contains(&key_at) {
            starts.push(at);
        }
        at += datum.encoded_bytes().max(8);
    }
    assert_eq!(starts.len(), 2);
    for start in starts {
        let mut region = region.clone();
        let type_at = start + core::mem::offset_of!(RawDatum, datum_type);
        region[type_at..type_at + 2].fill(0);
        let information_end = metadata.information().len();
        let crc32 = crc32fast::hash(&region[..information_end]);
        let validation_end = information_end + size_of::<RawValidation>();
        region[validation_end - 4..validation_end].copy_from_slice(&crc32.to_le_bytes());
        let blanked = BlankedRegion::of(&region).unwrap();
        assert!(!holds(&blanked.bytes, &key), "erased at {start}");
        assert!(blanked.is_changed() && Metadata::parse(&blanked.bytes).is_ok());
    }
}

#[test]
fn the_hash_of_a_decrypted_volume_is_no_key() {
    let mut options = VolumeOptions { protectors: Vec::new(), ..VolumeOptions::default() };
    options.conversion = fixtures::ConversionOptions::Decrypted;
    let volume = options.format(ntfs_plaintext(fixtures::MIN_VOLUME_BYTES as usize, 512, 3));
    let metadata = Metadata::parse(&volume.metadata_region).unwrap();
    assert!(matches!(metadata.validation, ValidationDatum::Clear(_)));
    assert!(!BlankedRegion::of(&volume.metadata_region).unwrap().is_changed());
}

#[test]
fn a_damaged_region_gives_nothing_at_all() {
    let volume = format(vec![ProtectorOptions::ClearKey], false);
    let metadata = Metadata::parse(&volume.metadata_region).unwrap();
    let key = *metadata.protectors()[0].clear_key().unwrap().expose();
    let end = volume.metadata_region.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    for at in 0..end {
        let mut region = volume.metadata_region.clone();
        region[at] ^= 1 << (at % 8);
        if let Ok(blanked) = BlankedRegion::of(&region) {
            assert!(!holds(&blanked.bytes, &key), "byte {at}");
        }
    }
    for length in 0..end {
        if let Ok(blanked) = BlankedRegion::of(&volume.metadata_region[..length]) {
            assert!(!holds(&blanked.bytes, &key), "cut at {length}");
        }
    }
}
