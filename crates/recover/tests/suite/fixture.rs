use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use lifeboat_disk::fixtures::{MemoryFile, MemoryFiles};
use lifeboat_disk::{ImageFile, ParentSearch, open_disk};
use lifeboat_fve::fixtures::{FormattedVolume, VolumeOptions, WrittenSecret, ntfs_plaintext};
use lifeboat_fve::{Credential, ExternalKey, Password, RecoveryPassword};
use lifeboat_recover::{
    DecryptOptions, DecryptReport, LockedVolume, Observer, Opened, OutputKind, PlainSource, PlainVolume,
    RecoverError, SourceDisk, Unobserved, decrypt_to, open_volume, partial_path,
};
use lifeboat_vhdx::{VhdxChain, VhdxReader};

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

/// Calls `work` with the plain bytes of the only BitLocker volume.
pub(crate) fn with_plain<T>(
    source: &SourceDisk<MemoryFile>,
    volume: &FormattedVolume,
    work: impl FnOnce(&PlainVolume<'_, '_, MemoryFile>) -> T,
) -> T {
    let locked = locked(source);
    let opened = opened(&locked, volume);
    work(&PlainVolume::new(&locked, &opened).unwrap())
}

/// A volume of the fixture's NTFS, and what it must decrypt to.
pub(crate) fn volume(seed: u64, bytes: usize) -> (FormattedVolume, Vec<u8>) {
    let plain = ntfs_plaintext(bytes, 512, seed);
    let volume = VolumeOptions { seed, ..VolumeOptions::default() }.format(plain.clone());
    let expected = volume.expected(plain);
    (volume, expected)
}

pub(crate) fn options(output: &Path) -> DecryptOptions {
    DecryptOptions {
        output: output.to_owned(),
        kind: OutputKind::of(output),
        skip_unallocated: false,
        check_space: true,
        random_ids: [0x77; 48],
    }
}

pub(crate) fn run(source: &dyn PlainSource, output: &Path) -> Result<DecryptReport, RecoverError> {
    decrypt_to(source, &options(output), &AtomicBool::new(false), &Unobserved)
}

/// Sets the flag when so many bytes are done.
pub(crate) struct StopAt<'a>(u64, &'a AtomicBool, AtomicU64);

impl<'a> StopAt<'a> {
    pub(crate) fn new(bytes: u64, cancel: &'a AtomicBool) -> Self {
        Self(bytes, cancel, AtomicU64::new(0))
    }
}

impl Observer for StopAt<'_> {
    fn planned(&self, _: u64) {}

    fn advanced(&self, bytes: u64) {
        if self.2.fetch_add(bytes, Ordering::Relaxed) + bytes >= self.0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

/// Decrypts until about `bytes` are done.
#[track_caller]
pub(crate) fn interrupt(source: &dyn PlainSource, output: &Path, bytes: u64) {
    let cancel = AtomicBool::new(false);
    let stop = StopAt::new(bytes, &cancel);
    let result = decrypt_to(source, &options(output), &cancel, &stop);
    assert!(matches!(result, Err(RecoverError::Interrupted { .. })), "{result:?}");
    assert!(!output.exists() && partial_path(output).exists());
}

/// What an output holds as a disk.
pub(crate) fn content(output: &Path) -> Vec<u8> {
    if OutputKind::of(output) == OutputKind::Raw {
        return std::fs::read(output).unwrap();
    }
    let reader = VhdxReader::open(ImageFile::open(output).unwrap()).unwrap();
    let chain = VhdxChain::new(vec![reader]).unwrap();
    let mut bytes = vec![0xee; usize::try_from(chain.virtual_size_bytes()).unwrap()];
    chain.read_at(0, &mut bytes).unwrap();
    bytes
}
