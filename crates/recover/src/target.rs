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
use crate::place::{create_new, give_name, open_own};

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
            Some(extension) if ["vhdx", "avhdx"].iter().any(|one| extension.eq_ignore_ascii_case(one)) => {
                Self::Vhdx
            }
            _ => Self::Raw,
        }
    }
}

/// Returns the name under which an output is written until it is whole.
#[must_use]
pub fn partial_path(output: &Path) -> PathBuf {
    with_suffix(output, ".partial")
}

/// Returns the name of the journal beside it.
pub(crate) fn journal_path(output: &Path) -> PathBuf {
    with_suffix(output, ".partial.journal")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
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
    /// Whether an earlier run wrote to the file: what reads as zeros must be made zeros.
    is_resumed: bool,
}

/// The structures of a VHDX: the writer gives blocks their place; their bytes go to the file directly.
struct Vhdx {
    writer: VhdxWriter<Port>,
    port: Arc<PortState>,
    places: BTreeMap<u64, u64>,
}

/// Port of the writer: notes where it writes, and writes only at the end.
pub(crate) struct Port {
    file: File,
    state: Arc<PortState>,
}

impl Port {
    /// Makes a port that writes at once.
    pub(crate) fn direct(file: File) -> Self {
        let state = PortState { is_finishing: AtomicBool::new(true), ..PortState::default() };
        Self { file, state: Arc::new(state) }
    }
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
pub(crate) fn disk_ids(bytes: &[u8; 48]) -> NewDiskIds {
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
        let written = || RecoverError::file(&partial, "written");
        let is_resumed = earlier.ids.is_some();
        let file = if is_resumed {
            let other =
                || RecoverError::OtherPartial { partial: partial.clone(), journal: journal_path(output) };
            open_own(&partial).map_err(written())?.ok_or_else(other)?
        } else {
            create_new(&partial).map_err(written())?
        };
        let (mut vhdx, mut blocks) = (None, 0);
        match kind {
            OutputKind::Raw => {
                file.set_len(size_bytes).map_err(written())?;
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
                let port = Port { file: file.try_clone().map_err(written())?, state: Arc::clone(&state) };
                let writer = VhdxWriter::create(port, options).map_err(vhdx_error(output))?;
                let mut structures = Vhdx { writer, port: state, places: BTreeMap::new() };
                for &block in &earlier.blocks {
                    structures.place(block, blocks).map_err(vhdx_error(output))?;
                }
                if is_resumed {
                    // Structures are written last, into zeros; and behind the known blocks new ones begin empty.
                    let first = structures.places.values().min().copied();
                    let end = structures.places.values().max().map_or(0, |place| place + blocks);
                    file.set_len(end).map_err(written())?;
                    clear(&file, 0..first.unwrap_or(0)).map_err(written())?;
                }
                vhdx = Some(Mutex::new(structures));
            }
        }
        let output = output.to_owned();
        Ok(Self { output, partial, file, size_bytes, vhdx, block_bytes: blocks, is_resumed })
    }

    pub(crate) fn partial(&self) -> &Path {
        &self.partial
    }

    fn vhdx(&self) -> Option<MutexGuard<'_, Vhdx>> {
        self.vhdx.as_ref().map(|vhdx| vhdx.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes plain bytes, pages of zeros left out where nothing was written before.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8], journal: &Journal) -> Result<(), RecoverError> {
        self.put(offset, bytes, journal, self.is_resumed)
    }

    /// Writes plain bytes over others.
    pub(crate) fn overwrite(&self, offset: u64, bytes: &[u8], journal: &Journal) -> Result<(), RecoverError> {
        self.put(offset, bytes, journal, true)
    }

    fn put(&self, offset: u64, bytes: &[u8], journal: &Journal, clears: bool) -> Result<(), RecoverError> {
        let mut start = 0;
        while start < bytes.len() {
            let page_end = |at: usize| (at + PAGE_BYTES).min(bytes.len());
            let is_empty = |at: usize| is_zero(&bytes[at..page_end(at)]);
            let run_is_empty = is_empty(start);
            let mut end = page_end(start);
            while end < bytes.len() && is_empty(end) == run_is_empty {
                end = page_end(end);
            }
            let at = offset + start as u64;
            if !run_is_empty {
                self.write_run(at, &bytes[start..end], journal)?;
            } else if clears {
                self.clear_run(at, end - start)?;
            }
            start = end;
        }
        Ok(())
    }

    /// Finds where the file has the bytes from `at` on, and how many of `length` lie there together. None is a block
    /// without room.
    fn place(&self, at: u64, length: usize) -> (Option<u64>, usize) {
        let Some(vhdx) = self.vhdx() else { return (Some(at), length) };
        let place = vhdx.places.get(&(at / self.block_bytes));
        (place.map(|place| place + at % self.block_bytes), self.in_block(at, length))
    }

    /// Cuts a length at the end of the block.
    fn in_block(&self, at: u64, length: usize) -> usize {
        let left = self.block_bytes - at % self.block_bytes;
        length.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn write_run(&self, offset: u64, bytes: &[u8], journal: &Journal) -> Result<(), RecoverError> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (place, length) = match self.vhdx() {
                None => (at, bytes.len() - done),
                Some(mut vhdx) => {
                    let block = at / self.block_bytes;
                    let (place, is_new) =
                        vhdx.place(block, self.block_bytes).map_err(vhdx_error(&self.output))?;
                    if is_new {
                        // Under the lock, so that the journal has the order in which places were given.
                        journal.allocated(block)?;
                    }
                    (place + at % self.block_bytes, self.in_block(at, bytes.len() - done))
                }
            };
            write_all_at(&self.file, place, &bytes[done..done + length])
                .map_err(RecoverError::file(&self.partial, "written"))?;
            done += length;
        }
        Ok(())
    }

    /// Makes a run of zeros in a file of which an earlier run left parts.
    fn clear_run(&self, offset: u64, length: usize) -> Result<(), RecoverError> {
        let mut done = 0;
        while done < length {
            let (place, length) = self.place(offset + done as u64, length - done);
            if let Some(place) = place {
                clear(&self.file, place..place + length as u64)
                    .map_err(RecoverError::file(&self.partial, "written"))?;
            }
            done += length;
        }
        Ok(())
    }

    /// Reads back what was written; what was not reads as zeros.
    pub(crate) fn read_back(&self, offset: u64, buffer: &mut [u8]) -> Result<(), RecoverError> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (place, length) = self.place(at, buffer.len() - done);
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
        give_name(&self.partial, &self.output).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => RecoverError::Exists { path: self.output.clone() },
            _ => RecoverError::file(&self.output, "written")(source),
        })?;
        journal.remove()?;
        Ok(file_bytes)
    }
}

/// Makes a range of a file zeros; holes in it stay holes.
fn clear(file: &File, range: std::ops::Range<u64>) -> io::Result<()> {
    let mut page = [0; 16 * PAGE_BYTES];
    for offset in range.clone().step_by(page.len()) {
        // At most sixteen pages.
        let length = (range.end - offset).min(page.len() as u64) as usize;
        let page = &mut page[..length];
        page.fill(0);
        read_at(file, offset, page)?;
        if !is_zero(page) {
            page.fill(0);
            write_all_at(file, offset, page)?;
        }
    }
    Ok(())
}

pub(crate) fn vhdx_error(path: &Path) -> impl FnOnce(VhdxWriteError) -> RecoverError {
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
