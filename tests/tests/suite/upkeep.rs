//! Runs over weeks: what they cost, what they keep alive, and what becomes of VMs that change, break, go and
//! come back, or get other owners and recipients.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lifeboat_engine::catalog::Catalog;
use lifeboat_engine::snapshot::{
    SnapshotContext, SnapshotError, SnapshotOptions, SnapshotReport, Unobserved, snapshot,
};
use lifeboat_engine::source::{
    CaptureSink, Discovery, FileStat, FoundFile, FoundVm, HostSource, SourceError, VmIdentity,
};
use lifeboat_schema::{
    ArtefactKind, CarriedWhy, Class, Content, Cut, Digest, Exit, Layout, OwnerId, OwnerTerms, PART_BYTES,
    PolicyRef, PolicyTerms, Record, Role, VmEntry, VmRecord, VmSelector, WriterId,
};
use lifeboat_tests::fault_store::FaultStore;
use lifeboat_tests::stage::{Stage, restore_all, tiny_fabric};
use lifeboat_tests::testfabric::{AgeOptions, FabricOptions, Lack, Player};
use lifeboat_vault::check::RoleIdentity;
use lifeboat_vault::policy::PolicyProblem;
use lifeboat_vault::record::SignedRecord;
use lifeboat_vault::seal::{Identities, NewIdentity, NoCallbacks};
use lifeboat_vault::vault::{Memory, VaultError};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::life::{assert_clean, check_with, codes, faulty, newest, newest_entry, restore_history};

/// A stage with all hosts of a fabric let in, none of them run, and the store's faults and counts.
async fn set(fabric: &FabricOptions) -> (Stage, FaultStore<Arc<dyn ObjectStore>>) {
    let (store, faults) = faulty(Arc::new(InMemory::new()));
    let mut stage = Stage::set(store, "memory://", fabric).await;
    for name in stage.fabric.answers().hosts.clone() {
        stage.enroll(&name).await.expect("a host is let in");
    }
    (stage, faults)
}

async fn run(stage: &Stage) -> SnapshotReport {
    stage.run(0).await.expect("a run")
}

/// The newest record of a host.
async fn newest_record(stage: &Stage, host: usize) -> Record {
    let ledgers = stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    ledgers.writers[&stage.hosts[host].id].newest().expect("a record").signed.record.clone()
}

fn identity(new: &NewIdentity) -> Identities {
    Identities::parse(new.file(&[]).expose().as_bytes(), None, NoCallbacks).expect("an identity")
}

/// Signs a policy that follows the newest one, with `change` made to its terms, and no sealed names.
async fn new_policy(stage: &Stage, change: impl FnOnce(&mut PolicyTerms)) -> PolicyRef {
    let (ledger, policies) = stage.vault.policies(None).await.expect("policies");
    let policy = policies.newest().expect("a policy");
    let last = ledger.newest().expect("a record").signed.clone();
    let mut terms = policy.terms.clone();
    change(&mut terms);
    let record = Record {
        seq: last.name.seq + 1,
        prev: Some(last.name.id),
        policy: Some(policy.place),
        objects: Vec::new(),
        terms: Some(terms),
        ..last.record
    };
    let signed = SignedRecord::sign(record, &stage.admins[1]).expect("a signature");
    stage.vault.put_record(&WriterId::admin(), &signed).await.expect("a put");
    let place = PolicyRef { seq: signed.name.seq, id: signed.name.id };
    let (ledger, policies) = stage.vault.policies(None).await.expect("policies");
    assert_eq!(ledger.findings, [], "the policy is taken");
    assert_eq!(policies.newest().expect("a policy").place, place);
    place
}

/// One to three of so many VMs change in a round.
fn few(vms: u32) -> impl Fn(u32) -> AgeOptions {
    move |round| AgeOptions::change(round, (f64::from(1 + round % 3) * 100.0 / f64::from(vms)).min(100.0))
}

