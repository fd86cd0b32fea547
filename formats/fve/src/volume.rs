//! A BitLocker volume on a medium: finding its metadata, choosing a copy, opening it.
//!
//! Joins the pure parts of the crate over a small reading port, [`ReadAt`]; what opens becomes a
//! [`DecryptedVolume`](crate::DecryptedVolume).
//!
//! Deliberately never writes, and reads nothing but sector 0, metadata and encrypt-on-write blocks.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use zerocopy::FromBytes;

use crate::authenticate::Authentication;
use crate::boot_sector::{BootSector, VolumeFormat};
use crate::decrypt::DecryptedVolume;
use crate::eow::{EowBitmap, EowInformation};
use crate::error::{Corruption, Error, ReadError};
use crate::layout::{
    BOOT_SECTOR_BYTES, FVE_SIGNATURE, MAX_EOW_BITMAP_BYTES, MAX_EOW_INFORMATION_BYTES, METADATA_REGION_BYTES,
    RawInformation,
};
use crate::map::{EowState, VolumeMap};
use crate::metadata::{ConversionState, Metadata};
use crate::secret::Vmk;
use crate::unlock::{Credential, Unlocked, VolumeKey};

/// Positioned reading of a medium.
pub trait ReadAt {
    /// Returns the size of the medium in bytes.
    fn size_bytes(&self) -> u64;

    /// Reads at `offset` into `buffer` and returns the bytes read: fewer than asked only at the end of the medium.
    ///
    /// # Errors
    /// Whatever the medium reports.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError>;
}

impl ReadAt for [u8] {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let length = buffer.len().min(self.len() - start);
        buffer[..length].copy_from_slice(&self[start..start + length]);
        Ok(length)
    }
}

impl ReadAt for Vec<u8> {
    fn size_bytes(&self) -> u64 {
        self.as_slice().size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        self.as_slice().read_at(offset, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size_bytes(&self) -> u64 {
        (**self).size_bytes()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
        (**self).read_at(offset, buffer)
    }
}

/// What became of one metadata copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyStatus {
    /// Whole; its checksum matches.
    Good,
    /// Whole, but its bytes differ from the first good copy.
    Differs,
    /// Damaged.
    Corrupt(Corruption),
    /// The medium could not be read there.
    Unreadable(String),
}

impl fmt::Display for CopyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Differs => f.write_str("good, but different from the first good copy"),
            Self::Corrupt(corruption) => corruption.fmt(f),
            Self::Unreadable(reason) => write!(f, "unreadable: {reason}"),
        }
    }
}

/// Place and status of one metadata copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyReport {
    /// Where it should lie.
    pub offset: u64,
    /// What became of it.
    pub status: CopyStatus,
}

impl CopyReport {
    /// Tells whether the copy is whole.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self.status, CopyStatus::Good | CopyStatus::Differs)
    }
}

/// State of a volume in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeState {
    /// Encrypted and protected.
    Encrypted,
    /// Metadata present, nothing encrypted.
    Decrypted,
    /// Partly encrypted.
    Converting,
    /// Encrypted, but a clear key stands open.
    Suspended,
}

impl VolumeState {
    /// Returns the stable name used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Decrypted => "decrypted",
            Self::Converting => "converting",
            Self::Suspended => "suspended",
        }
    }
}

/// A BitLocker volume.
pub struct Volume<R> {
    reader: R,
    boot: BootSector,
    copies: Vec<CopyReport>,
    /// Good copies that differ from each other, in the order found; at least one.
    metadata: Vec<Metadata>,
}

/// A volume opened by a credential: the keys and how far the metadata is proved.
pub struct OpenedVolume<'a> {
    /// The metadata that was chosen among the copies.
    pub metadata: &'a Metadata,
    /// The protector that opened, and the volume master key.
    pub unlocked: Unlocked,
    /// Whether the metadata is genuine.
    pub authentication: Authentication,
    /// The volume key; none on a decrypted volume.
    pub volume_key: Option<VolumeKey>,
}

impl<R: ReadAt> Volume<R> {
    /// Opens a volume: reads sector 0 and all metadata copies.
    ///
    /// # Errors
    /// [`Error::NotBitLocker`], [`Error::NoUsableMetadata`] with the report of each copy, [`Error::Read`] when sector
    /// 0 cannot be read.
    pub fn open(reader: R) -> Result<Self, Error> {
        Self::open_at(reader, &[])
    }

