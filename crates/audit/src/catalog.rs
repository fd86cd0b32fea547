//! The catalog of the reading side: what audits took out of bodies, an SQLite file for its owner alone.
//!
//! A cache: it can be removed at any time, and is made anew from the vault. Bodies never change and are named by their digest,
//! so each is read once; for each ledger it remembers how far it was read, and a ledger in which that place no longer counts
//! empties the whole. Of snapshots it keeps the VMs of each host's newest record, and of all others only what a verdict asks
//! of the past. It holds names, ids and digests, and no secret. It is one reader's: what another identity opens is not in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_schema::{Digest, GuardianEntry, Kind, OwnerId, SubjectId, Time, VaultId, WriterId};
use rusqlite::{Connection, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::AuditError;
use crate::facts::{
    Carried, CompanionFacts, Generation, GuardianId, KeptCapture, ProofFacts, SecretFacts, VmFacts,
};

/// Version of the catalog's tables; another one is thrown away and made anew.
pub const CATALOG_VERSION: i64 = 1;

/// Tells that an SQLite file is a catalog of audits.
const APPLICATION_ID: i64 = 0x4c62_4175;

const TABLES: &str = "
CREATE TABLE identity (vault TEXT NOT NULL, reader TEXT NOT NULL);
CREATE TABLE ledger (writer TEXT PRIMARY KEY, seq INTEGER NOT NULL, id TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE body (writer TEXT NOT NULL, object TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL,
  owner TEXT NOT NULL, host TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (writer, object)) WITHOUT ROWID;
CREATE TABLE vm (writer TEXT NOT NULL, object TEXT NOT NULL, subject TEXT NOT NULL, captured INTEGER NOT NULL,
  facts TEXT NOT NULL, PRIMARY KEY (writer, object, subject)) WITHOUT ROWID;
CREATE TABLE carried (writer TEXT NOT NULL, object TEXT NOT NULL, subject TEXT NOT NULL, facts TEXT NOT NULL,
  PRIMARY KEY (writer, object, subject)) WITHOUT ROWID;
CREATE TABLE companion (writer TEXT NOT NULL, object TEXT NOT NULL, subject TEXT NOT NULL, facts TEXT NOT NULL,
  PRIMARY KEY (writer, object, subject)) WITHOUT ROWID;
CREATE TABLE generation (volume TEXT NOT NULL, metadata TEXT NOT NULL, captured INTEGER NOT NULL, facts TEXT NOT NULL,
  PRIMARY KEY (volume, metadata)) WITHOUT ROWID;
CREATE TABLE capture (writer TEXT NOT NULL, object TEXT NOT NULL, facts TEXT NOT NULL);
CREATE TABLE secret (facts TEXT NOT NULL);
CREATE TABLE proof (facts TEXT NOT NULL);
CREATE TABLE guardian (id TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID;
";

const NAMES: [&str; 11] = [
    "identity",
    "ledger",
    "body",
    "vm",
    "carried",
    "companion",
    "generation",
    "capture",
    "secret",
    "proof",
    "guardian",
];

/// The open catalog.
pub struct Catalog {
    path: PathBuf,
    connection: Connection,
}

/// What became of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyState {
    /// All of it is here.
    Read,
    /// Its VMs and companions are not here, as no newest record has them.
    Past,
    /// It is sealed to others.
    Foreign,
}

impl BodyState {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Past => "past",
            Self::Foreign => "foreign",
        }
    }

    fn of(word: &str) -> Self {
        match word {
            "read" => Self::Read,
            "past" => Self::Past,
            _ => Self::Foreign,
        }
    }
}

/// A body that was read.
#[derive(Debug, Clone)]
pub(crate) struct KeptBody {
    pub(crate) state: BodyState,
    pub(crate) owner: Option<OwnerId>,
    pub(crate) host: String,
    pub(crate) seq: u64,
}

