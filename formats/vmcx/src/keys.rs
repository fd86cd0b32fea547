//! Key tables, their entries, and the tree that these make.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use zerocopy::FromBytes;

use crate::checksum;
use crate::container::{FileRange, Findings};
use crate::error::{Corruption, Remark};
use crate::layout::{
    KEY_ENTRY_CHECKSUM_OFFSET, KEY_ENTRY_HEADER_BYTES, KEY_FLAG_FILE_OBJECT, KEY_TABLE_CHECKSUM_OFFSET,
    KEY_TABLE_HEADER_BYTES, KEY_TABLE_SIGNATURE, MAX_DEPTH, MAX_KEY_BYTES, MAX_KEY_ENTRIES,
    MAX_KEY_TABLE_BYTES, MIN_FREE_ENTRY_BYTES, NODE_DATA_BYTES, RawKeyEntry, RawKeyTableHeader,
};
use crate::objects::{Object, ObjectKind, Objects};
use crate::read_at::ReadAt;
use crate::tree::{KeyFlags, KeyKind, NodeData, Tree, Value};

/// Where an entry lies: index of its table and offset in it.
type Place = (u16, u32);

/// An entry on its way into the tree, beside its node.
struct Entry {
    offset: u32,
    parent: Place,
    /// `next_insertion_sequence` of a node.
    next_sequence: u32,
}

/// Entries of one table, which lie beside each other and in the order of their offsets.
struct Table {
    index: u16,
    first: usize,
    end: usize,
}

/// A key table that may be superseded.
struct Candidate {
    index: u16,
    sequence: u16,
    offset: u64,
    size: u32,
}

/// The tree under construction.
struct Builder<'f> {
    findings: &'f mut Findings,
    /// Node 0 is the root; entry `i` belongs to node `i + 1`.
    nodes: Vec<NodeData>,
    names: String,
    entries: Vec<Entry>,
    tables: Vec<Table>,
}

/// Reads the key tables that `objects` list and builds the tree of what could be read.
pub(crate) fn read<R: ReadAt>(
    port: &R,
    objects: &Objects,
    findings: &mut Findings,
) -> Result<(Tree, usize), R::Error> {
    let candidates = choose_tables(port, objects, findings)?;
    let mut builder = Builder {
        findings,
        nodes: vec![root()],
        names: String::new(),
        entries: Vec::new(),
        tables: Vec::with_capacity(candidates.len()),
    };
    let mut buffer = Vec::new();
    for table in &candidates {
        buffer.clear();
        buffer.resize(table.size as usize, 0);
        port.read_exact_at(table.offset, &mut buffer)?;
        let first = builder.entries.len();
        let go_on = builder.parse_table(table.index, &buffer);
        builder.tables.push(Table { index: table.index, first, end: builder.entries.len() });
        if !go_on {
            break;
        }
    }
    Ok((builder.finish(), candidates.len()))
}

fn root() -> NodeData {
    NodeData {
        name_start: 0,
        name_len: 0,
        flags: KeyFlags(0),
        parent: 0,
        sequence: 0,
        children: (0, 0),
        value: Value::Node,
    }
}

/// Checks the headers of all key tables and answers the current ones in the order of their indexes.
fn choose_tables<R: ReadAt>(
    port: &R,
    objects: &Objects,
    findings: &mut Findings,
) -> Result<Vec<Candidate>, R::Error> {
    let mut candidates = Vec::new();
    let mut total_bytes = 0;
    for object in objects.listed.iter().filter(|object| object.kind == ObjectKind::KEY_TABLE) {
        let Some(candidate) = read_table_header(port, object, findings)? else { continue };
        total_bytes += u64::from(candidate.size);
        if total_bytes > MAX_KEY_BYTES {
            findings.corrupt(Corruption::TooManyKeys { limit: MAX_KEY_BYTES, unit: "bytes" });
            break;
        }
        candidates.push(candidate);
    }
    if candidates.is_empty() {
        findings.corrupt(Corruption::NoKeyTable);
    }
    // The wrap of a table's sequence is unknown, so that the plain order decides.
    candidates.sort_unstable_by(|a, b| (a.index, b.sequence).cmp(&(b.index, a.sequence)));
    let before = candidates.len();
    let mut last: Option<(u16, u16)> = None;
    candidates.retain(|candidate| {
        let keep = match last {
            Some((index, sequence)) if index == candidate.index => {
                if sequence == candidate.sequence {
                    findings.corrupt(Corruption::KeyTablesEqual { table: index, sequence });
                }
                return false;
            }
            _ => true,
        };
        last = Some((candidate.index, candidate.sequence));
        keep
    });
    if candidates.len() < before {
        findings.remark(Remark::SupersededKeyTables { tables: (before - candidates.len()) as u32 });
    }
    Ok(candidates)
}

