//! A tree that can be built and changed before it is written.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use crate::error::WriteError;
use crate::tree::{KeyFlags, Value};

/// Longest name of a key, in bytes of UTF-8 without the NUL.
pub(crate) const MAX_NAME_BYTES: usize = 254;

/// Names a node of a [`TreeBuilder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BuilderNode(pub(crate) usize);

/// A node with its children in insertion order.
#[derive(Clone)]
pub(crate) struct Building {
    pub(crate) name: String,
    pub(crate) value: Value,
    pub(crate) flags: KeyFlags,
    pub(crate) children: Vec<usize>,
}

/// A tree of values under construction.
///
/// Mistakes are kept and reported when the tree is written, so that calls can be chained:
///
/// ```
/// use lifeboat_vmcx::{TreeBuilder, VmcxWriter};
///
/// let tree = TreeBuilder::new()
///     .set("/configuration/properties/name", "web01")
///     .set("/configuration/properties/version", 2304)
///     .set("/configuration/security/settings/tpm_enabled", true);
/// let bytes = VmcxWriter::new().encode(&tree)?;
/// # Ok::<(), lifeboat_vmcx::WriteError>(())
/// ```
#[derive(Clone)]
pub struct TreeBuilder {
    pub(crate) nodes: Vec<Building>,
    pub(crate) mistake: Option<WriteError>,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeBuilder {
    /// Begins an empty tree.
    pub fn new() -> Self {
        let root = Building {
            name: String::new(),
            value: Value::Node,
            flags: KeyFlags::default(),
            children: Vec::new(),
        };
        TreeBuilder { nodes: vec![root], mistake: None }
    }

    /// Answers the root.
    pub fn root(&self) -> BuilderNode {
        BuilderNode(0)
    }

    /// Sets a value by its path, making the nodes above it; replaces the value that is there.
    #[must_use]
    pub fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        self.put(path, value);
        self
    }

    /// Does what [`TreeBuilder::set`] does, in place.
    pub fn put(&mut self, path: &str, value: impl Into<Value>) -> BuilderNode {
        let Some(relative) =
            path.strip_prefix('/').filter(|rest| rest.split('/').all(|part| !part.is_empty()))
        else {
            self.mistake(WriteError::Path { path: path.to_owned() });
            return self.root();
        };
        let mut at = 0;
        for name in relative.split('/') {
            if self.nodes[at].value != Value::Node {
                self.mistake(WriteError::BelowValue { path: path.to_owned() });
                return self.root();
            }
            at = match self.find(at, name) {
                Some(child) => child,
                None => self.append(BuilderNode(at), name, Value::Node).0,
            };
        }
        let value = value.into();
        if value != Value::Node && !self.nodes[at].children.is_empty() {
            self.mistake(WriteError::BelowValue { path: path.to_owned() });
            return self.root();
        }
        self.nodes[at].value = value;
        BuilderNode(at)
    }

    /// Adds a child behind its siblings, even when one of them has that name.
    pub fn append(&mut self, parent: BuilderNode, name: &str, value: impl Into<Value>) -> BuilderNode {
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains('\0') {
            self.mistake(WriteError::Name { name: name.to_owned() });
        }
        let id = self.nodes.len();
        self.nodes.push(Building {
            name: name.to_owned(),
            value: value.into(),
            flags: KeyFlags::default(),
            children: Vec::new(),
        });
        match self.nodes.get_mut(parent.0) {
            Some(parent) if parent.value == Value::Node => parent.children.push(id),
            _ => self.mistake(WriteError::BelowValue { path: name.to_owned() }),
        }
        BuilderNode(id)
    }

    /// Sets the flags of an entry; the one for file objects is the writer's.
    pub fn set_flags(&mut self, node: BuilderNode, flags: KeyFlags) {
        if let Some(node) = self.nodes.get_mut(node.0) {
            node.flags = KeyFlags(flags.0 & !KeyFlags::FILE_OBJECT);
        }
    }

    /// Removes a value or a node with everything below it; tells whether there was one.
    pub fn remove(&mut self, path: &str) -> bool {
        let Some((parent, name)) = path.rsplit_once('/') else { return false };
        let Some(parent) = self.find_path(parent) else { return false };
        let Some(child) = self.find(parent, name) else { return false };
        self.nodes[parent].children.retain(|&id| id != child);
        true
    }

    /// Answers the value at a path.
    pub fn value(&self, path: &str) -> Option<&Value> {
        self.find_path(path).map(|id| &self.nodes[id].value)
    }

    fn find_path(&self, path: &str) -> Option<usize> {
        if path.is_empty() {
            return Some(0);
        }
        path.strip_prefix('/')?.split('/').try_fold(0, |at, name| self.find(at, name))
    }

    /// Finds the first child of a name.
    fn find(&self, parent: usize, name: &str) -> Option<usize> {
        self.nodes[parent].children.iter().find(|&&id| self.nodes[id].name == name).copied()
    }

    fn mistake(&mut self, mistake: WriteError) {
        self.mistake.get_or_insert(mistake);
    }
}

/// Two builders are equal when they make the same tree.
impl PartialEq for TreeBuilder {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = vec![(0, 0)];
        while let Some((a, b)) = pairs.pop() {
            let (x, y) = (&self.nodes[a], &other.nodes[b]);
            let same = x.name == y.name
                && x.value == y.value
                && x.flags == y.flags
                && x.children.len() == y.children.len();
            if !same {
                return false;
            }
            pairs.extend(x.children.iter().copied().zip(y.children.iter().copied()));
        }
        self.mistake == other.mistake
    }
}

impl fmt::Debug for TreeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        let mut open: Vec<(usize, String)> = vec![(0, String::new())];
        while let Some((id, path)) = open.pop() {
            for &child in self.nodes[id].children.iter().rev() {
                let mut below = path.clone();
                below.push('/');
                below.push_str(&self.nodes[child].name);
                open.push((child, below));
            }
            if id != 0 {
                map.entry(&path, &self.nodes[id].value);
            }
        }
        map.finish()
    }
}
