//! VMs in folders: a live Hyper-V root, exported VMs, a shadow copy, a mounted cluster volume.
//!
//! ```text
//! discover:  walk (folders, attributes) > group (files > VMs) > checkpoints (whose they are)
//! capture:   open > read > prove whole > describe > attributes unchanged > heads of disks > sink
//! ```
//!
//! **Found** is every `<GUID>.*` in a folder `Virtual Machines`, at any depth up to a limit and in any case, with the files of
//! its `<GUID>` folder; checkpoints are those in the folder `Snapshots` beside it. A folder that holds exactly one VM is the
//! place of an exported VM: unknown files there are that VM's too. Files at other places are not a VM's. Of the virtual disks
//! that a configuration names the heads are read (`disks`), and their files are watched: a later run opens a disk only when
//! the attributes of one of its files changed.
//!
//! **Whose a checkpoint is** stands in no name. Beside exactly one VM it is that VM's. Beside several, its own configuration
//! says it, else the list in a VM's configuration (`checkpoints`); these are read during discovery and remembered as long as
//! their attributes stay equal. A checkpoint of no VM is reported and captured alone, under its own id, so that it never
//! stands for the newest state of a VM that it may belong to.
//!
//! Nothing is followed out of the roots, nothing found is written to, and no content is trusted before it is proved.

mod capture;
mod checkpoints;
pub(crate) mod disks;
mod group;
mod listing;
pub(crate) mod open;
#[cfg(test)]
mod tests;
mod walk;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use lifeboat_engine::source::{CaptureSink, Discovery, DiscoveryProblem, FoundVm, HostSource, SourceError};
use lifeboat_schema::VmRecord;

use crate::exclude::ExcludePattern;

/// Choices of a [`DirectorySource`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryOptions {
    /// How often a VM is read before its copy is called torn; at least once.
    pub attempts: u32,
    /// Pause before each further attempt.
    pub retry_delay_milliseconds: u64,
    /// Whether symbolic links are followed; never out of the roots.
    pub follow_links: bool,
    /// Folders between a root and a folder that holds VMs.
    pub max_depth: u32,
    /// Places to leave out.
    pub exclude: Vec<ExcludePattern>,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        Self {
            attempts: 5,
            retry_delay_milliseconds: 200,
            follow_links: false,
            max_depth: 6,
            exclude: Vec::new(),
        }
    }
}

/// Finds VMs below folders and reads them.
pub struct DirectorySource {
    name: String,
    roots: Vec<PathBuf>,
    options: DirectoryOptions,
    checkpoints: Mutex<checkpoints::Memory>,
    root_listings: listing::RootListings,
    buffers: Mutex<Vec<capture::Buffers>>,
    #[cfg(test)]
    hook: Option<tests::Hook>,
}

impl DirectorySource {
    /// Makes a source over `roots`, which are not looked at yet.
    pub fn new(name: impl Into<String>, roots: Vec<PathBuf>, options: DirectoryOptions) -> Self {
        Self {
            name: name.into(),
            roots,
            options,
            checkpoints: Mutex::default(),
            root_listings: listing::RootListings::default(),
            buffers: Mutex::default(),
            #[cfg(test)]
            hook: None,
        }
    }

    /// The roots that can be read, each once, and trouble with the others.
    fn usable_roots(&self) -> (Vec<PathBuf>, Vec<DiscoveryProblem>) {
        let mut usable: Vec<(PathBuf, PathBuf)> = Vec::new();
        let mut problems = Vec::new();
        for root in &self.roots {
            let checked = std::fs::read_dir(root).and_then(|_| std::fs::canonicalize(root));
            match checked {
                Ok(canonical) => usable.push((canonical, root.clone())),
                Err(source) => problems.push(DiscoveryProblem {
                    place: root.display().to_string(),
                    error: SourceError::Unreadable { place: root.display().to_string(), source },
                }),
            }
        }
        // A root inside another is spelled as the other spells it, so that what both find is seen to be one.
        usable.sort();
        usable.dedup_by(|later, first| later.0 == first.0);
        let roots = usable.iter().map(|(canonical, root)| {
            let outer = usable.iter().find(|(outer, _)| outer != canonical && canonical.starts_with(outer));
            match outer.and_then(|(outer, name)| Some(name.join(canonical.strip_prefix(outer).ok()?))) {
                Some(inside) => inside,
                None => root.clone(),
            }
        });
        (roots.collect(), problems)
    }

    /// Tells a test where the capture stands.
    fn at(&self, _step: Step, _path: &Path) {
        #[cfg(test)]
        if let Some(hook) = &self.hook {
            hook(_step, _path);
        }
    }
}

/// Steps of a capture at which a test may interfere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// A file was opened and its attributes were taken.
    Opened,
    /// A file was read into memory.
    Held,
    /// A part of a large file went to the sink.
    Streamed,
}

impl HostSource for DirectorySource {
    fn name(&self) -> String {
        self.name.clone()
    }

    /// Reads folders and attributes; of content only the configurations of checkpoints beside several VMs, once.
    fn discover(&self) -> Result<Discovery, SourceError> {
        self.root_listings.clear();
        let (roots, mut problems) = self.usable_roots();
        if roots.is_empty()
            && let Some(problem) = problems.pop()
        {
            return Err(problem.error);
        }
        let walked = walk::walk(&roots, &self.options);
        let mut memory = self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let mut discovery = group::group(walked, &roots, &mut memory);
        problems.append(&mut discovery.problems);
        discovery.problems = problems;
        Ok(discovery)
    }

    fn still_holds(&self, vm: &FoundVm, watched: &[u8]) -> bool {
        watch::Watched::parse(watched).is_some_and(|watched| disks::still_hold(self, vm, &watched))
    }

    fn refresh(&self, vm: &FoundVm, watched: &[u8]) -> Option<Vec<u8>> {
        let watched = watch::Watched::parse(watched)?;
        disks::refresh(self, vm, &watched).map(|watched| watched.encode())
    }

    fn capture(&self, vm: &FoundVm, sink: &mut dyn CaptureSink) -> Result<VmRecord, SourceError> {
        let idle = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut buffers = idle.unwrap_or_default();
        let result = capture::capture(self, vm, sink, &mut buffers);
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        result
    }
}
