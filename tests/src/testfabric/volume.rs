//! Heads of encrypted volumes: BitLocker with and without a clear key, LUKS, and what nothing tells.
//!
//! A BitLocker volume has the metadata of a real one, in three copies, and its boot sectors with the ciphertext that proves a
//! key; between them nothing is written, so that a disk stays small. Volume keys and recovery passwords come from a small
//! stock, because a stretch takes a tenth of a second; ids, master keys and all other secrets are each volume's own.

use std::sync::LazyLock;

use lifeboat_fve::fixtures::{
    FormattedVolume, MIN_VOLUME_BYTES, PreparedPassword, ProtectorOptions, VolumeOptions, ntfs_plaintext,
};
use lifeboat_fve::{EncryptionMethod, Metadata, ProtectionType};
use lifeboat_schema::{Digest, ProtectorKind};

use super::answers::{ProtectorAnswer, VolumeAnswer};
use super::options::VolumeKind;
use super::stream::Stream;

/// Size of an encrypted volume.
pub(crate) const VOLUME_BYTES: u64 = MIN_VOLUME_BYTES;
/// Bytes at the start of a volume, and of its relocated sectors, that are written.
const HEAD_BYTES: usize = 16 << 10;
/// Bytes of a written page.
const PAGE_BYTES: usize = 4096;

/// Volumes with different methods, from which the others are made.
static STOCK: LazyLock<Vec<FormattedVolume>> = LazyLock::new(|| {
    [EncryptionMethod::AES_XTS_128, EncryptionMethod::AES_XTS_256, EncryptionMethod::AES_CBC_128]
        .into_iter()
        .zip(1..)
        .map(|(method, seed)| {
            let options = VolumeOptions { method, protectors: Vec::new(), seed, ..VolumeOptions::default() };
            options.format(ntfs_plaintext(VOLUME_BYTES as usize, options.sector_size, seed))
        })
        .collect()
});

static PASSWORDS: LazyLock<Vec<PreparedPassword>> =
    LazyLock::new(|| (1..=4).map(PreparedPassword::new).collect());

/// What is written of a volume, with its offsets on it, and what it has.
pub(crate) struct NewVolume {
    pub(crate) parts: Vec<(u64, Vec<u8>)>,
    pub(crate) answer: VolumeAnswer,
    /// The clear key that stands in its metadata.
    pub(crate) clear_key: Option<[u8; 32]>,
}

/// Whether a volume is of the VM that starts from it, which has a vTPM or not.
#[derive(Clone, Copy)]
pub(crate) struct VolumeRole {
    pub(crate) has_vtpm: bool,
    pub(crate) is_data: bool,
}

