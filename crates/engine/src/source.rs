//! The port through which the engine sees hosts: where VMs are found and how their files are read whole.
//!
//! A source reads and proves; it seals nothing and decides nothing about retention or reuse. The engine
//! brings a [`CaptureSink`] that takes the bytes. Sources are blocking; the engine runs them on threads.

use lifeboat_schema::{ArtefactKind, Class, CompanionRecord, Digest, Layout, VmRecord};

/// A place where VMs are found, such as a directory tree or a Hyper-V host.
pub trait HostSource: Send + Sync {
    /// What messages call it.
    fn name(&self) -> String;

    /// Finds the VMs, cheaply: folders and file attributes, no content.
    ///
    /// # Errors
    /// When the place itself cannot be read. A single VM's trouble is a [`DiscoveryProblem`].
    fn discover(&self) -> Result<Discovery, SourceError>;

    /// Tells whether what the last capture watched beside the VM's own files (see [`CaptureSink::watch`]) is still what it
    /// was: attributes, no content.
    fn still_holds(&self, vm: &FoundVm, watched: &[u8]) -> bool {
        let _ = vm;
        watched.is_empty()
    }

    /// Looks closer where [`still_holds`](Self::still_holds) said no: if only attributes changed, and nothing that a capture
    /// would keep, gives what to watch from now on.
    fn refresh(&self, vm: &FoundVm, watched: &[u8]) -> Option<Vec<u8>> {
        let _ = (vm, watched);
        None
    }

    /// Reads every file of `vm` whole into `sink`, and says what the files describe.
    ///
    /// # Errors
    /// [`SourceError`]; what the sink took is then worth nothing.
    fn capture(&self, vm: &FoundVm, sink: &mut dyn CaptureSink) -> Result<VmRecord, SourceError>;

    /// Reads a companion ([`FoundVm::is_companion`]) into `sink`, and says what it is. Sources of VMs find none.
    ///
    /// # Errors
    /// [`SourceError`]; what the sink took is then worth nothing.
    fn capture_companion(
        &self,
        found: &FoundVm,
        sink: &mut dyn CaptureSink,
    ) -> Result<CompanionRecord, SourceError> {
        let _ = sink;
        let what = "its source does not know companions".to_owned();
        Err(SourceError::Contradiction { place: found.place.clone(), what })
    }
}

/// Ids of companions begin so; ids of VMs are GUIDs.
pub const COMPANION_PREFIX: &str = "companion/";

/// What a source found.
#[derive(Debug, Default)]
pub struct Discovery {
    /// VMs, in an order that repeats.
    pub vms: Vec<FoundVm>,
    /// Files or folders that look like VMs and are none, or could not be read.
    pub problems: Vec<DiscoveryProblem>,
}

/// Trouble with one place during discovery.
#[derive(Debug)]
pub struct DiscoveryProblem {
    /// The folder or file.
    pub place: String,
    /// What happened there.
    pub error: SourceError,
}

/// A VM, or a companion, that was found and not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundVm {
    /// The VM's id: a GUID in lower case without braces. A companion's begins with [`COMPANION_PREFIX`].
    pub vm_id: String,
    /// The folder that its files lie in.
    pub place: String,
    /// How they lie there.
    pub layout: Layout,
    /// Its files, configuration first.
    pub files: Vec<FoundFile>,
}

/// One file of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Place in the VM's folder of an export, with `/`.
    pub path: String,
    /// What the source opens.
    pub location: std::path::PathBuf,
    /// What it is.
    pub kind: ArtefactKind,
    /// Its attributes when it was found.
    pub stat: FileStat,
}

/// Attributes that change whenever a file's content does. Equal attributes stand for equal content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// Size in bytes.
    pub size: u64,
    /// Last modification in nanoseconds since 1970.
    pub modified_ns: i128,
    /// Last change of content or attributes in nanoseconds since 1970; 0 where the system has none.
    pub changed_ns: i128,
    /// Number of the file in its file system; 0 where the system has none.
    pub file_id: u64,
}

