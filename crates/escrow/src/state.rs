//! What an importer remembers between runs: its ledger's tip, and which secrets it has sealed.
//!
//! One JSON file that is replaced as a whole. It holds digests of secrets, no secret; losing it costs that everything is
//! sealed once more.

use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use lifeboat_fve::Guid;
use lifeboat_schema::{Digest, SecretKind, Tip, VaultId, WriterId};
use lifeboat_vault::record::RecordName;
use lifeboat_vault::writer::{Known, OwnRecord};
use serde::{Deserialize, Serialize};

/// Version of the file.
const STATE_VERSION: u32 = 1;
/// Newest records that are kept, to put them back if the store loses them.
const KEPT_RECORDS: usize = 64;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file cannot be read or written.
    #[error(
        "{path} cannot be {did}: {source}. Give the importer its own folder, and the right to write there"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Read or written.
        did: &'static str,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a state.
    #[error("{path} is damaged ({why}). If you know why, remove it: the next run seals everything once more")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It belongs to another vault or importer.
    #[error(
        "{path} belongs to the importer {writer} of the vault {vault}; give each importer its own folder"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its vault.
        vault: VaultId,
        /// Its importer.
        writer: WriterId,
    },
}

/// A record as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    seq: u64,
    id: Digest,
    text: String,
}

impl Kept {
    fn of(record: &OwnRecord) -> Self {
        // Records are ASCII: a line and an armour.
        let text = String::from_utf8_lossy(&record.bytes).into_owned();
        Self { seq: record.name.seq, id: record.name.id, text }
    }

    fn own(&self) -> OwnRecord {
        OwnRecord {
            name: RecordName { seq: self.seq, id: self.id },
            bytes: self.text.clone().into_bytes().into(),
        }
    }
}

/// What is known of a sealed secret. `mark` stands for all that its entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sealed {
    pub(crate) mark: Digest,
    pub(crate) kind: SecretKind,
    pub(crate) secret: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) protector: Option<String>,
    /// Name of the source that it was sealed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    v: u32,
    vault: VaultId,
    writer: WriterId,
    tip: Option<(u64, Digest)>,
    pending: Option<(Kept, Vec<Sealed>, BTreeMap<String, String>)>,
    kept: Vec<Kept>,
    seen: Vec<Tip>,
    sealed: Vec<Sealed>,
    /// How far each asked source was read.
    cursors: BTreeMap<String, String>,
    /// For whom everything was sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed_for: Option<String>,
}

/// The open state of one importer.
pub struct State {
    path: PathBuf,
    file: File,
}

