//! The tree of named values.
//!
//! A [`Tree`] is immutable and flat: nodes lie in one list, names in one string. Children are walked in insertion order.
//! Siblings may share a name, real VMRS files have such; a path then names the first of them.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::container::FileRange;

/// Kind of a value; unknown ones survive (FORMAT.md section 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyKind(pub u8);

impl KeyKind {
    /// Free room in a key table.
    pub const FREE: Self = Self(1);
    /// A signed 64-bit number.
    pub const INT: Self = Self(3);
    /// An unsigned 64-bit number.
    pub const UINT: Self = Self(4);
    /// A 64-bit floating point number.
    pub const DOUBLE: Self = Self(5);
    /// A UTF-16 string.
    pub const STRING: Self = Self(6);
    /// Bytes.
    pub const ARRAY: Self = Self(7);
    /// A Boolean.
    pub const BOOL: Self = Self(8);
    /// A node, which has children.
    pub const NODE: Self = Self(9);

    /// Answers the name of a known kind.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::FREE => "Free",
            Self::INT => "Int",
            Self::UINT => "UInt",
            Self::DOUBLE => "Double",
            Self::STRING => "String",
            Self::ARRAY => "Array",
            Self::BOOL => "Bool",
            Self::NODE => "Node",
            _ => return None,
        })
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#04x}", self.0),
        }
    }
}

impl fmt::Debug for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Flags of a key entry; unknown ones survive (FORMAT.md section 7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyFlags(pub u8);

impl KeyFlags {
    /// The data is a pointer to a file object.
    pub const FILE_OBJECT: u8 = 1;
    /// Subcomponent; seen on strings of a VMRS.
    pub const SUBCOMPONENT: u8 = 2;
    /// Changes of the sequence are tracked.
    pub const SEQUENCE_TRACKING: u8 = 4;

    /// Tells whether all bits of `flag` are set.
    pub fn contains(self, flag: u8) -> bool {
        self.0 & flag == flag
    }
}

/// A value.
///
/// The debug form shows sizes instead of bytes, because arrays hold VM key protectors and vTPM state.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A node without a value of its own.
    Node,
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    UInt(u64),
    /// A floating point number.
    Double(f64),
    /// A string, without the NUL that some writers store.
    String(String),
    /// A string that is not well-formed UTF-16, as its code units.
    RawString(Vec<u16>),
    /// Bytes.
    Array(Vec<u8>),
    /// A Boolean.
    Bool(bool),
    /// A value in a file object, not loaded; `Container::load_value` does that.
    External {
        /// Kind of the value.
        kind: KeyKind,
        /// Where its bytes lie.
        range: FileRange,
    },
    /// A value of a kind that this crate does not know.
    Unknown {
        /// The kind.
        kind: KeyKind,
        /// The data.
        bytes: Vec<u8>,
    },
}

impl Value {
    /// Makes a string value.
    pub fn string(text: impl Into<String>) -> Self {
        Value::String(text.into())
    }

    /// Makes an array value.
    pub fn array(bytes: impl Into<Vec<u8>>) -> Self {
        Value::Array(bytes.into())
    }

    /// Answers the kind.
    pub fn kind(&self) -> KeyKind {
        match self {
            Value::Node => KeyKind::NODE,
            Value::Int(_) => KeyKind::INT,
            Value::UInt(_) => KeyKind::UINT,
            Value::Double(_) => KeyKind::DOUBLE,
            Value::String(_) | Value::RawString(_) => KeyKind::STRING,
            Value::Array(_) => KeyKind::ARRAY,
            Value::Bool(_) => KeyKind::BOOL,
            Value::External { kind, .. } | Value::Unknown { kind, .. } => *kind,
        }
    }

    /// Makes a string value of UTF-16LE bytes, trimming one trailing NUL; `None` when their number is odd.
    pub(crate) fn from_utf16(bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(2) {
            return None;
        }
        let bytes = bytes.strip_suffix(&[0, 0]).unwrap_or(bytes);
        let units = || bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let mut text = String::with_capacity(bytes.len() / 2);
        for unit in char::decode_utf16(units()) {
            match unit {
                Ok(unit) => text.push(unit),
                Err(_) => return Some(Value::RawString(units().collect())),
            }
        }
        Some(Value::String(text))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Value::Array(bytes)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Node => f.write_str("Node"),
            Value::Int(number) => write!(f, "Int({number})"),
            Value::UInt(number) => write!(f, "UInt({number})"),
            Value::Double(number) => write!(f, "Double({number:?})"),
            Value::String(text) => write!(f, "String({text:?})"),
            Value::RawString(units) => write!(f, "RawString({} units)", units.len()),
            Value::Array(bytes) => write!(f, "Array({} bytes)", bytes.len()),
            Value::Bool(truth) => write!(f, "Bool({truth})"),
            Value::External { kind, range } => {
                write!(f, "External({kind}, {} bytes at {})", range.size, range.offset)
            }
            Value::Unknown { kind, bytes } => write!(f, "Unknown({kind}, {} bytes)", bytes.len()),
        }
    }
}

/// One node with its place in the tree.
#[derive(Clone, Debug)]
pub(crate) struct NodeData {
    pub(crate) name_start: u32,
    pub(crate) name_len: u8,
    pub(crate) flags: KeyFlags,
    pub(crate) parent: u32,
    pub(crate) sequence: u32,
    /// Range in `Tree::order`.
    pub(crate) children: (u32, u32),
    pub(crate) value: Value,
}

