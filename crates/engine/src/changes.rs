//! Which VMs differ from their last capture: attributes of files only, and nothing is opened.
//!
//! For whoever watches a host between runs. Reading a file changes none of the attributes that are compared, so a
//! capture never looks like a change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use lifeboat_schema::{Digest, Time};

use crate::catalog::HeldVm;
use crate::source::HostSource;

/// What the last capture of each VM saw, by key.
#[derive(Debug, Clone, Default)]
pub struct LastSeen(HashMap<String, (Option<Digest>, Time)>);

/// One VM as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookedAt {
    /// Its key in the catalog.
    pub key: String,
    /// Stands for the attributes of all its files.
    pub state: Digest,
    /// Whether the last capture saw another state, or there was none.
    pub differs: bool,
    /// When it was last captured.
    pub captured: Option<Time>,
}

impl LastSeen {
    /// What the catalog holds of its VMs.
    pub fn new(vms: &[HeldVm]) -> Self {
        let state = |vm: &HeldVm| vm.fingerprint.first_chunk::<32>().map(|bytes| Digest::from_bytes(*bytes));
        Self(vms.iter().map(|vm| (vm.key.clone(), (state(vm), vm.captured))).collect())
    }
}

/// Looks at all sources. A source that cannot be read is passed over: the next run says so.
pub fn look(sources: &[Arc<dyn HostSource>], last: &LastSeen) -> Vec<LookedAt> {
    let mut seen = Vec::new();
    let mut taken = HashSet::new();
    for found in sources.iter().filter_map(|source| source.discover().ok()).flat_map(|found| found.vms) {
        // As a run names them.
        let mut key = found.vm_id.clone();
        if taken.contains(&key) {
            key = format!("{}@{}", found.vm_id, found.place);
        }
        if !taken.insert(key.clone()) {
            continue;
        }
        let state = Digest::of(&found.fingerprint());
        let known = last.0.get(&key);
        let differs = known.and_then(|(state, _)| *state) != Some(state);
        seen.push(LookedAt { key, state, differs, captured: known.map(|(_, captured)| *captured) });
    }
    seen
}