fn read_table_header<R: ReadAt>(
    port: &R,
    object: &Object,
    findings: &mut Findings,
) -> Result<Option<Candidate>, R::Error> {
    let Object { offset, size, .. } = *object;
    if size > MAX_KEY_TABLE_BYTES || (size as usize) < KEY_TABLE_HEADER_BYTES + MIN_FREE_ENTRY_BYTES {
        findings.corrupt(Corruption::KeyTableSize { offset, size });
        return Ok(None);
    }
    let file_bytes = port.len();
    if offset.checked_add(u64::from(size)).is_none_or(|end| end > file_bytes) {
        findings.corrupt(Corruption::Truncated {
            what: "a key table",
            offset,
            need: u64::from(size),
            file_bytes,
        });
        return Ok(None);
    }
    let mut bytes = [0; KEY_TABLE_HEADER_BYTES];
    port.read_exact_at(offset, &mut bytes)?;
    let Ok(raw) = RawKeyTableHeader::read_from_bytes(&bytes) else { return Ok(None) };
    if raw.signature.get() != KEY_TABLE_SIGNATURE {
        findings.corrupt(Corruption::KeyTableSignature { offset, found: raw.signature.get() });
        return Ok(None);
    }
    if raw.checksum.get() != checksum::structure(&bytes, KEY_TABLE_CHECKSUM_OFFSET) {
        findings.corrupt(Corruption::KeyTableChecksum { offset });
        return Ok(None);
    }
    let index = raw.table_index.get();
    if index == 0 {
        findings.corrupt(Corruption::KeyTableIndex { offset });
        return Ok(None);
    }
    Ok(Some(Candidate { index, sequence: raw.sequence.get(), offset, size }))
}

