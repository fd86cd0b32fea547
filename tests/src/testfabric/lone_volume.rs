//! A single BitLocker volume of any size, for benchmarks: encrypted from end to end, with one recovery password.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use lifeboat_disk::fixtures::dynamic_vhdx;
use lifeboat_fve::EncryptionMethod;
use lifeboat_fve::fixtures::{MIN_VOLUME_BYTES, VolumeOptions, WrittenSecret, ntfs_plaintext};
use lifeboat_vhdx::ReadAt as _;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::error::FabricError;

const MIB: u64 = 1 << 20;
/// Volumes are made in memory.
const MAX_VOLUME_BYTES: u64 = 4096 * MIB;
/// Largest disk of a VHDX.
const MAX_DISK_BYTES: u64 = 64 << 40;

/// Cipher of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum VolumeCipher {
    /// AES-XTS with 128-bit keys: the usual one today.
    #[value(name = "aes-xts-128")]
    Xts128,
    /// AES-CBC with a 128-bit key.
    #[value(name = "aes-cbc-128")]
    Cbc128,
    /// The same with the Elephant diffuser: Windows 7.
    #[value(name = "aes-cbc-128-elephant")]
    Elephant128,
}

impl VolumeCipher {
    fn method(self) -> EncryptionMethod {
        match self {
            Self::Xts128 => EncryptionMethod::AES_XTS_128,
            Self::Cbc128 => EncryptionMethod::AES_CBC_128,
            Self::Elephant128 => EncryptionMethod::AES_CBC_128_ELEPHANT,
        }
    }
}

/// What to write.
#[derive(Debug, Clone)]
pub struct LoneVolumeOptions {
    /// Cipher.
    pub cipher: VolumeCipher,
    /// Size in MiB.
    pub mebibytes: u64,
    /// Size of the disk in GiB that begins with the volume and is otherwise empty, as a dynamic VHDX; none writes the
    /// bare volume.
    pub disk_gibibytes: Option<u64>,
    /// Keys and content follow from it.
    pub seed: u64,
    /// The file. Must not exist.
    pub out: PathBuf,
}

/// What a test must know of a written volume.
#[derive(Debug, Clone, Serialize)]
pub struct LoneVolume {
    /// The recovery password that opens it.
    pub recovery_password: String,
    /// SHA-256 of what a reader gives, in hexadecimal; of the part with content where the disk is larger.
    pub plain_sha256: String,
}

/// Writes a volume.
///
/// # Errors
/// [`FabricError::Option`] for sizes that do not go, [`FabricError::Io`].
pub fn write_lone_volume(options: &LoneVolumeOptions) -> Result<LoneVolume, FabricError> {
    let bytes = options.mebibytes.saturating_mul(MIB);
    if !(MIN_VOLUME_BYTES..=MAX_VOLUME_BYTES).contains(&bytes) {
        let why = "volumes have 1 to 4096 MiB";
        return Err(FabricError::Option { option: "mebibytes", found: options.mebibytes, why });
    }
    let disk_bytes = options.disk_gibibytes.map(|gibibytes| gibibytes.saturating_mul(1024 * MIB));
    if disk_bytes.is_some_and(|disk| !(bytes..=MAX_DISK_BYTES).contains(&disk)) {
        let (option, found) = ("disk_gibibytes", options.disk_gibibytes.unwrap_or_default());
        return Err(FabricError::Option { option, found, why: "a disk holds its volume and at most 64 TiB" });
    }
    // In memory at once: plaintext, and the volume.
    let format =
        VolumeOptions { method: options.cipher.method(), seed: options.seed, ..VolumeOptions::default() };
    let plaintext = ntfs_plaintext(usize::try_from(bytes).unwrap_or(usize::MAX), 512, options.seed);
    let volume = format.format(plaintext.clone());
    let digest = Sha256::digest(volume.expected(plaintext));
    let plain_sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let WrittenSecret::RecoveryPassword(password) = volume.secret(0) else {
        unreachable!("the default volume has a recovery password");
    };
    let recovery_password = password.clone();
    let failed = |source| FabricError::Io { path: options.out.clone(), source };
    let mut file = File::create_new(&options.out).map_err(failed)?;
    match disk_bytes {
        None => file.write_all(&volume.image).map_err(failed)?,
        Some(disk_bytes) => {
            let disk = dynamic_vhdx(&[(0, volume.image)], disk_bytes);
            for (offset, bytes) in disk.extents() {
                file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(&bytes)).map_err(failed)?;
            }
            file.set_len(disk.size_bytes()).map_err(failed)?;
        }
    }
    Ok(LoneVolume { recovery_password, plain_sha256 })
}
