//! The first format: a document in a partition, with two headers (FORMAT.md section 3).
//!
//! File > VHD > GPT > partition > header > locator > document > device > state. The document is JSON in UTF-16; what the
//! states of a device mean is not looked into.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use zerocopy::FromBytes;

use crate::copies::{self, Choice, Findings, HeaderCopy};
use crate::error::{Corruption, Unsupported};
use crate::gpt::{self, Partition};
use crate::json;
use crate::layout::{
    DOCUMENT_HEADER_BYTES, FIRST_DOCUMENT_SECTOR, LOCATOR_BYTES, MAX_DOCUMENT_BYTES, RawDocumentHeader,
    SECTOR_BYTES, VERSION_1,
};
use crate::read_at::ReadAt;

/// Class of the firmware device, whose states hold the UEFI variables.
const FIRMWARE: &str = "ac6b8dc1-3257-4a70-b1b2-a9c9215659ad";
/// Class of the vTPM device [third party: its name in VM configurations; never seen in a document].
const VTPM: &str = "736e6aa9-a3f8-49c0-9550-a963214d259a";

/// Guest state of the first format, as its headers and its document describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub(crate) copy: usize,
    pub(crate) sequence: u32,
    pub(crate) offset: u64,
    pub(crate) size_bytes: u32,
    pub(crate) devices: Vec<DeviceState>,
}

impl Document {
    /// Returns which header copy is current, 0 or 1.
    #[must_use]
    pub fn header_copy(&self) -> usize {
        self.copy
    }

    /// Returns the sequence of the current header.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Returns where the document begins in the file, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the size of the document in the file, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u32 {
        self.size_bytes
    }

    /// Lists the devices in their order.
    #[must_use]
    pub fn devices(&self) -> &[DeviceState] {
        &self.devices
    }
}

/// States of one device in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceState {
    /// Id of the device, as it stands there.
    pub device: String,
    /// Names of its states, with the size of their JSON in bytes of UTF-8.
    pub states: Vec<(String, usize)>,
    /// Size of all that the document says of it, in bytes of UTF-8.
    pub size_bytes: usize,
}

impl DeviceState {
    /// Returns what the device is, when its id is a known one.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        if self.is_vtpm() {
            return Some("vTPM");
        }
        self.is(FIRMWARE).then_some("firmware (UEFI variables)")
    }

    /// Tells whether it is the vTPM. Whether documents ever hold vTPM state is not known.
    #[must_use]
    pub fn is_vtpm(&self) -> bool {
        self.is(VTPM)
    }

    fn is(&self, id: &str) -> bool {
        self.device.trim_start_matches('{').trim_end_matches('}').eq_ignore_ascii_case(id)
    }
}

/// What lies in the partition.
#[derive(Debug)]
pub(crate) enum FoundDocument {
    Document(Document),
    /// Nothing was ever written.
    Empty,
    Unsupported(Unsupported),
    /// Why is among the findings.
    Lost,
}

/// Reads headers and document of a disk that carries a GPT.
pub(crate) fn read<R: ReadAt>(
    port: &R,
    disk_bytes: u64,
    findings: &mut Findings,
) -> Result<FoundDocument, R::Error> {
    let Some(partition) = gpt::find_partition(port, disk_bytes, findings)? else {
        return Ok(FoundDocument::Lost);
    };
    if partition.sectors < FIRST_DOCUMENT_SECTOR {
        findings.corrupt(Corruption::PartitionTooSmall { sectors: partition.sectors });
        return Ok(FoundDocument::Lost);
    }
    let mut sectors = [[0; SECTOR_BYTES as usize]; 2];
    for (number, sector) in (0..).zip(&mut sectors) {
        port.read_exact_at(partition.offset_of(number), sector)?;
    }
    let headers = [parse_header(0, &sectors[0], partition), parse_header(1, &sectors[1], partition)];
    let (copy, sequence, header) = match copies::choose(headers, findings) {
        Choice::Current { copy, sequence, header } => (copy, sequence, header),
        Choice::Blank => return Ok(FoundDocument::Empty),
        Choice::Unsupported(unsupported) => return Ok(FoundDocument::Unsupported(unsupported)),
        Choice::None => return Ok(FoundDocument::Lost),
    };
    // One of two: parse_header has checked.
    let locator = header.locators[usize::from(header.active_locator.get() != 0)];
    let size_bytes = locator.bytes.get();
    if size_bytes == 0 {
        return Ok(FoundDocument::Empty);
    }
    // A locator of some bytes lies in the partition; one of none may point anywhere.
    let offset = partition.offset_of(locator.sector.get());
    let mut document = Document { copy, sequence, offset, size_bytes, devices: Vec::new() };
    match text(port, &document)?.and_then(|text| devices(&text)) {
        Ok(devices) => document.devices = devices,
        Err(corruption) => findings.corrupt(corruption),
    }
    Ok(FoundDocument::Document(document))
}

