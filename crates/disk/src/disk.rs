//! The disk that a guest sees, whatever files it lies in.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use lifeboat_vhdx::vhd::{VhdChain, VhdId, VhdKind, VhdReader};
use lifeboat_vhdx::{DiskKind, Guid, PortError, ReadAt, Source, VhdxChain, VhdxReader};

/// Kind of the file that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// VHDX without a parent.
    Vhdx,
    /// Differencing VHDX.
    Avhdx,
    /// VHD: fixed, dynamic or differencing.
    Vhd,
    /// The bytes as they are: a raw disk, or a raw volume.
    Raw,
}

impl Container {
    /// Returns the stable name used in documents.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vhdx => "vhdx",
            Self::Avhdx => "avhdx",
            Self::Vhd => "vhd",
            Self::Raw => "raw",
        }
    }
}

/// What tells a disk from others, as far as its container says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFacts {
    /// Page-83 identity that the guest sees (VHDX); equal in all disks of a chain.
    pub virtual_disk_id: Option<Guid>,
    /// DataWriteGuid of the youngest file (VHDX): changes with the guest's data, once per open.
    pub data_write_guid: Option<Guid>,
    /// Identity of the youngest file (VHD).
    pub vhd_id: Option<VhdId>,
    /// Logical sector size, in bytes; none for a raw image, which does not say.
    pub logical_sector_bytes: Option<u32>,
    /// Physical sector size, in bytes.
    pub physical_sector_bytes: Option<u32>,
    /// Whether a log was replayed in memory: the disk was in use, or the host stopped.
    pub replayed_log: bool,
}

/// Part of a disk that lies in a file, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskExtent {
    /// First byte on the disk.
    pub offset: u64,
    /// Length, in bytes; never 0.
    pub length: u64,
    /// Whether a file holds it; otherwise it reads as zeros.
    pub is_allocated: bool,
}

pub(crate) enum Layers<F> {
    Vhdx(VhdxChain<F>),
    Vhd(VhdChain<F>),
    Raw(F),
}

/// The disk that a guest sees.
pub struct VirtualDisk<F> {
    layers: Layers<F>,
    files: Vec<PathBuf>,
}

impl<F> fmt::Debug for VirtualDisk<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualDisk").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<F: ReadAt> VirtualDisk<F> {
    pub(crate) fn new(layers: Layers<F>, files: Vec<PathBuf>) -> Self {
        Self { layers, files }
    }

    /// Takes a file as a raw disk or volume, whatever it begins with.
    #[must_use]
    pub fn raw(file: F, path: &Path) -> Self {
        Self::new(Layers::Raw(file), vec![path.to_owned()])
    }

    /// Returns the kind of the file that was named.
    #[must_use]
    pub fn container(&self) -> Container {
        match &self.layers {
            Layers::Vhdx(chain) if chain.disks()[0].identity().kind == DiskKind::Differencing => {
                Container::Avhdx
            }
            Layers::Vhdx(_) => Container::Vhdx,
            Layers::Vhd(_) => Container::Vhd,
            Layers::Raw(_) => Container::Raw,
        }
    }

    /// Returns the files, the youngest first: the one that was named, then its parents.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Returns the readers of a VHDX and its parents, the youngest first; none for other containers.
    #[must_use]
    pub fn vhdx_files(&self) -> &[VhdxReader<F>] {
        match &self.layers {
            Layers::Vhdx(chain) => chain.disks(),
            _ => &[],
        }
    }

    /// Returns the readers of a VHD and its parents, the youngest first; none for other containers.
    #[must_use]
    pub fn vhd_files(&self) -> &[VhdReader<F>] {
        match &self.layers {
            Layers::Vhd(chain) => chain.disks(),
            _ => &[],
        }
    }

    /// Returns what tells the disk from others.
    #[must_use]
    pub fn facts(&self) -> DiskFacts {
        match &self.layers {
            Layers::Vhdx(chain) => {
                let identity = chain.disks()[0].identity();
                DiskFacts {
                    virtual_disk_id: Some(identity.virtual_disk_id),
                    data_write_guid: Some(identity.data_write_guid),
                    vhd_id: None,
                    logical_sector_bytes: Some(identity.logical_sector_bytes),
                    physical_sector_bytes: Some(identity.physical_sector_bytes),
                    replayed_log: chain.disks().iter().any(|disk| disk.replayed_entries() > 0),
                }
            }
            Layers::Vhd(chain) => DiskFacts {
                vhd_id: Some(chain.disks()[0].identity().id),
                logical_sector_bytes: Some(512),
                physical_sector_bytes: Some(512),
                ..DiskFacts::default()
            },
            Layers::Raw(_) => DiskFacts::default(),
        }
    }

    /// Tells whether the disk is stored in blocks that may be absent: dynamic and differencing disks.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        match &self.layers {
            Layers::Vhdx(chain) => chain.disks().iter().any(|disk| disk.identity().kind != DiskKind::Fixed),
            Layers::Vhd(chain) => chain.disks()[0].identity().kind != VhdKind::Fixed,
            Layers::Raw(_) => false,
        }
    }

    /// Answers which parts of a range lie in a file; the rest reads as zeros. Reads tables, not data.
    ///
    /// # Errors
    /// The range lies beyond the disk, or a table is damaged.
    pub fn extents(&self, range: Range<u64>) -> Result<Vec<DiskExtent>, PortError> {
        let (offset, length) = (range.start, range.end.saturating_sub(range.start));
        let access = |error: Box<dyn std::error::Error + Send + Sync>| PortError::Access {
            offset,
            length,
            source: error,
        };
        let of = |offset, length, source: Source| DiskExtent {
            offset,
            length,
            is_allocated: source != Source::Zero,
        };
        match &self.layers {
            Layers::Vhdx(chain) => chain
                .resolve(range)
                .and_then(|extents| {
                    extents.map(|one| one.map(|one| of(one.offset, one.length, one.source))).collect()
                })
                .map_err(|error| access(Box::new(error))),
            Layers::Vhd(chain) => chain
                .resolve(range)
                .and_then(|extents| {
                    extents.map(|one| one.map(|one| of(one.offset, one.length, one.source))).collect()
                })
                .map_err(|error| access(Box::new(error))),
            Layers::Raw(file) => {
                let size_bytes = file.size_bytes();
                if range.start > range.end || range.end > size_bytes {
                    return Err(PortError::BeyondEnd { offset, length, size_bytes });
                }
                Ok((length > 0)
                    .then_some(DiskExtent { offset, length, is_allocated: true })
                    .into_iter()
                    .collect())
            }
        }
    }
}

impl<F: ReadAt> ReadAt for VirtualDisk<F> {
    fn size_bytes(&self) -> u64 {
        match &self.layers {
            Layers::Vhdx(chain) => chain.size_bytes(),
            Layers::Vhd(chain) => chain.size_bytes(),
            Layers::Raw(file) => file.size_bytes(),
        }
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), PortError> {
        match &self.layers {
            Layers::Vhdx(chain) => chain.read_exact_at(offset, buffer),
            Layers::Vhd(chain) => chain.read_exact_at(offset, buffer),
            Layers::Raw(file) => file.read_exact_at(offset, buffer),
        }
    }
}