    /// Opens a volume as [`Volume::open`] and looks for metadata copies at `places` too, as [`find_metadata`] finds
    /// them: a Vista sector 0 names only one copy. At most [`MAX_COPY_PLACES`] places are tried.
    ///
    /// # Errors
    /// As [`Volume::open`].
    pub fn open_at(reader: R, places: &[u64]) -> Result<Self, Error> {
        let sector =
            read_up_to(&reader, 0, BOOT_SECTOR_BYTES).map_err(|source| Error::Read { offset: 0, source })?;
        let boot = BootSector::parse(&sector)?;
        let mut volume = Self { reader, boot, copies: Vec::new(), metadata: Vec::new() };
        let mut offsets = volume.boot.metadata_offsets.clone();
        let extend = |offsets: &mut Vec<u64>, places: &[u64]| {
            for &place in places {
                if place > 0 && offsets.len() < MAX_COPY_PLACES && !offsets.contains(&place) {
                    offsets.push(place);
                }
            }
        };
        extend(&mut offsets, places);
        let mut next = 0;
        while let Some(&offset) = offsets.get(next) {
            next += 1;
            // A good copy's own table may know more than sector 0. As long as there is none, that of a damaged one is a
            // hint: a copy found there proves itself.
            let hints = volume.load_copy(offset);
            let good = volume.copies.last().is_some_and(CopyReport::is_good);
            if good || volume.metadata.is_empty() {
                extend(&mut offsets, &hints);
            }
        }
        if volume.metadata.is_empty() {
            return Err(Error::NoUsableMetadata { copies: volume.copies });
        }
        Ok(volume)
    }

    /// Opens a volume whose own sector 0 or metadata is destroyed, with captured ones. They are candidates: nothing but
    /// a volume key that [opens a known sector](DecryptedVolume::prove) tells which of them, if any, is of this volume.
    ///
    /// # Errors
    /// As [`BootSector::parse`]; [`Error::NoUsableMetadata`] without a candidate.
    pub fn open_with(reader: R, boot_sector: &[u8], candidates: Vec<Metadata>) -> Result<Self, Error> {
        let boot = BootSector::parse(boot_sector)?;
        if candidates.is_empty() {
            return Err(Error::NoUsableMetadata { copies: Vec::new() });
        }
        Ok(Self { reader, boot, copies: Vec::new(), metadata: candidates })
    }

    /// Loads one copy and returns the places that its table names, right or wrong.
    fn load_copy(&mut self, offset: u64) -> Vec<u64> {
        let mut hints = Vec::new();
        let status = match self.read_copy(offset) {
            Ok(region) => {
                if let Ok((raw, _)) = RawInformation::read_from_prefix(&region)
                    && raw.signature == FVE_SIGNATURE
                {
                    hints.extend(raw.metadata_offsets.iter().map(|place| place.get()));
                }
                match Metadata::parse(&region) {
                    Ok(metadata) if metadata.is_at(offset) => self.keep(metadata),
                    Ok(_) => CopyStatus::Corrupt(Corruption::Misplaced { position: offset }),
                    Err(corruption) => CopyStatus::Corrupt(corruption),
                }
            }
            Err(status) => status,
        };
        self.copies.push(CopyReport { offset, status });
        hints
    }

    /// Keeps a good copy if it is unlike those known.
    fn keep(&mut self, metadata: Metadata) -> CopyStatus {
        let known = self.metadata.iter().position(|known| {
            known.information() == metadata.information() && known.validation == metadata.validation
        });
        if known.is_none() {
            self.metadata.push(metadata);
        }
        if known == Some(0) || self.metadata.len() == 1 { CopyStatus::Good } else { CopyStatus::Differs }
    }

    fn read_copy(&self, offset: u64) -> Result<Vec<u8>, CopyStatus> {
        let medium_length = self.reader.size_bytes();
        if offset >= medium_length {
            let corruption = Corruption::BehindEnd { what: "the metadata copy", offset, medium_length };
            return Err(CopyStatus::Corrupt(corruption));
        }
        read_up_to(&self.reader, offset, METADATA_REGION_BYTES as usize)
            .map_err(|error| CopyStatus::Unreadable(error.to_string()))
    }

    /// Returns the medium.
    #[must_use]
    pub fn reader(&self) -> &R {
        &self.reader
    }

    /// Returns what sector 0 says.
    #[must_use]
    pub fn boot_sector(&self) -> &BootSector {
        &self.boot
    }

    /// Returns the report of each metadata copy; empty with captured metadata.
    #[must_use]
    pub fn copies(&self) -> &[CopyReport] {
        &self.copies
    }

    /// Returns how many copies have a correct checksum.
    #[must_use]
    pub fn good_copies(&self) -> usize {
        self.copies
            .iter()
            .filter(|copy| matches!(copy.status, CopyStatus::Good | CopyStatus::Differs))
            .count()
    }