fn parse_header(
    copy: usize,
    sector: &[u8; SECTOR_BYTES as usize],
    partition: Partition,
) -> HeaderCopy<RawDocumentHeader> {
    if let Err(other) = copies::check_common(copy, sector, VERSION_1, DOCUMENT_HEADER_BYTES) {
        return other;
    }
    let Ok((header, _)) = RawDocumentHeader::read_from_prefix(sector) else {
        return HeaderCopy::Damaged(Corruption::HeaderSignature { copy });
    };
    if header.locator_size.get() as usize != LOCATOR_BYTES {
        return HeaderCopy::Damaged(Corruption::LocatorSize { copy, found: header.locator_size.get() });
    }
    if header.active_locator.get() > 1 {
        return HeaderCopy::Damaged(Corruption::ActiveLocator { copy, found: header.active_locator.get() });
    }
    for (number, locator) in header.locators.iter().enumerate() {
        let (sector, sectors, bytes) = (locator.sector.get(), locator.sectors.get(), locator.bytes.get());
        let end = sector.checked_add(sectors);
        let fits = sector >= FIRST_DOCUMENT_SECTOR
            && end.is_some_and(|end| end <= partition.sectors)
            // The sectors lie on the disk, so the product is less than its size.
            && u64::from(bytes) <= sectors * SECTOR_BYTES;
        // One that was never used holds nothing, wherever it points.
        if bytes != 0 && !fits {
            return HeaderCopy::Damaged(Corruption::LocatorRange {
                copy,
                locator: number,
                sector,
                sectors,
                bytes,
                partition_sectors: partition.sectors,
            });
        }
    }
    HeaderCopy::Valid { sequence: header.sequence.get(), header }
}

/// Reads a document as text, without the NULs at its end.
pub(crate) fn text<R: ReadAt>(port: &R, document: &Document) -> Result<Result<String, Corruption>, R::Error> {
    if document.size_bytes > MAX_DOCUMENT_BYTES {
        return Ok(Err(Corruption::DocumentTooLarge { bytes: document.size_bytes }));
    }
    let mut bytes = vec![0; document.size_bytes as usize];
    port.read_exact_at(document.offset, &mut bytes)?;
    Ok(decode(&bytes))
}

fn decode(bytes: &[u8]) -> Result<String, Corruption> {
    if !bytes.len().is_multiple_of(2) {
        return Err(Corruption::DocumentEncoding { at: bytes.len() - 1 });
    }
    let used = bytes.chunks_exact(2).rposition(|unit| unit != [0, 0]).map_or(0, |last| last + 1);
    let mut text = String::with_capacity(used);
    let units = bytes.chunks_exact(2).take(used).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let mut at = 0;
    for character in char::decode_utf16(units) {
        let character = character.map_err(|_| Corruption::DocumentEncoding { at })?;
        text.push(character);
        at += 2 * character.len_utf16();
    }
    Ok(text)
}

/// Parses the text of a document.
pub(crate) fn devices(text: &str) -> Result<Vec<DeviceState>, Corruption> {
    let members =
        |text| json::members(text).map_err(|bad| Corruption::DocumentSyntax { at: bad.at, why: bad.why });
    let top = members(text)?;
    let devices = top.iter().find(|member| member.name == "Devices" && member.is_object());
    let devices = members(devices.ok_or(Corruption::DocumentShape)?.value)?;
    let mut found = Vec::with_capacity(devices.len());
    for device in devices {
        let mut states = Vec::new();
        if device.is_object() {
            let parts = members(device.value)?;
            let of_states = parts.iter().find(|member| member.name == "States" && member.is_object());
            for state in of_states.map_or(Ok(Vec::new()), |member| members(member.value))? {
                states.push((state.name, state.value.len()));
            }
        }
        found.push(DeviceState { device: device.name, states, size_bytes: device.value.len() });
    }
    Ok(found)
}