impl State {
    /// Opens the state at `path`, or begins one.
    ///
    /// # Errors
    /// [`StateError`]; the file is left as it is.
    pub fn open(path: &Path, vault: &VaultId, writer: &WriterId) -> Result<Self, StateError> {
        let new = || File {
            v: STATE_VERSION,
            vault: vault.clone(),
            writer: writer.clone(),
            tip: None,
            pending: None,
            kept: Vec::new(),
            seen: Vec::new(),
            sealed: Vec::new(),
            cursors: BTreeMap::new(),
            sealed_for: None,
        };
        let file = match std::fs::read(path) {
            Ok(json) => {
                let damaged = |why: String| StateError::Damaged { path: path.to_owned(), why };
                let file: File = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
                if file.v != STATE_VERSION {
                    return Err(damaged(format!("it has version {}", file.v)));
                }
                file
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => new(),
            Err(source) => return Err(StateError::File { path: path.to_owned(), did: "read", source }),
        };
        if file.vault != *vault || file.writer != *writer {
            return Err(StateError::Foreign {
                path: path.to_owned(),
                vault: file.vault,
                writer: file.writer,
            });
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Pins the policy that enrolment gave, unless a newer one was seen since.
    pub fn pin(&mut self, policy: &lifeboat_schema::PolicyRef) {
        let admin = WriterId::admin();
        if !self.file.seen.iter().any(|tip| tip.writer == admin) {
            self.file.seen.push(Tip { writer: admin, seq: policy.seq, id: policy.id });
        }
    }

    /// Returns how far a source was read, as it said itself.
    #[must_use]
    pub fn cursor(&self, source: &str) -> Option<&str> {
        self.file.cursors.get(source).map(String::as_str)
    }

    /// Returns the BitLocker protectors whose recovery passwords were sealed from one source.
    #[must_use]
    pub fn protectors_of(&self, source: &str) -> HashSet<Guid> {
        let from_source =
            |one: &&Sealed| one.kind == SecretKind::RecoveryPassword && one.from.as_deref() == Some(source);
        let sealed = self.file.sealed.iter().filter(from_source);
        sealed.filter_map(|one| one.protector.as_ref()?.parse().ok()).collect()
    }

    /// Returns for whom everything was sealed.
    pub(crate) fn sealed_for(&self) -> Option<&str> {
        self.file.sealed_for.as_deref()
    }

    /// Remembers for whom everything is sealed from now on.
    pub(crate) fn set_sealed_for(&mut self, recipients: String) {
        self.file.sealed_for = Some(recipients);
    }

    pub(crate) fn sealed(&self) -> &[Sealed] {
        &self.file.sealed
    }

    pub(crate) fn known(&self) -> Known {
        Known {
            tip: self.file.tip.map(|(seq, id)| RecordName { seq, id }),
            pending: self.file.pending.as_ref().map(|(record, _, _)| record.own()),
            kept: self.file.kept.iter().map(Kept::own).collect(),
            seen: self.file.seen.clone(),
        }
    }

    pub(crate) fn remember_seen(&mut self, tips: &[Tip]) {
        for tip in tips {
            self.file.seen.retain(|seen| seen.writer != tip.writer);
            self.file.seen.push(tip.clone());
        }
    }

    /// Forgets what is sealed: the store is not what it was, or the recipients are others. Goes on from `tip`.
    pub(crate) fn drop_knowledge(&mut self, tip: Option<RecordName>) {
        self.file.tip = tip.map(|name| (name.seq, name.id));
        self.file.pending = None;
        self.file.sealed.clear();
        self.file.cursors.clear();
    }

    pub(crate) fn drop_pending(&mut self) {
        self.file.pending = None;
    }

    /// Writes down what is about to be committed.
    pub(crate) fn set_pending(
        &mut self,
        record: &OwnRecord,
        sealed: Vec<Sealed>,
        cursors: BTreeMap<String, String>,
    ) -> Result<(), StateError> {
        self.file.pending = Some((Kept::of(record), sealed, cursors));
        self.save()
    }

    /// Makes the pending state the committed one.
    pub(crate) fn promote(&mut self) {
        let Some((record, sealed, cursors)) = self.file.pending.take() else { return };
        self.file.tip = Some((record.seq, record.id));
        self.file.kept.push(record);
        let surplus = self.file.kept.len().saturating_sub(KEPT_RECORDS);
        self.file.kept.drain(..surplus);
        self.file.sealed.extend(sealed);
        self.file.cursors.extend(cursors);
    }

    /// Remembers how far sources were read in a run that had nothing to seal.
    pub(crate) fn set_cursors(&mut self, cursors: BTreeMap<String, String>) {
        self.file.cursors.extend(cursors);
    }

    /// Replaces the file as a whole; only its owner may read it.
    pub(crate) fn save(&self) -> Result<(), StateError> {
        let temporary = self.path.with_extension("new");
        let wrap = |source| StateError::File { path: temporary.clone(), did: "written", source };
        let json = serde_json::to_vec(&self.file).expect("states have only string keys");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary).map_err(wrap)?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(wrap)?;
        std::fs::rename(&temporary, &self.path).map_err(|source| StateError::File {
            path: self.path.clone(),
            did: "written",
            source,
        })
    }
}
