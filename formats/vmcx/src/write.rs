//! Writer of containers, for fixtures and synthetic hosts.
//!
//! Writes a whole file at once: headers, object tables, key tables, file objects, replay log. The same tree and options make
//! the same bytes. It is not meant for files that Hyper-V owns, and never changes one in place.

use alloc::borrow::Cow;
use alloc::borrow::ToOwned;
use alloc::vec;
use alloc::vec::Vec;
use zerocopy::IntoBytes;

use crate::build::TreeBuilder;
use crate::checksum;
use crate::error::WriteError;
use crate::layout::{
    FILE_OBJECT_THRESHOLD_BYTES, FIRST_OBJECT_TABLE_OFFSET, FORMAT_VERSION, HEADER_CHECKSUM_OFFSET,
    HEADER_OFFSETS, HEADER_SIGNATURE, KEY_ENTRY_CHECKSUM_OFFSET, KEY_ENTRY_HEADER_BYTES,
    KEY_FLAG_FILE_OBJECT, KEY_TABLE_BYTES, KEY_TABLE_CHECKSUM_OFFSET, KEY_TABLE_HEADER_BYTES,
    KEY_TABLE_SIGNATURE, LOG_ENTRY_BYTES, LOG_ENTRY_CHECKSUM_OFFSET, LOG_HEADER_BYTES, LOG_SIGNATURE,
    MAX_DATA_ALIGNMENT, MAX_DEPTH, MAX_KEY_TABLE_BYTES, MAX_OBJECT_TABLES, MIN_DATA_ALIGNMENT,
    MIN_FREE_ENTRY_BYTES, NODE_DATA_BYTES, OBJECT_BYTES, OBJECT_FLAG_REQUIRED, OBJECT_TABLE_HEADER_BYTES,
    OBJECT_TABLE_PAGE_BYTES, OBJECT_TABLE_SIGNATURE, RawHeader, RawKeyEntry, RawKeyTableHeader, RawLogEntry,
    RawLogHeader, RawObjectTableHeader,
};
use crate::objects::{self, ObjectKind};
use crate::tree::{KeyFlags, KeyKind, Value};

/// Size of the log header area that is written, in bytes.
const LOG_AREA_BYTES: u32 = 0x1000;
/// Entries that fit this area.
const LOG_ENTRIES: u32 = (LOG_AREA_BYTES - LOG_HEADER_BYTES as u32) / LOG_ENTRY_BYTES as u32;
/// Objects that one table lists beside its link to the next.
const OBJECTS_PER_TABLE: usize =
    (OBJECT_TABLE_PAGE_BYTES as usize - OBJECT_TABLE_HEADER_BYTES) / OBJECT_BYTES - 1;

/// Whether strings are stored with a trailing NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StringNul {
    /// Without, as Hyper-V does.
    #[default]
    Omit,
    /// With one, which is counted, as the openvmm writer does.
    Store,
}

/// Choices of a [`VmcxWriter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Whether strings are stored with a trailing NUL.
    pub string_nul: StringNul,
    /// Alignment of objects in bytes; a power of two from 4 KiB to 64 KiB.
    pub data_alignment: u32,
    /// Size of each key table in bytes; a multiple of 4096 up to 1 MiB.
    pub key_table_bytes: u32,
    /// Sequence of header copy 0, the current one; copy 1 has the one before.
    pub header_sequence: u16,
    /// Flags of file objects in the object table.
    pub file_object_flags: u8,
    /// Number of pending log entries, up to 145; zero makes a clean file.
    ///
    /// The object table and the key tables of a dirty file are zeroed and lie in the log, in pieces without alignment. Of
    /// two entries and more the first holds wrong bytes that a later one replaces, so that only an ordered replay is right.
    pub pending_entries: u32,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions {
            string_nul: StringNul::Omit,
            data_alignment: MIN_DATA_ALIGNMENT,
            key_table_bytes: KEY_TABLE_BYTES,
            header_sequence: 1,
            file_object_flags: OBJECT_FLAG_REQUIRED,
            pending_entries: 0,
        }
    }
}

