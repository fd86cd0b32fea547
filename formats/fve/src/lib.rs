//! BitLocker (FVE) volumes: recognise them, open them with any recovery secret, read them decrypted.
//!
//! A format crate: bytes in, values out. `Volume` joins the pure parts over a small reading port; blocks, threads and
//! output belong to the caller. The layout is written down in `FORMAT.md`, under the same names as the constants.
//!
//! Deliberately never writes to a volume, never logs, keeps no clock and prints no secret. What it cannot open (TPM,
//! public key, PBKDF2, hardware encryption) it names.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod authenticate;
mod bek;
mod blank;
mod boot_sector;
mod cipher;
mod dataset;
mod datum;
mod decrypt;
mod eow;
mod error;
#[cfg(any(test, feature = "fixtures"))]
pub mod fixtures;
pub mod fuzzing;
mod guid;
mod key_package;
pub mod layout;
mod map;
mod metadata;
mod proof;
mod protector;
mod read_back;
mod recovery_password;
mod sealed;
mod secret;
mod stretch;
mod suspend;
mod time_shift;
mod unlock;
mod values;
mod volume;
pub mod write;

pub use authenticate::Authentication;
pub use bek::{BekError, ExternalKey};
pub use blank::BlankedRegion;
pub use boot_sector::{BootSector, VolumeFormat};
pub use cipher::SectorCipher;
pub use dataset::Dataset;
pub use datum::{Datum, DatumType, Role};
pub use decrypt::DecryptedVolume;
pub use eow::{EowBitmap, EowInformation};
pub use error::{Corruption, Error, ReadError};
pub use guid::{FileTime, Guid, ParseGuidError};
pub use key_package::KeyPackage;
pub use map::{Content, EowState, Extent, Reserved, VolumeMap};
pub use metadata::{ConversionState, EncryptionMethod, Metadata, ValidationDatum};
pub use proof::{DataProof, FileSystem, Witness, prove_boot_sectors, recognise_boot_sector};
pub use protector::{ProtectionType, Protector, ProtectorSummary, TpmInfo};
pub use read_back::{ReadBack, ReadBackFailure, ReadBackSecret};
pub use recovery_password::{
    Analysis, BlockProblem, BlockReport, Correction, CorrectionKind, RecoveryPassword, RecoveryPasswordError,
};
pub use sealed::OpenFailure;
pub use secret::{Key256, SecretBytes, Vmk};
pub use stretch::stretch;
pub use suspend::SuspendedCopy;
pub use time_shift::TimeShifted;
pub use unlock::{Attempt, AttemptFailure, AttemptReport, Credential, Password, Unlocked, VolumeKey};
pub use values::{BackupInfo, KeyType, KeyValue, SealedBox, StretchKey, UseKey, Virtualization};
pub use volume::{
    CopyReport, CopyStatus, MAX_COPY_PLACES, OpenedVolume, ReadAt, Volume, VolumeState, find_metadata,
};
