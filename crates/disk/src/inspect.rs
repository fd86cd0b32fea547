//! Everything about a disk image that can be seen without a key, as a document.

use lifeboat_fve as fve;
use lifeboat_schema::{
    BitLockerInfo, ContainerKind, DiskInspectReport, EncryptionKind, ProtectorInfo, ProtectorKind, Time,
    VolumeCipher, VolumeInfo, VolumeState,
};
use lifeboat_vhdx::ReadAt;

use crate::disk::{Container, VirtualDisk};
use crate::layout::DiskLayout;
use crate::probe::Encryption;

/// Describes a disk. What a BitLocker volume says of itself is left out where no metadata copy can be used.
#[must_use]
pub fn inspect<F: ReadAt>(disk: &VirtualDisk<F>, layout: &DiskLayout) -> DiskInspectReport {
    let volumes = layout
        .volumes
        .iter()
        .map(|volume| VolumeInfo {
            number: volume.number,
            offset_bytes: volume.offset_bytes,
            size_bytes: volume.size_bytes,
            encryption: match volume.encryption {
                Encryption::BitLocker => EncryptionKind::Bitlocker,
                Encryption::Luks { .. } => EncryptionKind::Luks,
                Encryption::None(_) => EncryptionKind::None,
                Encryption::Unknown => EncryptionKind::Unknown,
            },
            bitlocker: (volume.encryption == Encryption::BitLocker)
                .then(|| fve::Volume::open(volume.reader(disk)).ok())
                .flatten()
                .map(|volume| describe(&volume)),
        })
        .collect();
    DiskInspectReport {
        container: match disk.container() {
            Container::Vhdx => ContainerKind::Vhdx,
            Container::Avhdx => ContainerKind::Avhdx,
            Container::Vhd => ContainerKind::Vhd,
            Container::Raw => ContainerKind::Raw,
        },
        virtual_size_bytes: disk.size_bytes(),
        sector_size_bytes: layout.sector_bytes,
        volumes,
    }
}

fn describe<R: fve::ReadAt>(volume: &fve::Volume<R>) -> BitLockerInfo {
    let metadata = volume.metadata();
    BitLockerInfo {
        version: metadata.version,
        volume_id: metadata.volume_id.to_string(),
        state: match volume.state() {
            fve::VolumeState::Decrypted => VolumeState::Decrypted,
            fve::VolumeState::Converting => VolumeState::Converting,
            fve::VolumeState::Suspended => VolumeState::Suspended,
            _ => VolumeState::Encrypted,
        },
        cipher: match metadata.method {
            fve::EncryptionMethod::NONE => VolumeCipher::None,
            fve::EncryptionMethod::AES_XTS_128 => VolumeCipher::AesXts128,
            fve::EncryptionMethod::AES_XTS_256 => VolumeCipher::AesXts256,
            fve::EncryptionMethod::AES_CBC_128 => VolumeCipher::AesCbc128,
            fve::EncryptionMethod::AES_CBC_256 => VolumeCipher::AesCbc256,
            fve::EncryptionMethod::AES_CBC_128_ELEPHANT => VolumeCipher::AesCbc128Elephant,
            fve::EncryptionMethod::AES_CBC_256_ELEPHANT => VolumeCipher::AesCbc256Elephant,
            _ => VolumeCipher::Unknown,
        },
        metadata_copies: u32::try_from(volume.copies().len()).unwrap_or(u32::MAX),
        metadata_copies_valid: u32::try_from(volume.good_copies()).unwrap_or(u32::MAX),
        protectors: metadata.protectors().iter().map(protector).collect(),
    }
}

fn protector(protector: &fve::Protector) -> ProtectorInfo {
    ProtectorInfo {
        id: protector.id.to_string(),
        kind: match protector.protection {
            fve::ProtectionType::RECOVERY_PASSWORD => ProtectorKind::RecoveryPassword,
            fve::ProtectionType::PASSWORD => ProtectorKind::Password,
            fve::ProtectionType::TPM => ProtectorKind::Tpm,
            fve::ProtectionType::TPM_PIN => ProtectorKind::TpmPin,
            fve::ProtectionType::TPM_STARTUP_KEY => ProtectorKind::TpmStartupKey,
            fve::ProtectionType::TPM_PIN_STARTUP_KEY => ProtectorKind::TpmPinStartupKey,
            fve::ProtectionType::EXTERNAL_KEY => ProtectorKind::ExternalKey,
            fve::ProtectionType::CLEAR_KEY => ProtectorKind::ClearKey,
            fve::ProtectionType::PUBLIC_KEY => ProtectorKind::PublicKey,
            _ => ProtectorKind::Unknown,
        },
        modified: Time::from_unix_seconds(protector.modified.unix_seconds()),
    }
}
