//! Source disks and their BitLocker volumes, before any key.

use std::path::{Path, PathBuf};

use lifeboat_disk::{
    DiskError, DiskLayout, DiskVolume, FveCapture, ImageFile, LocalFiles, ParentSearch, ReadAt, VirtualDisk,
    VolumeReader, open_disk,
};
use lifeboat_fve as fve;
use zeroize::Zeroizing;

use crate::unlock::Opened;

/// An opened disk image with its layout.
#[derive(Debug)]
pub struct SourceDisk<F> {
    /// The file that was named.
    pub path: PathBuf,
    /// The disk.
    pub disk: VirtualDisk<F>,
    /// Its volumes.
    pub layout: DiskLayout,
}

impl SourceDisk<ImageFile> {
    /// Opens an image file of this machine, read-only, with its parents.
    ///
    /// # Errors
    /// As [`open_disk`] and [`DiskLayout::read`].
    pub fn open(path: &Path, search: &ParentSearch) -> Result<Self, DiskError> {
        Self::new(path, open_disk(&LocalFiles, path, search)?)
    }
}

impl<F: ReadAt> SourceDisk<F> {
    /// Takes an opened disk.
    ///
    /// # Errors
    /// As [`DiskLayout::read`].
    pub fn new(path: &Path, disk: VirtualDisk<F>) -> Result<Self, DiskError> {
        let layout = DiskLayout::read(&disk)?;
        Ok(Self { path: path.to_owned(), disk, layout })
    }

    /// Returns a digest that changes with the disk: the ids of every image of the chain, and length, last change and,
    /// where the image has no id, name of its file.
    pub(crate) fn state(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("Lifeboat 2026 recover: the state of a disk");
        hasher.update(&self.disk.size_bytes().to_le_bytes());
        for image in self.disk.vhdx_files() {
            let header = image.header();
            hasher.update(image.identity().virtual_disk_id.to_bytes().as_slice());
            hasher.update(header.file_write_guid.to_bytes().as_slice());
            hasher.update(header.data_write_guid.to_bytes().as_slice());
        }
        for image in self.disk.vhd_files() {
            hasher.update(&image.identity().id.0);
        }
        let has_ids = !(self.disk.vhdx_files().is_empty() && self.disk.vhd_files().is_empty());
        for path in self.disk.files() {
            if !has_ids {
                let path = path.canonicalize().unwrap_or_else(|_| path.clone());
                let name = path.as_os_str().as_encoded_bytes();
                hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
            }
            // A device states neither; ids and keys must do.
            let Ok(metadata) = path.metadata() else { continue };
            hasher.update(&metadata.len().to_le_bytes());
            if metadata.is_file()
                && let Ok(changed) = metadata.modified()
                && let Ok(since) = changed.duration_since(std::time::UNIX_EPOCH)
            {
                hasher.update(&since.as_nanos().to_le_bytes());
            }
        }
        hasher.finalize().into()
    }
}

/// Which volume: of which disk, with which number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumePlace {
    /// Index of the disk among those given, from 0.
    pub disk: usize,
    /// Number of the volume on that disk, from 1.
    pub number: u32,
}

/// Bytes of a volume that are searched at once.
const SEARCH_BYTES: usize = 1 << 20;
/// Different metadata regions that a search keeps: three copies, and some that differ.
const MAX_FOUND_REGIONS: usize = 12;

/// Fills a buffer; pages that cannot be read are zeros.
fn read_around<D: ReadAt>(reader: &VolumeReader<D>, offset: u64, buffer: &mut [u8]) {
    const PAGE_BYTES: usize = 4096;
    if ReadAt::read_exact_at(reader, offset, buffer).is_ok() {
        return;
    }
    for (page, start) in buffer.chunks_mut(PAGE_BYTES).zip((offset..).step_by(PAGE_BYTES)) {
        if ReadAt::read_exact_at(reader, start, page).is_err() {
            page.fill(0);
        }
    }
}

/// Makes the first sector that metadata of Windows 7 and later belongs to, for a volume that lost its own.
fn head_for(metadata: &fve::Metadata) -> Vec<u8> {
    const METADATA_PLACES: usize = 160;
    let mut head = vec![0; 512];
    // Windows relocates 8 KiB: 16 sectors of 512 bytes, or two of 4096.
    let sector_bytes: u16 = if metadata.virtualized_sectors == 2 { 4096 } else { 512 };
    head[3..11].copy_from_slice(&fve::layout::FVE_SIGNATURE);
    head[11..13].copy_from_slice(&sector_bytes.to_le_bytes());
    head[13] = 8;
    head[METADATA_PLACES..METADATA_PLACES + 16].copy_from_slice(&fve::layout::INFORMATION_OFFSET_GUID);
    for (place, offset) in head[METADATA_PLACES + 16..].chunks_mut(8).zip(metadata.metadata_offsets) {
        place.copy_from_slice(&offset.to_le_bytes());
    }
    head
}

/// Metadata of a volume from elsewhere: a capture in a backup replaces destroyed copies on the disk.
#[derive(Default)]
pub struct CapturedMetadata {
    /// The first sector of the volume, when known.
    pub head: Vec<u8>,
    /// Metadata regions, of one or more generations, the best first. A clear key may stand in one: they are wiped.
    pub regions: Vec<Zeroizing<Vec<u8>>>,
}

impl CapturedMetadata {
    /// Takes what a backup captured.
    #[must_use]
    pub fn of(capture: &FveCapture) -> Self {
        let regions = capture.regions.iter().filter(|region| region.is_good());
        Self {
            head: capture.head.clone(),
            regions: regions.map(|region| Zeroizing::new(region.bytes.clone())).collect(),
        }
    }

