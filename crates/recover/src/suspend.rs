//! The way past the prompt: an overlay in which BitLocker is suspended, so that the VM boots once without asking.
//!
//! Beside a VHDX it is a differencing child that holds nothing but the three metadata copies; of other images it is a
//! copy with these laid over. Each copy has one more BitLocker protector, a clear key, as Windows adds it
//! ([`lifeboat_fve::Metadata::suspended`]). Until protection is resumed whoever has the overlay and the disk reads the volume.
//!
//! Deliberately never writes to the source, and changes nothing else of it. Not yet booted by Windows.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use lifeboat_disk::{Encryption, ReadAt, VirtualDisk};
use lifeboat_fve::{FileTime, Guid, Key256};
use lifeboat_vhdx::{NewDiskIds, NewDiskKind, ParentLocator, VhdxOptions, VhdxReader, VhdxWriter};

use crate::copy::{DecryptOptions, DecryptReport, Observer, copy_to};
use crate::error::RecoverError;
use crate::place::{create_new, give_name, is_taken, refuse_source};
use crate::plain::PlainDisk;
use crate::source::LockedVolume;
use crate::target::{OutputKind, Port, disk_ids, partial_path, vhdx_error};
use crate::unlock::Opened;

/// What to write, and with which fresh values.
pub struct SuspendOptions {
    /// The output. Must not exist.
    pub output: PathBuf,
    /// The clear key, which the output shows to everyone; fresh random bytes.
    pub clear_key: Key256,
    /// Id of the added BitLocker protector; fresh random bytes.
    pub protector: Guid,
    /// Random bytes for the ids of a VHDX.
    pub random_ids: [u8; 48],
    /// Now.
    pub now: FileTime,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspendReport {
    /// The parent of the overlay, which must lie beside it unchanged; none for a copy.
    pub parent: Option<PathBuf>,
    /// What was copied; none for an overlay.
    pub copied: Option<DecryptReport>,
}

/// Writes an overlay of the volume's disk in which BitLocker is suspended.
///
/// # Errors
/// [`RecoverError::NotSuspendable`] names why there can be none; [`RecoverError::IsSource`] and
/// [`RecoverError::Exists`] before anything is written. A copy can be [interrupted](RecoverError::Interrupted) and is
/// gone on with as [`decrypt_to`](crate::decrypt_to) does.
pub fn suspend_to<F: ReadAt + Sync>(
    locked: &LockedVolume<'_, F>,
    opened: &Opened,
    options: &SuspendOptions,
    cancel: &AtomicBool,
    observer: &dyn Observer,
) -> Result<SuspendReport, RecoverError> {
    let vmk = opened.vmk().ok_or_else(|| {
        not_suspendable(
            "no key opened the metadata that stands on the disk; only its own keys can be kept in it",
        )
    })?;
    let metadata = locked.metadata_of(opened);
    if metadata.has_clear_key() {
        return Err(not_suspendable(
            "protection is suspended already: the disk boots without asking as it is",
        ));
    }
    if locked.volume.encryption != Encryption::BitLocker {
        return Err(not_suspendable(
            "the first sector of the volume is destroyed: Windows would not know it again",
        ));
    }
    let copy = metadata.suspended(vmk, &options.clear_key, options.protector, options.now)?;
    let size_bytes = locked.source.disk.size_bytes();
    let mut patches: Vec<(u64, &[u8])> = Vec::new();
    for offset in copy.offsets {
        let place = locked.volume.offset_bytes.checked_add(offset);
        let is_inside = place
            .and_then(|place| place.checked_add(copy.region.len() as u64))
            .is_some_and(|end| end <= size_bytes);
        match place {
            Some(place) if is_inside => patches.push((place, &copy.region)),
            _ => return Err(not_suspendable("a metadata copy would lie behind the end of the image")),
        }
    }
    let kind = OutputKind::of(&options.output);
    match (locked.source.disk.vhdx_files().first(), kind) {
        (Some(parent), OutputKind::Vhdx) => {
            let parent_path = write_child(&locked.source.disk, parent, &patches, options)?;
            Ok(SuspendReport { parent: Some(parent_path), copied: None })
        }
        (Some(_), OutputKind::Raw) => Err(not_suspendable(
            "the overlay of a VHDX is a VHDX: give it a name that ends in .vhdx or .avhdx",
        )),
        (None, _) => {
            let disk = PlainDisk::new(locked.source, Vec::new());
            let options = DecryptOptions {
                output: options.output.clone(),
                kind,
                skip_unallocated: false,
                check_space: true,
                random_ids: options.random_ids,
            };
            let copied = copy_to(&disk, &options, &patches, cancel, observer)?;
            Ok(SuspendReport { parent: None, copied: Some(copied) })
        }
    }
}

fn not_suspendable(why: &str) -> RecoverError {
    RecoverError::NotSuspendable { why: why.to_owned() }
}

/// Writes a differencing child with the patches; answers its parent.
fn write_child<F: ReadAt>(
    disk: &VirtualDisk<F>,
    parent: &VhdxReader<F>,
    patches: &[(u64, &[u8])],
    options: &SuspendOptions,
) -> Result<PathBuf, RecoverError> {
    let output = &options.output;
    let partial = partial_path(output);
    for path in [output, &partial] {
        refuse_source(path, disk.files())?;
    }
    if is_taken(output) {
        return Err(RecoverError::Exists { path: output.clone() });
    }
    let written = |source| RecoverError::file(&partial, "written")(source);
    // It takes a moment: a rest of an earlier run is no work that could be lost, but whose it is cannot be told.
    let file = create_new(&partial).map_err(written)?;
    let finished = child(parent, disk.files(), patches, options, &file).and_then(|()| {
        file.sync_all().map_err(written)?;
        give_name(&partial, output).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => RecoverError::Exists { path: output.clone() },
            _ => RecoverError::file(output, "written")(source),
        })
    });
    if let Err(error) = finished {
        // Ours: it was made above.
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    Ok(disk.files().first().cloned().unwrap_or_default())
}

