//! What was captured of one generation of a volume: its metadata, and the encrypted sectors beside it.

use lifeboat_disk_head::{DiskHead, PieceName};
use lifeboat_fve::{self as fve, Metadata, ReadAt, ReadError, SectorCipher, VolumeKey};
use lifeboat_schema::Digest;

/// Sector sizes that BitLocker has, the usual first.
const SECTOR_SIZES: [u32; 2] = [512, 4096];

/// One generation of a volume as a snapshot captured it.
pub struct Captured {
    /// Its metadata.
    pub metadata: Metadata,
    /// The same metadata over the captured sectors; none where the captured first sector cannot be used.
    volume: Option<fve::Volume<Sectors>>,
    /// Relocated boot sectors, encrypted, with their place on the volume.
    relocated: Vec<(u64, Vec<u8>)>,
}

/// Why a generation cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// No captured region has the digest that names the generation.
    #[error(
        "no captured metadata region has the digest {0}: a clear key stands in it that only the escrow identity reads, or it was not kept"
    )]
    NoRegion(Digest),
    /// The region is damaged, as it was on the disk.
    #[error("the metadata was damaged when it was captured: {0}")]
    Damaged(fve::Corruption),
}

impl Captured {
    /// Takes a generation out of the captured heads of its disk: that for all, and that for escrow alone where there is
    /// one. `volume` is where the volume begins on the disk, `metadata` the digest of the region that is meant.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn new(
        heads: &[DiskHead],
        volume: u64,
        size_bytes: u64,
        metadata: &Digest,
    ) -> Result<Self, Unusable> {
        let region = heads
            .iter()
            .flat_map(|head| head.fve_metadata(volume))
            .map(|(_, bytes)| bytes)
            .find(|bytes| Digest::of(bytes) == *metadata)
            .ok_or(Unusable::NoRegion(*metadata))?;
        let parse = || Metadata::parse(region).map_err(Unusable::Damaged);
        let (mut sectors, mut relocated) = (Sectors { size_bytes, pieces: Vec::new() }, Vec::new());
        let mut first_sector = None;
        // The secret head first: what it holds is whole, where the other is blanked.
        for piece in heads.iter().rev().flat_map(|head| &head.pieces) {
            match piece.name {
                PieceName::VolumeHead { volume: of } if of == volume => {
                    first_sector.get_or_insert(&piece.bytes);
                    sectors.pieces.push((0, piece.bytes.clone()));
                }
                PieceName::RelocatedSectors { volume: of, offset } if of == volume => {
                    sectors.pieces.push((offset, piece.bytes.clone()));
                    relocated.push((offset, piece.bytes.clone()));
                }
                _ => {}
            }
        }
        let volume = match first_sector {
            Some(sector) => fve::Volume::open_with(sectors, sector, vec![parse()?]).ok(),
            None => None,
        };
        Ok(Self { metadata: parse()?, volume, relocated })
    }

    /// Tells whether a volume key turns a captured sector into something known.
    #[must_use]
    pub fn is_opened_by(&self, key: &VolumeKey) -> bool {
        let of_volume = self.volume.as_ref().is_some_and(|volume| {
            volume.decrypt(&self.metadata, Some(key)).and_then(|plain| plain.prove()).is_ok()
        });
        // A volume under conversion has no map without what was not captured, and its boot sectors all the same.
        of_volume || self.relocated.iter().any(|(offset, bytes)| is_boot_sector(key, *offset, bytes))
    }

    /// Tells whether a sector was captured that a key can be proved on.
    #[must_use]
    pub fn has_witness(&self) -> bool {
        !self.relocated.is_empty()
    }
}

fn is_boot_sector(key: &VolumeKey, offset: u64, bytes: &[u8]) -> bool {
    SECTOR_SIZES.into_iter().any(|size| {
        let whole = bytes.len() - bytes.len() % size as usize;
        SectorCipher::new(key, size)
            .and_then(|cipher| fve::prove_boot_sectors(&cipher, offset, &bytes[..whole]))
            .is_ok()
    })
}

/// A medium of which only some pieces are there.
struct Sectors {
    size_bytes: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl ReadAt for Sectors {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        for (start, bytes) in &self.pieces {
            let from = offset.checked_sub(*start).and_then(|from| usize::try_from(from).ok());
            let part = from.and_then(|from| bytes.get(from..from.checked_add(buffer.len())?));
            if let Some(part) = part {
                buffer.copy_from_slice(part);
                return Ok(buffer.len());
            }
        }
        Err("it was not captured".into())
    }
}