impl Builder<'_> {
    /// Parses the entries of one table; false when there are more than are accepted.
    fn parse_table(&mut self, table: u16, bytes: &[u8]) -> bool {
        let mut at = KEY_TABLE_HEADER_BYTES;
        while at < bytes.len() {
            let rest = &bytes[at..];
            // A table has at most a mebibyte, so that offsets and sizes inside it fit 32 bits.
            let offset = at as u32;
            let Ok((raw, _)) = RawKeyEntry::read_from_prefix(rest) else {
                self.findings.corrupt(Corruption::KeyEntrySize { table, offset, size: rest.len() as u32 });
                return true;
            };
            let size = raw.size.get() as usize;
            let is_free = KeyKind(raw.kind) == KeyKind::FREE;
            let least = if is_free { MIN_FREE_ENTRY_BYTES } else { KEY_ENTRY_HEADER_BYTES };
            if size < least || size > rest.len() {
                self.findings.corrupt(Corruption::KeyEntrySize { table, offset, size: raw.size.get() });
                return true;
            }
            at += size;
            if is_free {
                // A used entry whose kind was damaged into "free" still has its checksum.
                if raw.checksum.get() != 0 {
                    self.findings.corrupt(Corruption::KeyEntryChecksum { table, offset });
                }
                continue;
            }
            if self.entries.len() == MAX_KEY_ENTRIES {
                self.findings
                    .corrupt(Corruption::TooManyKeys { limit: MAX_KEY_ENTRIES as u64, unit: "entries" });
                return false;
            }
            if let Err(corruption) = self.parse_entry(table, offset, &raw, &rest[..size]) {
                self.findings.corrupt(corruption);
            }
        }
        true
    }

    fn parse_entry(
        &mut self,
        table: u16,
        offset: u32,
        raw: &RawKeyEntry,
        bytes: &[u8],
    ) -> Result<(), Corruption> {
        let kind = KeyKind(raw.kind);
        let too_small = || Corruption::KeyEntrySize { table, offset, size: bytes.len() as u32 };
        let data_at = KEY_ENTRY_HEADER_BYTES + usize::from(raw.name_length);
        let name = bytes.get(KEY_ENTRY_HEADER_BYTES..data_at).ok_or_else(too_small)?;
        let room = &bytes[data_at..];
        let external = raw.flags & KEY_FLAG_FILE_OBJECT != 0;
        let data_len = data_len(kind, external, room).ok_or_else(too_small)?;
        let data = room.get(..data_len).ok_or_else(too_small)?;
        if raw.checksum.get() != checksum::structure(&bytes[..data_at + data_len], KEY_ENTRY_CHECKSUM_OFFSET)
        {
            return Err(Corruption::KeyEntryChecksum { table, offset });
        }
        let name = name
            .split_last()
            .filter(|&(&nul, name)| nul == 0 && !name.contains(&0))
            .and_then(|(_, name)| core::str::from_utf8(name).ok())
            .ok_or(Corruption::KeyName { table, offset })?;
        let value = value(kind, external, data).ok_or(Corruption::KeyData { table, offset, kind })?;
        let next_sequence = if kind == KeyKind::NODE { le_u32(&data[8..]) } else { 0 };
        self.entries.push(Entry {
            offset,
            parent: (raw.parent_table.get(), raw.parent_offset.get()),
            next_sequence,
        });
        self.nodes.push(NodeData {
            // Names come from at most 256 MiB of key tables.
            name_start: self.names.len() as u32,
            name_len: name.len() as u8,
            flags: KeyFlags(raw.flags),
            parent: 0,
            sequence: raw.insertion_sequence.get(),
            children: (0, 0),
            value,
        });
        self.names.push_str(name);
        Ok(())
    }

    /// Finds the node that lies at a place.
    fn node_at(&self, (index, offset): Place) -> Option<u32> {
        let table = self.tables.binary_search_by_key(&index, |table| table.index).ok()?;
        let Table { first, end, .. } = self.tables[table];
        let within = self.entries[first..end].binary_search_by_key(&offset, |entry| entry.offset).ok()?;
        Some((first + within + 1) as u32)
    }

    /// Answers where the entry of a node lies.
    fn place_of(&self, node: u32) -> Place {
        let entry = node as usize - 1;
        let table = self.tables.partition_point(|table| table.end <= entry);
        (self.tables[table].index, self.entries[entry].offset)
    }

    /// Joins entries and parents; whatever has no way to the root is left out of the tree.
    fn finish(mut self) -> Tree {
        let mut links = Vec::with_capacity(self.entries.len());
        // Siblings mostly follow each other.
        let mut last = ((0, 0), 0);
        for id in 1..=self.entries.len() as u32 {
            let parent = self.entries[id as usize - 1].parent;
            if parent != last.0 {
                let Some(node) = self.node_at(parent) else {
                    if parent == (0, 0) {
                        last = (parent, 0);
                        links.push((0, self.nodes[id as usize].sequence, id));
                    } else {
                        let (table, offset) = self.place_of(id);
                        let (parent_table, parent_offset) = parent;
                        self.findings.corrupt(Corruption::ParentMissing {
                            table,
                            offset,
                            parent_table,
                            parent_offset,
                        });
                    }
                    continue;
                };
                if self.nodes[node as usize].value != Value::Node {
                    let (table, offset) = self.place_of(id);
                    self.findings.corrupt(Corruption::ParentNotNode { table, offset });
                    continue;
                }
                last = (parent, node);
            }
            links.push((last.1, self.nodes[id as usize].sequence, id));
        }
        links.sort_unstable();
        for (position, &(parent, _, id)) in (0u32..).zip(&links) {
            self.nodes[id as usize].parent = parent;
            let children = &mut self.nodes[parent as usize].children;
            if children.1 == 0 {
                children.0 = position;
            }
            children.1 = position + 1;
        }
        let order = links.iter().map(|&(_, _, id)| id).collect();
        let (reached, too_deep) = self.reach(&links);
        if too_deep {
            self.findings.corrupt(Corruption::TooDeep { limit: MAX_DEPTH });
        } else {
            for &(_, _, id) in links.iter().filter(|&&(_, _, id)| !reached[id as usize]) {
                let (table, offset) = self.place_of(id);
                self.findings.corrupt(Corruption::ParentCycle { table, offset });
            }
        }
        let tree = Tree { nodes: self.nodes, order, names: self.names };
        check_order(&tree, &self.entries, &reached, self.findings);
        tree
    }

    /// Walks down from the root and tells which nodes it meets, and whether it had to cut the tree.
    fn reach(&mut self, links: &[(u32, u32, u32)]) -> (Vec<bool>, bool) {
        let mut reached = vec![false; self.nodes.len()];
        reached[0] = true;
        let mut level = vec![0u32];
        let mut depth = 0;
        while !level.is_empty() {
            let mut next = Vec::new();
            for &id in &level {
                let (start, end) = self.nodes[id as usize].children;
                for &(_, _, child) in &links[start as usize..end as usize] {
                    reached[child as usize] = true;
                    if self.nodes[child as usize].value == Value::Node {
                        next.push(child);
                    }
                }
            }
            depth += 1;
            if depth == MAX_DEPTH && !next.is_empty() {
                for &id in &next {
                    self.nodes[id as usize].children = (0, 0);
                }
                return (reached, true);
            }
            level = next;
        }
        (reached, false)
    }
}

