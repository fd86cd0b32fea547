use std::path::Path;

use lifeboat_disk::fixtures::{MemoryFile, MemoryFiles};
use lifeboat_disk::{ParentSearch, open_disk};
use lifeboat_fve::fixtures::{FormattedVolume, VolumeOptions, WrittenSecret};
use lifeboat_fve::{Credential, ExternalKey, Password, RecoveryPassword};
use lifeboat_recover::{LockedVolume, Opened, SourceDisk, open_volume};

/// Plain content that holds a small real NTFS.
pub(crate) fn real_ntfs() -> Vec<u8> {
    use std::io::Read as _;
    let packed = include_bytes!("../data/ntfs.img.gz");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    bytes
}

pub(crate) fn format(options: &VolumeOptions, plain: Vec<u8>) -> FormattedVolume {
    options.format(plain)
}

/// The key that a fixture's protector takes.
pub(crate) fn credential(secret: &WrittenSecret) -> Credential {
    match secret {
        WrittenSecret::RecoveryPassword(text) => {
            Credential::RecoveryPassword(RecoveryPassword::parse(text).unwrap())
        }
        WrittenSecret::Password(text) => Credential::Password(Password::new(text.clone())),
        WrittenSecret::Bek(bytes) => Credential::ExternalKey(ExternalKey::parse(bytes).unwrap()),
        WrittenSecret::ClearKey => Credential::ClearKey,
        WrittenSecret::None => panic!("nothing opens it"),
    }
}

/// Opens a disk in memory.
pub(crate) fn source(bytes: &[u8]) -> SourceDisk<MemoryFile> {
    from_files(&MemoryFiles::default().with_bytes("disk.img", bytes), "disk.img")
}

pub(crate) fn from_files(files: &MemoryFiles, path: &str) -> SourceDisk<MemoryFile> {
    let path = Path::new(path);
    SourceDisk::new(path, open_disk(files, path, &ParentSearch::default()).unwrap()).unwrap()
}

/// Opens the metadata of the only BitLocker volume.
pub(crate) fn locked(source: &SourceDisk<MemoryFile>) -> LockedVolume<'_, MemoryFile> {
    let volume = source.layout.bitlocker_volumes().next().unwrap();
    LockedVolume::open(source, 0, volume, None).unwrap()
}

/// Opens a volume with the first of its secrets.
pub(crate) fn opened(locked: &LockedVolume<'_, MemoryFile>, volume: &FormattedVolume) -> Opened {
    open_volume(locked, &[credential(&volume.secrets[0].1)], &[], &[]).unwrap()
}