fn child<F: ReadAt>(
    parent: &VhdxReader<F>,
    files: &[PathBuf],
    patches: &[(u64, &[u8])],
    options: &SuspendOptions,
    file: &std::fs::File,
) -> Result<(), RecoverError> {
    let identity = parent.identity();
    let name = files.first().and_then(|path| path.file_name()).and_then(|name| name.to_str());
    let Some(name) = name else {
        return Err(not_suspendable("the name of the disk is no Unicode text, and a child must state it"));
    };
    let mut locator = ParentLocator::new(parent.header().data_write_guid)
        .with_linkage2(lifeboat_vhdx::Guid::ZERO)
        .with_relative_path(&format!(".\\{name}"));
    if let Some(absolute) = files.first().and_then(|path| windows_path(path)) {
        locator = locator.with_absolute_path(&absolute);
    }
    let ids = NewDiskIds { virtual_disk_id: identity.virtual_disk_id, ..disk_ids(&options.random_ids) };
    let mut vhdx =
        VhdxOptions::new(NewDiskKind::Differencing(locator), parent.geometry().virtual_size_bytes(), ids);
    vhdx.logical_sector_bytes = identity.logical_sector_bytes;
    vhdx.physical_sector_bytes = identity.physical_sector_bytes;
    let port = file.try_clone().map_err(RecoverError::file(&options.output, "written"))?;
    let mut writer = VhdxWriter::create(Port::direct(port), vhdx).map_err(vhdx_error(&options.output))?;
    for (offset, bytes) in patches {
        writer.write_at(*offset, bytes).map_err(vhdx_error(&options.output))?;
    }
    writer.finish().map_err(vhdx_error(&options.output))?;
    Ok(())
}

/// The absolute path as Windows writes it; none elsewhere, where it would lead nowhere.
fn windows_path(path: &Path) -> Option<String> {
    let path = cfg!(windows).then(|| path.canonicalize().ok()).flatten()?;
    let text = path.to_str()?;
    Some(text.strip_prefix(r"\\?\").unwrap_or(text).to_owned())
}
