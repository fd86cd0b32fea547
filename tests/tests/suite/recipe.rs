//! Recovery with stock tools only: the script of `docs/vault-format.md`, taken from the page and run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lifeboat_disk_head::DiskHead;
use lifeboat_schema::{Class, Content, Digest, Record, Role, SnapshotBody};
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_tests::testfabric::{DiskFiles, FabricOptions, Planted};
use lifeboat_vault::record::SignedRecord;
use lifeboat_vault::seal::{Recipients, SealOptions, Sealer};
use lifeboat_vault::store::Store;
use lifeboat_vault::vault::{Memory, object_path};
use lifeboat_vault::writer::object_entry;

use crate::told;

const TOOLS: [&str; 8] = ["bash", "age", "zstd", "tar", "jq", "b3sum", "ssh-keygen", "base32"];

/// The script: the one block of code under its heading.
fn script() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/vault-format.md");
    let page = std::fs::read_to_string(page).expect("the document is in the repository");
    let (_, section) = page.split_once("\n## Recovering with stock tools\n").expect("the heading");
    let (_, block) = section.split_once("\n```bash\n").expect("the block begins");
    let (script, _) = block.split_once("\n```\n").expect("the block ends");
    script.to_owned()
}

fn missing_tool() -> Option<&'static str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    TOOLS.into_iter().find(|tool| !std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()))
}

/// A vault in a folder with one host that ran three times, and a file of several parts among its VMs'.
struct Scene {
    stage: Stage,
    vault: PathBuf,
    script: PathBuf,
    identity: PathBuf,
}

impl Scene {
    async fn set() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder").keep();
        let vault = folder.join("vault");
        let url = format!("file://{}", vault.display());
        Store::create_root(&url).expect("a folder for the vault");
        let store = Store::open(&url, &Default::default(), &|_| None).expect("a store");
        // Of the three disks one has a clear key, which no file that comes back may hold.
        let fabric = FabricOptions { disks: DiskFiles::Sparse, ..tiny_fabric(3, 77) };
        let mut stage = Stage::set(store, &url, &fabric).await;
        let names = stage.fabric.answers().hosts.clone();
        let host = stage.enroll(&names[0]).await.expect("a host is let in");
        stage.run(host).await.expect("a first run");
        grow_a_file(&stage);
        stage.run(host).await.expect("a run with a large file");
        stage.run(host).await.expect("an unchanged run");
        let script = folder.join("recover.sh");
        std::fs::write(&script, self::script()).expect("the script is written");
        let identity = folder.join("restore.identity");
        std::fs::write(&identity, stage.identity_text(Role::Restore)).expect("the identity is written");
        Self { stage, vault, script, identity }
    }

    fn recover(&self, id: &str, vm: &str, out: &Path) -> Output {
        Command::new("bash")
            .arg(&self.script)
            .arg(&self.vault)
            .args([id, self.stage.hosts[0].id.as_str()])
            .arg(&self.identity)
            .arg(vm)
            .arg(out)
            .output()
            .expect("bash runs")
    }
}

