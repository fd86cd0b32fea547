//! Records of an operator: sealed bodies and a signed record that commits them, put at once or kept until the store
//! takes them.
//!
//! A record that waits is ciphertext and a signature, no secret. It is put as it was signed while nothing of its writer
//! came between; else it is sealed and signed anew behind that, with its own times.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lifeboat_schema::{
    BodyHead, Class, Content, Digest, ESCROW_BODY_VERSION, Kind, ObjectEntry, OwnerId, Record, RevealBody,
    Time, WriterId,
};
use lifeboat_vault::fetch;
use lifeboat_vault::record::{RecordName, SignedRecord};
use lifeboat_vault::seal::{Identities, Recipients, SealOptions, Sealer};
use lifeboat_vault::vault::{Ledgers, Vault, VaultError};
use lifeboat_vault::writer::{self, Known, Start, Writer};

use crate::sealing::SealingError;

/// Records that may wait in one spool; more were never put in order.
const MAX_WAITING: usize = 1000;

/// A record with the bodies that it names; not in the store yet.
pub struct SealedRecord {
    signed: SignedRecord,
    objects: Vec<(Digest, Bytes)>,
}

/// When a record's run began and ended.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Begin.
    pub started: Time,
    /// End.
    pub finished: Time,
}

/// Makes the JSON of a body from its head.
pub type MakeBody<'b> = &'b dyn Fn(BodyHead) -> Vec<u8>;

