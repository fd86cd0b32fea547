use lifeboat_schema::{ArtefactKind, Class, PartEntry, PolicyRef, RecipientSetId, Time, VaultHead};

use super::*;
use crate::ledger::{Ledger, LedgerRecord};
use crate::policy::tests::{host, owner_id, record, sign, vault as vault_id};
use crate::seal::{BundleWriter, NewIdentity, NoCallbacks, Recipients, SealOptions, SealedObject, Sealer};
use crate::store::Store;
use crate::writer::object_entry;

struct Silent;

impl CheckObserver for Silent {
    fn planned(&self, _objects: u64, _bytes: u64) {}
    fn object_done(&self, _bytes: u64) {}
}

/// An empty vault in memory, two owners with one identity each, and one host that writes what it likes.
struct Scene {
    vault: Vault,
    sealer: Sealer,
    owners: [(OwnerId, NewIdentity); 2],
}

impl Scene {
    fn set() -> Self {
        let store = Store::open("memory://", &Default::default(), &|_| None).unwrap();
        let head = VaultHead {
            format: "lifeboat-vault".to_owned(),
            v: 1,
            admins: vec![],
            created: Time::from_unix_seconds(1_700_000_000),
            nonce: "00".repeat(16),
        };
        let owners = [owner_id(), "o-two".parse().unwrap()].map(|id| (id, NewIdentity::generate()));
        Self {
            vault: Vault::unwritten(store, vault_id(), head).unwrap(),
            sealer: Sealer::new(&SealOptions::default()).unwrap(),
            owners,
        }
    }

    fn recipients(&self, owner: usize) -> Recipients {
        Recipients::parse(&[self.owners[owner].1.recipient()]).unwrap()
    }

    async fn put(&self, sealed: SealedObject, content: Content, class: Class, owner: usize) -> ObjectEntry {
        let owner = &self.owners[owner].0;
        let entry = object_entry(&sealed, content, class, owner, &RecipientSetId::of(owner, class, &[]));
        self.vault
            .store
            .create_object(&object_path(&host(), &sealed.name), sealed.bytes.into())
            .await
            .unwrap();
        entry
    }

    /// Puts a bundle of these members; gives their places too.
    async fn bundle(&mut self, owner: usize, members: &[&[u8]]) -> (ObjectEntry, Vec<PartEntry>) {
        let recipients = self.recipients(owner);
        let mut writer = BundleWriter::create(&mut self.sealer, &recipients).unwrap();
        let members: Vec<MemberRef> =
            members.iter().map(|content| writer.append(&mut self.sealer, content).unwrap()).collect();
        let sealed = writer.finish(&mut self.sealer).unwrap();
        let entry = self.put(sealed, Content::Bundle, Class::Machine, owner).await;
        let part = |member: &MemberRef| PartEntry {
            object: entry.name,
            offset: member.offset,
            length: member.length,
            size: member.size,
            digest: member.digest,
        };
        let parts = members.iter().map(part).collect();
        (entry, parts)
    }

    /// Puts the first owner's body for the record `seq`, with one VM that has these artefacts.
    async fn body(&mut self, seq: u64, artefacts: &[ArtefactEntry]) -> ObjectEntry {
        let written = include_str!("../../../../schema/fixtures/snapshot-body-v2.json");
        let mut body: SnapshotBody = serde_json::from_str(written).unwrap();
        body.head.vault = vault_id();
        body.head.writer = host();
        body.head.seq = seq;
        body.head.owner = self.owners[0].0.clone();
        body.vms.truncate(1);
        body.vms[0].artefacts = artefacts.to_vec();
        let recipients = self.recipients(0);
        let json = serde_json::to_vec(&body).unwrap();
        let sealed = self.sealer.seal_body(&recipients, &json).unwrap();
        self.put(sealed, Content::Body, Class::Metadata, 0).await
    }

    /// Checks a ledger whose records name these objects, with the first owner's restore identity.
    async fn check(&self, records: Vec<Vec<ObjectEntry>>) -> CheckReport {
        let policy = PolicyRef { seq: 1, id: Digest::of(b"policy") };
        let mut signed = Vec::new();
        let mut prev = None;
        for (seq, objects) in (1..).zip(records) {
            let one = sign(Record { objects, ..record(seq, prev, policy) }, 3);
            prev = Some(one.name.id);
            signed.push(LedgerRecord { signed: one, standing: Standing::Good });
        }
        let ledger = |writer, records| Ledger { writer, records, findings: vec![] };
        let ledgers = Ledgers {
            policies: PolicyChain::default(),
            admin: ledger(WriterId::admin(), vec![]),
            writers: BTreeMap::from([(host(), ledger(host(), signed))]),
            strays: vec![],
        };
        let (owner, identity) = &self.owners[0];
        let text = identity.file(&[]);
        let identities = Identities::parse(text.expose().as_bytes(), None, NoCallbacks).unwrap();
        let identities = vec![RoleIdentity { owner: owner.clone(), role: Role::Restore, identities }];
        let options = CheckOptions { read_data: true, identities, ..CheckOptions::default() };
        self.vault.check(&ledgers, options, &Silent).await.expect("a check goes on to its end")
    }
}