    /// Returns the metadata of the first good copy.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata[0]
    }

    /// Returns every distinct good copy; more than one is a finding.
    #[must_use]
    pub fn distinct_metadata(&self) -> &[Metadata] {
        &self.metadata
    }

    /// Returns the state of the volume in one word.
    #[must_use]
    pub fn state(&self) -> VolumeState {
        let metadata = self.metadata();
        if metadata.current_state == ConversionState::DECRYPTED {
            VolumeState::Decrypted
        } else if self.boot.format == VolumeFormat::EncryptOnWrite
            || metadata.current_state != ConversionState::ENCRYPTED
            || metadata.next_state != ConversionState::ENCRYPTED
        {
            VolumeState::Converting
        } else if metadata.has_clear_key() {
            VolumeState::Suspended
        } else {
            VolumeState::Encrypted
        }
    }

    /// Tries a credential on every BitLocker protector of its kind, in every distinct metadata copy.
    ///
    /// # Errors
    /// The error of the first copy when none opens: [`Error::NotOpened`], [`Error::NoMatchingProtector`].
    pub fn unlock(&self, credential: &Credential) -> Result<OpenedVolume<'_>, Error> {
        let mut first_error = None;
        for metadata in &self.metadata {
            match metadata.unlock(credential) {
                Ok(unlocked) => return self.accept(unlocked),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(Error::NoUsableMetadata { copies: self.copies.clone() }))
    }

    /// Takes an opened protector and chooses the copy that its VMK authenticates.
    ///
    /// # Errors
    /// As [`Metadata::volume_key`].
    pub fn accept(&self, unlocked: Unlocked) -> Result<OpenedVolume<'_>, Error> {
        let vmk: &Vmk = &unlocked.vmk;
        let rank = |metadata: &&Metadata| {
            let authentication = metadata.authenticate(vmk);
            (authentication.is_refuted(), !authentication.is_proof())
        };
        // `min_by_key` keeps the first of equals, so an undamaged volume uses its first copy.
        let metadata = self.metadata.iter().min_by_key(rank).unwrap_or(&self.metadata[0]);
        let volume_key = match metadata.current_state {
            ConversionState::DECRYPTED => None,
            _ => Some(metadata.volume_key(vmk)?),
        };
        Ok(OpenedVolume { authentication: metadata.authenticate(vmk), metadata, volume_key, unlocked })
    }

    /// Builds the map of the volume for one of its metadata copies or a captured one; reads encrypt-on-write blocks.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when offsets lie, or the conversion state of an encrypt-on-write volume is unreadable:
    /// taking everything as encrypted would return garbage.
    pub fn map(&self, metadata: &Metadata) -> Result<VolumeMap, Error> {
        let eow = match self.boot.eow_offsets {
            Some(offsets) => match self.read_eow(offsets) {
                Ok(eow) => Some(eow),
                Err(_) if metadata.current_state == ConversionState::DECRYPTED => None,
                Err(error) => return Err(error),
            },
            None => None,
        };
        Ok(VolumeMap::new(&self.boot, metadata, eow)?)
    }

    fn read_eow(&self, offsets: [u64; 2]) -> Result<EowState, Error> {
        let information = offsets
            .into_iter()
            .find_map(|offset| {
                let bytes = read_up_to(&self.reader, offset, MAX_EOW_INFORMATION_BYTES).ok()?;
                EowInformation::parse(&bytes).ok()
            })
            .ok_or(Corruption::NoEowInformation)?;
        let mut bitmaps = Vec::new();
        let mut memory = 0;
        for &offset in &information.bitmap_offsets {
            let bytes = read_up_to(&self.reader, offset, MAX_EOW_BITMAP_BYTES)
                .map_err(|source| Error::Read { offset, source })?;
            let bitmap = EowBitmap::parse(&bytes, information.chunk_size_bytes)?;
            memory += bitmap.memory_bytes();
            if memory > MAX_EOW_MEMORY_BYTES {
                return Err(Error::Corrupt(Corruption::OutOfRange {
                    what: "the size of all bitmaps",
                    value: memory as u64,
                    min: 0,
                    max: MAX_EOW_MEMORY_BYTES as u64,
                }));
            }
            bitmaps.push(bitmap);
        }
        Ok(EowState { information, bitmaps })
    }

    /// Opens the plain volume for reading. `key` is needed unless the volume is decrypted.
    ///
    /// # Errors
    /// As [`Volume::map`]; [`Error::UnsupportedMethod`] and [`Error::VolumeKeyLength`] from the cipher.
    pub fn decrypt(
        &self,
        metadata: &Metadata,
        key: Option<&VolumeKey>,
    ) -> Result<DecryptedVolume<&R>, Error> {
        DecryptedVolume::new(&self.reader, self.map(metadata)?, key)
    }
}

/// Places where a metadata copy is looked for at most: three that sector 0 names, three more from a copy's own table, and
/// as many again that were found by looking. Keeps a chain of lying tables short.
pub const MAX_COPY_PLACES: usize = 12;

/// Bitmaps kept in memory at most: one bit per 8 MiB chunk makes 16 MiB enough for an exbibyte.
const MAX_EOW_MEMORY_BYTES: usize = 16 << 20;

/// Reads up to `length` bytes: fewer at the end of the medium.
fn read_up_to(reader: &impl ReadAt, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
    let left = reader.size_bytes().saturating_sub(offset);
    let mut bytes = alloc::vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
    let have = reader.read_at(offset, &mut bytes)?;
    bytes.truncate(have);
    Ok(bytes)
}

/// Finds places in a stretch of the medium where a metadata copy may start, for volumes without a usable sector 0.
///
/// `offset` is where `bytes` lie on the volume; both should be multiples of the sector size. Sector 0 itself, which
/// has its signature elsewhere, is not reported.
pub fn find_metadata(offset: u64, bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes
        .chunks(BOOT_SECTOR_BYTES)
        .enumerate()
        .filter(|(_, sector)| sector.starts_with(&FVE_SIGNATURE))
        .map(move |(index, _)| offset + (index * BOOT_SECTOR_BYTES) as u64)
}
