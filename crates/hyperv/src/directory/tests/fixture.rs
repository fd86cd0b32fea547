//! Hosts in temporary folders, and a sink that keeps what it gets.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use lifeboat_engine::source::{
    CaptureSink, Discovery, FoundVm, HostSource as _, SinkError, SourceError, VmIdentity,
};
use lifeboat_key_protector::{
    AlgorithmRegistry, AlgorithmSuite, EncodeOptions, GuardianKeys, KeyProtectorTemplate, TransportKey,
    Validity,
};
use lifeboat_schema::{ArtefactKind, Class, Digest, DigestBuilder, PART_BYTES, VmRecord};
use lifeboat_vmcx::{TreeBuilder, VmcxWriter, WriteOptions};
use lifeboat_vmgs::FileId;
use lifeboat_vmgs::fixtures::{StoreOptions, StoreWriter};
use rand_chacha_0_10::ChaCha20Rng;
use rand_chacha_0_10::rand_core::SeedableRng;
use zeroize::Zeroizing;

use super::super::{DirectoryOptions, DirectorySource};

pub(super) const WEB: &str = "282874FC-59D6-4F30-BC04-5FDD909C82E0";
pub(super) const SQL: &str = "0B0F5A5E-9D2C-4C7A-8A31-7E2D6B3C9F10";
pub(super) const BEFORE_UPDATE: &str = "11111111-2222-4333-8444-555555555555";
pub(super) const AFTER_UPDATE: &str = "66666666-7777-4888-9999-AAAAAAAAAAAA";

pub(super) const KEY_PROTECTOR: &str = "/configuration/security/keys/key_protector";
pub(super) const LAST_KNOWN_GOOD: &str = "/configuration/security/keys/lkg_key_protector";
pub(super) const VTPM: &str = "/configuration/security/vtpm/vtpm_engine_nvram";

/// The configuration of a shielded VM.
pub(super) fn vmcx(id: &str, name: &str) -> TreeBuilder {
    let firmware = "/configuration/_ac6b8dc1-3257-4a70-b1b2-a9c9215659ad_";
    TreeBuilder::new()
        .set("/configuration/properties/global_id", id)
        .set("/configuration/properties/name", name)
        .set("/configuration/properties/subtype", 1)
        .set("/configuration/properties/version", 0x0A00)
        .set("/configuration/settings/global/logical_id", id)
        .set("/configuration/security/settings/tpm_enabled", true)
        .set("/configuration/security/settings/shielding_requested", true)
        .set(&format!("{firmware}/secure_boot_enabled"), true)
        .set(&format!("{firmware}/secure_boot_template_id"), "1734C6E8-3154-4DDA-BA5F-A874CC483422")
}

/// A runtime state with a VM key protector and vTPM state of these bytes.
pub(super) fn vmrs(key_protector: &[u8], vtpm: &[u8]) -> TreeBuilder {
    TreeBuilder::new()
        .set("/configuration/properties/version", 0x0A00)
        .set(KEY_PROTECTOR, key_protector.to_vec())
        .set(LAST_KNOWN_GOOD, key_protector.to_vec())
        .set(VTPM, vtpm.to_vec())
}

pub(super) fn encode(tree: &TreeBuilder) -> Vec<u8> {
    VmcxWriter::new().encode(tree).unwrap()
}

pub(super) fn encode_dirty(tree: &TreeBuilder, pending_entries: u32) -> Vec<u8> {
    VmcxWriter::with_options(WriteOptions { pending_entries, ..WriteOptions::default() })
        .encode(tree)
        .unwrap()
}

/// The owner of the VMs, made once.
pub(super) static OWNER: LazyLock<GuardianKeys> = LazyLock::new(|| {
    let validity = Validity { not_before_unix_seconds: 1_767_225_600, not_after_unix_seconds: 2_082_758_400 };
    GuardianKeys::generate("Owner", "HOST1", validity, &mut ChaCha20Rng::seed_from_u64(1)).unwrap()
});

/// A VM key protector of [`OWNER`], in the form that Hyper-V stores.
pub(super) fn key_protector() -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(make_key_protector);
    BYTES.clone()
}

fn make_key_protector() -> Vec<u8> {
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    let registry = AlgorithmRegistry::builtin();
    let template =
        KeyProtectorTemplate::new(&OWNER, &[], &AlgorithmSuite::synthetic(), &registry, &mut rng).unwrap();
    let transport_key = TransportKey::new(Zeroizing::new(vec![7; 32])).unwrap();
    let options = EncodeOptions { max_offline_unwraps: None, byte_order_mark: false, length_prefix: true };
    template.encode(&transport_key, &OWNER, &options, &mut rng).unwrap()
}

/// A guest state with these files.
pub(super) fn guest_state(files: &[(FileId, &[u8])]) -> StoreWriter {
    let mut writer = StoreWriter::format(StoreOptions { disk_bytes: 64 << 10, ..StoreOptions::default() });
    writer.write(files).unwrap();
    writer
}

/// A folder with VMs.
pub(super) struct Host(tempfile::TempDir);