/// Writes containers.
#[derive(Clone, Debug, Default)]
pub struct VmcxWriter {
    options: WriteOptions,
}

/// Where an entry goes.
#[derive(Clone, Copy, Default)]
struct Placed {
    parent: usize,
    sequence: u32,
    table: usize,
    offset: u32,
    /// Size without slack.
    size: u32,
    slack: u32,
}

/// Everything that must be known before the first byte is written.
#[derive(Default)]
struct Plan<'a> {
    /// Nodes in the order in which they are stored, parents first.
    order: Vec<usize>,
    /// By node.
    placed: Vec<Placed>,
    /// Bytes of strings and arrays, by node.
    payloads: Vec<Option<Cow<'a, [u8]>>>,
    /// Used bytes of each key table.
    tables: Vec<u32>,
    /// Nodes whose value is a file object.
    file_objects: Vec<usize>,
}

/// Offsets of everything in the file.
struct Layout {
    object_tables: Vec<u64>,
    key_tables: Vec<u64>,
    /// By position in [`Plan::file_objects`].
    file_objects: Vec<(u64, u32)>,
    log_offset: u64,
    log_bytes: u64,
    /// Object table and key tables without what lies between them and further objects.
    metadata_end: u64,
}

impl VmcxWriter {
    /// Makes a writer with default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a writer.
    pub fn with_options(options: WriteOptions) -> Self {
        VmcxWriter { options }
    }

    /// Builds the file of a tree.
    ///
    /// # Errors
    /// When the tree was built with a mistake, an option is impossible, or the format has no room for the tree.
    pub fn encode(&self, tree: &TreeBuilder) -> Result<Vec<u8>, WriteError> {
        if let Some(mistake) = &tree.mistake {
            return Err(mistake.clone());
        }
        self.check_options()?;
        let plan = self.plan(tree)?;
        let layout = self.lay_out(&plan)?;
        let mut file = vec![0; (layout.log_offset + layout.log_bytes) as usize];
        self.write_headers(&mut file, &layout);
        self.write_object_tables(&mut file, &layout);
        self.write_key_tables(&mut file, tree, &plan, &layout);
        for (&node, &(offset, _)) in plan.file_objects.iter().zip(&layout.file_objects) {
            put(&mut file, offset, plan.payloads[node].as_deref().unwrap_or_default());
        }
        self.write_log(&mut file, &layout);
        Ok(file)
    }

    fn check_options(&self) -> Result<(), WriteError> {
        let WriteOptions { data_alignment, key_table_bytes, pending_entries, .. } = self.options;
        let alignments = MIN_DATA_ALIGNMENT..=MAX_DATA_ALIGNMENT;
        let wrong = |option, found: u32| Err(WriteError::Option { option, found: u64::from(found) });
        if !data_alignment.is_power_of_two() || !alignments.contains(&data_alignment) {
            return wrong("data_alignment", data_alignment);
        }
        let table_sizes = KEY_TABLE_BYTES..=MAX_KEY_TABLE_BYTES;
        if !key_table_bytes.is_multiple_of(KEY_TABLE_BYTES) || !table_sizes.contains(&key_table_bytes) {
            return wrong("key_table_bytes", key_table_bytes);
        }
        if pending_entries > LOG_ENTRIES {
            return wrong("pending_entries", pending_entries);
        }
        Ok(())
    }