/// Makes a volume; `None` for one that is not encrypted. `once` is the same in every generation, `now` is this one's.
pub(crate) fn make(
    kind: VolumeKind,
    role: VolumeRole,
    generation: u32,
    once: &mut Stream,
    now: &mut Stream,
) -> Option<NewVolume> {
    let is_suspended = kind == VolumeKind::Suspended && generation.is_multiple_of(2);
    let mut answer = VolumeAnswer {
        encryption: kind,
        offset_bytes: 0,
        size_bytes: VOLUME_BYTES,
        is_suspended,
        volume_id: None,
        protectors: Vec::new(),
        recovery_password: None,
        fve_metadata: None,
    };
    let (stock, password) = (once.below(STOCK.len() as u64), once.below(PASSWORDS.len() as u64));
    let is_renewed = kind == VolumeKind::Renewed;
    let password =
        if is_renewed { (password + u64::from(generation)) % PASSWORDS.len() as u64 } else { password };
    let ids = u64::from_le_bytes(once.array());
    let protectors = match (kind, role) {
        (VolumeKind::None, _) => return None,
        (VolumeKind::Luks | VolumeKind::Unknown, _) => {
            let mut head = once.bytes(PAGE_BYTES);
            let magic: &[u8] =
                if kind == VolumeKind::Luks { b"LUKS\xba\xbe\0\x02" } else { b"\x01\x02\x03\x04" };
            head[..magic.len()].copy_from_slice(magic);
            // No boot sector of any file system ends like this.
            head[510..512].fill(0);
            return Some(NewVolume { parts: vec![(0, head)], answer, clear_key: None });
        }
        (VolumeKind::TpmOnly, VolumeRole { has_vtpm: true, is_data: false }) => {
            vec![ProtectorOptions::Tpm(ProtectionType::TPM)]
        }
        (VolumeKind::TpmOnly, _) => vec![ProtectorOptions::ExternalKey],
        (_, role) => {
            let first = match role {
                VolumeRole { is_data: true, .. } => ProtectorOptions::ExternalKey,
                VolumeRole { has_vtpm: true, .. } => ProtectorOptions::Tpm(ProtectionType::TPM),
                _ => ProtectorOptions::Tpm(ProtectionType::TPM_STARTUP_KEY),
            };
            let password = &PASSWORDS[password as usize];
            answer.recovery_password = Some(password.digits());
            let clear = is_suspended.then_some(ProtectorOptions::ClearKey);
            // Ids go by place: a key before it gives the password another id in each even generation.
            let before =
                (is_renewed && generation.is_multiple_of(2)).then_some(ProtectorOptions::ExternalKey);
            let password = ProtectorOptions::PreparedPassword(password.clone());
            std::iter::once(first).chain(before).chain([password]).chain(clear).collect()
        }
    };
    let seed = u64::from_le_bytes(now.array());
    let volume = STOCK[stock as usize].other_volume(protectors, seed, ids);
    let metadata = Metadata::parse(&volume.metadata_region).expect("a fixture is whole");
    let clear_key =
        metadata.protectors().iter().find_map(|protector| protector.clear_key().map(|key| *key.expose()));
    if kind == VolumeKind::Damaged {
        // Nothing of it can be told from the disk.
        answer.recovery_password = None;
        return Some(NewVolume { parts: parts(kind, &volume), answer, clear_key: None });
    }
    answer.volume_id = Some(metadata.volume_id.to_string());
    answer.protectors = metadata
        .protectors()
        .iter()
        .map(|protector| ProtectorAnswer {
            id: protector.id.to_string(),
            kind: kind_of(protector.protection),
        })
        .collect();
    answer.fve_metadata = Some(Digest::of(&volume.metadata_region));
    Some(NewVolume { parts: parts(kind, &volume), answer, clear_key })
}

/// What is written of a volume.
fn parts(kind: VolumeKind, volume: &FormattedVolume) -> Vec<(u64, Vec<u8>)> {
    let regions = volume.metadata_offsets.map(|offset| (offset, volume.metadata_region.len()));
    let heads = [(0, HEAD_BYTES), (volume.virtualized_block, HEAD_BYTES)];
    let mut parts = Vec::new();
    for (offset, length) in heads.into_iter().chain(regions) {
        let mut bytes = volume.image[offset as usize..offset as usize + length].to_vec();
        if kind == VolumeKind::Damaged && offset != 0 && offset != volume.virtualized_block {
            // Of each copy the headers are there, and what follows is not.
            bytes[0x70..].fill(0);
        }
        let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let written = written.next_multiple_of(PAGE_BYTES).min(length);
        parts.push((offset, bytes[..written].to_vec()));
    }
    parts
}

fn kind_of(protection: ProtectionType) -> ProtectorKind {
    match protection {
        ProtectionType::TPM => ProtectorKind::Tpm,
        ProtectionType::TPM_STARTUP_KEY => ProtectorKind::TpmStartupKey,
        ProtectionType::EXTERNAL_KEY => ProtectorKind::ExternalKey,
        ProtectionType::CLEAR_KEY => ProtectorKind::ClearKey,
        ProtectionType::RECOVERY_PASSWORD => ProtectorKind::RecoveryPassword,
        _ => ProtectorKind::Unknown,
    }
}
