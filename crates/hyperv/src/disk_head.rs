//! The head of a virtual disk: what the record tells of it, and the bytes that are kept, sorted by who may read them.
//!
//! For restore and escrow: partition tables, metadata items, the start of encrypted volumes, relocated boot sectors, FVE
//! metadata without keys. For escrow alone: every piece in which a clear key stands or may stand, whole. The two are parted
//! here, before a byte leaves this crate; what cannot be parsed counts as a secret.
//!
//! Deliberately keeps nothing of plain volumes, and reads no more than the answer needs.

use std::path::Path;

use lifeboat_disk::{
    DiskError, DiskLayout, DiskVolume, Encryption, FveCapture, HEAD_BYTES, LocalFiles, ParentSearch,
    PartitionFacts, PortError, ReadAt, VirtualDisk, inspect, open_disk,
};
use lifeboat_disk_head::{DiskHead, Error as HeadError, MAX_PIECE_BYTES, Piece, PieceName};
use lifeboat_fve::{BlankedRegion, BootSector, find_metadata};
use lifeboat_partition::{PartitionTables, Scheme};
use lifeboat_schema::{
    Digest, DiskFileEntry, DiskHeadEntry, DiskItemEntry, PartitionScheme, VolumeHeadEntry, VolumeInfo,
};

/// Most bytes of either end of a disk that are kept as its partition table: 128 entries of 128 bytes and their headers fit
/// four times.
const MAX_TABLE_BYTES: u64 = 64 << 10;
/// Entries of a GPT of usual size, in bytes; where the table itself is lost.
const USUAL_ENTRIES_BYTES: u64 = 16 << 10;
/// Most bytes of metadata items that are kept; Hyper-V writes few, and small ones.
const MAX_ITEMS_BYTES: u64 = 2 << 20;
/// Most items that are listed.
const MAX_ITEMS: usize = 32;
/// Most volumes of which pieces are kept: a disk of more is no machine's.
const MAX_VOLUMES: usize = 32;
/// Bytes of pieces from which on no further volume's are kept: all of a head is in memory, twice for a moment. A volume has
/// 256 KiB as a rule, and twice that while a clear key stands on it.
const MAX_PIECES_BYTES: usize = 8 << 20;

/// Why the head of a disk was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskHeadError {
    /// The disk cannot be opened or read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its pieces make no archive.
    #[error("its head cannot be kept: {0}")]
    Head(#[from] HeadError),
}

impl From<PortError> for DiskHeadError {
    fn from(source: PortError) -> Self {
        Self::Disk(DiskError::Read { source })
    }
}

/// A head that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CapturedHead {
    /// For the record; artefacts have no paths yet.
    pub(crate) entry: DiskHeadEntry,
    /// For restore and escrow, as a tar archive.
    pub(crate) head: Vec<u8>,
    /// For escrow alone, as a tar archive; absent where nothing is a secret.
    pub(crate) secret: Option<Vec<u8>>,
    /// What of the disk is not kept, in words.
    pub(crate) left_out: Option<String>,
}

/// Reads what a capture tells of a disk from a file of this machine; its parents are looked for beside it.
///
/// # Errors
/// [`DiskHeadError`]; what is wrong with a table or a volume is part of the answer.
pub fn read_disk_head(path: &Path) -> Result<DiskHeadEntry, DiskHeadError> {
    let disk = open_disk(&LocalFiles, path, &ParentSearch::default())?;
    Ok(capture(&disk)?.entry)
}

/// Reads the head of a disk.
///
/// # Errors
/// [`DiskHeadError`]; what is wrong with a table or a volume is part of the answer.
pub(crate) fn capture<F: ReadAt>(disk: &VirtualDisk<F>) -> Result<CapturedHead, DiskHeadError> {
    let layout = DiskLayout::read(disk)?;
    let report = inspect(disk, &layout);
    let mut pieces = Pieces::default();
    if let Some(tables) = &layout.tables {
        pieces.take_tables(disk, tables)?;
    }
    let items = pieces.take_items(disk);
    let mut left_out = 0;
    let mut volumes = Vec::with_capacity(layout.volumes.len());
    for (volume, info) in layout.volumes.iter().zip(report.volumes) {
        let is_kept = volumes.len() < MAX_VOLUMES && pieces.bytes() < MAX_PIECES_BYTES;
        let has_pieces = !matches!(volume.encryption, Encryption::None(_));
        left_out += usize::from(has_pieces && !is_kept);
        let fve_metadata = if is_kept { pieces.take_volume(disk, volume)? } else { None };
        volumes.push(volume_entry(volume, info, fve_metadata));
    }
    let entry = DiskHeadEntry {
        container: report.container,
        chain: chain(disk),
        virtual_size_bytes: report.virtual_size_bytes,
        sector_size_bytes: report.sector_size_bytes,
        virtual_disk_id: disk.facts().virtual_disk_id.map(|id| id.to_string()),
        scheme: match layout.tables.as_ref().map(PartitionTables::scheme) {
            Some(Scheme::Gpt) => PartitionScheme::Gpt,
            Some(Scheme::GptLost) => PartitionScheme::GptLost,
            Some(Scheme::Mbr) => PartitionScheme::Mbr,
            _ => PartitionScheme::None,
        },
        gpt_disk_id: layout.gpt_disk_id().map(|id| id.to_string()),
        volumes,
        items,
        artefact: None,
        secret_artefact: None,
    };
    let head = DiskHead { pieces: pieces.shown }.encode()?;
    let secret =
        if pieces.secret.is_empty() { None } else { Some(DiskHead { pieces: pieces.secret }.encode()?) };
    let left_out = (left_out > 0).then(|| {
        format!(
            "it has more encrypted volumes than are kept of one disk; of the last {left_out} nothing is kept, so that \
             no captured metadata helps to open them"
        )
    });
    Ok(CapturedHead { entry, head, secret, left_out })
}