/// Where a body is named.
pub(crate) type BodyKey = (WriterId, Digest);

/// What a snapshot body gives.
#[derive(Default)]
pub(crate) struct SnapshotFacts {
    pub(crate) vms: Vec<(SubjectId, Time, VmFacts)>,
    pub(crate) carried: Vec<(SubjectId, Carried)>,
    pub(crate) companions: Vec<(SubjectId, CompanionFacts)>,
    pub(crate) guardians: BTreeMap<GuardianId, GuardianEntry>,
}

/// Rows by body and subject.
pub(crate) type BySubject<T> = HashMap<BodyKey, HashMap<SubjectId, T>>;

impl Catalog {
    /// Opens the catalog at `path` for what `reader` opens of a vault, and makes it where there is none.
    ///
    /// # Errors
    /// [`AuditError::Foreign`] for a file that is something else, [`AuditError::Sqlite`], [`AuditError::Private`].
    pub fn open(path: &Path, vault: &VaultId, reader: &str) -> Result<Self, AuditError> {
        make_private(path).map_err(|source| AuditError::Private { path: path.to_owned(), source })?;
        let connection =
            Connection::open(path).map_err(|source| AuditError::Sqlite { path: path.to_owned(), source })?;
        Self::prepare(path, connection, vault, reader)
    }

    /// A catalog that is gone when it is dropped.
    ///
    /// # Errors
    /// [`AuditError::Sqlite`].
    pub fn in_memory(vault: &VaultId, reader: &str) -> Result<Self, AuditError> {
        let path = Path::new(":memory:");
        let connection = Connection::open_in_memory()
            .map_err(|source| AuditError::Sqlite { path: path.to_owned(), source })?;
        Self::prepare(path, connection, vault, reader)
    }

