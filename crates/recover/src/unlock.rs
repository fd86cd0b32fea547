//! Opening a volume: every key against every BitLocker protector that it may open, on all cores, and proof on data.
//!
//! What the disk's own metadata does not open is tried with every captured generation; there the volume key counts
//! only when it opens a known sector of this disk.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lifeboat_disk::ReadAt;
use lifeboat_fve as fve;
use lifeboat_fve::{Attempt, Credential, DataProof, Guid, KeyPackage, Metadata, Unlocked, VolumeKey};

use crate::source::LockedVolume;

/// How far a key is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProof {
    /// It opens the volume master key, and nothing on the disk was recognised.
    Key,
    /// The volume key turns an encrypted sector of this disk into something known.
    Data(DataProof),
    /// The volume is not encrypted: no key was needed.
    NotNeeded,
}

/// An opened volume: its keys, and how far they are proved.
pub struct Opened {
    /// Kind of key that opened it, in words; none where no key was needed.
    pub opened_by: Option<&'static str>,
    /// The BitLocker protector that opened.
    pub protector: Option<Guid>,
    /// Which of the volume's distinct metadata copies counts.
    pub metadata_index: usize,
    /// Whether the metadata is proved genuine; none where no volume master key opened it.
    pub authentication: Option<fve::Authentication>,
    /// Index of the captured generation through which it was opened.
    pub generation: Option<usize>,
    /// How far the key is proved.
    pub proof: KeyProof,
    /// Why the volume cannot be decrypted although its key opened: an unknown cipher, a map that is damaged.
    pub cannot_read: Option<fve::Error>,
    pub(crate) vmk: Option<fve::Vmk>,
    pub(crate) key: Option<VolumeKey>,
}

impl Opened {
    /// Returns the volume master key where it opens today's metadata, so that other secrets can be read back.
    #[must_use]
    pub fn vmk(&self) -> Option<&fve::Vmk> {
        self.vmk.as_ref()
    }

    /// Returns the volume key; none on a volume that is not encrypted.
    #[must_use]
    pub fn volume_key(&self) -> Option<&VolumeKey> {
        self.key.as_ref()
    }
}

/// Why nothing opened a volume.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenFailure {
    /// No key was given.
    NoKeys,
    /// Keys were given and none opened it: what happened with each.
    NotOpened(Vec<fve::Error>),
    /// No key that exists here decrypts it (hardware encryption), or its volume key does not open.
    CannotRead(fve::Error),
}

