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
}

impl FveCapture {
    /// Reads a volume: at most twelve regions, some 800 KiB; 224 KiB as a rule.
    ///
    /// # Errors
    /// [`DiskError::Read`] when the start of the volume cannot be read. Damaged or unreadable regions are kept as
    /// what they are.
    pub fn read<D: ReadAt>(volume: &VolumeReader<D>) -> Result<Self, DiskError> {
        let head = volume.read_up_to(0, HEAD_BYTES)?;
        let region_bytes = fve::layout::METADATA_REGION_BYTES as usize;
        let region = |report: &fve::CopyReport| FveRegion {
            offset: report.offset,
            status: report.status.clone(),
            bytes: volume.read_up_to(report.offset, region_bytes).unwrap_or_default(),
        };
        match fve::Volume::open(volume) {
            Ok(opened) => {
                let metadata = opened.metadata();
                let relocated = (metadata.version != fve::layout::VERSION_VISTA
                    && metadata.virtualized_sectors > 0)
                    .then(|| {
                        let offset = metadata.virtualized_block;
                        let bytes = volume.read_up_to(offset, HEAD_BYTES).unwrap_or_default();
                        (offset, bytes)
                    })
                    .filter(|(_, bytes)| !bytes.is_empty());
                Ok(Self { head, regions: opened.copies().iter().map(region).collect(), relocated })
            }
            Err(fve::Error::NoUsableMetadata { copies }) => {
                Ok(Self { head, regions: copies.iter().map(region).collect(), relocated: None })
            }
            Err(_) => Ok(Self { head, regions: Vec::new(), relocated: None }),
        }
    }

    /// Returns the first good region.
    #[must_use]
    pub fn good_region(&self) -> Option<&FveRegion> {
        self.regions.iter().find(|region| region.is_good())
    }
}
