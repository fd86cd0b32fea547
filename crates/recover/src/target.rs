//! The output of a decryption: a sparse raw file or a dynamic VHDX, under a temporary name until it is whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifeboat_vhdx::{
    Guid, NewDiskIds, NewDiskKind, PortError, VhdxOptions, VhdxWriteError, VhdxWriter, WriteAt,
};

use crate::error::RecoverError;
use crate::journal::{Earlier, Journal};

/// Form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// The plain bytes; stretches of zeros take no room where the file system allows it.
    Raw,
    /// A dynamic VHDX.
    Vhdx,
}

impl OutputKind {
    /// Chooses the form by the name of the output.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(extension) if extension.eq_ignore_ascii_case("vhdx") => Self::Vhdx,
            _ => Self::Raw,
        }
    }
}

/// Returns the name under which an output is written until it is whole.
#[must_use]
pub fn partial_path(output: &Path) -> PathBuf {
    with_suffix(output, ".partial")
}

pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Pages of zeros are not written.
const PAGE_BYTES: usize = 4096;
const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE_BYTES).all(|page| page == &ZEROS[..page.len()])
}

/// Block sizes of a VHDX by the size of the disk: small blocks waste no room, large ones keep the table short.
fn block_bytes(virtual_size_bytes: u64) -> u32 {
    const GIB: u64 = 1 << 30;
    match virtual_size_bytes {
        size if size <= 64 * GIB => 2 << 20,
        size if size <= 4096 * GIB => 32 << 20,
        _ => 256 << 20,
    }
}

/// An output in the making. Any number of threads may write to it.
pub(crate) struct Target {
    output: PathBuf,
    partial: PathBuf,
    file: File,
    /// Size of the plain content, in bytes.
    size_bytes: u64,
    vhdx: Option<Mutex<Vhdx>>,
    block_bytes: u64,
}

/// The structures of a VHDX: the writer gives blocks their place; their bytes go to the file directly.
struct Vhdx {
    writer: VhdxWriter<Port>,
    port: Arc<PortState>,
    places: BTreeMap<u64, u64>,
}

/// Port of the writer: notes where it writes, and writes only at the end.
struct Port {
    file: File,
    state: Arc<PortState>,
}

#[derive(Default)]
struct PortState {
    noted_offset: AtomicU64,
    is_finishing: AtomicBool,
}

impl WriteAt for Port {
    fn write_all_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), PortError> {
        self.state.noted_offset.store(offset, Ordering::Relaxed);
        if !self.state.is_finishing.load(Ordering::Relaxed) {
            return Ok(());
        }
        write_all_at(&self.file, offset, bytes).map_err(|error| PortError::Access {
            offset,
            length: bytes.len() as u64,
            source: Box::new(error),
        })
    }

    fn grow_to(&mut self, size_bytes: u64) -> Result<(), PortError> {
        let have = self.file.metadata().map(|metadata| metadata.len());
        have.and_then(|have| if have < size_bytes { self.file.set_len(size_bytes) } else { Ok(()) })
            .map_err(|error| PortError::Access { offset: size_bytes, length: 0, source: Box::new(error) })
    }
}

impl Vhdx {
    /// Gives a block its place in the file.
    fn place(&mut self, block: u64, block_bytes: u64) -> Result<(u64, bool), VhdxWriteError> {
        if let Some(&place) = self.places.get(&block) {
            return Ok((place, false));
        }
        self.writer.write_at(block * block_bytes, &[0])?;
        let place = self.port.noted_offset.load(Ordering::Relaxed);
        self.places.insert(block, place);
        Ok((place, true))
    }
}

/// The three ids of a VHDX.
fn disk_ids(bytes: &[u8; 48]) -> NewDiskIds {
    let id = |number: usize| {
        let mut id = [0; 16];
        id.copy_from_slice(&bytes[number * 16..number * 16 + 16]);
        // A random (version 4) GUID.
        id[7] = id[7] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        Guid::from_bytes(id)
    };
    NewDiskIds { virtual_disk_id: id(0), file_write_guid: id(1), data_write_guid: id(2) }
}

