//! What a capture tells of a virtual disk: identity, chain, partitions, and what encrypts each volume. No content.
//!
//! The bytes behind it are artefacts: the disk head for restore and escrow, and, where a clear key stands on the disk, a
//! second one for escrow alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BitLockerInfo, ContainerKind, Digest, EncryptionKind};

/// A disk whose head was captured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskHeadEntry {
    /// Kind of the file that the configuration names.
    pub container: ContainerKind,
    /// Its files, the youngest first: the one that the configuration names, then its parents.
    pub chain: Vec<DiskFileEntry>,
    /// Size of the disk that the guest sees.
    pub virtual_size_bytes: u64,
    /// Logical sector size.
    pub sector_size_bytes: u32,
    /// Page-83 identity that the guest sees (VHDX); equal in all files of a chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_disk_id: Option<String>,
    /// How the disk is partitioned.
    pub scheme: PartitionScheme,
    /// GPT id of the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpt_disk_id: Option<String>,
    /// Volumes, in the order of the partition table; the whole disk where there is none.
    pub volumes: Vec<VolumeHeadEntry>,
    /// Metadata items of the VHDX that are no part of its specification, such as a volume signature catalog.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<DiskItemEntry>,
    /// Path of the artefact with the captured bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artefact: Option<String>,
    /// Path of the artefact with what only escrow may read; absent where nothing on the disk is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_artefact: Option<String>,
}

/// A file of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskFileEntry {
    /// Its name, without folders.
    pub name: String,
    /// DataWriteGuid (VHDX): changes with the guest's data, and a child names that of its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_write_guid: Option<String>,
    /// Identity of the file (VHD).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhd_id: Option<String>,
}

/// How a disk is partitioned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionScheme {
    /// GUID partition table.
    Gpt,
    /// There was a GUID partition table, and neither copy can be used.
    GptLost,
    /// Master boot record.
    Mbr,
    /// No partition table that can be used.
    None,
}

/// A volume of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeHeadEntry {
    /// Number on the disk, from 1.
    pub number: u32,
    /// First byte on the disk.
    pub offset_bytes: u64,
    /// Size that the partition table states.
    pub size_bytes: u64,
    /// GPT id of the partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_id: Option<String>,
    /// GPT type of the partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_type: Option<String>,
    /// What encrypts it.
    pub encryption: EncryptionKind,
    /// What BitLocker says; absent for other volumes, and where no metadata copy can be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitlocker: Option<BitLockerInfo>,
    /// BLAKE3 digest of the whole metadata region of the copy that counts: equal digests are one generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fve_metadata: Option<Digest>,
}

/// A metadata item of a VHDX that its specification does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DiskItemEntry {
    /// Its id.
    pub id: String,
    /// Size in bytes.
    pub size: u64,
    /// BLAKE3 digest of its bytes, where it was captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}