fn chain<F: ReadAt>(disk: &VirtualDisk<F>) -> Vec<DiskFileEntry> {
    let vhdx = disk.vhdx_files().iter().map(|file| (Some(file.identity().data_write_guid.to_string()), None));
    let vhd = disk
        .vhd_files()
        .iter()
        .map(|file| (None, Some(lifeboat_vhdx::Guid::from_bytes(file.identity().id.0).to_string())));
    let mut ids = vhdx.chain(vhd);
    disk.files()
        .iter()
        .map(|path| {
            let (data_write_guid, vhd_id) = ids.next().unwrap_or_default();
            DiskFileEntry { name: file_name(path), data_write_guid, vhd_id }
        })
        .collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn volume_entry(volume: &DiskVolume, info: VolumeInfo, fve_metadata: Option<Digest>) -> VolumeHeadEntry {
    let fact = |read: fn(&PartitionFacts) -> Option<lifeboat_vhdx::Guid>| {
        volume.partition.as_ref().and_then(read).map(|id| id.to_string())
    };
    VolumeHeadEntry {
        number: info.number,
        offset_bytes: info.offset_bytes,
        size_bytes: info.size_bytes,
        partition_id: fact(|facts| facts.id),
        partition_type: fact(|facts| facts.type_id),
        encryption: info.encryption,
        bitlocker: info.bitlocker,
        fve_metadata,
    }
}

/// Pieces, parted by who may read them.
#[derive(Default)]
struct Pieces {
    shown: Vec<Piece>,
    secret: Vec<Piece>,
}

/// Adds a piece; of two at one place, which only overlapping partitions make, the first counts.
fn add(pieces: &mut Vec<Piece>, name: PieceName, bytes: Vec<u8>) {
    if pieces.iter().all(|piece| piece.name != name) {
        pieces.push(Piece { name, bytes });
    }
}

impl Pieces {
    /// Bytes of all pieces.
    fn bytes(&self) -> usize {
        self.shown.iter().chain(&self.secret).map(|piece| piece.bytes.len()).sum()
    }

    /// Takes a piece that should hold no FVE metadata. From where some begins it is for escrow alone.
    fn take_plain(&mut self, name: PieceName, bytes: Vec<u8>, hidden_from: Option<usize>) {
        let signature = find_metadata(0, &bytes).next().and_then(|at| usize::try_from(at).ok());
        let cut = [signature, hidden_from].into_iter().flatten().min().filter(|cut| *cut < bytes.len());
        let mut shown = bytes;
        if let Some(cut) = cut {
            if shown[cut..].iter().any(|&byte| byte != 0) {
                add(&mut self.secret, name.clone(), shown.clone());
            }
            shown[cut..].fill(0);
        }
        if !shown.is_empty() {
            add(&mut self.shown, name, shown);
        }
    }

    /// Takes both copies of a GPT with everything between header and usable sectors, or the MBR.
    fn take_tables<F: ReadAt>(
        &mut self,
        disk: &VirtualDisk<F>,
        tables: &PartitionTables,
    ) -> Result<(), PortError> {
        let (size, sector) = (disk.size_bytes(), u64::from(tables.sector_bytes));
        let at_sector = |lba: u64| lba.saturating_mul(sector).min(size);
        let usual = 2 * sector + USUAL_ENTRIES_BYTES;
        let first = match (tables.scheme(), &tables.primary) {
            (Scheme::None, _) => 0,
            (Scheme::Mbr, _) => sector,
            (_, Ok(primary)) => at_sector(primary.first_usable_lba),
            (_, Err(_)) => usual,
        };
        let last = match (tables.scheme(), &tables.backup) {
            (Scheme::None | Scheme::Mbr, _) => size..size,
            (_, Ok(backup)) => {
                let end = at_sector(backup.lba.saturating_add(1));
                at_sector(backup.last_usable_lba.saturating_add(1)).min(end)..end
            }
            (_, Err(_)) => size.saturating_sub(usual - sector)..size,
        };
        let first = first.min(MAX_TABLE_BYTES).min(size);
        // The header is the last sector of its copy.
        let start = last.start.max(last.end.saturating_sub(MAX_TABLE_BYTES)).max(first);
        for (offset, end) in [(0, first), (start, last.end)] {
            // At most MAX_TABLE_BYTES, so the cast loses nothing.
            let mut bytes = vec![0; end.saturating_sub(offset) as usize];
            if !bytes.is_empty() {
                disk.read_exact_at(offset, &mut bytes)?;
                self.take_plain(PieceName::PartitionTable { offset }, bytes, None);
            }
        }
        Ok(())
    }

    /// Takes metadata items that the specification of VHDX does not have.
    fn take_items<F: ReadAt>(&mut self, disk: &VirtualDisk<F>) -> Vec<DiskItemEntry> {
        let mut left = MAX_ITEMS_BYTES;
        let mut entries: Vec<DiskItemEntry> = Vec::new();
        let Some(file) = disk.vhdx_files().first() else { return entries };
        for item in file.metadata().items().iter().filter(|item| !item.is_known()).take(MAX_ITEMS) {
            let (id, size) = (item.id.to_string(), u64::from(item.length));
            // An id may stand twice: as an item of the format and as one of a user.
            let is_first = entries.iter().all(|entry| entry.id != id);
            let fits = is_first && size <= left && size <= MAX_PIECE_BYTES as u64;
            let bytes = if fits { file.read_item(item).ok() } else { None };
            let digest = bytes.as_deref().map(Digest::of);
            entries.push(DiskItemEntry { id: id.clone(), size, digest });
            if let Some(bytes) = bytes {
                left -= size;
                self.take_plain(PieceName::MetadataItem { id }, bytes, None);
            }
        }
        entries
    }

    /// Takes what is kept of a volume; answers the digest of its FVE metadata.
    fn take_volume<F: ReadAt>(
        &mut self,
        disk: &VirtualDisk<F>,
        volume: &DiskVolume,
    ) -> Result<Option<Digest>, DiskHeadError> {
        let start = volume.offset_bytes;
        let reader = volume.reader(disk);
        match volume.encryption {
            Encryption::None(_) => Ok(None),
            Encryption::BitLocker => Ok(self.take_bitlocker(start, FveCapture::read(&reader)?)),
            // LUKS, and what may be other encryption. A volume whose start cannot be read is listed as unknown.
            _ => {
                if let Ok(head) = reader.read_up_to(0, HEAD_BYTES) {
                    self.take_plain(PieceName::VolumeHead { volume: start }, head, None);
                }
                Ok(None)
            }
        }
    }

    fn take_bitlocker(&mut self, volume: u64, capture: FveCapture) -> Option<Digest> {
        let good = capture.good_region().map(|region| region.offset);
        let FveCapture { head, regions, relocated, .. } = capture;
        // A region of Vista is shorter than what was read for it.
        let region_bytes = BootSector::parse(&head).map_or(u64::MAX, |sector| sector.metadata_region_bytes());
        let region_bytes = usize::try_from(region_bytes).unwrap_or(usize::MAX);
        // Where in a piece the first region begins, or goes on.
        let offsets: Vec<u64> = regions.iter().map(|region| region.offset).collect();
        let hidden_from = |start: u64, length: usize| {
            let reaches = |&offset: &u64| {
                let end = offset.saturating_add(region_bytes as u64);
                (offset < start.saturating_add(length as u64) && end > start)
                    .then(|| offset.saturating_sub(start))
            };
            offsets.iter().filter_map(reaches).min().and_then(|at| usize::try_from(at).ok())
        };
        let hidden = hidden_from(0, head.len());
        self.take_plain(PieceName::VolumeHead { volume }, head, hidden);
        if let Some((offset, bytes)) = relocated {
            let hidden = hidden_from(offset, bytes.len());
            self.take_plain(PieceName::RelocatedSectors { volume, offset }, bytes, hidden);
        }
        let mut digest = None;
        for region in regions {
            let name = PieceName::FveMetadata { volume, offset: region.offset };
            let mut bytes = region.bytes;
            bytes.truncate(region_bytes);
            if bytes.iter().all(|&byte| byte == 0) {
                continue;
            }
            if Some(region.offset) == good && digest.is_none() {
                digest = Some(Digest::of(&bytes));
            }
            match BlankedRegion::of(&bytes) {
                Ok(blanked) if !blanked.is_changed() => add(&mut self.shown, name, bytes),
                Ok(blanked) => {
                    add(&mut self.shown, name.clone(), blanked.bytes);
                    add(&mut self.secret, name, bytes);
                }
                Err(_) => add(&mut self.secret, name, bytes),
            }
        }
        digest
    }
}

#[cfg(test)]
mod tests;