impl Target {
    /// Opens the temporary file, new or as an earlier run left it.
    pub(crate) fn open(
        output: &Path,
        kind: OutputKind,
        size_bytes: u64,
        sector_bytes: u32,
        ids: [u8; 48],
        earlier: &Earlier,
    ) -> Result<Self, RecoverError> {
        let partial = partial_path(output);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&partial).map_err(RecoverError::file(&partial, "written"))?;
        if earlier.ids.is_none() {
            // Whatever stood there is of no known making.
            file.set_len(0).map_err(RecoverError::file(&partial, "written"))?;
        }
        let (mut vhdx, mut blocks) = (None, 0);
        match kind {
            OutputKind::Raw => {
                file.set_len(size_bytes).map_err(RecoverError::file(&partial, "written"))?;
            }
            OutputKind::Vhdx => {
                let virtual_size = size_bytes.next_multiple_of(sector_bytes.into());
                let ids = disk_ids(&earlier.ids.unwrap_or(ids));
                let mut options = VhdxOptions::new(NewDiskKind::Dynamic, virtual_size, ids);
                options.block_bytes = block_bytes(virtual_size);
                options.logical_sector_bytes = sector_bytes;
                options.physical_sector_bytes = 4096;
                blocks = options.block_bytes.into();
                let state = Arc::<PortState>::default();
                let port = Port {
                    file: file.try_clone().map_err(RecoverError::file(&partial, "written"))?,
                    state: Arc::clone(&state),
                };
                let writer = VhdxWriter::create(port, options).map_err(vhdx_error(output))?;
                let mut structures = Vhdx { writer, port: state, places: BTreeMap::new() };
                for &block in &earlier.blocks {
                    structures.place(block, blocks).map_err(vhdx_error(output))?;
                }
                vhdx = Some(Mutex::new(structures));
            }
        }
        Ok(Self { output: output.to_owned(), partial, file, size_bytes, vhdx, block_bytes: blocks })
    }

    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    fn vhdx(&self) -> Option<MutexGuard<'_, Vhdx>> {
        self.vhdx.as_ref().map(|vhdx| vhdx.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes plain bytes, pages of zeros left out.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8], journal: &Journal) -> Result<(), RecoverError> {
        let mut start = 0;
        while start < bytes.len() {
            let page_end = |at: usize| (at + PAGE_BYTES).min(bytes.len());
            if is_zero(&bytes[start..page_end(start)]) {
                start = page_end(start);
                continue;
            }
            let mut end = page_end(start);
            while end < bytes.len() && !is_zero(&bytes[end..page_end(end)]) {
                end = page_end(end);
            }
            self.write_run(offset + start as u64, &bytes[start..end], journal)?;
            start = end;
        }
        Ok(())
    }

    fn write_run(&self, offset: u64, bytes: &[u8], journal: &Journal) -> Result<(), RecoverError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (place, length) = match self.vhdx() {
                None => (at, bytes.len() - done),
                Some(mut vhdx) => {
                    let block = at / self.block_bytes;
                    let left = (block + 1) * self.block_bytes - at;
                    let (place, is_new) =
                        vhdx.place(block, self.block_bytes).map_err(vhdx_error(&self.output))?;
                    if is_new {
                        // Under the lock, so that the journal has the order in which places were given.
                        journal.allocated(block)?;
                    }
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - done);
                    (place + at % self.block_bytes, length)
                }
            };
            write_all_at(&self.file, place, &bytes[done..done + length])
                .map_err(RecoverError::file(&self.partial, "written"))?;
            done += length;
        }
        Ok(())
    }

    /// Reads back what was written; what was not reads as zeros.
    pub(crate) fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), RecoverError> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (place, length) = match self.vhdx() {
                None => (Some(at), buffer.len() - done),
                Some(vhdx) => {
                    let block = at / self.block_bytes;
                    let left = (block + 1) * self.block_bytes - at;
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len() - done);
                    (vhdx.places.get(&block).map(|place| place + at % self.block_bytes), length)
                }
            };
            let part = &mut buffer[done..done + length];
            part.fill(0);
            if let Some(place) = place {
                read_at(&self.file, place, part).map_err(RecoverError::file(&self.partial, "read"))?;
            }
            done += length;
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    pub(crate) fn finish(self, journal: Journal) -> Result<u64, RecoverError> {
        let written = |source| RecoverError::File { path: self.partial.clone(), did: "written", source };
        let mut file_bytes = self.size_bytes;
        if let Some(vhdx) = self.vhdx {
            let vhdx = vhdx.into_inner().unwrap_or_else(PoisonError::into_inner);
            vhdx.port.is_finishing.store(true, Ordering::Relaxed);
            let (_, report) = vhdx.writer.finish().map_err(vhdx_error(&self.output))?;
            file_bytes = report.file_bytes;
        }
        self.file.sync_all().map_err(written)?;
        drop(self.file);
        // A hard link refuses what exists; a rename would replace it. Where there are no hard links, look first.
        match std::fs::hard_link(&self.partial, &self.output) {
            Ok(()) => {
                std::fs::remove_file(&self.partial).map_err(RecoverError::file(&self.partial, "removed"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(RecoverError::Exists { path: self.output });
            }
            Err(_) => {
                if self.output.symlink_metadata().is_ok() {
                    return Err(RecoverError::Exists { path: self.output });
                }
                std::fs::rename(&self.partial, &self.output)
                    .map_err(RecoverError::file(&self.output, "written"))?;
            }
        }
        journal.remove()?;
        Ok(file_bytes)
    }
}

fn vhdx_error(path: &Path) -> impl FnOnce(VhdxWriteError) -> RecoverError {
    let path = path.to_owned();
    move |source| RecoverError::Vhdx { path, source }
}

#[cfg(unix)]
fn write_all_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let done = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if done == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[done..];
        offset += done as u64;
    }
    Ok(())
}

/// Fills the buffer as far as the file goes.
fn read_at(file: &File, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
    while !buffer.is_empty() {
        #[cfg(unix)]
        let have = std::os::unix::fs::FileExt::read_at(file, buffer, offset)?;
        #[cfg(windows)]
        let have = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if have == 0 {
            break;
        }
        offset += have as u64;
        buffer = &mut buffer[have..];
    }
    Ok(())
}
