//! What a backup keeps of a BitLocker volume: its head, every metadata region, and the relocated boot sectors.
//!
//! Enough to unlock with any key of that time, to prove that a key reaches data, and to replace destroyed copies.
//! Deliberately parts nothing: FVE metadata in which a clear key stands is a recovery secret, and so is what does not parse.

use lifeboat_fve as fve;
use lifeboat_vhdx::ReadAt;

use crate::error::DiskError;
use crate::volume::VolumeReader;

/// Bytes kept of the start of a volume, and of the relocated sectors.
pub const HEAD_BYTES: usize = 16 << 10;

const REGION_BYTES: usize = fve::layout::METADATA_REGION_BYTES as usize;

/// One metadata region as it lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FveRegion {
    /// Offset on the volume, in bytes.
    pub offset: u64,
    /// What became of it.
    pub status: fve::CopyStatus,
    /// The bytes; fewer than 64 KiB where the disk ends, none where it cannot be read.
    pub bytes: Vec<u8>,
}

impl FveRegion {
    /// Tells whether the copy is whole.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.status, fve::CopyStatus::Good | fve::CopyStatus::Differs)
    }
}

/// What a backup keeps of a BitLocker volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FveCapture {
    /// The first 16 KiB of the volume.
    pub head: Vec<u8>,
    /// Every metadata region that sector 0 or another region names, good or not.
    pub regions: Vec<FveRegion>,
    /// Where the relocated boot sectors lie, and up to 16 KiB of them, encrypted as they are.
    pub relocated: Option<(u64, Vec<u8>)>,
    /// Places on the volume that should be here and could not be read, and why.
    pub unreadable: Vec<(u64, String)>,
}

impl FveCapture {
    /// Reads a volume: at most twelve regions, some 800 KiB; 224 KiB as a rule.
    ///
    /// # Errors
    /// [`DiskError::Read`] when the start of the volume cannot be read. Of the rest, what is damaged is kept as it is, and
    /// what cannot be read is named in [`FveCapture::unreadable`].
    pub fn read<D: ReadAt>(volume: &VolumeReader<D>) -> Result<Self, DiskError> {
        let head = volume.read_up_to(0, HEAD_BYTES)?;
        let mut capture = Self { head, regions: Vec::new(), relocated: None, unreadable: Vec::new() };
        let (copies, relocated) = match fve::Volume::open(volume) {
            Ok(opened) => {
                let metadata = opened.metadata();
                let has_relocated =
                    metadata.version != fve::layout::VERSION_VISTA && metadata.virtualized_sectors > 0;
                (opened.copies().to_vec(), has_relocated.then_some(metadata.virtualized_block))
            }
            Err(fve::Error::NoUsableMetadata { copies }) => (copies, None),
            Err(fve::Error::Read { offset, source }) => {
                capture.unreadable.push((offset, source.to_string()));
                (Vec::new(), None)
            }
            // Sector 0 names no metadata: the head is all that there is to keep.
            Err(_) => (Vec::new(), None),
        };
        for copy in copies {
            let mut status = copy.status;
            let bytes = match (&status, volume.read_up_to(copy.offset, REGION_BYTES)) {
                (fve::CopyStatus::Unreadable(why), _) => {
                    capture.unreadable.push((copy.offset, why.clone()));
                    Vec::new()
                }
                (_, Ok(bytes)) => bytes,
                (_, Err(error)) => {
                    // It could be read a moment ago.
                    capture.unreadable.push((copy.offset, error.to_string()));
                    status = fve::CopyStatus::Unreadable(error.to_string());
                    Vec::new()
                }
            };
            capture.regions.push(FveRegion { offset: copy.offset, status, bytes });
        }
        if let Some(offset) = relocated {
            match volume.read_up_to(offset, HEAD_BYTES) {
                Ok(bytes) => capture.relocated = Some((offset, bytes)).filter(|(_, bytes)| !bytes.is_empty()),
                Err(error) => capture.unreadable.push((offset, error.to_string())),
            }
        }
        Ok(capture)
    }

    /// Returns the first good region.
    #[must_use]
    pub fn good_region(&self) -> Option<&FveRegion> {
        self.regions.iter().find(|region| region.is_good())
    }
}