impl std::fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoKeys => f.write_str("no key was given"),
            Self::NotOpened(errors) => {
                for (number, error) in errors.iter().enumerate() {
                    write!(f, "{}{error}", if number == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Self::CannotRead(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenFailure {}

/// Opens a volume with any of the keys; `packages` are key packages that a recovery password may open, `generations`
/// captured metadata of other times.
///
/// # Errors
/// [`OpenFailure`] says what happened with each key.
pub fn open_volume<F: ReadAt + Sync>(
    volume: &LockedVolume<'_, F>,
    keys: &[Credential],
    packages: &[KeyPackage],
    generations: &[Metadata],
) -> Result<Opened, OpenFailure> {
    let fve = volume.fve();
    if volume.is_decrypted() {
        return Ok(Opened {
            opened_by: None,
            protector: None,
            metadata_index: 0,
            authentication: None,
            generation: None,
            proof: KeyProof::NotNeeded,
            cannot_read: None,
            vmk: None,
            key: None,
        });
    }
    if fve.distinct_metadata().iter().all(fve::Metadata::is_hardware_encrypted) {
        return Err(OpenFailure::CannotRead(fve::Error::HardwareEncrypted));
    }
    if keys.is_empty() {
        return Err(OpenFailure::NoKeys);
    }
    let mut errors = Vec::new();
    if volume.uses_capture {
        for candidate in fve.distinct_metadata() {
            let found = unlock_any(std::slice::from_ref(candidate), keys, &mut errors);
            let Some((name, unlocked)) = found else { continue };
            match shifted(volume, candidate, name, unlocked) {
                Ok(opened) => return Ok(opened),
                Err(error) => errors.push(error),
            }
        }
    } else if let Some((name, unlocked)) = unlock_any(fve.distinct_metadata(), keys, &mut errors) {
        return accept(volume, name, unlocked);
    }
    for (index, generation) in generations.iter().enumerate() {
        let found = unlock_any(std::slice::from_ref(generation), keys, &mut errors);
        let Some((name, unlocked)) = found else { continue };
        match shifted(volume, generation, name, unlocked) {
            Ok(opened) => return Ok(Opened { generation: Some(index), ..opened }),
            Err(error) => errors.push(error),
        }
    }
    for package in packages {
        for key in keys.iter().filter(|key| matches!(key, Credential::RecoveryPassword(_))) {
            let opened = package.unlock(key).and_then(|(unlocked, key)| {
                with_key(volume, "key package and recovery password", unlocked, key)
            });
            match opened {
                Ok(opened) => return Ok(opened),
                Err(error) => errors.push(error),
            }
        }
    }
    Err(OpenFailure::NotOpened(errors))
}

/// Tries every key on every BitLocker protector of its kind in every metadata copy, on all cores.
fn unlock_any<'k>(
    copies: &'k [Metadata],
    keys: &'k [Credential],
    errors: &mut Vec<fve::Error>,
) -> Option<(&'static str, Unlocked)> {
    let mut attempts: Vec<(usize, Attempt<'k>)> = Vec::new();
    for (index, key) in keys.iter().enumerate() {
        let mut first_error = None;
        let before = attempts.len();
        for copy in copies {
            match copy.attempts(key, None) {
                Ok(found) => attempts.extend(found.into_iter().map(|attempt| (index, attempt))),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        if attempts.len() == before {
            errors.extend(first_error);
        }
    }
    // Keys that need no stretch answer at once.
    attempts.sort_by_key(|(index, _)| {
        matches!(keys[*index], Credential::RecoveryPassword(_) | Credential::Password(_))
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(attempts.len().max(1));
    let (next, is_found) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (found, failures) = (Mutex::new(None), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !is_found.load(Ordering::Relaxed)
                    && let Some((index, attempt)) = attempts.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    match attempt.run() {
                        Ok(unlocked) => {
                            is_found.store(true, Ordering::Relaxed);
                            *lock(&found) = Some((keys[*index].name(), unlocked));
                        }
                        Err(report) => lock(&failures).push((*index, report)),
                    }
                }
            });
        }
    });
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    if found.is_none() {
        let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (index, key) in keys.iter().enumerate() {
            let attempts: Vec<_> =
                failures.iter().filter(|(of, _)| *of == index).map(|(_, report)| *report).collect();
            if !attempts.is_empty() {
                errors.push(fve::Error::NotOpened { credential: key.name(), attempts });
            }
        }
    }
    found
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes an opened protector of today's metadata.
fn accept<F: ReadAt + Sync>(
    volume: &LockedVolume<'_, F>,
    name: &'static str,
    unlocked: Unlocked,
) -> Result<Opened, OpenFailure> {
    let fve = volume.fve();
    let opened = fve.accept(unlocked).map_err(OpenFailure::CannotRead)?;
    let copies = fve.distinct_metadata();
    let metadata_index =
        copies.iter().position(|copy| std::ptr::eq(copy, opened.metadata)).unwrap_or_default();
    let (proof, cannot_read) = match fve.decrypt(opened.metadata, opened.volume_key.as_ref()) {
        Ok(plain) => (plain.prove().map_or(KeyProof::Key, KeyProof::Data), None),
        Err(error) => (KeyProof::Key, Some(error)),
    };
    Ok(Opened {
        opened_by: Some(name),
        protector: Some(opened.unlocked.protector),
        metadata_index,
        authentication: Some(opened.authentication),
        generation: None,
        proof,
        cannot_read,
        vmk: Some(opened.unlocked.vmk),
        key: opened.volume_key,
    })
}

/// Takes an opened protector of captured metadata.
fn shifted<F: ReadAt + Sync>(
    volume: &LockedVolume<'_, F>,
    generation: &Metadata,
    name: &'static str,
    unlocked: Unlocked,
) -> Result<Opened, fve::Error> {
    let key = generation.volume_key(&unlocked.vmk)?;
    with_key(volume, name, unlocked, key)
}

/// Accepts a volume key from elsewhere when it opens a known sector of this disk, laid out as any of its metadata says.
fn with_key<F: ReadAt + Sync>(
    volume: &LockedVolume<'_, F>,
    name: &'static str,
    unlocked: Unlocked,
    key: VolumeKey,
) -> Result<Opened, fve::Error> {
    let fve = volume.fve();
    // What opens with the same volume master key first.
    let mut copies: Vec<(usize, &Metadata)> = fve.distinct_metadata().iter().enumerate().collect();
    copies.sort_by_key(|(_, metadata)| metadata.volume_key(&unlocked.vmk).is_err());
    let mut first_error = None;
    for (metadata_index, metadata) in copies {
        let proof = match fve.decrypt(metadata, Some(&key)).and_then(|plain| plain.prove()) {
            Ok(proof) => proof,
            Err(error) => {
                first_error.get_or_insert(error);
                continue;
            }
        };
        let is_current = metadata.volume_key(&unlocked.vmk).is_ok();
        return Ok(Opened {
            opened_by: Some(name),
            protector: Some(unlocked.protector),
            metadata_index,
            authentication: is_current.then(|| metadata.authenticate(&unlocked.vmk)),
            generation: None,
            proof: KeyProof::Data(proof),
            cannot_read: None,
            vmk: is_current.then_some(unlocked.vmk),
            key: Some(key),
        });
    }
    // There is at least one copy, and so an error.
    Err(first_error.unwrap_or(fve::Error::NotProvenOnData { examined: 0 }))
}