impl Host {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        if relative.is_empty() { self.0.path().to_owned() } else { self.0.path().join(relative) }
    }

    pub(super) fn write(&self, relative: &str, bytes: &[u8]) -> &Self {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self
    }

    /// Writes configuration, runtime state and guest state of a VM below `home`.
    pub(super) fn add_vm(&self, home: &str, id: &str, name: &str) -> &Self {
        self.write(&format!("{home}Virtual Machines/{id}.vmcx"), &encode(&vmcx(id, name)));
        let state = encode(&vmrs(&key_protector(), name.repeat(3000).as_bytes()));
        self.write(&format!("{home}Virtual Machines/{id}.vmrs"), &state);
        let state = guest_state(&[(FileId::BIOS_NVRAM, name.as_bytes())]).image();
        self.write(&format!("{home}Virtual Machines/{id}.vmgs"), &state)
    }

    /// Writes configuration and runtime state of a checkpoint below `home`.
    pub(super) fn add_checkpoint(&self, home: &str, id: &str, name: &str, vm_id: &str) -> &Self {
        self.write(&format!("{home}Snapshots/{id}.vmcx"), &encode(&vmcx(vm_id, name)));
        self.write(&format!("{home}Snapshots/{id}.vmrs"), &encode(&vmrs(&[0x43; 4000], &[0x54; 3000])))
    }

    pub(super) fn source(&self) -> DirectorySource {
        self.source_with(quick())
    }

    pub(super) fn source_with(&self, options: DirectoryOptions) -> DirectorySource {
        DirectorySource::new("test", vec![self.path("")], options)
    }

    pub(super) fn discover(&self) -> Discovery {
        self.source().discover().unwrap()
    }

    /// The only VM.
    pub(super) fn only(&self) -> FoundVm {
        let Discovery { mut vms, problems } = self.discover();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(vms.len(), 1, "{vms:?}");
        vms.remove(0)
    }

    /// Captures the only VM.
    pub(super) fn capture(&self) -> (Result<VmRecord, SourceError>, Sink) {
        let mut sink = Sink::default();
        (self.source().capture(&self.only(), &mut sink), sink)
    }
}

/// Options that lose no time.
pub(super) fn quick() -> DirectoryOptions {
    DirectoryOptions { retry_delay_milliseconds: 1, ..DirectoryOptions::default() }
}

pub(super) fn lower(id: &str) -> String {
    id.to_ascii_lowercase()
}

/// Paths of a VM's files.
pub(super) fn paths(vm: &FoundVm) -> Vec<&str> {
    vm.files.iter().map(|file| file.path.as_str()).collect()
}

/// Places and texts of problems, without the temporary folder.
pub(super) fn problems(host: &Host, discovery: &Discovery) -> Vec<(String, String)> {
    let root = format!("{}{}", host.path("").display(), std::path::MAIN_SEPARATOR);
    let relative = |text: &str| text.replace(&root, "").replace('\\', "/");
    discovery.problems.iter().map(|it| (relative(&it.place), relative(&it.error.to_string()))).collect()
}

/// A file as the sink got it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) path: String,
    pub(super) kind: ArtefactKind,
    pub(super) class: Class,
    pub(super) bytes: Vec<u8>,
}

/// Keeps what it gets, and checks the order of calls and the sizes of parts.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) begun: usize,
    pub(super) name: String,
    pub(super) owner_guardian: Option<Digest>,
    pub(super) files: Vec<Taken>,
    pub(super) fail_after_parts: Option<usize>,
    pub(super) watched: Vec<u8>,
    open: bool,
    short: bool,
    digest: DigestBuilder,
}

impl Sink {
    pub(super) fn file(&self, end: &str) -> &Taken {
        self.files.iter().find(|file| file.path.ends_with(end)).unwrap()
    }
}

impl CaptureSink for Sink {
    fn begin_vm(&mut self, identity: &VmIdentity<'_>) -> Result<(), SinkError> {
        self.begun += 1;
        self.name = identity.name.to_owned();
        self.owner_guardian = identity.owner_guardian;
        self.files.clear();
        self.open = false;
        Ok(())
    }

    fn begin_file(&mut self, path: &str, kind: ArtefactKind, class: Class) -> Result<(), SinkError> {
        assert!(!self.open && self.begun > 0, "{path} begins inside another file or before the VM");
        (self.open, self.short) = (true, false);
        self.digest = DigestBuilder::default();
        self.files.push(Taken { path: path.to_owned(), kind, class, bytes: Vec::new() });
        Ok(())
    }

    fn part(&mut self, bytes: &[u8]) -> Result<(), SinkError> {
        assert!(self.open && !self.short, "a part follows the last one");
        assert!(!bytes.is_empty() && bytes.len() as u64 <= PART_BYTES, "a part has {} bytes", bytes.len());
        if let Some(left) = &mut self.fail_after_parts {
            *left = left.checked_sub(1).ok_or_else(|| SinkError("the store is full".to_owned()))?;
        }
        self.short = (bytes.len() as u64) < PART_BYTES;
        self.digest.update(bytes);
        self.files.last_mut().unwrap().bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn end_file(&mut self) -> Result<Digest, SinkError> {
        assert!(std::mem::take(&mut self.open), "no file is open");
        Ok(std::mem::take(&mut self.digest).finish())
    }

    fn watch(&mut self, watched: Vec<u8>) {
        self.watched = watched;
    }
}

/// Checks that the sink got the files of `vm` byte by byte, in order.
pub(super) fn check_exact(sink: &Sink, vm: &FoundVm) {
    assert_eq!(sink.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), paths(vm));
    for (taken, found) in sink.files.iter().zip(&vm.files) {
        assert_eq!((taken.kind, taken.class), (found.kind, Class::Machine));
        assert!(taken.bytes == fs::read(&found.location).unwrap(), "{} differs", taken.path);
    }
}

/// Reads a file of the test data, or says that there is none.
pub(super) fn test_data(name: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("LIFEBOAT_TEST_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    let bytes = fs::read(folder.join("hyperv").join(name)).ok();
    if bytes.is_none() {
        println!("skipped: test data not found");
    }
    bytes
}