/// Weeks of runs over so many VMs, with a change before each but the first; gives the most objects and the
/// most bundles that a record named.
async fn weeks(vms: u32, runs: u32, threads: usize, change: impl Fn(u32) -> AgeOptions) -> (u64, u64) {
    let (mut stage, _) = set(&tiny_fabric(vms, 31)).await;
    stage.options = SnapshotOptions { threads, ..SnapshotOptions::default() };
    let limit = 32 * u64::from(vms.div_ceil(100));
    let (mut most, mut most_bundles, mut captured) = (0, 0, 0);
    let mut changes = u64::from(vms);
    for round in 0..runs {
        if round > 0 {
            let aged = stage.fabric.age(&change(round)).expect("a change");
            changes += (aged.changed.len() + aged.rolled.len()) as u64;
        }
        let report = run(&stage).await;
        assert!(report.failed.is_empty() && report.carried.is_empty(), "round {round}");
        assert_eq!((report.found, report.captured + report.unchanged), (u64::from(vms), u64::from(vms)));
        let record = newest_record(&stage, 0).await;
        assert_eq!(record.objects.len() as u64, report.live_objects);
        let bundles = record.objects.iter().filter(|o| o.content == Content::Bundle).count() as u64;
        assert!(bundles <= limit, "round {round}: {bundles} bundles are alive");
        assert!(report.live_objects - bundles <= 8, "round {round}: as few bodies");
        (most, most_bundles) = (most.max(report.live_objects), most_bundles.max(bundles));
        captured += report.captured;
    }
    assert_clean(&stage.check().await.expect("a check"), "after all runs");
    assert_eq!(stage.assert_all_come_back().await, vms as usize);
    // Some were read again although they had not changed, and not all of them all the time.
    assert!(captured < changes + u64::from(runs * vms) / 4, "{captured} captures for {changes} changes");
    (most, most_bundles)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_vms_stay_in_few_objects() {
    let most = weeks(100, 60, 2, few(100)).await;
    crate::told(&format!("100 VMs, 60 runs: at most {} live objects, {} bundles", most.0, most.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn thirty_vms_stay_in_few_objects_with_many_threads() {
    let most = weeks(30, 70, 8, few(30)).await;
    crate::told(&format!("30 VMs, 70 runs: at most {} live objects, {} bundles", most.0, most.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_vm_stays_in_few_objects() {
    let most = weeks(1, 65, 8, few(1)).await;
    crate::told(&format!("1 VM, 65 runs: at most {} live objects, {} bundles", most.0, most.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_vms_of_which_only_a_part_changes_stay_in_few_bundles() {
    let rolls = |round| AgeOptions { round, roll: 8 + round % 9, ..AgeOptions::default() };
    let most = weeks(60, 30, 8, rolls).await;
    crate::told(&format!("60 VMs, 30 runs of rolls: at most {} live objects, {} bundles", most.0, most.1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_host_held_is_lost_by_compaction() {
    let (mut stage, _) = set(&tiny_fabric(4, 32)).await;
    stage.options.bundle_bytes = SnapshotOptions::default().bundle_bytes;
    for round in 0..40 {
        if round > 0 {
            stage.fabric.age(&AgeOptions::change(round, 50.0)).expect("a change");
        }
        run(&stage).await;
    }
    assert_clean(&stage.check().await.expect("a check"), "after forty runs");
    let (folder, identities) = (stage.new_folder(), Arc::new(stage.identity(Role::Restore)));
    let files = restore_history(&stage.vault, &identities, &folder).await;
    assert!(files >= 40 * 4 * 3, "{files} files of forty records");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_run_is_two_puts() {
    // In bundles of 64 KiB, few of which are full: nothing is compacted for it.
    let (stage, faults) = set(&tiny_fabric(16, 33)).await;
    let first = run(&stage).await;
    for round in 2..5 {
        let before = faults.counts();
        let report = run(&stage).await;
        let after = faults.counts();
        assert_eq!((report.captured, report.unchanged, report.stored_objects), (0, 16, 1));
        assert_eq!((after.puts - before.puts, after.deletes), (2, 0), "a body and a record");
        let written = after.bytes_written - before.bytes_written;
        assert!(written < 16 << 10 && written * 20 < first.stored_bytes, "{written} bytes");
        assert_eq!(after.gets - before.gets, 2, "round {round}: two policies, and nothing of its own");
    }
}

/// VMs whose guest state is large and almost empty, as real ones are.
struct Sparse {
    vms: u32,
    guest_state_bytes: usize,
}

impl HostSource for Sparse {
    fn name(&self) -> String {
        "sparse".to_owned()
    }

    fn discover(&self) -> Result<Discovery, SourceError> {
        let found = |number: u32| {
            let stat =
                FileStat { size: self.guest_state_bytes as u64, modified_ns: 1, changed_ns: 1, file_id: 1 };
            let file = FoundFile {
                path: format!("Virtual Machines/{number}.vmgs"),
                location: PathBuf::new(),
                kind: ArtefactKind::GuestState,
                stat,
            };
            let place = format!("/vm/{number}");
            FoundVm { vm_id: format!("vm-{number:04}"), place, layout: Layout::Live, files: vec![file] }
        };
        Ok(Discovery { vms: (0..self.vms).map(found).collect(), problems: vec![] })
    }

    fn capture(&self, vm: &FoundVm, sink: &mut dyn CaptureSink) -> Result<VmRecord, SourceError> {
        sink.begin_vm(&VmIdentity { vm_id: &vm.vm_id, name: &vm.vm_id, owner_guardian: None })?;
        let mut content = vec![0; self.guest_state_bytes];
        // Something that does not compress: a chain of digests of the VM's id.
        let mut digest = Digest::of(vm.vm_id.as_bytes());
        for chunk in content.chunks_mut(32).take(1000) {
            chunk.copy_from_slice(digest.as_bytes());
            digest = Digest::of(digest.as_bytes());
        }
        sink.begin_file(&vm.files[0].path, vm.files[0].kind, Class::Machine)?;
        for part in content.chunks(PART_BYTES as usize) {
            sink.part(part)?;
        }
        sink.end_file()?;
        Ok(VmRecord::unexplored(&vm.vm_id, &vm.vm_id, vm.layout, &vm.place))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_almost_empty_files_share_bundles_and_are_read_once() {
    let (stage, _) = set(&tiny_fabric(1, 46)).await;
    let host = &stage.hosts[0];
    for (guest_state_bytes, bundle_bytes) in [(1 << 20, 1 << 20), (900_000, 1 << 20), (4 << 20, 4 << 20)] {
        let mut catalog = Catalog::in_memory(&stage.vault.id, &host.id).expect("a catalog");
        let source: Arc<dyn HostSource> = Arc::new(Sparse { vms: 40, guest_state_bytes });
        for round in 0..3 {
            let report = snapshot(SnapshotContext {
                vault: &stage.vault,
                writer: &host.writer(),
                host: "sparse",
                sources: &[Arc::clone(&source)],
                catalog: &mut catalog,
                options: &SnapshotOptions { threads: 2, bundle_bytes, ..SnapshotOptions::default() },
                only: None,
                clock: stage.clock(),
                observer: Arc::new(Unobserved),
            })
            .await
            .expect("a run");
            let expected = if round == 0 { (40, 0) } else { (0, 40) };
            assert_eq!((report.captured, report.unchanged), expected, "round {round} of {guest_state_bytes}");
            assert!(report.live_objects <= 8, "{} objects of {guest_state_bytes}", report.live_objects);
        }
    }
    assert_clean(&stage.check().await.expect("a check"), "with almost empty files");
}

/// The parts of each file of an entry.
fn parts(entry: &VmEntry) -> BTreeMap<(String, Digest), Vec<Digest>> {
    let of = |artefact: &lifeboat_schema::ArtefactEntry| {
        let objects = artefact.parts.iter().map(|part| part.object).collect();
        ((artefact.path.clone(), artefact.digest), objects)
    };
    entry.artefacts.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_did_not_change_is_not_uploaded_again() {
    let mut options = tiny_fabric(3, 34);
    options.sizes.guest_state_bytes = 9 << 20;
    let (mut stage, faults) = set(&options).await;
    run(&stage).await;
    let mut rolled = 0;
    for round in 1..4 {
        let aged = stage.fabric.age(&AgeOptions { round, roll: 1, ..Default::default() }).expect("a roll");
        let vm_id = &aged.rolled[0];
        let before = newest_entry(&stage, vm_id).await;
        let written = faults.counts().bytes_written;
        let report = run(&stage).await;
        let written = faults.counts().bytes_written - written;
        assert_eq!((report.captured, report.unchanged), (1, 2));
        let after = newest_entry(&stage, vm_id).await;
        assert!(after.captured > before.captured);
        let (before, after) = (parts(&before), parts(&after));
        let kept: Vec<_> = after.iter().filter(|(file, _)| before.contains_key(file)).collect();
        assert!(kept.iter().all(|(file, parts)| before[*file] == **parts), "the parts stay where they are");
        assert!(
            kept.iter().any(|(_, parts)| parts.len() > 2),
            "the guest state has several parts, and stays"
        );
        assert!(kept.len() < after.len(), "something was rolled");
        assert!(written < 1 << 20, "{written} bytes for a VM of more than 9 MiB");
        rolled += 1;
    }
    assert_eq!(rolled, 3);
    assert_clean(&stage.check().await.expect("a check"), "after rolls");
    assert_eq!(stage.assert_all_come_back().await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_vm_stops_no_other_and_its_last_good_state_is_carried() {
    let (mut stage, _) = set(&tiny_fabric(8, 35)).await;
    run(&stage).await;
    let aged =
        stage.fabric.age(&AgeOptions { round: 1, tear: 2, change_percent: 25.0, ..Default::default() });
    let aged = aged.expect("tears");
    let torn: BTreeSet<String> = aged.torn.iter().map(|torn| torn.vm_id.clone()).collect();
    let before: Vec<VmEntry> = {
        let mut entries = Vec::new();
        for vm in &torn {
            entries.push(newest_entry(&stage, vm).await);
        }
        entries
    };
    for round in 0..2 {
        let report = run(&stage).await;
        assert_eq!(report.found, 8);
        assert_eq!((report.captured, report.unchanged), if round == 0 { (2, 4) } else { (0, 6) });
        assert!(report.failed.is_empty());
        let carried: BTreeSet<String> = report.carried.iter().map(|vm| vm.vm_id.clone()).collect();
        assert_eq!(carried, torn);
        for vm in &report.carried {
            assert_eq!(vm.why, CarriedWhy::Failed);
            let error = vm.error.as_deref().expect("why it failed");
            assert!(error.contains("torn") || error.contains("damaged"), "{error}");
        }
        for (vm, before) in torn.iter().zip(&before) {
            assert_eq!(newest_entry(&stage, vm).await, *before, "its last good state");
        }
        assert_clean(&stage.check().await.expect("a check"), "with torn VMs");
    }
    // The next write of the host mends them.
    stage.fabric.age(&AgeOptions { round: 2, ..Default::default() }).expect("mended");
    let report = run(&stage).await;
    assert_eq!((report.captured, report.carried.len()), (2, 0));
    assert_eq!(stage.assert_all_come_back().await, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_is_torn_from_the_beginning_is_told_and_waited_for() {
    let (mut stage, _) = set(&tiny_fabric(4, 36)).await;
    stage.fabric.age(&AgeOptions { round: 1, tear: 1, ..Default::default() }).expect("a tear");
    let torn = stage.fabric.answers().lacking(Lack::WholeCopy).next().expect("one").vm_id.clone();
    let report = run(&stage).await;
    assert_eq!((report.found, report.captured, report.carried.len()), (4, 3, 0));
    assert_eq!(report.failed.len(), 1);
    assert_eq!(report.failed[0].vm_id.as_deref(), Some(torn.as_str()));
    assert_clean(&stage.check().await.expect("a check"), "without the torn VM");
    stage.fabric.age(&AgeOptions { round: 2, ..Default::default() }).expect("mended");
    let report = run(&stage).await;
    assert_eq!((report.captured, report.unchanged, report.failed.len()), (1, 3, 0));
    assert_eq!(stage.assert_all_come_back().await, 4);
}

/// Moves all files of a VM from one folder to another, which keeps their places below it.
fn move_files(stage: &Stage, vm_id: &str, from: &Path, to: &Path) {
    for file in &stage.fabric.answers().vm(vm_id).expect("the VM").files {
        let (from, to) = (from.join(&file.place), to.join(&file.place));
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::rename(from, to).expect("a move");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_vm_is_carried_and_back_when_it_returns() {
    let (mut stage, _) = set(&tiny_fabric(5, 37)).await;
    run(&stage).await;
    let vm = stage.fabric.answers().vms[2].vm_id.clone();
    let (here, away): (PathBuf, PathBuf) = (stage.fabric.dir().to_owned(), stage.new_folder());
    let before = newest_entry(&stage, &vm).await;
    move_files(&stage, &vm, &here, &away);
    let mut since = None;
    for round in 1..6 {
        let report = run(&stage).await;
        assert_eq!((report.found, report.captured, report.unchanged), (4, 0, 4), "round {round}");
        assert_eq!(report.stored_objects, 1, "round {round}");
        let [carried] = report.carried.as_slice() else { panic!("{:?}", report.carried) };
        assert_eq!((&carried.vm_id, carried.why), (&vm, CarriedWhy::Vanished));
        assert_eq!(*since.get_or_insert(carried.since), carried.since, "since when it is gone stays");
        let found = newest(&stage.vault, &stage.identity(Role::Restore)).await;
        let found = found.into_iter().find(|found| found.entry.vm.vm_id == vm).expect("it is carried");
        assert_eq!((found.carried, &*found.entry), (Some(CarriedWhy::Vanished), &before));
    }
    // It comes back everywhere, though the host has it no more.
    assert_eq!(stage.assert_all_come_back().await, 5);

    move_files(&stage, &vm, &away, &here);
    let report = run(&stage).await;
    assert_eq!((report.found, report.captured + report.unchanged, report.carried.len()), (5, 5, 0));
    assert_eq!(report.stored_objects, 1, "the same bytes are not uploaded again");
    let after = newest_entry(&stage, &vm).await;
    assert_eq!((after.subject.clone(), parts(&after)), (before.subject.clone(), parts(&before)));
    let found = newest(&stage.vault, &stage.identity(Role::Restore)).await;
    assert!(found.iter().all(|found| found.carried.is_none()));

    // It goes, and another comes in its place, changed.
    move_files(&stage, &vm, &here, &away);
    run(&stage).await;
    move_files(&stage, &vm, &away, &here);
    stage.fabric.age(&AgeOptions::change(9, 100.0)).expect("all change");
    let report = run(&stage).await;
    assert_eq!((report.captured, report.carried.len()), (5, 0));
    assert_clean(&stage.check().await.expect("a check"), "after it came back");
    assert_eq!(stage.assert_all_come_back().await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_moves_between_hosts_is_one_vm() {
    let mut options = tiny_fabric(4, 38);
    options.hosts = 2;
    let (mut stage, _) = set(&options).await;
    for round in 0..12 {
        if round > 0 {
            let aged =
                stage.fabric.age(&AgeOptions { round, move_between_hosts: 1, roll: 1, ..Default::default() });
            assert_eq!(aged.expect("a move").moved.len(), 1);
        }
        for host in 0..2 {
            let report = stage.run(host).await.expect("a run");
            assert!(
                report.failed.is_empty() && report.carried.iter().all(|vm| vm.why == CarriedWhy::Vanished)
            );
        }
        let found = newest(&stage.vault, &stage.identity(Role::Audit)).await;
        let states = lifeboat_engine::inventory::by_vm(found);
        assert_eq!(states.len(), 4, "round {round}");
        for state in &states {
            let vm = stage.fabric.answers().vm(&state.newest.entry.vm.vm_id).expect("a VM of the fabric");
            assert_eq!(
                (&*state.newest.host, state.newest.carried),
                (vm.host.as_str(), None),
                "round {round}"
            );
        }
        assert_eq!(stage.assert_all_come_back().await, 4);
    }
    assert_clean(&stage.check().await.expect("a check"), "after all moves");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let from = entry.expect("an entry").path();
        let to = to.join(from.file_name().expect("a name"));
        if from.is_dir() {
            copy_folder(&from, &to);
        } else {
            std::fs::copy(&from, &to).expect("a copy");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_copies_of_a_vm_on_one_host_are_both_kept() {
    let (mut stage, _) = set(&tiny_fabric(1, 39)).await;
    run(&stage).await;
    let host = stage.fabric.host_dir(&stage.hosts[0].name);
    copy_folder(&host.join("Hyper-V"), &host.join("Z copy").join("Hyper-V"));
    let report = run(&stage).await;
    assert_eq!((report.found, report.captured, report.unchanged), (2, 1, 1));
    let report = run(&stage).await;
    assert_eq!((report.captured, report.unchanged, report.stored_objects), (0, 2, 1));
    // The original lives on; the copy stays what it is.
    stage.fabric.age(&AgeOptions::change(1, 100.0)).expect("a change");
    let report = run(&stage).await;
    assert_eq!((report.captured, report.unchanged), (1, 1));
    let found = newest(&stage.vault, &stage.identity(Role::Restore)).await;
    assert_eq!(found.len(), 2);
    assert_ne!(found[0].entry.subject, found[1].entry.subject);
    assert_ne!(found[0].entry.vm.place, found[1].entry.vm.place);
    assert_eq!(lifeboat_engine::inventory::by_vm(found).len(), 1);
    assert_clean(&stage.check().await.expect("a check"), "with a copy");
    assert_eq!(stage.assert_all_come_back().await, 1, "the newest capture is the original's");
    std::fs::remove_dir_all(host.join("Z copy")).expect("the copy goes");
    let report = run(&stage).await;
    assert_eq!((report.found, report.unchanged, report.carried.len()), (1, 1, 1));
    assert_eq!(stage.assert_all_come_back().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_recipients_have_everything_alive_sealed_anew() {
    let (stage, _) = set(&tiny_fabric(6, 40)).await;
    run(&stage).await;
    let old_objects: BTreeSet<Digest> =
        newest_record(&stage, 0).await.objects.iter().map(|o| o.name).collect();
    let new = NewIdentity::generate();
    let recipient = new.recipient();
    new_policy(&stage, |terms| drop(terms.owners[0].recipients.insert(Role::Restore, vec![recipient]))).await;
    let report = run(&stage).await;
    assert_eq!((report.captured, report.unchanged, report.carried.len()), (6, 0, 0));
    let record = newest_record(&stage, 0).await;
    assert!(record.objects.iter().all(|object| !old_objects.contains(&object.name)), "nothing old is named");
    let report = run(&stage).await;
    assert_eq!((report.captured, report.unchanged, report.stored_objects), (0, 6, 1));

    // The old identity opens the old record and no new object; the new one the new ones only.
    let record = newest_record(&stage, 0).await;
    let (old, new) = (Arc::new(stage.identity(Role::Restore)), Arc::new(identity(&new)));
    for object in &record.objects {
        let opened = stage.vault.open_object(&record.writer, object, &old).await.err().expect("it is closed");
        assert!(matches!(opened, VaultError::Seal(_)), "{opened}");
        stage.vault.open_object(&record.writer, object, &new).await.expect("it opens");
    }
    let to = stage.new_folder().join("new");
    let restored = restore_all(&stage.vault, &Memory::default(), &new, &to).await.expect("a restore");
    assert_eq!(restored.findings, []);
    for vm in &stage.fabric.answers().vms {
        let found = restored.vms.iter().find(|one| one.vm_id == vm.vm_id).expect("every VM");
        assert_eq!(vm.compare_export(Path::new(&found.folder)).expect("its files"), []);
    }
    // With both, every object of either time is opened.
    let mut both = stage.identity(Role::Restore);
    both.extend(Arc::into_inner(new).expect("no other has it"));
    let mut identities = stage.role_identities();
    identities.retain(|identity| identity.role != Role::Restore);
    identities.push(RoleIdentity { owner: stage.owner.clone(), role: Role::Restore, identities: both });
    assert_clean(&check_with(&stage.vault, identities).await, "with both identities");
}

/// Puts a second owner before the first, with identities of its own.
async fn second_owner(stage: &Stage, vms: Vec<VmSelector>) -> (OwnerId, BTreeMap<Role, NewIdentity>) {
    let id = OwnerId::random([9; 10]);
    let new: BTreeMap<Role, NewIdentity> =
        Role::ALL.iter().map(|role| (*role, NewIdentity::generate())).collect();
    let recipients = new.iter().map(|(role, one)| (*role, vec![one.recipient()])).collect();
    let owner = OwnerTerms { id: id.clone(), vms, recipients };
    new_policy(stage, |terms| terms.owners.insert(0, owner)).await;
    (id, new)
}

/// Says that exactly these VMs are the second owner's: every object that they need, and no identity of one
/// owner shows a VM of the other.
async fn assert_owned(
    stage: &Stage,
    second: &OwnerId,
    new: &BTreeMap<Role, NewIdentity>,
    vms: &BTreeSet<String>,
) {
    let record = newest_record(stage, 0).await;
    let theirs = newest(&stage.vault, &identity(&new[&Role::Restore])).await;
    let ours = newest(&stage.vault, &stage.identity(Role::Restore)).await;
    let ids = |found: &[lifeboat_engine::inventory::Found]| -> BTreeSet<String> {
        found.iter().map(|found| found.entry.vm.vm_id.clone()).collect()
    };
    let all: BTreeSet<String> = stage.fabric.answers().vms.iter().map(|vm| vm.vm_id.clone()).collect();
    assert_eq!(ids(&theirs), *vms);
    assert_eq!(ids(&ours), all.difference(vms).cloned().collect());
    for (found, owner) in theirs.iter().map(|f| (f, second)).chain(ours.iter().map(|f| (f, &stage.owner))) {
        for place in &record.subjects[&found.entry.subject] {
            let object = &record.objects[*place as usize];
            assert_eq!(object.owner, *owner, "an object of {}", found.entry.vm.name);
        }
        for part in found.entry.artefacts.iter().flat_map(|artefact| &artefact.parts) {
            let object = found.object(&part.object).expect("the record names it");
            assert_eq!(object.owner, *owner, "a part of {}", found.entry.vm.name);
        }
    }
    // Each owner's VMs come back with that owner's identity.
    let mut restored = BTreeSet::new();
    for identities in [identity(&new[&Role::Restore]), stage.identity(Role::Restore)] {
        let to = stage.new_folder().join("restored");
        let all = restore_all(&stage.vault, &Memory::default(), &Arc::new(identities), &to)
            .await
            .expect("a restore");
        for vm in all.vms {
            let answer = stage.fabric.answers().vm(&vm.vm_id).expect("a VM of the fabric");
            assert_eq!(answer.compare_export(Path::new(&vm.folder)).expect("its files"), []);
            assert!(restored.insert(vm.vm_id));
        }
    }
    assert_eq!(restored, all);
    let mut identities = stage.role_identities();
    let of = |(role, one): (&Role, &NewIdentity)| RoleIdentity {
        owner: second.clone(),
        role: *role,
        identities: identity(one),
    };
    identities.extend(new.iter().map(of));
    assert_clean(&check_with(&stage.vault, identities).await, "with the identities of both owners");
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_have_the_vms_that_they_name() {
    let (stage, _) = set(&tiny_fabric(6, 41)).await;
    let named: Vec<_> = stage.fabric.answers().vms.iter().take(2).cloned().collect();
    let selectors = named
        .iter()
        .map(|vm| VmSelector::Name(VmSelector::name_digest(&stage.vault.id, &vm.name.to_uppercase())))
        .collect();
    let (second, new) = second_owner(&stage, selectors).await;
    let report = run(&stage).await;
    assert_eq!(report.captured, 6);
    let ids: BTreeSet<String> = named.iter().map(|vm| vm.vm_id.clone()).collect();
    assert_owned(&stage, &second, &new, &ids).await;
    let report = run(&stage).await;
    assert_eq!((report.captured, report.stored_objects), (0, 2), "a body for each owner");
    assert_owned(&stage, &second, &new, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_have_the_vms_of_their_guardian() {
    let (stage, _) = set(&tiny_fabric(16, 42)).await;
    let guardian = stage.fabric.answers().guardians.iter().find(|g| g.player == Player::OwnerB).expect("one");
    let thumbprint = guardian.signing_sha256;
    let ids: BTreeSet<String> = stage
        .fabric
        .answers()
        .vms
        .iter()
        .filter(|vm| vm.owner == Some(thumbprint))
        .map(|vm| vm.vm_id.clone())
        .collect();
    assert!(!ids.is_empty() && ids.len() < 16);
    let (second, new) = second_owner(&stage, vec![VmSelector::OwnerGuardian(thumbprint)]).await;
    run(&stage).await;
    assert_owned(&stage, &second, &new, &ids).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_gets_another_owner_is_sealed_to_it_whole() {
    let (stage, _) = set(&tiny_fabric(4, 43)).await;
    run(&stage).await;
    let vm = stage.fabric.answers().vms[1].clone();
    let name = VmSelector::Name(VmSelector::name_digest(&stage.vault.id, &vm.name));
    let (second, new) = second_owner(&stage, vec![name]).await;
    let report = run(&stage).await;
    assert_eq!((report.captured, report.unchanged), (1, 3));
    assert_owned(&stage, &second, &new, &[vm.vm_id].into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_host_is_refused_before_it_writes_anything() {
    let (stage, faults) = set(&tiny_fabric(2, 44)).await;
    let last = run(&stage).await.record;
    let cut = Cut { seq: last.seq, id: Some(last.id) };
    new_policy(&stage, |terms| {
        terms.writers[0].kinds.clear();
        terms.writers[0].cut = Some(cut);
    })
    .await;
    let puts = faults.counts().puts;
    let error = stage.run(0).await.expect_err("it is retired");
    let SnapshotError::Vault(error) = error else { panic!("{error}") };
    assert!(
        matches!(&error, VaultError::NotAllowed { problem: PolicyProblem::KindNotAllowed(_), .. }),
        "{error}"
    );
    assert_eq!((error.exit(), faults.counts().puts), (Exit::NoAccess, puts));
    // What it wrote before the cut stands.
    assert_clean(&stage.check().await.expect("a check"), "after the cut");
    assert_eq!(stage.assert_all_come_back().await, 2);

    // A thief of its key who goes on under the old policy is named, and does not count.
    let ledgers = stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    let host = &stage.hosts[0];
    let newest = ledgers.writers[&host.id].newest().expect("a record").signed.record.clone();
    let stolen = Record { seq: last.seq + 1, prev: Some(last.id), ..newest };
    let stolen = SignedRecord::sign(stolen, &host.key()).expect("a signature");
    stage.vault.put_record(&host.id, &stolen).await.expect("a put");
    let checked = stage.check().await.expect("a check");
    assert_eq!(codes(&checked.findings), ["record-not-allowed"].into());
    let ledgers = stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    assert_eq!(ledgers.writers[&host.id].newest().expect("a record").signed.name, last);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_holds_nothing_that_only_an_owner_may_read() {
    let (mut stage, _) = set(&tiny_fabric(16, 45)).await;
    run(&stage).await;
    stage.fabric.age(&AgeOptions::change(1, 50.0)).expect("a change");
    run(&stage).await;
    let folder = stage.hosts[0].catalog_path();
    let mut searched = Vec::new();
    for entry in std::fs::read_dir(folder.parent().expect("a folder")).expect("a folder") {
        searched.extend(std::fs::read(entry.expect("an entry").path()).expect("a file"));
    }
    searched.extend(stage.hosts[0].catalog_entries(&stage.vault.id).into_iter().flatten());
    assert!(searched.len() > 10_000);
    let contains = |bytes: &[u8]| searched.windows(bytes.len()).any(|window| window == bytes);
    let hidden: Vec<_> = stage.fabric.answers().markers_hidden_from(Role::Audit).collect();
    assert!(hidden.len() > 32);
    for marker in hidden {
        assert!(!contains(&marker.bytes), "{:?} is in the catalog", marker.planted);
    }
    // The search finds what is there.
    assert!(contains(stage.fabric.answers().vms[0].name.as_bytes()));
}