    /// Decides in which key table each entry lies, and which values lie outside.
    fn plan<'a>(&self, tree: &'a TreeBuilder) -> Result<Plan<'a>, WriteError> {
        let mut plan = Plan {
            placed: vec![Placed::default(); tree.nodes.len()],
            payloads: vec![None; tree.nodes.len()],
            tables: vec![KEY_TABLE_HEADER_BYTES as u32],
            ..Plan::default()
        };
        let mut previous = None;
        let mut open: Vec<(usize, usize, u32, u32)> = Vec::new();
        let push_children = |open: &mut Vec<_>, node: usize, depth: u32| {
            for (before, &child) in tree.nodes[node].children.iter().enumerate().rev() {
                open.push((child, node, before as u32 + 1, depth));
            }
        };
        push_children(&mut open, 0, 1);
        while let Some((node, parent, sequence, depth)) = open.pop() {
            if depth > MAX_DEPTH {
                return Err(WriteError::TooDeep { limit: MAX_DEPTH });
            }
            let building = &tree.nodes[node];
            let (data_bytes, payload) = self
                .payload(&building.value)
                .ok_or_else(|| WriteError::Value { name: building.name.clone() })?;
            if payload.as_ref().is_some_and(|payload| payload.len() >= FILE_OBJECT_THRESHOLD_BYTES) {
                plan.file_objects.push(node);
            }
            plan.payloads[node] = payload;
            // Less than the threshold and a name of 255 bytes at most.
            let size = (KEY_ENTRY_HEADER_BYTES + building.name.len() + 1 + data_bytes) as u32;
            let may_have_slack = !matches!(building.value, Value::Unknown { .. });
            let (table, offset) = self.place(&mut plan, size, may_have_slack, previous);
            plan.placed[node] = Placed { parent, sequence, table, offset, size, slack: 0 };
            plan.order.push(node);
            previous = Some(node);
            push_children(&mut open, node, depth + 1);
        }
        self.close_table(&mut plan, previous);
        if plan.tables.len() > usize::from(u16::MAX) {
            return Err(WriteError::TooMany { what: "key tables", limit: usize::from(u16::MAX) });
        }
        Ok(plan)
    }

    /// Finds room for an entry, opening a new key table when there is none.
    fn place(
        &self,
        plan: &mut Plan<'_>,
        size: u32,
        may_have_slack: bool,
        previous: Option<usize>,
    ) -> (usize, u32) {
        let used = plan.tables.last().copied().unwrap_or_default();
        let left = (self.options.key_table_bytes - used).checked_sub(size);
        let fits = match left {
            None => false,
            Some(0) => true,
            Some(left) => may_have_slack || left >= MIN_FREE_ENTRY_BYTES as u32,
        };
        if !fits {
            self.close_table(plan, previous);
            plan.tables.push(KEY_TABLE_HEADER_BYTES as u32);
        }
        let table = plan.tables.len() - 1;
        let offset = plan.tables[table];
        plan.tables[table] = offset + size;
        (table, offset)
    }

    /// Gives leftover bytes that are too few for a free entry to the last entry of the table.
    fn close_table(&self, plan: &mut Plan<'_>, previous: Option<usize>) {
        let Some(used) = plan.tables.last_mut() else { return };
        let left = self.options.key_table_bytes - *used;
        if let Some(previous) = previous.filter(|_| left > 0 && left < MIN_FREE_ENTRY_BYTES as u32) {
            plan.placed[previous].slack = left;
            *used += left;
        }
    }

    /// Answers the size of the data in the key table and, of a string or array, its bytes; `None` for what cannot be stored.
    fn payload<'a>(&self, value: &'a Value) -> Option<(usize, Option<Cow<'a, [u8]>>)> {
        let bytes: Cow<'a, [u8]> = match value {
            Value::Node => return Some((NODE_DATA_BYTES, None)),
            Value::Int(_) | Value::UInt(_) | Value::Double(_) => return Some((8, None)),
            Value::Bool(_) => return Some((4, None)),
            Value::String(text) => self.utf16(text.encode_utf16()).into(),
            Value::RawString(units) => self.utf16(units.iter().copied()).into(),
            Value::Array(bytes) => bytes.into(),
            Value::Unknown { kind, bytes } if kind.name().is_none() => bytes.into(),
            Value::Unknown { .. } | Value::External { .. } => return None,
        };
        let prefix = if matches!(value, Value::Unknown { .. }) { 0 } else { 4 };
        if bytes.len() >= FILE_OBJECT_THRESHOLD_BYTES {
            return u32::try_from(bytes.len()).is_ok().then_some((NODE_DATA_BYTES, Some(bytes)));
        }
        Some((prefix + bytes.len(), Some(bytes)))
    }

    fn utf16(&self, units: impl Iterator<Item = u16>) -> Vec<u8> {
        let mut bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
        // Readers trim one NUL, so that a string which ends with one needs another.
        if self.options.string_nul == StringNul::Store || bytes.ends_with(&[0, 0]) {
            bytes.extend([0, 0]);
        }
        bytes
    }

    fn lay_out(&self, plan: &Plan<'_>) -> Result<Layout, WriteError> {
        let alignment = u64::from(self.options.data_alignment);
        let object_tables = (plan.tables.len() + plan.file_objects.len()).div_ceil(OBJECTS_PER_TABLE);
        if object_tables > MAX_OBJECT_TABLES {
            return Err(WriteError::TooMany { what: "object tables", limit: MAX_OBJECT_TABLES });
        }
        let mut end = FIRST_OBJECT_TABLE_OFFSET + OBJECT_TABLE_PAGE_BYTES;
        let mut take = |bytes: u64| {
            let offset = end.next_multiple_of(alignment);
            end = offset + bytes;
            offset
        };
        let key_tables: Vec<u64> =
            plan.tables.iter().map(|_| take(u64::from(self.options.key_table_bytes))).collect();
        let metadata_end = key_tables.last().map_or(0, |last| last + u64::from(self.options.key_table_bytes));
        let file_objects = plan
            .file_objects
            .iter()
            .map(|&node| {
                let size = plan.payloads[node].as_ref().map_or(0, |payload| payload.len());
                (take(size as u64), size as u32)
            })
            .collect();
        let object_tables = core::iter::once(FIRST_OBJECT_TABLE_OFFSET)
            .chain((1..object_tables).map(|_| take(OBJECT_TABLE_PAGE_BYTES)))
            .collect();
        let log_offset = take(0);
        let log_bytes =
            (u64::from(LOG_AREA_BYTES) + self.pending_bytes(metadata_end)).next_multiple_of(alignment);
        Ok(Layout { object_tables, key_tables, file_objects, log_offset, log_bytes, metadata_end })
    }

    fn write_headers(&self, file: &mut [u8], layout: &Layout) {
        for (behind, &offset) in (0u16..).zip(&HEADER_OFFSETS) {
            let mut raw = RawHeader {
                signature: HEADER_SIGNATURE.into(),
                checksum: 0.into(),
                sequence: self.options.header_sequence.wrapping_sub(behind).into(),
                format_version: FORMAT_VERSION.into(),
                data_version: 0.into(),
                flags: 0.into(),
                data_alignment: self.options.data_alignment.into(),
                replay_log_offset: layout.log_offset.into(),
                replay_log_size: layout.log_bytes.into(),
                replay_log_header_size: LOG_AREA_BYTES.into(),
            };
            raw.checksum = checksum::structure(raw.as_bytes(), HEADER_CHECKSUM_OFFSET).into();
            put(file, offset, raw.as_bytes());
        }
    }

    fn write_object_tables(&self, file: &mut [u8], layout: &Layout) {
        let alignment = self.options.data_alignment;
        let key_tables = layout.key_tables.iter().map(|&offset| {
            objects::encode(ObjectKind::KEY_TABLE, offset, self.options.key_table_bytes, OBJECT_FLAG_REQUIRED)
        });
        let file_objects = layout.file_objects.iter().map(|&(offset, size)| {
            let room = size.checked_next_multiple_of(alignment).unwrap_or(size);
            objects::encode(ObjectKind::FILE_OBJECT, offset, room, self.options.file_object_flags)
        });
        let mut listed = key_tables.chain(file_objects);
        let empty = objects::encode(ObjectKind::EMPTY, 0, 0, 0);
        for (number, &table) in layout.object_tables.iter().enumerate() {
            let raw = RawObjectTableHeader {
                signature: OBJECT_TABLE_SIGNATURE.into(),
                count: (OBJECTS_PER_TABLE as u32 + 1).into(),
            };
            put(file, table, raw.as_bytes());
            let mut at = table + OBJECT_TABLE_HEADER_BYTES as u64;
            for _ in 0..OBJECTS_PER_TABLE {
                put(file, at, &listed.next().unwrap_or(empty));
                at += OBJECT_BYTES as u64;
            }
            let link = layout.object_tables.get(number + 1).map_or(empty, |&next| {
                let size = OBJECT_TABLE_PAGE_BYTES as u32;
                objects::encode(ObjectKind::OBJECT_TABLE, next, size, OBJECT_FLAG_REQUIRED)
            });
            put(file, at, &link);
        }
    }

    fn write_key_tables(&self, file: &mut [u8], tree: &TreeBuilder, plan: &Plan<'_>, layout: &Layout) {
        for ((index, &offset), &used) in (1u16..).zip(&layout.key_tables).zip(&plan.tables) {
            let mut raw = RawKeyTableHeader {
                signature: KEY_TABLE_SIGNATURE.into(),
                table_index: index.into(),
                sequence: 1.into(),
                checksum: 0.into(),
            };
            raw.checksum = checksum::structure(raw.as_bytes(), KEY_TABLE_CHECKSUM_OFFSET).into();
            put(file, offset, raw.as_bytes());
            let left = self.options.key_table_bytes - used;
            if left > 0 {
                let free = RawKeyEntry {
                    kind: KeyKind::FREE.0,
                    flags: 0,
                    size: left.into(),
                    parent_table: 0.into(),
                    parent_offset: 0.into(),
                    checksum: 0.into(),
                    insertion_sequence: 0.into(),
                    name_length: 0,
                };
                put(file, offset + u64::from(used), free.as_bytes());
            }
        }
        let mut file_objects = layout.file_objects.iter();
        for &node in &plan.order {
            let Placed { table, offset, size, .. } = plan.placed[node];
            let at = (layout.key_tables[table] + u64::from(offset)) as usize;
            let payload = plan.payloads[node].as_deref();
            let place = payload
                .filter(|payload| payload.len() >= FILE_OBJECT_THRESHOLD_BYTES)
                .and_then(|_| file_objects.next().copied());
            write_entry(&mut file[at..at + size as usize], node, tree, plan, place);
        }
    }

    /// Writes the log and, for a dirty file, moves the metadata into it.
    fn write_log(&self, file: &mut [u8], layout: &Layout) {
        let mut raw = RawLogHeader {
            signature: LOG_SIGNATURE.into(),
            checksum: 0.into(),
            current_entries: self.options.pending_entries.into(),
            reserved: 0,
            max_entries: LOG_ENTRIES.into(),
            change_tracking_enabled: 0,
            change_tracking_offset: 0.into(),
            change_tracking_size: 0.into(),
            change_tracking_used: 0.into(),
        };
        raw.checksum = checksum::structure(raw.as_bytes(), HEADER_CHECKSUM_OFFSET).into();
        put(file, layout.log_offset, raw.as_bytes());

        let mut data_offset = u64::from(LOG_AREA_BYTES);
        let mut entry_at = layout.log_offset + LOG_HEADER_BYTES as u64;
        for (destination, size, right) in self.pieces(layout.metadata_end) {
            let range = destination as usize..(destination + size) as usize;
            let mut data = file[range].to_owned();
            if !right {
                data.iter_mut().for_each(|byte| *byte = !*byte);
            }
            let mut entry = RawLogEntry {
                file_offset: destination.into(),
                size: (size as u32).into(),
                data_offset: data_offset.into(),
                checksum: 0.into(),
                data_checksum: checksum::data(&data).into(),
            };
            entry.checksum = checksum::structure(entry.as_bytes(), LOG_ENTRY_CHECKSUM_OFFSET).into();
            put(file, entry_at, entry.as_bytes());
            put(file, layout.log_offset + data_offset, &data);
            entry_at += LOG_ENTRY_BYTES as u64;
            data_offset += size;
        }
        if self.options.pending_entries > 0 {
            file[FIRST_OBJECT_TABLE_OFFSET as usize..layout.metadata_end as usize].fill(0);
        }
    }

    /// Answers destination, size and rightness of the pieces of metadata that go into the log.
    fn pieces(&self, metadata_end: u64) -> impl Iterator<Item = (u64, u64, bool)> + use<> {
        let total = metadata_end - FIRST_OBJECT_TABLE_OFFSET;
        let entries = u64::from(self.options.pending_entries);
        let wrong = u64::from(entries >= 2);
        let right = entries - wrong;
        let cut = move |piece: u64| FIRST_OBJECT_TABLE_OFFSET + total * piece / right.max(1);
        let first = (FIRST_OBJECT_TABLE_OFFSET, OBJECT_TABLE_PAGE_BYTES, false);
        core::iter::repeat_n(first, wrong as usize)
            .chain((0..right).map(move |piece| (cut(piece), cut(piece + 1) - cut(piece), true)))
    }

    fn pending_bytes(&self, metadata_end: u64) -> u64 {
        self.pieces(metadata_end).map(|(_, size, _)| size).sum()
    }
}

