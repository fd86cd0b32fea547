//! What a stolen key of a host is good for: records in its own ledger, of its own kinds, under today's terms.
//!
//! Each test forges a record that carries a genuine signature and states something that its writer may not
//! state. A check must name it, a restore must not believe it, and what other hosts have must come back as ever.

use std::sync::Arc;

use bytes::Bytes;
use lifeboat_engine::inventory::Inventory;
use lifeboat_engine::restore::RestoreError;
use lifeboat_schema::{
    Class, Content, Cut, Digest, Finding, Kind, ObjectEntry, OwnerId, PolicyRef, RecipientSetId, Record,
    Role, Severity, SnapshotBody, WriterId,
};
use lifeboat_tests::fault_store::FaultStore;
use lifeboat_tests::stage::{RestoredAll, Stage, restore_all, tiny_fabric};
use lifeboat_tests::testfabric::{FabricOptions, Mix, VmKind, VmPlan};
use lifeboat_vault::check::CheckReport;
use lifeboat_vault::record::SignedRecord;
use lifeboat_vault::seal::{NewIdentity, Recipients, SealOptions, Sealer};
use lifeboat_vault::vault::{Memory, object_path, record_path};
use lifeboat_vault::writer::object_entry;
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::{life, told};

type Faults = FaultStore<Arc<dyn ObjectStore>>;

/// Two hosts with a record each; the key of the first is stolen.
struct Scene {
    stage: Stage,
    faults: Faults,
    /// The stolen host's newest record.
    newest: SignedRecord,
    /// The other host's.
    other: SignedRecord,
}

impl Scene {
    async fn set() -> Self {
        let (store, faults) = life::faulty(Arc::new(InMemory::new()));
        let mix = Mix::Only(vec![VmPlan::new(VmKind::Shielded, []), VmPlan::new(VmKind::WithoutVtpm, [])]);
        let fabric = FabricOptions { hosts: 2, mix, ..tiny_fabric(4, 21) };
        let mut stage = Stage::set(store, "memory://", &fabric).await;
        for name in ["host-1", "host-2"] {
            let host = stage.enroll(name).await.expect("enrolled");
            stage.run(host).await.expect("a run");
        }
        let ledgers = stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
        let newest =
            |host: usize| ledgers.writers[&stage.hosts[host].id].newest().expect("a record").signed.clone();
        let (newest, other) = (newest(0), newest(1));
        Self { stage, faults, newest, other }
    }

    fn id(&self) -> &WriterId {
        &self.stage.hosts[0].id
    }

    /// The record that would follow the newest one.
    fn next(&self) -> Record {
        let newest = &self.newest;
        Record { seq: newest.name.seq + 1, prev: Some(newest.name.id), ..newest.record.clone() }
    }

    /// Signs with the stolen key and commits into the ledger of `writer`; gives the path.
    async fn commit(&self, writer: &WriterId, record: Record) -> String {
        let signed = SignedRecord::sign(record, &self.stage.hosts[0].key()).expect("a signature");
        let path = record_path(writer, &signed.name).to_string();
        self.faults.replace(&path, signed.bytes).await.expect("committed");
        path
    }

    async fn check(&self) -> CheckReport {
        self.stage.check().await.expect("a check")
    }

    async fn restore(&self) -> Result<RestoredAll, RestoreError> {
        let identities = Arc::new(self.stage.identity(Role::Restore));
        let to = self.stage.new_folder();
        restore_all(&self.stage.vault, &Memory::default(), &identities, &to).await
    }

    /// Everything comes back as if the forged record were not there, and damage is reported.
    async fn assert_not_believed(&self, code: &str, place: &str) {
        let report = self.check().await;
        let named = report.findings.iter().any(|f| is_damage(f, code) && f.place == place);
        assert!(named, "{code} at {place}: {:?}", report.findings);
        let restored = self.restore().await.expect("genuine records still restore");
        assert!(restored.findings.iter().any(|f| is_damage(f, code)), "{:?}", restored.findings);
        self.assert_genuine(&restored, 4);
    }