impl FoundVm {
    /// Tells whether it is a companion: something that VMs depend on, and no VM.
    pub fn is_companion(&self) -> bool {
        self.vm_id.starts_with(COMPANION_PREFIX)
    }

    /// The attributes of all files as bytes: equal if and only if nothing changed.
    pub fn fingerprint(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.files.len() * 80);
        for file in &self.files {
            bytes.extend_from_slice(file.path.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&file.stat.size.to_le_bytes());
            bytes.extend_from_slice(&file.stat.modified_ns.to_le_bytes());
            bytes.extend_from_slice(&file.stat.changed_ns.to_le_bytes());
            bytes.extend_from_slice(&file.stat.file_id.to_le_bytes());
        }
        bytes
    }
}

/// What is remembered of a captured VM: the digest of its fingerprint, and what its source watches.
pub(crate) fn remember(vm: &FoundVm, watched: &[u8]) -> Vec<u8> {
    let mut bytes = Digest::of(&vm.fingerprint()).as_bytes().to_vec();
    bytes.extend_from_slice(watched);
    bytes
}

/// What was watched, if the VM's own files are still what was remembered.
pub(crate) fn watched_of<'a>(vm: &FoundVm, remembered: &'a [u8]) -> Option<&'a [u8]> {
    remembered.strip_prefix(Digest::of(&vm.fingerprint()).as_bytes())
}

/// What a source learns before it hands over content, so that the engine can tell whose VM it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmIdentity<'a> {
    /// The VM's id.
    pub vm_id: &'a str,
    /// The VM's name.
    pub name: &'a str,
    /// SHA-256 thumbprint of the signing certificate of its VM key protector's owner guardian.
    pub owner_guardian: Option<Digest>,
}

/// Takes the bytes of one VM's files.
pub trait CaptureSink {
    /// Begins a VM, or begins it again after a torn attempt.
    ///
    /// # Errors
    /// [`SinkError`].
    fn begin_vm(&mut self, identity: &VmIdentity<'_>) -> Result<(), SinkError>;

    /// Begins a file.
    ///
    /// # Errors
    /// [`SinkError`].
    fn begin_file(&mut self, path: &str, kind: ArtefactKind, class: Class) -> Result<(), SinkError>;

    /// Takes the next part of the file: [`lifeboat_schema::PART_BYTES`] bytes, or fewer at its end.
    ///
    /// # Errors
    /// [`SinkError`].
    fn part(&mut self, bytes: &[u8]) -> Result<(), SinkError>;

    /// Ends the file and gives its digest.
    ///
    /// # Errors
    /// [`SinkError`].
    fn end_file(&mut self) -> Result<Digest, SinkError>;

    /// Takes what the source watches beside the VM's own files: bytes of its own, which it gets back in the next run.
    fn watch(&mut self, watched: Vec<u8>) {
        let _ = watched;
    }
}

/// The engine cannot take more: sealing or the store failed, or the run was cancelled. Ends the run.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// Why a VM could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A file or folder cannot be read.
    #[error(
        "{place} cannot be read: {source}; give the agent the right to read it, or take it out of the roots"
    )]
    Unreadable {
        /// The file or folder.
        place: String,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file kept changing while it was read, or its content is not whole.
    #[error(
        "{place} is torn: {what}; after {attempts} attempts no whole copy was had. Take the snapshot from a shadow copy or an export, or while the VM is idle"
    )]
    Torn {
        /// The file.
        place: String,
        /// What showed it.
        what: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// The content is damaged in a way that reading again does not mend.
    #[error(
        "{place} is damaged: {what}; restore the file from an older snapshot, or let Hyper-V write it anew"
    )]
    Damaged {
        /// The file.
        place: String,
        /// Which rule of the format is broken.
        what: String,
    },
    /// The files contradict each other.
    #[error("{place}: {what}")]
    Contradiction {
        /// The file.
        place: String,
        /// What does not fit.
        what: String,
    },
    /// The engine took no more.
    #[error(transparent)]
    Sink(#[from] SinkError),
}
