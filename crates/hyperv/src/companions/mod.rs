//! Folders with what VMs depend on beside their own files: a `HostSource` that finds companions and no VM.
//!
//! `walk`: the files of a folder. `describe`: what one says of itself. `needs`: what it is made from, or leaves out. Each file
//! is one companion, read whole or not at all: attributes before and after must be equal, or it is torn. Of a template disk,
//! which nobody writes to, only the head is read, once.
//!
//! Deliberately opens no private key (a host has no password for one), understands no PDK, VSC or HGS export, whose formats
//! are not published, and keeps no content of a template disk.

pub(crate) mod describe;
mod needs;
#[cfg(test)]
mod tests;
mod walk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_disk::{ParentSearch, open_disk};
use lifeboat_engine::source::{
    CaptureSink, Discovery, FoundVm, HostSource, SinkError, SourceError, VmIdentity,
};
use lifeboat_schema::{ArtefactKind, Class, CompanionKind, CompanionRecord, Digest, VmRecord};

use crate::capture_sink::write;
use crate::directory::disks::RootedFiles;
use crate::directory::open;
use crate::disk_head;

/// Largest companion that is kept, other than a template disk, whose content is not; it is in memory while it is read.
const MAX_COMPANION_BYTES: u64 = 128 << 20;

/// Paths of what is kept of a template disk.
const DISK_HEAD_PATH: &str = "disk-head.tar";
const DISK_SECRET_PATH: &str = "disk-secret.tar";

/// A folder of companions of one kind.
#[derive(Debug, Clone)]
pub struct CompanionFolder {
    /// Name for messages and ids; another one for each.
    pub name: String,
    /// What its files are.
    pub kind: CompanionKind,
    /// The folder.
    pub folder: PathBuf,
    /// Folder with what shielding data are made from, or what an HGS export leaves out.
    pub ingredients: Option<PathBuf>,
    /// VMs that they serve, by name or id, where the files do not tell.
    pub vms: Vec<String>,
    /// SHA-256 thumbprint of the owner guardian to whose owner (policy) they belong, where the files do not tell.
    pub owner_guardian: Option<Digest>,
    /// How often a file is read before it counts as torn.
    pub attempts: u32,
    /// Pause between two attempts.
    pub retry_delay_milliseconds: u64,
}

/// A source of companions.
#[derive(Debug)]
pub struct CompanionSource {
    options: CompanionFolder,
}

impl CompanionSource {
    /// A source over one folder.
    pub fn new(options: CompanionFolder) -> Self {
        Self { options }
    }

    /// What the file at a place is: of the folder's kind, or an ingredient.
    fn kind_at(&self, location: &Path) -> CompanionKind {
        let is_ingredient =
            self.options.ingredients.as_ref().is_some_and(|folder| location.starts_with(folder));
        if is_ingredient { CompanionKind::Ingredient } else { self.options.kind }
    }

    /// What is watched beside the file itself: the names of ingredients, and the certificate beside a PFX.
    fn watched(&self, location: &Path) -> Vec<u8> {
        let mut text = String::new();
        if self.kind_at(location) != CompanionKind::Ingredient {
            for name in self.options.ingredients.iter().flat_map(|folder| walk::names(folder)) {
                text.push_str(&name);
                text.push('\n');
            }
        }
        if let Some(beside) = describe::certificate_beside(location)
            && let Ok(stat) = open::stat_at(&beside)
        {
            text.push_str(&format!("{} {} {}", beside.display(), stat.size, stat.modified_ns));
        }
        // What the configuration says stands in the record too.
        text.push_str(&format!("\n{:?} {:?}", self.options.vms, self.options.owner_guardian));
        Digest::of(text.as_bytes()).as_bytes().to_vec()
    }