fn artefact(path: &str, content: &[u8], parts: &[PartEntry]) -> ArtefactEntry {
    ArtefactEntry {
        path: path.to_owned(),
        kind: ArtefactKind::Configuration,
        class: Class::Machine,
        size: content.len() as u64,
        digest: Digest::of(content),
        parts: parts.to_vec(),
    }
}

fn told(report: &CheckReport) -> Vec<(&str, &str)> {
    report.findings.iter().map(|finding| (finding.code.as_str(), finding.place.as_str())).collect()
}

#[tokio::test]
async fn a_body_that_states_two_members_at_one_place_is_damage_and_the_check_goes_on() {
    let mut scene = Scene::set();
    let (bundle, parts) = scene.bundle(0, &[b"one", b"two", b"three"]).await;
    let good = artefact("good", b"onetwo", &parts[..2]);
    let (right, mut wrong) =
        (artefact("right", b"threeone", &[parts[2].clone(), parts[0].clone()]), parts[2].clone());
    wrong.digest = Digest::of(b"THREE");
    let wrong = artefact("wrong", b"THREEone", &[wrong, parts[0].clone()]);

    // The right statement first: the wrong one is the body's damage, and the rest is whole.
    let body = scene.body(1, &[right.clone(), wrong.clone(), good.clone()]).await;
    let place = object_path(&host(), &body.name).to_string();
    let report = scene.check(vec![vec![body, bundle.clone()]]).await;
    assert_eq!(told(&report), [("body-contradiction", place.as_str())]);
    assert_eq!(report.artefacts_verified, 2);

    // The wrong one first: then the bundle is not what the body states, either.
    let mut scene = Scene::set();
    let (bundle, again) = scene.bundle(0, &[b"one", b"two", b"three"]).await;
    let moved = |mut artefact: ArtefactEntry| {
        artefact.parts.iter_mut().for_each(|part| part.object = again[0].object);
        artefact
    };
    let body = scene.body(1, &[moved(wrong), moved(right), moved(good)]).await;
    let places = [&body, &bundle].map(|object| object_path(&host(), &object.name).to_string());
    let report = scene.check(vec![vec![body, bundle]]).await;
    let mut wanted =
        vec![("body-contradiction", places[0].as_str()), ("bundle-malformed", places[1].as_str())];
    let mut found = told(&report);
    wanted.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, wanted);
    assert_eq!(report.artefacts_verified, 0);
}

#[tokio::test]
async fn a_later_body_does_not_replace_what_an_older_one_stated() {
    let mut scene = Scene::set();
    let (bundle, parts) = scene.bundle(0, &[b"one", b"two"]).await;
    let mut wrong = parts.clone();
    wrong[1].digest = Digest::of(b"TWO");
    let old = scene.body(1, &[artefact("file", b"onetwo", &parts)]).await;
    let new = scene.body(2, &[artefact("file", b"oneTWO", &wrong)]).await;
    let place = object_path(&host(), &new.name).to_string();
    let report = scene.check(vec![vec![old.clone(), bundle.clone()], vec![old, new, bundle]]).await;
    assert_eq!(told(&report), [("body-contradiction", place.as_str())]);
    assert_eq!(report.artefacts_verified, 1);
}

#[tokio::test]
async fn a_part_that_the_identity_does_not_open_is_a_finding_and_the_check_goes_on() {
    let mut scene = Scene::set();
    let (mine, parts) = scene.bundle(0, &[b"one", b"two"]).await;
    let (others, other_parts) = scene.bundle(1, &[b"three"]).await;
    let mixed = artefact("mixed", b"onethree", &[parts[0].clone(), other_parts[0].clone()]);
    let body = scene.body(1, &[mixed, artefact("good", b"onetwo", &parts)]).await;
    let report = scene.check(vec![vec![body, mine, others]]).await;
    assert_eq!(told(&report), [("artefact-unreadable", "mixed of record 1")]);
    assert_eq!(report.artefacts_verified, 1);
}

#[tokio::test]
async fn an_object_larger_than_memory_allows_is_named_and_not_read() {
    let mut scene = Scene::set();
    let (bundle, _) = scene.bundle(0, &[b"one"]).await;
    let record = Arc::new(record(1, None, PolicyRef { seq: 1, id: Digest::of(b"policy") }));
    let target = |size| Target {
        writer: host(),
        entry: ObjectEntry { size, ..bundle.clone() },
        record: Arc::clone(&record),
        record_id: Digest::of(b"record"),
        recipients: None,
        first_is_known: true,
    };
    let (options, expected) = (Arc::new(CheckOptions::default()), Arc::new(Expected::new()));
    let mut report = CheckReport::default();
    let huge = vec![target(MAX_OBJECT_IN_MEMORY_BYTES + 1), target(u64::MAX), target(bundle.size)];
    let outcomes = scene.vault.read_all(huge, &options, &expected, &Silent, &mut report).await.unwrap();
    assert_eq!(outcomes.len(), 3);
    let whats: Vec<_> = report.findings.iter().map(|f| (f.code.as_str(), f.what.as_str())).collect();
    assert!(
        matches!(whats[..], [("object-damaged", a), ("object-damaged", b)] if a.ends_with("not read") && b.ends_with("not read")),
        "{whats:?}"
    );
}
