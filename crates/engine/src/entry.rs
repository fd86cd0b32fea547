//! Body entries between capture and body, and in the catalog: JSON, compressed one by one.
//!
//! A host of thousands of VMs has tens of megabytes of them, of which a quarter remains. Nothing leaves the
//! machine in this form: a body holds plain JSON, which its object compresses as a whole.

use lifeboat_schema::{CompanionEntry, VmEntry};
use serde::Serialize;
use zstd::bulk::{Compressor, Decompressor};

/// Level of the compression: entries are short and written at every capture.
const LEVEL: i32 = 1;

/// Largest entry that is unpacked: a VM of some ten thousand files. A damaged catalog may claim any size.
pub(crate) const MAX_ENTRY_BYTES: usize = 64 << 20;

/// What a body holds of one subject.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum BodyEntry {
    Vm(Box<VmEntry>),
    Companion(Box<CompanionEntry>),
}

/// The JSON of one [`VmEntry`] or [`CompanionEntry`], compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedEntry(Box<[u8]>);

impl PackedEntry {
    /// An entry as the catalog holds it.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }

    /// As the catalog holds it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The JSON, or nothing where the bytes are no packed entry.
    pub fn json(&self) -> Option<Vec<u8>> {
        let mut json = Vec::new();
        EntryReader::new()?.append(self, &mut json)?;
        Some(json)
    }

    /// The entry of a VM, or nothing where the bytes are none that this program can read.
    pub fn parse(&self) -> Option<VmEntry> {
        serde_json::from_slice(&self.json()?).ok()
    }

    /// The entry of a companion, likewise.
    pub fn parse_companion(&self) -> Option<CompanionEntry> {
        serde_json::from_slice(&self.json()?).ok()
    }
}

/// Packs entries, with one context for all of them.
pub(crate) struct EntryWriter {
    compressor: Compressor<'static>,
    json: Vec<u8>,
}

impl EntryWriter {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { compressor: Compressor::new(LEVEL)?, json: Vec::new() })
    }

    pub(crate) fn pack(&mut self, entry: &impl Serialize) -> std::io::Result<PackedEntry> {
        self.json.clear();
        serde_json::to_writer(&mut self.json, entry).expect("entries have only string keys");
        Ok(PackedEntry(self.compressor.compress(&self.json)?.into()))
    }

    /// Packs what is JSON already.
    pub(crate) fn pack_json(&mut self, json: &[u8]) -> std::io::Result<PackedEntry> {
        Ok(PackedEntry(self.compressor.compress(json)?.into()))
    }
}

/// Unpacks entries, with one context for all of them.
pub(crate) struct EntryReader(Decompressor<'static>);

impl EntryReader {
    /// Nothing where there is no memory for it.
    pub(crate) fn new() -> Option<Self> {
        Decompressor::new().ok().map(Self)
    }

    /// The size of an entry's JSON in bytes, as its frame says.
    pub(crate) fn json_bytes(entry: &PackedEntry) -> Option<usize> {
        let size = zstd::zstd_safe::get_frame_content_size(&entry.0).ok()??;
        usize::try_from(size).ok().filter(|size| *size <= MAX_ENTRY_BYTES)
    }

    /// Appends an entry's JSON; nothing is appended where the bytes are no packed entry.
    pub(crate) fn append(&mut self, entry: &PackedEntry, json: &mut Vec<u8>) -> Option<()> {
        let size = Self::json_bytes(entry)?;
        let start = json.len();
        json.resize(start + size, 0);
        let read = self.0.decompress_to_buffer(&entry.0[..], &mut json[start..]);
        if read.is_ok_and(|read| read == size) {
            return Some(());
        }
        json.truncate(start);
        None
    }
}

#[cfg(test)]
mod tests {
    use lifeboat_schema::{Layout, SubjectId, Time, VmRecord};

    use super::*;

    #[test]
    fn entries_come_back_and_damaged_ones_do_not() {
        let mut entry = VmEntry {
            subject: SubjectId::random([1; 10]),
            captured: Time::from_unix_seconds(1_700_000_000),
            vm: VmRecord::unexplored("id", "a name", Layout::Export, "a place"),
            artefacts: Vec::new(),
        };
        entry.vm.remarks = vec!["a remark that compresses ".repeat(50)];
        let packed = EntryWriter::new().unwrap().pack(&entry).unwrap();
        let json = packed.json().unwrap();
        assert!(packed.as_bytes().len() < json.len() / 2);
        assert_eq!(packed.parse().unwrap(), entry);
        for end in 0..packed.as_bytes().len() {
            let cut = PackedEntry::from_bytes(packed.as_bytes()[..end].to_vec());
            assert_eq!(cut.json(), None, "cut to {end} bytes");
        }
        assert_eq!(PackedEntry::from_bytes(json).parse(), None, "plain JSON is no packed entry");
        // A frame that claims more than any entry has: not even room is made for it.
        let mut large = zstd::zstd_safe::CCtx::create();
        let mut frame = Vec::with_capacity(1 << 20);
        large.set_pledged_src_size(Some(MAX_ENTRY_BYTES as u64 + 1)).unwrap();
        large.set_parameter(zstd::zstd_safe::CParameter::CompressionLevel(1)).unwrap();
        let mut input = zstd::zstd_safe::InBuffer::around(&[0u8; 1000]);
        let mut output = zstd::zstd_safe::OutBuffer::around(&mut frame);
        large.compress_stream(&mut output, &mut input).unwrap();
        large.flush_stream(&mut output).unwrap();
        let written = output.pos();
        frame.truncate(written);
        assert_eq!(PackedEntry::from_bytes(frame).json(), None);
    }
}