/// The values of a container.
#[derive(Clone)]
pub struct Tree {
    /// Node 0 is the root, which no file stores.
    pub(crate) nodes: Vec<NodeData>,
    /// Children of each node, in insertion order.
    pub(crate) order: Vec<u32>,
    pub(crate) names: String,
}

impl Tree {
    /// Answers the root; it has no name.
    pub fn root(&self) -> Node<'_> {
        Node { tree: self, id: 0 }
    }

    /// Finds a node by its path, such as `/configuration/properties/name`.
    pub fn get(&self, path: &str) -> Option<Node<'_>> {
        let relative = path.strip_prefix('/')?;
        if relative.is_empty() {
            return Some(self.root());
        }
        self.root().get(relative)
    }

    /// Walks all nodes below the root, parents first and siblings in insertion order.
    pub fn iter(&self) -> impl Iterator<Item = Node<'_>> {
        let mut stack: Vec<u32> = self.child_ids(0).iter().rev().copied().collect();
        core::iter::from_fn(move || {
            let id = stack.pop()?;
            stack.extend(self.child_ids(id).iter().rev());
            Some(Node { tree: self, id })
        })
    }

    pub(crate) fn child_ids(&self, id: u32) -> &[u32] {
        let (start, end) = self.nodes[id as usize].children;
        &self.order[start as usize..end as usize]
    }

    pub(crate) fn name_of(&self, id: u32) -> &str {
        let node = &self.nodes[id as usize];
        let start = node.name_start as usize;
        &self.names[start..start + usize::from(node.name_len)]
    }

    pub(crate) fn path_of(&self, id: u32) -> String {
        let mut parts = Vec::new();
        let mut at = id;
        while at != 0 {
            parts.push(self.name_of(at));
            at = self.nodes[at as usize].parent;
        }
        let mut path = String::new();
        for part in parts.iter().rev() {
            path.push('/');
            path.push_str(part);
        }
        path
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|node| (node.path(), node.value()))).finish()
    }
}

/// Two trees are equal when they have the same names, flags and values in the same order.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = alloc::vec![(0, 0)];
        while let Some((a, b)) = pairs.pop() {
            let (mine, theirs) = (self.child_ids(a), other.child_ids(b));
            let (x, y) = (&self.nodes[a as usize], &other.nodes[b as usize]);
            let same = mine.len() == theirs.len()
                && x.flags == y.flags
                && x.value == y.value
                && self.name_of(a) == other.name_of(b);
            if !same {
                return false;
            }
            pairs.extend(mine.iter().copied().zip(theirs.iter().copied()));
        }
        true
    }
}

/// A node or value of a [`Tree`].
#[derive(Clone, Copy)]
pub struct Node<'a> {
    tree: &'a Tree,
    id: u32,
}

impl<'a> Node<'a> {
    fn data(&self) -> &'a NodeData {
        &self.tree.nodes[self.id as usize]
    }

    /// Answers the name; empty for the root.
    pub fn name(&self) -> &'a str {
        self.tree.name_of(self.id)
    }

    /// Answers the path from the root, with a leading slash; empty for the root.
    pub fn path(&self) -> String {
        self.tree.path_of(self.id)
    }

    /// Answers the value.
    pub fn value(&self) -> &'a Value {
        &self.data().value
    }

    /// Answers the flags.
    pub fn flags(&self) -> KeyFlags {
        self.data().flags
    }

    /// Answers the place among the siblings; 0 when the file gives none.
    pub fn insertion_sequence(&self) -> u32 {
        self.data().sequence
    }

    /// Walks the children in insertion order.
    pub fn children(&self) -> Children<'a> {
        Children { tree: self.tree, ids: self.tree.child_ids(self.id).iter() }
    }

    /// Finds the first child of that name.
    pub fn child(&self, name: &str) -> Option<Node<'a>> {
        self.children().find(|child| child.name() == name)
    }

    /// Finds a node by a path relative to this one, without a leading slash.
    pub fn get(&self, relative_path: &str) -> Option<Node<'a>> {
        relative_path.split('/').try_fold(*self, |node, name| node.child(name))
    }

    /// Answers a number stored as Int, or as UInt if it fits.
    pub fn as_int(&self) -> Option<i64> {
        match self.value() {
            Value::Int(number) => Some(*number),
            Value::UInt(number) => i64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Answers a Boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self.value() {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// Answers a string that lies in the key table and is well-formed.
    pub fn as_str(&self) -> Option<&'a str> {
        match self.value() {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Answers bytes that lie in the key table.
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self.value() {
            Value::Array(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path(), self.value())
    }
}

/// Children of a node in insertion order.
#[derive(Clone)]
pub struct Children<'a> {
    tree: &'a Tree,
    ids: core::slice::Iter<'a, u32>,
}

impl<'a> Iterator for Children<'a> {
    type Item = Node<'a>;

    fn next(&mut self) -> Option<Node<'a>> {
        self.ids.next().map(|&id| Node { tree: self.tree, id })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ids.size_hint()
    }
}

impl ExactSizeIterator for Children<'_> {}

impl fmt::Debug for Children<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
