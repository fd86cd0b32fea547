//! Records for suites that no run of an agent or importer makes: escrowed secrets, proofs and snapshots of one's own choosing,
//! sealed and signed with the calls of the real programs.

use std::collections::BTreeMap;

use bytes::Bytes;
use lifeboat_schema::{
    BodyHead, Class, Content, Digest, ESCROW_BODY_VERSION, EscrowBody, EscrowEntry, EscrowSource, Kind,
    ObjectEntry, OwnerTerms, PROOF_BODY_VERSION, PartEntry, ProofBody, ProofEntry, SecretKind, SnapshotBody,
    Time,
};
use lifeboat_vault::record::{RecordName, SignedRecord};
use lifeboat_vault::seal::{BundleWriter, Recipients, SealOptions, SealedObject, Sealer};
use lifeboat_vault::vault::Vault;
use lifeboat_vault::writer::{self, Known, Start, Writer};

/// A recovery password that shall be escrowed.
pub struct NewSecret {
    /// The BitLocker protector that it is filed under.
    pub protector: String,
    /// The 48 digits.
    pub password: String,
}

/// The digest under which a recovery password is known.
pub fn secret_digest(password: &str) -> Digest {
    Digest::of(password.as_bytes())
}

/// One record in the making. Whatever fails panics.
pub struct Statement<'a> {
    vault: &'a Vault,
    writer: &'a Writer,
    kind: Kind,
    start: Start,
    owner: OwnerTerms,
    sealer: Sealer,
    objects: Vec<ObjectEntry>,
}

impl<'a> Statement<'a> {
    /// Begins the next record of a writer, for the first owner of the policy.
    pub async fn begin(vault: &'a Vault, writer: &'a Writer, kind: Kind) -> Self {
        let start = vault.begin(writer, kind, &Known::default()).await.expect("the writer may");
        let owner = start.policy.terms.owners[0].clone();
        let sealer = Sealer::new(&SealOptions::default()).expect("a sealer");
        Self { vault, writer, kind, start, owner, sealer, objects: Vec::new() }
    }

    /// What a body of it begins with.
    pub fn head(&self, v: u32) -> BodyHead {
        BodyHead {
            v,
            vault: self.vault.id.clone(),
            writer: self.writer.id.clone(),
            seq: self.start.previous.map_or(0, |name| name.seq) + 1,
            kind: self.kind,
            class: Class::Metadata,
            owner: self.owner.id.clone(),
        }
    }

    async fn put(&mut self, sealed: SealedObject, content: Content, class: Class) {
        let recipients = self.owner.recipient_set(class);
        let entry = writer::object_entry(&sealed, content, class, &self.owner.id, &recipients);
        let bytes = Bytes::from(sealed.bytes);
        self.vault.put_object(&self.writer.id, &entry.name, bytes).await.expect("an object");
        self.objects.push(entry);
    }

    /// Seals a body to audit, restore and escrow.
    pub async fn body(&mut self, body: &impl serde::Serialize) {
        let json = serde_json::to_vec(body).expect("bodies have only string keys");
        let recipients = Recipients::parse(&self.owner.recipients_of(Class::Metadata)).expect("recipients");
        let sealed = self.sealer.seal_body(&recipients, &json).expect("a sealed body");
        self.put(sealed, Content::Body, Class::Metadata).await;
    }

    /// Seals recovery passwords into one bundle, and gives their entries.
    pub async fn secrets(&mut self, secrets: &[NewSecret], imported: Time) -> Vec<EscrowEntry> {
        let recipients = Recipients::parse(&self.owner.recipients_of(Class::Secret)).expect("recipients");
        let mut bundle = BundleWriter::create(&mut self.sealer, &recipients).expect("a bundle");
        let mut members = BTreeMap::new();
        for one in secrets {
            if !members.contains_key(one.password.as_str()) {
                let member = bundle.append(&mut self.sealer, one.password.as_bytes()).expect("a member");
                members.insert(one.password.as_str(), member);
            }
        }
        let sealed = bundle.finish(&mut self.sealer).expect("a sealed bundle");
        let object = sealed.name;
        self.put(sealed, Content::Bundle, Class::Secret).await;
        let entry = |one: &NewSecret| {
            let member = &members[one.password.as_str()];
            EscrowEntry {
                kind: SecretKind::RecoveryPassword,
                protector: Some(one.protector.clone()),
                source: EscrowSource::Csv,
                origin: "list.csv".to_owned(),
                imported,
                recorded: None,
                computer: None,
                volume: None,
                mount: None,
                disclosed: false,
                class: Class::Secret,
                part: PartEntry {
                    object,
                    offset: member.offset,
                    length: member.length,
                    size: member.size,
                    digest: member.digest,
                },
            }
        };
        secrets.iter().map(entry).collect()
    }

    /// Signs and commits it; `subjects` stand in its first object.
    pub async fn commit(self, now: Time, subjects: Vec<lifeboat_schema::SubjectId>) -> RecordName {
        let Self { vault, writer, kind, start, objects, .. } = self;
        let mut record = writer::blank_record(vault, &writer.id, kind, &start, now, now);
        record.objects = objects;
        record.subjects = subjects.into_iter().map(|subject| (subject, vec![0])).collect();
        let signed = SignedRecord::sign(record, &writer.key).expect("a signature");
        vault.put_record(&writer.id, &signed).await.expect("a record");
        signed.name
    }
}

/// Escrows recovery passwords in one record.
pub async fn escrow(vault: &Vault, writer: &Writer, secrets: &[NewSecret], now: Time) -> RecordName {
    let mut statement = Statement::begin(vault, writer, Kind::Escrow).await;
    let entries = statement.secrets(secrets, now).await;
    let head = statement.head(ESCROW_BODY_VERSION);
    let body = EscrowBody { head, importer: "importer".to_owned(), sources: Vec::new(), entries };
    statement.body(&body).await;
    statement.commit(now, Vec::new()).await
}

/// States proofs in one record.
pub async fn prove(vault: &Vault, writer: &Writer, proofs: Vec<ProofEntry>, now: Time) -> RecordName {
    let mut statement = Statement::begin(vault, writer, Kind::Proof).await;
    let body = ProofBody { head: statement.head(PROOF_BODY_VERSION), proofs };
    statement.body(&body).await;
    statement.commit(now, Vec::new()).await
}

/// States a snapshot in one record with one body; the head of `body` is made here.
pub async fn snapshot(vault: &Vault, writer: &Writer, body: SnapshotBody, now: Time) -> RecordName {
    let mut statement = Statement::begin(vault, writer, Kind::Snapshot).await;
    let subjects = body.vms.iter().map(|vm| vm.subject.clone());
    let subjects = subjects.chain(body.companions.iter().map(|one| one.subject.clone())).collect();
    let body = SnapshotBody { head: statement.head(body.head.v), ..body };
    statement.body(&body).await;
    statement.commit(now, subjects).await
}