    fn read_whole(&self, location: &Path) -> Result<Vec<u8>, SourceError> {
        let place = || location.display().to_string();
        let unreadable = |source| SourceError::Unreadable { place: place(), source };
        let mut torn = String::new();
        for attempt in 0..self.options.attempts.max(1) {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(self.options.retry_delay_milliseconds));
            }
            let (file, stat) = open::open(location).map_err(unreadable)?;
            if stat.size > MAX_COMPANION_BYTES {
                return Err(SourceError::Contradiction {
                    place: place(),
                    what: format!(
                        "it has {} bytes, and a companion at most {MAX_COMPANION_BYTES}; take it out of the folder, or keep it elsewhere",
                        stat.size
                    ),
                });
            }
            let mut bytes = Vec::new();
            match open::read_held(&file, stat.size, &mut bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    torn = "its size changed while it was read".to_owned();
                    continue;
                }
                Err(error) => return Err(unreadable(error)),
            }
            // If it is another one than was found, the next run sees that and reads it again.
            if open::stat_at(location).map_err(unreadable)? == stat {
                return Ok(bytes);
            }
            torn = "it was written while it was read".to_owned();
        }
        Err(SourceError::Torn { place: place(), what: torn, attempts: self.options.attempts.max(1) })
    }

    fn blank_record(&self, found: &FoundVm, location: &Path) -> CompanionRecord {
        let name = location.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = location.display().to_string();
        CompanionRecord {
            vms: self.options.vms.clone(),
            ..CompanionRecord::new(found.vm_id.clone(), self.kind_at(location), name, place)
        }
    }

    fn begin(
        &self,
        record: &CompanionRecord,
        of_file: Option<Digest>,
        sink: &mut dyn CaptureSink,
    ) -> Result<(), SinkError> {
        let owner_guardian = self.options.owner_guardian.or(of_file);
        sink.begin_vm(&VmIdentity { vm_id: &record.id, name: &record.name, owner_guardian })
    }

    fn capture_disk(
        &self,
        mut record: CompanionRecord,
        location: &Path,
        sink: &mut dyn CaptureSink,
    ) -> Result<CompanionRecord, SourceError> {
        let place = record.place.clone();
        let refused = |what: String| SourceError::Contradiction { place: place.clone(), what };
        // A parent that the disk names elsewhere is nobody's to take here.
        let roots: Vec<PathBuf> =
            [&self.options.folder].into_iter().chain(&self.options.ingredients).cloned().collect();
        let disk = open_disk(&RootedFiles { roots: &roots }, location, &ParentSearch::default())
            .map_err(|error| refused(error.to_string()))?;
        let captured = disk_head::capture(&disk).map_err(|error| refused(error.to_string()))?;
        let mut entry = captured.entry;
        record.remarks.extend(captured.left_out);
        self.begin(&record, None, sink)?;
        entry.artefact = Some(DISK_HEAD_PATH.to_owned());
        write(sink, DISK_HEAD_PATH, ArtefactKind::DiskHead, Class::DiskHead, &captured.head)?;
        if let Some(secret) = &captured.secret {
            entry.secret_artefact = Some(DISK_SECRET_PATH.to_owned());
            write(sink, DISK_SECRET_PATH, ArtefactKind::DiskSecret, Class::Secret, secret)?;
        }
        if entry.items.is_empty() {
            record
                .remarks
                .push("no metadata item beyond those of VHDX: no volume signature catalog in it".to_owned());
        }
        record.disk = Some(entry);
        Ok(record)
    }
}

impl HostSource for CompanionSource {
    fn name(&self) -> String {
        self.options.name.clone()
    }

    fn discover(&self) -> Result<Discovery, SourceError> {
        walk::discover(&self.options)
    }

    fn still_holds(&self, found: &FoundVm, watched: &[u8]) -> bool {
        found.files.first().is_some_and(|file| self.watched(&file.location) == watched)
    }

    fn capture(&self, vm: &FoundVm, _: &mut dyn CaptureSink) -> Result<VmRecord, SourceError> {
        let what = "this source finds companions, and no VM".to_owned();
        Err(SourceError::Contradiction { place: vm.place.clone(), what })
    }

    fn capture_companion(
        &self,
        found: &FoundVm,
        sink: &mut dyn CaptureSink,
    ) -> Result<CompanionRecord, SourceError> {
        let Some(file) = found.files.first() else {
            let what = "it was found without a file".to_owned();
            return Err(SourceError::Contradiction { place: found.place.clone(), what });
        };
        // Before anything is read, so that a later change is seen by the next run.
        let watched = self.watched(&file.location);
        let record = self.blank_record(found, &file.location);
        let record = if record.kind == CompanionKind::TemplateDisk {
            self.capture_disk(record, &file.location, sink)?
        } else {
            let bytes = zeroize::Zeroizing::new(self.read_whole(&file.location)?);
            let described =
                describe::describe(record, &bytes, &file.location, self.options.ingredients.as_deref());
            self.begin(&described.record, described.owner_guardian, sink)?;
            write(sink, &file.path, ArtefactKind::Companion, described.class, &bytes)?;
            described.record
        };
        sink.watch(watched);
        Ok(record)
    }
}
