//! What `lifeboat disk inspect --json` answers: a stable document about one disk image.
//!
//! GUIDs are lower case without braces, times RFC 3339.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Time;

/// What `lifeboat disk inspect --json` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskInspectReport {
    /// Kind of the file.
    pub container: ContainerKind,
    /// Size of the disk that the guest sees.
    pub virtual_size_bytes: u64,
    /// Logical sector size.
    pub sector_size_bytes: u32,
    /// The volumes, in the order of the partition table.
    pub volumes: Vec<VolumeInfo>,
}

/// Kind of a disk image file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerKind {
    /// VHDX without a parent.
    Vhdx,
    /// Differencing VHDX.
    Avhdx,
    /// VHD of any kind.
    Vhd,
    /// A raw disk or volume.
    Raw,
}

/// One volume of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeInfo {
    /// Number on the disk, from 1; `--volume` takes it.
    pub number: u32,
    /// First byte on the disk.
    pub offset_bytes: u64,
    /// Size that the partition table states.
    pub size_bytes: u64,
    /// What encrypts it.
    pub encryption: EncryptionKind,
    /// What BitLocker says; absent for other volumes, and where no metadata copy can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitlocker: Option<BitLockerInfo>,
}

/// What encrypts a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EncryptionKind {
    /// BitLocker.
    Bitlocker,
    /// LUKS 1 or 2.
    Luks,
    /// Nothing: a known file system, or no content.
    None,
    /// Nothing that is known begins here.
    Unknown,
}

/// What the metadata of a BitLocker volume says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BitLockerInfo {
    /// Version of the metadata: 1 on Vista, 2 later.
    pub version: u16,
    /// Volume id.
    pub volume_id: String,
    /// State of the volume.
    pub state: VolumeState,
    /// Cipher of the sectors.
    pub cipher: VolumeCipher,
    /// Metadata copies that were looked for.
    pub metadata_copies: u32,
    /// Copies among them that are whole.
    pub metadata_copies_valid: u32,
    /// The BitLocker protectors, in disk order.
    pub protectors: Vec<ProtectorInfo>,
}

/// State of a BitLocker volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// Encrypted and protected.
    Encrypted,
    /// Metadata present, nothing encrypted.
    Decrypted,
    /// Partly encrypted.
    Converting,
    /// Encrypted, but a clear key stands on the volume: anyone can read it.
    Suspended,
}

/// Cipher of a BitLocker volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeCipher {
    /// AES-XTS with 128-bit keys.
    #[serde(rename = "aes-xts-128")]
    AesXts128,
    /// AES-XTS with 256-bit keys.
    #[serde(rename = "aes-xts-256")]
    AesXts256,
    /// AES-CBC with a 128-bit key.
    #[serde(rename = "aes-cbc-128")]
    AesCbc128,
    /// AES-CBC with a 256-bit key.
    #[serde(rename = "aes-cbc-256")]
    AesCbc256,
    /// AES-CBC with a 128-bit key and the Elephant diffuser.
    #[serde(rename = "aes-cbc-128-elephant")]
    AesCbc128Elephant,
    /// AES-CBC with a 256-bit key and the Elephant diffuser.
    #[serde(rename = "aes-cbc-256-elephant")]
    AesCbc256Elephant,
    /// None: a decrypted volume, or one that the drive encrypts itself.
    None,
    /// One that is not known here.
    Unknown,
}

/// One BitLocker protector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProtectorInfo {
    /// Protector id, under which escrow files its secret.
    pub id: String,
    /// Kind of the protector.
    #[serde(rename = "type")]
    pub kind: ProtectorKind,
    /// When it was last changed.
    pub modified: Time,
}

/// Kind of a BitLocker protector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProtectorKind {
    /// 48 digits.
    RecoveryPassword,
    /// A password typed by a person.
    Password,
    /// TPM.
    Tpm,
    /// TPM and PIN.
    TpmPin,
    /// TPM and startup key.
    TpmStartupKey,
    /// TPM, PIN and startup key.
    TpmPinStartupKey,
    /// A .BEK file, or auto-unlock by another volume.
    ExternalKey,
    /// A key that lies open in the metadata.
    ClearKey,
    /// Smart card or data recovery agent.
    PublicKey,
    /// A kind that is not known here.
    Unknown,
}