    fn prepare(
        path: &Path,
        connection: Connection,
        vault: &VaultId,
        reader: &str,
    ) -> Result<Self, AuditError> {
        let mut catalog = Self { path: path.to_owned(), connection };
        let foreign = |what: &str| AuditError::Foreign { path: path.to_owned(), what: what.to_owned() };
        let number = |catalog: &Self, pragma: &str| {
            catalog.sql(|c| c.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)))
        };
        catalog.sql(|c| c.busy_timeout(Duration::from_secs(10)))?;
        let application = match number(&catalog, "application_id") {
            Err(AuditError::Sqlite { source, .. })
                if source.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) =>
            {
                return Err(foreign("no SQLite file"));
            }
            other => other?,
        };
        let tables: i64 =
            catalog.sql(|c| c.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)))?;
        if application != APPLICATION_ID && tables > 0 {
            return Err(foreign("another SQLite database"));
        }
        // A power cut may cost the file, which is only a cache.
        catalog.sql(|c| c.pragma_update(None, "synchronous", "NORMAL"))?;
        if application == APPLICATION_ID && number(&catalog, "user_version")? == CATALOG_VERSION {
            let is_ours = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
            let found = catalog.sql(|c| c.query_row("SELECT vault, reader FROM identity", [], is_ours))?;
            return match found {
                (of, by) if of == vault.as_str() && by == reader => Ok(catalog),
                (of, _) if of == vault.as_str() => Err(foreign("what another identity opened")),
                _ => Err(foreign("of another vault")),
            };
        }
        catalog.transaction(|t| {
            for name in NAMES {
                t.execute_batch(&format!("DROP TABLE IF EXISTS {name}"))?;
            }
            t.execute_batch(TABLES)?;
            t.execute("INSERT INTO identity VALUES (?1, ?2)", params![vault.as_str(), reader])?;
            t.pragma_update(None, "application_id", APPLICATION_ID)?;
            t.pragma_update(None, "user_version", CATALOG_VERSION)
        })?;
        Ok(catalog)
    }

    fn sql<T>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, AuditError> {
        run(&self.connection).map_err(|source| AuditError::Sqlite { path: self.path.clone(), source })
    }

    fn transaction<T>(
        &mut self,
        run: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, AuditError> {
        self.begin()?;
        let done = self.sql(run);
        match done {
            Ok(value) => self.commit().map(|()| value),
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Begins to write; until [`commit`](Self::commit) nothing of it stays.
    pub(crate) fn begin(&mut self) -> Result<(), AuditError> {
        self.sql(|c| c.execute_batch("BEGIN IMMEDIATE"))
    }

    pub(crate) fn commit(&mut self) -> Result<(), AuditError> {
        self.sql(|c| c.execute_batch("COMMIT"))
    }

    pub(crate) fn roll_back(&mut self) {
        // An error before this may have ended the transaction already.
        let _ = self.connection.execute_batch("ROLLBACK");
    }

    /// Forgets everything that was read.
    ///
    /// # Errors
    /// [`AuditError::Sqlite`].
    pub fn clear(&mut self) -> Result<(), AuditError> {
        self.transaction(|t| {
            for name in NAMES.iter().filter(|name| **name != "identity") {
                t.execute_batch(&format!("DELETE FROM {name}"))?;
            }
            Ok(())
        })
    }

    /// How far each ledger was read.
    pub(crate) fn positions(&self) -> Result<BTreeMap<WriterId, (u64, Digest)>, AuditError> {
        self.sql(|c| {
            c.prepare("SELECT writer, seq, id FROM ledger")?
                .query_map([], |row| Ok((text(row, 0)?, (unsigned(row, 1)?, text(row, 2)?))))?
                .collect()
        })
    }

    pub(crate) fn set_position(&self, writer: &WriterId, seq: u64, id: &Digest) -> Result<(), AuditError> {
        self.sql(|c| {
            let seq = i64::try_from(seq).unwrap_or(i64::MAX);
            c.execute(
                "INSERT OR REPLACE INTO ledger VALUES (?1, ?2, ?3)",
                params![writer.as_str(), seq, id.to_string()],
            )
            .map(drop)
        })
    }

    /// Every body that was read, or found to be others'.
    pub(crate) fn bodies(&self) -> Result<HashMap<BodyKey, KeptBody>, AuditError> {
        self.sql(|c| {
            c.prepare("SELECT writer, object, state, owner, host, seq FROM body")?
                .query_map([], |row| {
                    let owner: String = row.get(3)?;
                    let kept = KeptBody {
                        state: BodyState::of(&row.get::<_, String>(2)?),
                        owner: owner.parse().ok(),
                        host: row.get(4)?,
                        seq: unsigned(row, 5)?,
                    };
                    Ok(((text(row, 0)?, text(row, 1)?), kept))
                })?
                .collect()
        })
    }

    pub(crate) fn put_body(&self, key: &BodyKey, kind: Kind, body: &KeptBody) -> Result<(), AuditError> {
        self.sql(|c| {
            let owner = body.owner.as_ref().map_or("", OwnerId::as_str);
            let seq = i64::try_from(body.seq).unwrap_or(i64::MAX);
            let object = key.1.to_string();
            c.prepare_cached("INSERT OR REPLACE INTO body VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?
                .execute(params![
                    key.0.as_str(),
                    object,
                    kind.as_str(),
                    body.state.word(),
                    owner,
                    body.host,
                    seq
                ])
                .map(drop)
        })
    }

    /// Puts what a snapshot body says of now, which its host's newest record names.
    pub(crate) fn put_present(&self, key: &BodyKey, facts: &SnapshotFacts) -> Result<(), AuditError> {
        let (writer, object) = (key.0.as_str(), key.1.to_string());
        self.sql(|c| {
            for (subject, captured, vm) in &facts.vms {
                c.prepare_cached("INSERT OR REPLACE INTO vm VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![writer, object, subject.as_str(), captured.unix_seconds(), json(vm)])?;
            }
            for (subject, carried) in &facts.carried {
                c.prepare_cached("INSERT OR REPLACE INTO carried VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![writer, object, subject.as_str(), json(carried)])?;
            }
            for (subject, companion) in &facts.companions {
                c.prepare_cached("INSERT OR REPLACE INTO companion VALUES (?1, ?2, ?3, ?4)")?
                    .execute(params![writer, object, subject.as_str(), json(companion)])?;
            }
            Ok(())
        })
    }

    /// Puts what stays of a snapshot body: generations of volumes, states and whom each is for.
    pub(crate) fn put_past(&self, key: &BodyKey, facts: &SnapshotFacts) -> Result<(), AuditError> {
        let (writer, object) = (key.0.as_str(), key.1.to_string());
        self.sql(|c| {
            for (id, entry) in &facts.guardians {
                c.prepare_cached("INSERT OR IGNORE INTO guardian VALUES (?1, ?2)")?
                    .execute(params![id.to_string(), json(entry)])?;
            }
            // Read again after it was pushed out: once is enough.
            c.prepare_cached("DELETE FROM capture WHERE writer = ?1 AND object = ?2")?
                .execute(params![writer, object])?;
            for (subject, captured, vm) in &facts.vms {
                let kept = KeptCapture {
                    subject: subject.clone(),
                    vm_id: vm.vm_id.clone(),
                    name: vm.name.clone(),
                    captured: *captured,
                    guardians: vm.all_guardians(),
                };
                c.prepare_cached("INSERT INTO capture VALUES (?1, ?2, ?3)")?.execute(params![
                    writer,
                    object,
                    json(&kept)
                ])?;
                for volume in vm.disks.iter().flat_map(|disk| &disk.volumes) {
                    let Some(generation) = volume.generation(*captured) else { continue };
                    c.prepare_cached(
                        "INSERT INTO generation VALUES (?1, ?2, ?3, ?4) ON CONFLICT (volume, metadata)
                         DO UPDATE SET captured = excluded.captured, facts = excluded.facts
                         WHERE excluded.captured > captured",
                    )?
                    .execute(params![
                        generation.volume_id,
                        generation.metadata.to_string(),
                        captured.unix_seconds(),
                        json(&generation)
                    ])?;
                }
            }
            Ok(())
        })
    }

    pub(crate) fn put_secrets(&self, secrets: &[SecretFacts]) -> Result<(), AuditError> {
        self.put_all("INSERT INTO secret VALUES (?1)", secrets)
    }

    pub(crate) fn put_proofs(&self, proofs: &[ProofFacts]) -> Result<(), AuditError> {
        self.put_all("INSERT INTO proof VALUES (?1)", proofs)
    }

    fn put_all<T: Serialize>(&self, statement: &str, all: &[T]) -> Result<(), AuditError> {
        self.sql(|c| {
            for one in all {
                c.prepare_cached(statement)?.execute([json(one)])?;
            }
            Ok(())
        })
    }

    /// Drops the VMs and companions of bodies that no newest record names any more.
    pub(crate) fn keep_present(
        &self,
        bodies: &mut HashMap<BodyKey, KeptBody>,
        present: &HashSet<BodyKey>,
    ) -> Result<bool, AuditError> {
        let gone: Vec<BodyKey> = bodies
            .iter()
            .filter(|(key, body)| body.state == BodyState::Read && !present.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        let mut changed = false;
        for key in gone {
            let is_snapshot = self.sql(|c| {
                let object = key.1.to_string();
                let place = params![key.0.as_str(), object];
                let changed = c
                    .prepare_cached("UPDATE body SET state = 'past' WHERE writer = ?1 AND object = ?2 AND kind = 'snapshot'")?
                    .execute(place)?;
                if changed > 0 {
                    for table in ["vm", "carried", "companion"] {
                        c.prepare_cached(&format!("DELETE FROM {table} WHERE writer = ?1 AND object = ?2"))?
                            .execute(place)?;
                    }
                }
                Ok(changed > 0)
            })?;
            if is_snapshot && let Some(body) = bodies.get_mut(&key) {
                body.state = BodyState::Past;
                changed = true;
            }
        }
        Ok(changed)
    }

    pub(crate) fn vms(&self) -> Result<BySubject<(Time, VmFacts)>, AuditError> {
        self.by_subject("SELECT writer, object, subject, facts, captured FROM vm", |row, facts| {
            Ok((Time::from_unix_seconds(row.get(4)?), facts))
        })
    }

    pub(crate) fn carried(&self) -> Result<BySubject<Carried>, AuditError> {
        self.by_subject("SELECT writer, object, subject, facts FROM carried", |_, facts| Ok(facts))
    }

    pub(crate) fn companions(&self) -> Result<BySubject<CompanionFacts>, AuditError> {
        self.by_subject("SELECT writer, object, subject, facts FROM companion", |_, facts| Ok(facts))
    }

    fn by_subject<F: DeserializeOwned, T>(
        &self,
        statement: &str,
        make: impl Fn(&rusqlite::Row<'_>, F) -> rusqlite::Result<T>,
    ) -> Result<BySubject<T>, AuditError> {
        self.sql(|c| {
            let mut all: BySubject<T> = HashMap::new();
            let mut prepared = c.prepare(statement)?;
            let mut rows = prepared.query([])?;
            while let Some(row) = rows.next()? {
                let key = (text(row, 0)?, text(row, 1)?);
                let value = make(row, parsed(row, 3)?)?;
                all.entry(key).or_default().insert(text(row, 2)?, value);
            }
            Ok(all)
        })
    }

    pub(crate) fn captures(&self) -> Result<HashMap<BodyKey, Vec<KeptCapture>>, AuditError> {
        self.sql(|c| {
            let mut all: HashMap<BodyKey, Vec<KeptCapture>> = HashMap::new();
            let mut prepared = c.prepare("SELECT writer, object, facts FROM capture")?;
            let mut rows = prepared.query([])?;
            while let Some(row) = rows.next()? {
                all.entry((text(row, 0)?, text(row, 1)?)).or_default().push(parsed(row, 2)?);
            }
            Ok(all)
        })
    }

    pub(crate) fn generations(&self) -> Result<Vec<Generation>, AuditError> {
        self.all("SELECT facts FROM generation")
    }

    pub(crate) fn secrets(&self) -> Result<Vec<SecretFacts>, AuditError> {
        self.all("SELECT facts FROM secret")
    }

    pub(crate) fn proofs(&self) -> Result<Vec<ProofFacts>, AuditError> {
        self.all("SELECT facts FROM proof")
    }

    fn all<T: DeserializeOwned>(&self, statement: &str) -> Result<Vec<T>, AuditError> {
        self.sql(|c| c.prepare(statement)?.query_map([], |row| parsed(row, 0))?.collect())
    }

    pub(crate) fn guardians(&self) -> Result<BTreeMap<GuardianId, GuardianEntry>, AuditError> {
        self.sql(|c| {
            c.prepare("SELECT id, entry FROM guardian")?
                .query_map([], |row| Ok((text(row, 0)?, parsed(row, 1)?)))?
                .collect()
        })
    }
}

/// Makes the file where there is none, and closes it to all but its owner.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if file.metadata()?.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
    }
    drop(file);
    Ok(())
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("facts have only string keys")
}

fn damaged(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn parsed<T: DeserializeOwned>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T> {
    let value = row.get_ref(column)?;
    serde_json::from_str(value.as_str()?).map_err(|error| damaged(column, error))
}

fn text<T>(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let value = row.get_ref(column)?;
    value.as_str()?.parse().map_err(|error| damaged(column, error))
}

fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    Ok(u64::try_from(value).unwrap_or_default())
}
