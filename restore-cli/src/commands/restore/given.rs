//! What a person brings to a restore plan, read from files of this machine: originals, disks, guardian metadata.

use std::path::{Path, PathBuf};

use lifeboat_engine::restore::{Circumstances, GivenDisk, Original, Survey};
use lifeboat_engine::source::{CaptureSink, FoundVm, HostSource as _, SinkError, VmIdentity};
use lifeboat_guardian::read_guardian_metadata;
use lifeboat_hyperv::{DirectoryOptions, DirectorySource, read_disk_head};
use lifeboat_schema::{
    ArtefactKind, Class, Digest, DigestBuilder, GuardianEntry, HOST_VERSIONS, HostVersion, Time, VmRecord,
};

use crate::error::CliError;

/// Largest file that is read as guardian metadata; real ones have some 10 KiB.
const MAX_METADATA_BYTES: u64 = 1 << 20;

/// What is known of the target, and what survives.
#[derive(clap::Args)]
pub(crate) struct Given {
    /// Folders in which the original files may still lie: whole originals are registered in place, not restored.
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "all")]
    survey: Vec<PathBuf>,
    /// Disks of the VM that are at hand: they decide which snapshot fits.
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "all")]
    pub(crate) disk: Vec<PathBuf>,
    /// Guardian metadata of the fabric that the VM shall start on, such as its HGS's metadata.xml; without it, the fabrics
    /// whose metadata the vault holds.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    fabric: Vec<PathBuf>,
    /// Thumbprint (SHA-1 or SHA-256) of an owner's certificate whose private keys are at hand.
    #[arg(long, value_name = "THUMBPRINT", num_args = 1..)]
    owner: Vec<String>,
    /// Version of the host that the VM shall run on, such as "Windows Server 2022".
    #[arg(long, value_name = "HOST")]
    target: Option<String>,
}

impl Given {
    /// Reads everything but the originals, which hang on the VM.
    pub(crate) fn read(&self, has_restore_identity: bool, now: Time) -> Result<Circumstances, CliError> {
        let fabric: Vec<GuardianEntry> =
            self.fabric.iter().map(|path| guardian(path)).collect::<Result<_, _>>()?;
        Ok(Circumstances {
            has_restore_identity,
            survey: None,
            disks: self.disk.iter().map(|path| disk(path)).collect(),
            fabric: (!self.fabric.is_empty()).then_some(fabric),
            known_fabrics: Vec::new(),
            owner_keys: self.owner.clone(),
            target: self.target.as_deref().map(host).transpose()?,
            now: Some(now),
        })
    }

    /// Looks for the originals of a VM; none where nobody named a place.
    pub(crate) fn survey(&self, vm_id: &str) -> Option<Survey> {
        (!self.survey.is_empty()).then(|| survey(&self.survey, vm_id))
    }
}

/// Reads guardian metadata of a fabric.
pub(crate) fn guardian(path: &Path) -> Result<GuardianEntry, CliError> {
    let size = std::fs::metadata(path).map_err(|error| CliError::file(path, "read", &error))?.len();
    if size > MAX_METADATA_BYTES {
        return Err(CliError::usage(format!(
            "{} has {size} bytes, too many for guardian metadata; give the metadata.xml of an HGS, or what Export-HgsGuardian wrote",
            path.display()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| CliError::file(path, "read", &error))?;
    read_guardian_metadata(&bytes).map_err(|error| {
        CliError::usage(format!(
            "{} is no guardian metadata: {error}; give the metadata.xml of an HGS, or what Export-HgsGuardian wrote",
            path.display()
        ))
    })
}

fn host(name: &str) -> Result<&'static HostVersion, CliError> {
    HOST_VERSIONS.iter().find(|host| host.name.eq_ignore_ascii_case(name.trim())).ok_or_else(|| {
        let names: Vec<&str> = HOST_VERSIONS.iter().map(|host| host.name).collect();
        CliError::usage(format!(
            "--target {name:?} is no host version that is known; give one of: {}",
            names.join(", ")
        ))
    })
}

fn disk(path: &Path) -> GivenDisk {
    let head = read_disk_head(path).map(Box::new).map_err(|error| error.to_string());
    GivenDisk { path: path.display().to_string(), head }
}

/// Looks for a VM's files with the eyes of an agent: what is whole there would be captured.
fn survey(paths: &[PathBuf], vm_id: &str) -> Survey {
    let mut survey = Survey {
        searched: paths.iter().map(|path| path.display().to_string()).collect(),
        ..Survey::default()
    };
    let options =
        DirectoryOptions { attempts: 3, retry_delay_milliseconds: 50, ..DirectoryOptions::default() };
    let source = DirectorySource::new("survey", paths.to_vec(), options);
    let discovery = match source.discover() {
        Ok(discovery) => discovery,
        Err(error) => {
            survey.unread.push(error.to_string());
            return survey;
        }
    };
    survey.unread.extend(discovery.problems.iter().map(|problem| problem.error.to_string()));
    for vm in discovery.vms.iter().filter(|vm| vm.vm_id == vm_id) {
        let mut digests = Digests::default();
        let state = source.capture(vm, &mut digests).map(Box::new).map_err(|error| error.to_string());
        survey.found.push(original(vm, digests.files, state));
    }
    survey
}

fn original(vm: &FoundVm, files: Vec<(String, Digest)>, state: Result<Box<VmRecord>, String>) -> Original {
    let written = vm.files.iter().map(|file| file.stat.modified_ns).max();
    let seconds = written.and_then(|nanoseconds| i64::try_from(nanoseconds / 1_000_000_000).ok());
    let configuration = vm.files.iter().find(|file| file.kind == ArtefactKind::Configuration);
    Original {
        place: vm.place.clone(),
        configuration: configuration.map(|file| file.location.display().to_string()),
        written: seconds.map(Time::from_unix_seconds),
        files,
        state,
    }
}

/// A sink that keeps digests alone: whether the files are whole, and which they are.
#[derive(Default)]
struct Digests {
    files: Vec<(String, Digest)>,
    path: String,
    builder: DigestBuilder,
}

impl CaptureSink for Digests {
    fn begin_vm(&mut self, _: &VmIdentity<'_>) -> Result<(), SinkError> {
        self.files.clear();
        Ok(())
    }

    fn begin_file(&mut self, path: &str, _: ArtefactKind, _: Class) -> Result<(), SinkError> {
        path.clone_into(&mut self.path);
        self.builder = DigestBuilder::default();
        Ok(())
    }

    fn part(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        self.builder.update(bytes);
        Ok(())
    }

    fn end_file(&mut self) -> Result<Digest, SinkError> {
        let digest = std::mem::take(&mut self.builder).finish();
        self.files.push((std::mem::take(&mut self.path), digest));
        Ok(digest)
    }
}