fn write_entry(
    bytes: &mut [u8],
    node: usize,
    tree: &TreeBuilder,
    plan: &Plan<'_>,
    place: Option<(u64, u32)>,
) {
    let building = &tree.nodes[node];
    let Placed { parent, sequence, size, slack, .. } = plan.placed[node];
    // The root is not stored; its place is all zero.
    let (parent_table, parent_offset) = match parent {
        0 => (0, 0),
        _ => (plan.placed[parent].table as u16 + 1, plan.placed[parent].offset),
    };
    let KeyFlags(flags) = building.flags;
    let mut raw = RawKeyEntry {
        kind: building.value.kind().0,
        flags: flags | if place.is_some() { KEY_FLAG_FILE_OBJECT } else { 0 },
        size: (size + slack).into(),
        parent_table: parent_table.into(),
        parent_offset: parent_offset.into(),
        checksum: 0.into(),
        insertion_sequence: sequence.into(),
        name_length: building.name.len() as u8 + 1,
    };
    let name_end = KEY_ENTRY_HEADER_BYTES + building.name.len();
    bytes[..KEY_ENTRY_HEADER_BYTES].copy_from_slice(raw.as_bytes());
    bytes[KEY_ENTRY_HEADER_BYTES..name_end].copy_from_slice(building.name.as_bytes());
    let data = &mut bytes[name_end + 1..];
    match (&building.value, place) {
        (_, Some((offset, size))) => {
            data[..4].copy_from_slice(&size.to_le_bytes());
            data[4..].copy_from_slice(&offset.to_le_bytes());
        }
        (Value::Node, _) => {
            let next_sequence = building.children.len() as u32 + 1;
            data[8..].copy_from_slice(&next_sequence.to_le_bytes());
        }
        (Value::Int(number), _) => data.copy_from_slice(&number.to_le_bytes()),
        (Value::UInt(number), _) => data.copy_from_slice(&number.to_le_bytes()),
        (Value::Double(number), _) => data.copy_from_slice(&number.to_bits().to_le_bytes()),
        (Value::Bool(truth), _) => data.copy_from_slice(&u32::from(*truth).to_le_bytes()),
        (Value::Unknown { bytes, .. }, _) => data.copy_from_slice(bytes),
        (Value::String(_) | Value::RawString(_) | Value::Array(_) | Value::External { .. }, _) => {
            let payload = plan.payloads[node].as_deref().unwrap_or_default();
            data[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
            data[4..].copy_from_slice(payload);
        }
    }
    raw.checksum = checksum::structure(bytes, KEY_ENTRY_CHECKSUM_OFFSET).into();
    bytes[..KEY_ENTRY_HEADER_BYTES].copy_from_slice(raw.as_bytes());
}

fn put(file: &mut [u8], offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    file[start..start + bytes.len()].copy_from_slice(bytes);
}