    /// Of what came back each is as on its host.
    fn assert_genuine(&self, restored: &RestoredAll, vms: usize) {
        assert_eq!(restored.vms.len(), vms);
        for vm in &restored.vms {
            let answer = self.stage.fabric.answers().vm(&vm.vm_id).expect("a VM of the fabric");
            let differences = answer.compare_export(vm.folder.as_ref()).expect("restored files");
            assert_eq!(differences, [], "{}", vm.name);
        }
    }

    /// The genuine body of the stolen host and its entry.
    async fn body(&self) -> (SnapshotBody, ObjectEntry) {
        let record = &self.newest.record;
        let entry = record.objects.iter().find(|object| object.content == Content::Body).expect("a body");
        let identities = self.stage.identity(Role::Restore);
        (self.stage.vault.read_body(record, entry, &identities).await.expect("its body"), entry.clone())
    }

    /// Seals `body` to `recipients`, or to those of the policy, and puts it below the stolen host's prefix.
    async fn put_body(&self, body: &SnapshotBody, recipients: Option<Vec<String>>) -> ObjectEntry {
        let policies = self.stage.policies().await;
        let owner = policies.newest().expect("a policy").owner(&self.stage.owner).expect("the owner").clone();
        let recipients = recipients.unwrap_or_else(|| owner.recipients_of(Class::Metadata));
        let json = serde_json::to_vec(body).expect("a body's text");
        let sealed = Sealer::new(&SealOptions::default())
            .and_then(|mut sealer| sealer.seal_body(&Recipients::parse(&recipients)?, &json))
            .expect("sealed");
        let set = owner.recipient_set(Class::Metadata);
        let entry = object_entry(&sealed, Content::Body, Class::Metadata, &owner.id, &set);
        self.put_object(&entry.name, sealed.bytes.into()).await;
        entry
    }

    async fn put_object(&self, name: &Digest, bytes: Bytes) {
        let path = object_path(self.id(), name).to_string();
        self.faults.replace(&path, bytes).await.expect("put");
    }

    /// The next record with another body in the place of the genuine one, under its subjects.
    async fn with_body(&self, change: impl FnOnce(&mut SnapshotBody)) -> Record {
        let (mut body, old) = self.body().await;
        let mut record = self.next();
        body.head.seq = record.seq;
        // Captured later than anything, so that it would be chosen.
        for vm in &mut body.vms {
            vm.captured = self.stage.now();
        }
        change(&mut body);
        let new = self.put_body(&body, None).await;
        let place = record.objects.iter().position(|object| object.name == old.name).expect("it is named");
        record.objects[place] = new;
        record
    }
}