    /// Searches a volume for metadata copies, for one whose first sector is destroyed: reads until three places with
    /// whole copies were found, or to the end. `advanced` is told the bytes read. What cannot be read is passed over.
    #[must_use]
    pub fn search<F: ReadAt>(
        source: &SourceDisk<F>,
        volume: &DiskVolume,
        mut advanced: impl FnMut(u64),
    ) -> Self {
        let reader = volume.reader(&source.disk);
        let size = ReadAt::size_bytes(&reader);
        let (mut found, mut places) = (Self::default(), 0);
        for start in (0..size).step_by(SEARCH_BYTES) {
            let length = (size - start).min(SEARCH_BYTES as u64);
            let mut bytes = vec![0; length as usize];
            read_around(&reader, start, &mut bytes);
            for place in fve::find_metadata(start, &bytes) {
                let region = reader.read_up_to(place, fve::layout::METADATA_REGION_BYTES as usize);
                let Ok(region) = region.map(Zeroizing::new) else { continue };
                if fve::Metadata::parse(&region).is_ok_and(|metadata| metadata.is_at(place)) {
                    places += 1;
                    if !found.regions.contains(&region) && found.regions.len() < MAX_FOUND_REGIONS {
                        found.regions.push(region);
                    }
                }
            }
            advanced(length);
            if places >= fve::layout::METADATA_COPIES {
                break;
            }
        }
        found
    }

    /// Parses the regions, those first that may belong to the volume with this first sector and size.
    fn candidates(&self, own_head: &[u8], size_bytes: u64) -> Vec<fve::Metadata> {
        let own_places = fve::BootSector::parse(own_head).map(|boot| boot.metadata_offsets).ok();
        let mut candidates = self.generations();
        // Nothing is left out: only a volume key tells for certain.
        candidates.sort_by_key(|metadata| {
            let is_elsewhere = own_places.as_ref().is_some_and(|places| {
                !metadata.metadata_offsets.iter().any(|offset| places.contains(offset))
            });
            let is_behind = metadata.metadata_offsets.iter().any(|&offset| offset >= size_bytes);
            (is_elsewhere, is_behind)
        });
        candidates
    }

    /// Parses the regions; damaged ones are left out.
    #[must_use]
    pub fn generations(&self) -> Vec<fve::Metadata> {
        self.regions.iter().filter_map(|region| fve::Metadata::parse(region).ok()).collect()
    }
}

/// A BitLocker volume on a disk, locked.
pub struct LockedVolume<'d, F> {
    /// Which one.
    pub place: VolumePlace,
    /// Where it lies.
    pub volume: &'d DiskVolume,
    /// The disk that it lies on.
    pub source: &'d SourceDisk<F>,
    /// Whether the metadata comes from a capture, because all copies on the disk are destroyed. Then it is that of a
    /// candidate until a key is proved on data.
    pub uses_capture: bool,
    fve: fve::Volume<VolumeReader<&'d VirtualDisk<F>>>,
}

impl<'d, F: ReadAt> LockedVolume<'d, F> {
    /// Opens the metadata of a volume; where no copy on the disk can be used, that of a capture.
    ///
    /// # Errors
    /// As [`fve::Volume::open`].
    pub fn open(
        source: &'d SourceDisk<F>,
        disk: usize,
        volume: &'d DiskVolume,
        captured: Option<&CapturedMetadata>,
    ) -> Result<Self, fve::Error> {
        let place = VolumePlace { disk, number: volume.number };
        let reader = || volume.reader(&source.disk);
        let (fve, uses_capture) = match (fve::Volume::open(reader()), captured) {
            (Ok(fve), _) => (fve, false),
            (Err(error), Some(captured)) => {
                let own_head = reader().read_up_to(0, 512).unwrap_or_default();
                let candidates = captured.candidates(&own_head, volume.size_bytes);
                let Some(first) = candidates.first() else { return Err(error) };
                let heads = [own_head, captured.head.clone(), head_for(first)];
                let head = heads.into_iter().find(|head| fve::BootSector::parse(head).is_ok());
                let Some(head) = head else { return Err(error) };
                (fve::Volume::open_with(reader(), &head, candidates)?, true)
            }
            (Err(error), None) => return Err(error),
        };
        Ok(Self { place, volume, source, uses_capture, fve })
    }

    /// Returns the volume for the format crate.
    #[must_use]
    pub fn fve(&self) -> &fve::Volume<VolumeReader<&'d VirtualDisk<F>>> {
        &self.fve
    }

    /// Tells whether the volume is known to hold nothing encrypted, so that no key is needed.
    #[must_use]
    pub fn is_decrypted(&self) -> bool {
        // Captured metadata says nothing of this disk before a key is proved.
        self.fve.state() == fve::VolumeState::Decrypted && !self.uses_capture
    }

    /// Returns the metadata that counts once the volume was opened.
    #[must_use]
    pub fn metadata_of(&self, opened: &Opened) -> &fve::Metadata {
        self.fve.distinct_metadata().get(opened.metadata_index).unwrap_or(self.fve.metadata())
    }

    /// Returns the bytes that the volume should have, by partition table or metadata, whichever says more.
    #[must_use]
    pub fn stated_bytes(&self) -> u64 {
        let metadata = self.fve.metadata();
        let by_metadata = match metadata.current_state {
            fve::ConversionState::ENCRYPTED => metadata.state_offset,
            _ => 0,
        };
        self.volume.size_bytes.max(by_metadata)
    }
}