/// Answers how many bytes of an entry are data; `None` when there is no room for them.
fn data_len(kind: KeyKind, external: bool, room: &[u8]) -> Option<usize> {
    if external {
        return Some(NODE_DATA_BYTES);
    }
    match kind {
        KeyKind::INT | KeyKind::UINT | KeyKind::DOUBLE => Some(8),
        KeyKind::BOOL => Some(4),
        KeyKind::NODE => Some(NODE_DATA_BYTES),
        KeyKind::STRING | KeyKind::ARRAY => {
            let length = le_u32(room.get(..4)?) as usize;
            length.checked_add(4)
        }
        // Nobody knows where the slack of an unknown kind begins; without any its checksum holds.
        _ => Some(room.len()),
    }
}

/// Makes the value; `None` when the bytes make none.
fn value(kind: KeyKind, external: bool, data: &[u8]) -> Option<Value> {
    if external {
        let range = FileRange { offset: le_u64(&data[4..]), size: le_u32(data) };
        return (kind != KeyKind::NODE).then_some(Value::External { kind, range });
    }
    Some(match kind {
        KeyKind::NODE => Value::Node,
        KeyKind::STRING => Value::from_utf16(&data[4..])?,
        KeyKind::ARRAY => Value::Array(data[4..].to_vec()),
        _ => scalar(kind, data).unwrap_or_else(|| Value::Unknown { kind, bytes: data.to_vec() }),
    })
}

/// Makes a value of a kind with a fixed size; `None` for other kinds and sizes.
pub(crate) fn scalar(kind: KeyKind, data: &[u8]) -> Option<Value> {
    match (kind, data.len()) {
        (KeyKind::INT, 8) => Some(Value::Int(le_u64(data) as i64)),
        (KeyKind::UINT, 8) => Some(Value::UInt(le_u64(data))),
        (KeyKind::DOUBLE, 8) => Some(Value::Double(f64::from_bits(le_u64(data)))),
        (KeyKind::BOOL, 4) => Some(Value::Bool(le_u32(data) != 0)),
        _ => None,
    }
}

/// Checks that siblings have places of their own and that nodes know the next one.
fn check_order(tree: &Tree, entries: &[Entry], reached: &[bool], findings: &mut Findings) {
    let mut unplaced = 0;
    for (id, _) in (0u32..).zip(&tree.nodes).filter(|&(id, _)| reached[id as usize]) {
        let children = tree.child_ids(id);
        let sequence = |child: u32| tree.nodes[child as usize].sequence;
        for pair in children.windows(2) {
            if sequence(pair[0]) == sequence(pair[1]) && sequence(pair[0]) != 0 {
                findings.corrupt(Corruption::SiblingsEqual {
                    path: tree.path_of(id),
                    sequence: sequence(pair[0]),
                });
            }
        }
        unplaced += children.iter().take_while(|&&child| sequence(child) == 0).count() as u32;
        check_names(tree, children, findings);
        let Some(&last) = children.last().filter(|_| id != 0) else { continue };
        let (next, last) = (entries[id as usize - 1].next_sequence, sequence(last));
        if next <= last && last != 0 {
            findings.corrupt(Corruption::NextSequence { path: tree.path_of(id), sequence: last, next });
        } else if next - last > 1 {
            findings.remark(Remark::SequenceGap { path: tree.path_of(id) });
        }
    }
    if unplaced > 0 {
        findings.remark(Remark::NoInsertionSequence { entries: unplaced });
    }
    for id in (1..tree.nodes.len() as u32).filter(|&id| reached[id as usize]) {
        if let Value::Unknown { kind, .. } = tree.nodes[id as usize].value {
            findings.remark(Remark::UnknownValue { path: tree.path_of(id), kind });
        }
    }
}

/// Remarks on siblings of one name.
fn check_names(tree: &Tree, children: &[u32], findings: &mut Findings) {
    if children.len() < 2 {
        return;
    }
    let mut names: Vec<(&str, u32)> = children.iter().map(|&child| (tree.name_of(child), child)).collect();
    names.sort_unstable();
    for group in names.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
        findings.remark(Remark::SameName { path: tree.path_of(group[0].1) });
    }
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn le_u64(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