impl Scene {
    /// The host's next record: all its VMs have one name, and it no longer has the subject of the VM `gone`,
    /// though it still names the body that describes it.
    async fn all_named(&self, name: &str, gone: &str) {
        let (vault, host) = (&self.stage.vault, &self.stage.hosts[0]);
        let ledgers = vault.ledgers(&Memory::default()).await.expect("ledgers");
        let newest = ledgers.writers[&host.id].newest().expect("a record").signed.clone();
        let owner = self.stage.policies().await.newest().expect("a policy").terms.owners[0].clone();
        let recipients = Recipients::parse(&owner.recipients_of(Class::Metadata)).expect("recipients");
        let identities = self.stage.identity(Role::Restore);
        let mut record =
            Record { seq: newest.name.seq + 1, prev: Some(newest.name.id), ..newest.record.clone() };
        for object in record.objects.iter_mut().filter(|object| object.content == Content::Body) {
            let mut body: SnapshotBody =
                vault.read_body(&newest.record, object, &identities).await.expect("a body");
            for vm in &mut body.vms {
                name.clone_into(&mut vm.vm.name);
                if vm.vm.vm_id == gone {
                    record.subjects.remove(&vm.subject);
                }
            }
            let json = serde_json::to_vec(&body).expect("a body's text");
            let sealed = Sealer::new(&SealOptions::default())
                .and_then(|mut sealer| sealer.seal_body(&recipients, &json))
                .expect("sealed");
            *object = object_entry(&sealed, Content::Body, object.class, &owner.id, &object.recipients);
            let path = object_path(&host.id, &object.name);
            vault.store.create_object(&path, sealed.bytes.into()).await.expect("put");
        }
        assert_eq!(record.subjects.len() + 1, newest.record.subjects.len());
        let signed = SignedRecord::sign(record, &host.key()).expect("a signature");
        vault.put_record(&host.id, &signed).await.expect("committed");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let folder = self.script.parent().expect("it lies in a folder");
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Puts a guest-state file of three parts beside a VM: opaque to this version, and so kept as it is.
fn grow_a_file(stage: &Stage) {
    let (host, vm) = (&stage.hosts[0], &stage.fabric.answers().vms[0]);
    let found = walk(&stage.fabric.host_dir(&host.name))
        .into_iter()
        .find(|path| path.to_string_lossy().to_lowercase().ends_with(&format!("{}.vmgs", vm.vm_id)));
    let path = found.expect("each VM of the fabric has a guest state");
    let content: Vec<u8> = (0..9_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(path, content).expect("the guest state grows");
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

fn is_head(file: &Path) -> bool {
    file.parent().is_some_and(|folder| folder.ends_with("Disk Heads"))
}

/// A head of a disk came back with it, and without the clear key that stands on one of the disks.
fn check_head(stage: &Stage, file: &Path) {
    let bytes = std::fs::read(file).expect("readable");
    assert!(!DiskHead::parse(&bytes).expect("a head").pieces.is_empty());
    let markers = stage.fabric.answers().markers();
    let keys: Vec<_> = markers.filter(|marker| marker.planted == Planted::ClearKey).collect();
    assert!(!keys.is_empty(), "no disk is suspended");
    let holds = |key: &[u8]| bytes.windows(key.len()).any(|window| window == key);
    assert!(keys.iter().all(|marker| !holds(&marker.bytes)), "{} holds a clear key", file.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_script_brings_a_vm_back_byte_for_byte() {
    if let Some(tool) = missing_tool() {
        return told(&format!("skipped: {tool} is not installed"));
    }
    let scene = Scene::set().await;
    let id = scene.stage.vault.id.to_string();
    let answers = scene.stage.fabric.answers();
    let out = tempfile::tempdir().expect("a temporary folder");
    let (mut recovered, mut heads) = (0, 0);
    for vm in &answers.vms {
        let to = out.path().join(&vm.vm_id);
        let output = scene.recover(&id, &vm.name, &to);
        assert!(output.status.success(), "{}: {}", vm.name, String::from_utf8_lossy(&output.stderr));
        // The host's own files are the truth: each has one recovered file of its name and bytes.
        for file in walk(&to) {
            if is_head(&file) {
                check_head(&scene.stage, &file);
                heads += 1;
                continue;
            }
            let name = file.file_name().expect("a file").to_owned();
            let original = walk(&scene.stage.fabric.host_dir(&scene.stage.hosts[0].name))
                .into_iter()
                .find(|path| path.file_name() == Some(&name));
            let original = std::fs::read(original.expect("it was on the host")).expect("readable");
            let same = Digest::of(&std::fs::read(&file).expect("readable")) == Digest::of(&original);
            assert!(same, "{} differs", file.display());
            recovered += 1;
        }
    }
    assert_eq!(heads, answers.vms.iter().map(|vm| vm.disks.len()).sum::<usize>(), "one head for each disk");
    assert!(recovered >= 3 * answers.vms.len(), "only {recovered} files of {} VMs", answers.vms.len());
    told(&format!("recipe: {recovered} files of {} VMs came back byte for byte", answers.vms.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_script_takes_an_id_where_a_name_is_not_enough() {
    if let Some(tool) = missing_tool() {
        return told(&format!("skipped: {tool} is not installed"));
    }
    let scene = Scene::set().await;
    let id = scene.stage.vault.id.to_string();
    let vms: Vec<&str> = scene.stage.fabric.answers().vms.iter().map(|vm| vm.vm_id.as_str()).collect();
    scene.all_named("twin", vms[0]).await;
    let out = tempfile::tempdir().expect("a temporary folder");
    let stops = |vm: &str, to: &str, says: &[&str]| {
        let output = scene.recover(&id, vm, &out.path().join(to));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(4), "{vm}: {text}");
        assert!(says.iter().all(|word| text.contains(word)), "{text}");
        assert!(walk(&out.path().join(to)).is_empty(), "{vm}: files came back");
        text
    };
    let text = stops("Twin", "by-name", &["several VMs", vms[1], vms[2]]);
    assert!(!text.contains(vms[0]), "the record no longer has {}: {text}", vms[0]);
    stops(vms[0], "gone", &["no VM of the newest record"]);
    for (vm, written) in [(vms[1], vms[1].to_owned()), (vms[2], format!("{{{}}}", vms[2].to_uppercase()))] {
        let to = out.path().join(vm);
        let output = scene.recover(&id, &written, &to);
        assert!(output.status.success(), "{written}: {}", String::from_utf8_lossy(&output.stderr));
        let names = walk(&to);
        assert!(names.iter().any(|path| path.to_string_lossy().to_lowercase().contains(vm)), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_script_stops_at_what_it_cannot_believe() {
    if let Some(tool) = missing_tool() {
        return told(&format!("skipped: {tool} is not installed"));
    }
    let scene = Scene::set().await;
    let id = scene.stage.vault.id.to_string();
    let vm = scene.stage.fabric.answers().vms[1].name.clone();
    let out = tempfile::tempdir().expect("a temporary folder");
    let other = lifeboat_schema::VaultId::of(b"another").to_string();
    assert_eq!(scene.recover(&other, &vm, &out.path().join("other")).status.code(), Some(4));
    let mut stopped = 0;
    for file in walk(&scene.vault.join("ledger")).into_iter().chain(walk(&scene.vault.join("objects"))) {
        let whole = std::fs::read(&file).expect("readable");
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        std::fs::write(&file, &damaged).expect("writable");
        let to = out.path().join("damaged");
        let output = scene.recover(&id, &vm, &to);
        // An object that this VM does not need may be damaged; what comes back is whole all the same.
        if output.status.success() {
            for file in walk(&to).into_iter().filter(|file| !is_head(file)) {
                let name = file.file_name().expect("a file").to_owned();
                let original = walk(&scene.stage.fabric.host_dir(&scene.stage.hosts[0].name))
                    .into_iter()
                    .find(|path| path.file_name() == Some(&name));
                assert_eq!(
                    std::fs::read(&file).expect("readable"),
                    std::fs::read(original.expect("it was on the host")).expect("readable")
                );
            }
        } else {
            stopped += 1;
        }
        let _ = std::fs::remove_dir_all(&to);
        std::fs::write(&file, &whole).expect("writable");
    }
    // Every record and the objects of this VM at least.
    assert!(stopped >= 6, "it stopped {stopped} times only");
    told(&format!("recipe: stopped at {stopped} damaged files"));
}