fn is_damage(finding: &Finding, code: &str) -> bool {
    finding.severity == Severity::Damage && finding.code == code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_cannot_pass_as_another() {
    let scene = Scene::set().await;
    let (one, two) = (scene.id().clone(), scene.stage.hosts[1].id.clone());
    // Into the other's ledger, as the other, at its next place.
    let record = Record {
        seq: scene.other.name.seq + 1,
        prev: Some(scene.other.name.id),
        ..scene.other.record.clone()
    };
    let path = scene.commit(&two, record.clone()).await;
    scene.assert_not_believed("record-damaged", &path).await;
    scene.faults.remove(&path).await.expect("gone");
    // As the other, into its own ledger; as itself, into the other's.
    let path = scene.commit(&one, record).await;
    scene.assert_not_believed("record-damaged", &path).await;
    scene.faults.remove(&path).await.expect("gone");
    let path = scene.commit(&two, scene.next()).await;
    scene.assert_not_believed("record-damaged", &path).await;
    scene.faults.remove(&path).await.expect("gone");
    let admin = WriterId::admin();
    let path = scene.commit(&admin, Record { writer: admin.clone(), ..scene.next() }).await;
    scene.assert_not_believed("record-damaged", &path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_cannot_use_a_kind_that_is_not_its_own() {
    let scene = Scene::set().await;
    let mut kinds = 0;
    for kind in Kind::ALL.iter().copied().filter(|kind| *kind != Kind::Snapshot) {
        let terms = match kind {
            Kind::Policy => Some(scene.stage.policies().await.newest().expect("a policy").terms.clone()),
            _ => None,
        };
        let path = scene.commit(scene.id(), Record { kind, terms, ..scene.next() }).await;
        scene.assert_not_believed("record-not-allowed", &path).await;
        scene.faults.remove(&path).await.expect("gone");
        kinds += 1;
    }
    assert!(kinds >= 9, "every kind but its own: {kinds}");
    told(&format!("impostor: {kinds} kinds refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_cannot_take_another_policy_owner_or_recipients() {
    let mut scene = Scene::set().await;
    let object = |change: fn(&mut ObjectEntry)| {
        let mut record = scene.next();
        change(&mut record.objects[0]);
        record
    };
    let unknown = PolicyRef { seq: 1, id: Digest::of(b"no policy") };
    let mut twice = scene.next();
    let again = twice.objects[0].clone();
    twice.objects.push(again);
    let forged = [
        ("a policy that is not there", Record { policy: Some(unknown), ..scene.next() }),
        ("no policy", Record { policy: None, ..scene.next() }),
        ("an owner that nobody named", object(|object| object.owner = OwnerId::random([9; 10]))),
        (
            "recipients that nobody named",
            object(|object| object.recipients = RecipientSetId::of(&object.owner, object.class, &[])),
        ),
        ("an object of the wrong class for its recipients", object(|object| object.class = Class::Secret)),
        ("an object twice", twice),
    ];
    for (what, record) in forged {
        let path = scene.commit(scene.id(), record).await;
        scene.assert_not_believed("record-not-allowed", &path).await;
        scene.faults.remove(&path).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }

    // An older policy than its last record named, as if a change of terms had not reached it.
    let old = scene.newest.record.policy;
    scene
        .stage
        .change_policy(|terms| terms.writers[0].max_silence_seconds = Some(60))
        .await
        .expect("a policy");
    scene.stage.run(0).await.expect("a run under the new policy");
    let ledgers = scene.stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    scene.newest = ledgers.writers[scene.id()].newest().expect("a record").signed.clone();
    assert_ne!(scene.newest.record.policy, old);
    let path = scene.commit(scene.id(), Record { policy: old, ..scene.next() }).await;
    scene.assert_not_believed("record-not-allowed", &path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retired_writer_states_nothing_beyond_its_cut() {
    let scene = Scene::set().await;
    let (seq, id) = (scene.newest.name.seq, Some(scene.newest.name.id));
    let new = scene
        .stage
        .change_policy(|terms| {
            let writer =
                terms.writers.iter_mut().find(|writer| writer.id == *scene.id()).expect("it is named");
            (writer.kinds, writer.cut) = (Vec::new(), Some(Cut { seq, id }));
        })
        .await
        .expect("a policy");
    assert_eq!(scene.check().await.findings, [], "what it wrote before stands");

    // The stolen key goes on under the old terms, and under the new ones.
    for policy in [scene.newest.record.policy, Some(new)] {
        let path = scene.commit(scene.id(), Record { policy, ..scene.next() }).await;
        scene.assert_not_believed("record-not-allowed", &path).await;
        scene.faults.remove(&path).await.expect("gone");
    }
    // It puts another record in the place of the cut: that is a fork, and neither counts.
    let rewritten = Record { finished: scene.stage.now(), ..scene.newest.record.clone() };
    let path = scene.commit(scene.id(), rewritten).await;
    let report = scene.check().await;
    assert!(report.findings.iter().any(|f| is_damage(f, "fork")), "{:?}", report.findings);
    assert!(report.findings.iter().any(|f| is_damage(f, "record-not-allowed") && f.place == path));
    // Alone it does not count either.
    let genuine = record_path(scene.id(), &scene.newest.name).to_string();
    scene.faults.remove(&genuine).await.expect("gone");
    let restored = scene.restore().await.expect("the other host's");
    assert!(restored.findings.iter().any(|f| is_damage(f, "record-not-allowed")), "{:?}", restored.findings);
    scene.assert_genuine(&restored, 2);
    // And the run of the machine itself is refused before it writes.
    let error = scene.stage.run(0).await.expect_err("a retired writer");
    assert!(error.to_string().contains("may not do this"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_another_prefix_do_not_become_ones_own() {
    let scene = Scene::set().await;
    // Named only: they are looked for below the own prefix.
    let objects = scene.other.record.objects.clone();
    let subjects = scene.other.record.subjects.clone();
    let record = Record { objects: objects.clone(), subjects, ..scene.next() };
    let path = scene.commit(scene.id(), record).await;
    let missing = |report: &CheckReport| {
        let of = |f: &&Finding| is_damage(f, "object-missing") && f.place.contains(scene.id().as_str());
        report.findings.iter().filter(of).count()
    };
    assert_eq!(missing(&scene.check().await), objects.len(), "none of them is the impostor's");
    let restored = scene.restore().await.expect("the other host's VMs");
    scene.assert_genuine(&restored, 2);
    assert!(restored.findings.iter().any(|f| is_damage(f, "body-damaged")), "{:?}", restored.findings);

    // Copied too: the body says for whom it was sealed.
    for object in &objects {
        let bytes = scene.stage.vault.read_object(&scene.stage.hosts[1].id, object).await.expect("readable");
        scene.put_object(&object.name, bytes).await;
    }
    let report = scene.check().await;
    assert_eq!(missing(&report), 0);
    let bodies = report.findings.iter().filter(|f| is_damage(f, "body-malformed")).count();
    assert_eq!(bodies, 1, "{:?}", report.findings);
    let restored = scene.restore().await.expect("the other host's VMs");
    scene.assert_genuine(&restored, 2);
    assert!(restored.findings.iter().any(|f| is_damage(f, "body-damaged")), "{:?}", restored.findings);
    scene.faults.remove(&path).await.expect("gone");
    assert_eq!(scene.check().await.findings.iter().filter(|f| f.severity == Severity::Damage).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_sealed_to_others_is_named() {
    let scene = Scene::set().await;
    let (mut body, old) = scene.body().await;
    let mut record = scene.next();
    body.head.seq = record.seq;
    // As many recipients as the policy names, and all of them the impostor's: only a key tells.
    let mine: Vec<String> = (0..3).map(|_| NewIdentity::generate().recipient()).collect();
    let entry = scene.put_body(&body, Some(mine)).await;
    let place = record.objects.iter().position(|object| object.name == old.name).expect("it is named");
    record.objects[place] = entry.clone();
    scene.commit(scene.id(), record).await;
    let report = scene.check().await;
    let at = object_path(scene.id(), &entry.name).to_string();
    let found =
        report.findings.iter().filter(|f| is_damage(f, "not-sealed-to-role") && f.place == at).count();
    assert_eq!(found, 3, "each identity says so: {:?}", report.findings);

    // Fewer recipients: that is seen without any key.
    let (mut body, _) = scene.body().await;
    body.head.seq = scene.next().seq;
    let few = scene.put_body(&body, Some(vec![NewIdentity::generate().recipient()])).await;
    let mut record = scene.next();
    record.objects[place] = few.clone();
    scene.commit(scene.id(), record).await;
    let report = scene.check().await;
    let at = object_path(scene.id(), &few.name).to_string();
    assert!(report.findings.iter().any(|f| is_damage(f, "recipient-count") && f.place == at));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_for_another_place_is_refused() {
    for (what, change) in [
        ("vault", (|body| body.head.vault = lifeboat_schema::VaultId::of(b"x")) as fn(&mut SnapshotBody)),
        ("writer", |body| body.head.writer = WriterId::admin()),
        ("later record", |body| body.head.seq += 1),
        ("kind", |body| body.head.kind = Kind::Escrow),
        ("class", |body| body.head.class = Class::Secret),
        ("owner", |body| body.head.owner = OwnerId::random([3; 10])),
        ("format", |body| body.head.v = lifeboat_schema::BODY_VERSION + 1),
    ] {
        let scene = Scene::set().await;
        let record = scene.with_body(change).await;
        scene.commit(scene.id(), record).await;
        let report = scene.check().await;
        assert!(
            report.findings.iter().any(|f| is_damage(f, "body-malformed")),
            "{what}: {:?}",
            report.findings
        );
        let restored = scene.restore().await.expect("the other host's VMs");
        assert!(restored.findings.iter().any(|f| is_damage(f, "body-damaged")), "{what}");
        scene.assert_genuine(&restored, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_body_writes_nothing_outside_and_no_wrong_bytes() {
    let mut refused = 0;
    for path in [
        "../outside",
        "/outside",
        "a/../../outside",
        "C:\\outside",
        "..\\outside",
        "con",
        "a/NUL.vmcx",
        "",
        "a//b",
        "x\u{0}y",
        "stream:a",
        "dot.",
        "space ",
        "1/2/3/4/5/6/7/8/9",
    ] {
        let scene = Scene::set().await;
        let record = scene.with_body(|body| body.vms[0].artefacts[0].path = path.to_owned()).await;
        scene.commit(scene.id(), record).await;
        let error = scene.restore().await.expect_err("a path that leads elsewhere");
        assert!(matches!(error, RestoreError::BadPath { .. }), "{path:?}: {error}");
        refused += 1;
    }
    for (what, change) in [
        (
            "another digest",
            (|body| body.vms[0].artefacts[0].digest = Digest::of(b"x")) as fn(&mut SnapshotBody),
        ),
        ("another size", |body| body.vms[0].artefacts[0].size += 1),
        ("another part's digest", |body| body.vms[0].artefacts[0].parts[0].digest = Digest::of(b"x")),
        ("another part's size", |body| body.vms[0].artefacts[0].parts[0].size -= 1),
        ("another offset", |body| body.vms[0].artefacts[0].parts[0].offset += 1),
        ("an offset far outside", |body| body.vms[0].artefacts[0].parts[0].offset = 1 << 50),
        ("a length of nothing", |body| body.vms[0].artefacts[0].parts[0].length = 0),
        ("a length without end", |body| body.vms[0].artefacts[0].parts[0].length = (1 << 53) - 1),
        ("an object of nobody", |body| body.vms[0].artefacts[0].parts[0].object = Digest::of(b"x")),
        ("the class of other roles", |body| body.vms[0].artefacts[0].class = Class::Secret),
        ("no parts", |body| body.vms[0].artefacts[0].parts.clear()),
        ("a part twice", |body| {
            let parts = &mut body.vms[0].artefacts[0].parts;
            parts.push(parts[0].clone());
        }),
        ("a path twice", |body| {
            let artefacts = &mut body.vms[0].artefacts;
            artefacts[1].path = artefacts[0].path.to_uppercase();
        }),
    ] {
        let scene = Scene::set().await;
        let record = scene.with_body(change).await;
        scene.commit(scene.id(), record).await;
        scene.restore().await.expect_err(what);
        if what != "a path twice" {
            let report = scene.check().await;
            assert!(report.findings.iter().any(|f| f.severity == Severity::Damage), "{what} was not named");
        }
        refused += 1;
    }
    told(&format!("impostor: {refused} lying bodies refused"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_inventory_shows_nothing_that_an_impostor_states() {
    let scene = Scene::set().await;
    let record = scene.with_body(|body| body.vms[0].vm.name = "impostor".to_owned()).await;
    let path = scene.commit(scene.id(), Record { kind: Kind::Escrow, ..record }).await;
    let ledgers = scene.stage.vault.ledgers(&Memory::default()).await.expect("ledgers");
    let identities = scene.stage.identity(Role::Audit);
    let found = Inventory::new(&scene.stage.vault, &ledgers, &identities).all().await.expect("an inventory");
    assert!(found.iter().all(|vm| vm.entry.vm.name != "impostor"));
    assert_eq!(found.len(), 4);
    scene.assert_not_believed("record-not-allowed", &path).await;
}