impl SealedRecord {
    /// Seals bodies of class `metadata`, each for its owner, and signs the record that names them. `version` is that of
    /// the bodies.
    ///
    /// # Errors
    /// [`SealingError`]; nothing was written.
    pub fn new(
        vault: &Vault,
        operator: &Writer,
        start: &Start,
        (kind, version): (Kind, u32),
        span: Span,
        bodies: &[(OwnerId, MakeBody<'_>)],
    ) -> Result<Self, SealingError> {
        let mut record = writer::blank_record(vault, &operator.id, kind, start, span.started, span.finished);
        let mut sealer = Sealer::new(&SealOptions::default())?;
        let mut objects = Vec::new();
        for (owner, body) in bodies {
            let owner = start.policy.owner(owner).ok_or_else(|| SealingError::NoOwner(owner.clone()))?;
            let head = BodyHead {
                v: version,
                vault: vault.id.clone(),
                writer: operator.id.clone(),
                seq: record.seq,
                kind,
                class: Class::Metadata,
                owner: owner.id.clone(),
            };
            let recipients = Recipients::parse(&owner.recipients_of(Class::Metadata))?;
            let sealed = sealer.seal_body(&recipients, &body(head))?;
            let set = owner.recipient_set(Class::Metadata);
            let entry: ObjectEntry =
                writer::object_entry(&sealed, Content::Body, Class::Metadata, &owner.id, &set);
            objects.push((entry.name, Bytes::from(sealed.bytes)));
            record.objects.push(entry);
        }
        let signed = SignedRecord::sign(record, &operator.key).map_err(VaultError::from)?;
        Ok(Self { signed, objects })
    }

    /// Returns the record's place and id.
    #[must_use]
    pub fn name(&self) -> RecordName {
        self.signed.name
    }

    /// Puts the bodies, then the record, which commits them.
    ///
    /// # Errors
    /// [`VaultError`]; putting it once more is harmless.
    pub async fn put(&self, vault: &Vault) -> Result<RecordName, VaultError> {
        let writer = &self.signed.record.writer;
        for (name, bytes) in &self.objects {
            vault.put_object(writer, name, bytes.clone()).await?;
        }
        vault.put_record(writer, &self.signed).await?;
        Ok(self.signed.name)
    }

    /// Makes a reveal anew behind what the store has by now: a body states the place of the record that names it first.
    fn again(
        self,
        vault: &Vault,
        start: &Start,
        operator: &Writer,
        identities: &Identities,
    ) -> Result<Self, SealingError> {
        let old: &Record = &self.signed.record;
        let mut bodies: Vec<RevealBody> = Vec::new();
        for (entry, (_, bytes)) in old.objects.iter().zip(&self.objects) {
            let plaintext = fetch::open_bytes(&old.writer, entry, bytes.clone(), identities)?;
            bodies.push(fetch::parse_body(old, entry, &plaintext)?);
        }
        let make: Vec<_> = bodies
            .iter()
            .map(|body| {
                move |head| {
                    let body = RevealBody { head, ..body.clone() };
                    serde_json::to_vec(&body).expect("bodies have only string keys")
                }
            })
            .collect();
        let bodies: Vec<(OwnerId, MakeBody<'_>)> = bodies
            .iter()
            .zip(&make)
            .map(|(body, make)| (body.head.owner.clone(), make as MakeBody<'_>))
            .collect();
        let span = Span { started: old.started, finished: old.finished };
        Self::new(vault, operator, start, (old.kind, ESCROW_BODY_VERSION), span, &bodies)
    }
}

/// A folder of records that the store could not take yet.
pub struct Spool {
    folder: PathBuf,
}

/// Why a spool cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be {did}: {source}")]
pub struct SpoolError {
    /// The file or folder.
    pub path: PathBuf,
    /// Read, written or removed.
    pub did: &'static str,
    /// The operating system's reason, or what is wrong with it.
    #[source]
    pub source: std::io::Error,
}

/// What putting in order did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PutInOrder {
    /// Records that the store took now.
    pub put: usize,
    /// Records that still wait, and why; none where none does.
    pub waiting: Option<(usize, String)>,
}

/// Name of the record's file in its folder; the bodies lie beside it under their digests.
const RECORD_FILE: &str = "record";

impl Spool {
    /// The spool in `folder`, which need not be there.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Keeps a record until the store takes it.
    ///
    /// # Errors
    /// [`SpoolError`]; then it is not kept.
    pub fn keep(&self, sealed: &SealedRecord) -> Result<(), SpoolError> {
        let final_place = self.place(&sealed.signed.name);
        let partial = final_place.with_extension("partial");
        let wrap = |path: &Path| {
            let path = path.to_owned();
            move |source| SpoolError { path, did: "written", source }
        };
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&partial).map_err(wrap(&partial))?;
        for (name, bytes) in &sealed.objects {
            let path = partial.join(name.to_string());
            write(&path, bytes).map_err(wrap(&path))?;
        }
        let path = partial.join(RECORD_FILE);
        write(&path, &sealed.signed.bytes).map_err(wrap(&path))?;
        std::fs::rename(&partial, &final_place).map_err(wrap(&final_place))
    }

    fn place(&self, name: &RecordName) -> PathBuf {
        // The name of a record is made of digits, dashes and its ending.
        self.folder.join(name.to_string().replace('.', "-"))
    }

    /// Reads what waits, in its order.
    ///
    /// # Errors
    /// [`SpoolError`] names what is there and cannot be read.
    pub fn waiting(&self, vault: &Vault, ledgers: &Ledgers) -> Result<Vec<SealedRecord>, SpoolError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(SpoolError { path: self.folder.clone(), did: "read", source }),
        };
        let mut waiting = Vec::new();
        for entry in entries.flatten().take(MAX_WAITING) {
            let path = entry.path();
            // What was not finished was never promised to anybody.
            if path.extension().is_none() {
                waiting.push(read(&path, vault, ledgers)?);
            }
        }
        waiting.sort_by_key(|one| (one.signed.name.seq, one.signed.record.started));
        Ok(waiting)
    }

    /// Returns the last record of a writer that waits.
    ///
    /// # Errors
    /// As [`Spool::waiting`].
    pub fn newest(
        &self,
        vault: &Vault,
        ledgers: &Ledgers,
        writer: &WriterId,
    ) -> Result<Option<RecordName>, SpoolError> {
        let of_writer = |one: &SealedRecord| (one.signed.record.writer == *writer).then_some(one.signed.name);
        Ok(self.waiting(vault, ledgers)?.iter().rev().find_map(of_writer))
    }

    /// Puts what waits into the store, each behind what its writer has there. An operator with an identity that opens the
    /// bodies makes anew what something came before; without it only what still fits is put.
    ///
    /// # Errors
    /// [`SpoolError`]. A store that takes nothing is part of the answer.
    pub async fn put_in_order(
        &self,
        vault: &Vault,
        ledgers: &Ledgers,
        operator: Option<(&Writer, &Identities)>,
    ) -> Result<PutInOrder, SpoolError> {
        let waiting = self.waiting(vault, ledgers)?;
        let count = waiting.len();
        let mut done = PutInOrder::default();
        let mut tips: std::collections::BTreeMap<WriterId, Option<RecordName>> = ledgers
            .writers
            .iter()
            .map(|(id, ledger)| (id.clone(), ledger.newest().map(|record| record.signed.name)))
            .collect();
        for one in waiting {
            let place = self.place(&one.signed.name);
            let writer = one.signed.record.writer.clone();
            let tip = tips.get(&writer).copied().flatten();
            let is_there = ledgers
                .writers
                .get(&writer)
                .is_some_and(|ledger| ledger.at(one.signed.name.seq, &one.signed.name.id).is_some());
            let fits = one.signed.record.prev == tip.map(|tip| tip.id)
                && one.signed.name.seq == tip.map_or(0, |tip| tip.seq) + 1;
            let result = if is_there {
                Ok(one.signed.name)
            } else if fits {
                one.put(vault).await.map_err(|error| error.to_string())
            } else {
                match operator.filter(|(operator, _)| operator.id == writer) {
                    Some((operator, identities)) => put_behind(one, vault, tip, operator, identities).await,
                    None => Err("another record of this operator came between; the operator's key signs it anew: run `lifeboat escrow prove` or `escrow reveal` with it".to_owned()),
                }
            };
            match result {
                Ok(name) => {
                    if !is_there {
                        done.put += 1;
                        tips.insert(writer, Some(name));
                    }
                    std::fs::remove_dir_all(&place).map_err(|source| SpoolError {
                        path: place.clone(),
                        did: "removed",
                        source,
                    })?;
                }
                Err(why) => {
                    done.waiting = Some((count - done.put, why));
                    break;
                }
            }
        }
        Ok(done)
    }
}

async fn put_behind(
    one: SealedRecord,
    vault: &Vault,
    tip: Option<RecordName>,
    operator: &Writer,
    identities: &Identities,
) -> Result<RecordName, String> {
    let known = Known { tip, ..Known::default() };
    let kind = one.signed.record.kind;
    let start = vault.begin(operator, kind, &known).await.map_err(|error| error.to_string())?;
    let anew = one.again(vault, &start, operator, identities).map_err(|error| error.to_string())?;
    anew.put(vault).await.map_err(|error| error.to_string())
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Reads one record that waits; what is not as it was kept is refused.
fn read(folder: &Path, vault: &Vault, ledgers: &Ledgers) -> Result<SealedRecord, SpoolError> {
    let wrap = |path: &Path| {
        let path = path.to_owned();
        move |source| SpoolError { path, did: "read", source }
    };
    let bad = |why: String| SpoolError {
        path: folder.to_owned(),
        did: "read",
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, why),
    };
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name: RecordName = name
        .rsplit_once('-')
        .map(|(stem, ending)| format!("{stem}.{ending}"))
        .and_then(|name| name.parse().ok())
        .ok_or_else(|| bad("its name is not one of a record".to_owned()))?;
    let path = folder.join(RECORD_FILE);
    let bytes = Bytes::from(std::fs::read(&path).map_err(wrap(&path))?);
    let signed = ledgers
        .writers
        .keys()
        .find_map(|writer| {
            let keys = ledgers.policies.keys_of(writer);
            SignedRecord::verify(bytes.clone(), name, &vault.id, writer, &keys).ok()
        })
        .ok_or_else(|| bad("no operator of this vault signed it".to_owned()))?;
    let mut objects = Vec::new();
    for object in &signed.record.objects {
        let path = folder.join(object.name.to_string());
        let bytes = std::fs::read(&path).map_err(wrap(&path))?;
        if Digest::of(&bytes) != object.name {
            return Err(bad(format!("{} is not what its name says", object.name)));
        }
        objects.push((object.name, Bytes::from(bytes)));
    }
    Ok(SealedRecord { signed, objects })
}
