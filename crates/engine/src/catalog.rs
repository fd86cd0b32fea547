//! The agent's memory between runs: what the last committed record holds, so that nothing is sealed twice.
//!
//! A cache with one duty: never to claim more than the store has. It holds names, attributes and digests,
//! and no secret. A run writes what it is about to commit as *pending* first, then puts the record, then
//! promotes; so after a crash the next run knows which of the two states the store has.
//! Losing the file costs one full run. Sealed objects and records are what counts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lifeboat_schema::{Digest, ObjectEntry, OwnerId, SubjectId, Time, Tip, VaultId, WriterId};
use lifeboat_vault::outbox::Placed;
use lifeboat_vault::record::RecordName;
use lifeboat_vault::writer::OwnRecord;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::entry::{EntryWriter, PackedEntry};

/// Version of the catalog's tables; kept in SQLite's `user_version`. Version 1 had the VMs' entries as plain JSON, version 2
/// knew neither schedules nor a spool.
pub const CATALOG_VERSION: i64 = 3;

/// Records of one's own that are kept, so that a store that lost its newest ones gets them back.
pub const KEPT_RECORDS: u64 = 64;

/// Why the catalog cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// SQLite refused.
    #[error(
        "the catalog {path} cannot be used: {source}; if it stays so, move the file away: the next run seals everything anew and loses nothing"
    )]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's reason.
        #[source]
        source: rusqlite::Error,
    },
    /// A newer program wrote it.
    #[error(
        "the catalog {path} has version {found}, and this program knows version {known}: use a newer Lifeboat, or move the file away"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// It belongs to another vault or writer.
    #[error(
        "the catalog {path} belongs to the writer {writer} of the vault {vault}; give each agent a folder of its own"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The vault it belongs to.
        vault: String,
        /// The writer it belongs to.
        writer: String,
    },
}

/// What the catalog knows of one VM, or of one companion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldVm {
    /// Identity on this host: the VM's id, with its place if two have one id.
    pub key: String,
    /// Its subject in the records.
    pub subject: SubjectId,
    /// The VM's id.
    pub vm_id: String,
    /// Its name.
    pub name: String,
    /// The source that found it.
    pub source: String,
    /// Whose it is.
    pub owner: OwnerId,
    /// Thumbprint of its owner guardian, by which policies select it.
    pub owner_guardian: Option<Digest>,
    /// Attributes of its files at capture.
    pub fingerprint: Vec<u8>,
    /// When it was captured.
    pub captured: Time,
    /// Since when it is carried forward, if it is.
    pub carried_since: Option<Time>,
    /// The body that holds its entry.
    pub body: Digest,
    /// The bundles that hold its artefacts.
    pub bundles: Vec<Digest>,
}

impl HeldVm {
    /// Tells whether it is a companion.
    pub fn is_companion(&self) -> bool {
        self.vm_id.starts_with(crate::source::COMPANION_PREFIX)
    }
}

/// What a run is about to commit.
#[derive(Debug)]
pub struct Pending<'a> {
    /// The signed record.
    pub record: &'a OwnRecord,
    /// All objects that the record names.
    pub objects: &'a [ObjectEntry],
    /// VMs that are new or differ from what the catalog holds, each with its body entry.
    pub changed: &'a [(&'a HeldVm, &'a PackedEntry)],
    /// Keys of VMs that the record no longer has.
    pub gone: &'a [String],
}

/// Records wait in the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsent {
    /// The newest record that the store is known to have; none before the first.
    pub after: Option<RecordName>,
}

/// What is remembered of one scheduled job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobState {
    /// Its name.
    pub name: String,
    /// Until when its schedule is dealt with.
    pub planned: Option<Time>,
    /// When it last began.
    pub started: Option<Time>,
    /// When it last ended.
    pub ended: Option<Time>,
    /// The exit code that it ended with.
    pub exit: Option<u8>,
    /// When it is due next.
    pub next: Option<Time>,
}

/// The open catalog.
pub struct Catalog {
    path: PathBuf,
    connection: Connection,
}

const TABLES: &str = "
CREATE TABLE identity (vault TEXT NOT NULL, writer TEXT NOT NULL);
CREATE TABLE tip (only INTEGER PRIMARY KEY CHECK (only = 1), seq INTEGER NOT NULL, id TEXT NOT NULL);
CREATE TABLE record (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE seen (writer TEXT PRIMARY KEY, seq INTEGER NOT NULL, id TEXT NOT NULL);
CREATE TABLE object (name TEXT PRIMARY KEY, entry TEXT NOT NULL);
CREATE TABLE vm (key TEXT PRIMARY KEY, subject TEXT NOT NULL, vm_id TEXT NOT NULL, name TEXT NOT NULL,
  source TEXT NOT NULL, owner TEXT NOT NULL, owner_guardian TEXT, fingerprint BLOB NOT NULL, captured INTEGER NOT NULL, carried_since INTEGER,
  body TEXT NOT NULL, bundles TEXT NOT NULL, entry BLOB NOT NULL);
CREATE TABLE pending_record (seq INTEGER PRIMARY KEY, id TEXT NOT NULL, bytes BLOB NOT NULL);
CREATE TABLE pending_object (name TEXT PRIMARY KEY, entry TEXT NOT NULL);
CREATE TABLE pending_vm (key TEXT PRIMARY KEY, subject TEXT NOT NULL, vm_id TEXT NOT NULL, name TEXT NOT NULL,
  source TEXT NOT NULL, owner TEXT NOT NULL, owner_guardian TEXT, fingerprint BLOB NOT NULL, captured INTEGER NOT NULL, carried_since INTEGER,
  body TEXT NOT NULL, bundles TEXT NOT NULL, entry BLOB NOT NULL);
CREATE TABLE pending_gone (key TEXT PRIMARY KEY);
";

/// What version 3 brought.
const TABLES_OF_VERSION_3: &str = "
CREATE TABLE IF NOT EXISTS unsent (only INTEGER PRIMARY KEY CHECK (only = 1), seq INTEGER, id TEXT);
CREATE TABLE IF NOT EXISTS job (name TEXT PRIMARY KEY, planned INTEGER, started INTEGER, ended INTEGER, exit INTEGER, next INTEGER);
";

impl Catalog {
    /// Opens the catalog at `path`, makes it where there is none, and brings an older one to this version.
    ///
    /// # Errors
    /// [`CatalogError`]. The file is left as it is.
    pub fn open(path: &Path, vault: &VaultId, writer: &WriterId) -> Result<Self, CatalogError> {
        let connection = Connection::open(path).map_err(|source| sqlite(path, source))?;
        Self::with_connection(path, connection, vault, writer)
    }

    /// A catalog that lives in memory only, for tests.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn in_memory(vault: &VaultId, writer: &WriterId) -> Result<Self, CatalogError> {
        let path = Path::new(":memory:");
        let connection = Connection::open_in_memory().map_err(|source| sqlite(path, source))?;
        Self::with_connection(path, connection, vault, writer)
    }

    fn with_connection(
        path: &Path,
        connection: Connection,
        vault: &VaultId,
        writer: &WriterId,
    ) -> Result<Self, CatalogError> {
        let mut catalog = Self { path: path.to_owned(), connection };
        catalog.prepare(vault, writer)?;
        Ok(catalog)
    }

    fn prepare(&mut self, vault: &VaultId, writer: &WriterId) -> Result<(), CatalogError> {
        let path = self.path.clone();
        let wrap = |source| sqlite(&path, source);
        self.connection.busy_timeout(Duration::from_secs(10)).map_err(wrap)?;
        self.connection.pragma_update(None, "journal_mode", "WAL").map_err(wrap)?;
        // A catalog that lost its last transactions in a power cut is an older catalog, which runs notice.
        self.connection.pragma_update(None, "synchronous", "NORMAL").map_err(wrap)?;
        let found: i64 =
            self.connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrap)?;
        if found > CATALOG_VERSION {
            return Err(CatalogError::Newer { path, found, known: CATALOG_VERSION });
        }
        if found == 0 {
            let transaction = self.connection.transaction().map_err(wrap)?;
            transaction.execute_batch(TABLES).map_err(wrap)?;
            transaction.execute_batch(TABLES_OF_VERSION_3).map_err(wrap)?;
            transaction
                .execute("INSERT INTO identity VALUES (?1, ?2)", params![vault.as_str(), writer.as_str()])
                .map_err(wrap)?;
            transaction.pragma_update(None, "user_version", CATALOG_VERSION).map_err(wrap)?;
            transaction.commit().map_err(wrap)?;
        }
        if found == 1 || found == 2 {
            let transaction = self.connection.transaction().map_err(wrap)?;
            if found == 1 {
                pack_entries(&transaction).map_err(wrap)?;
            }
            transaction.execute_batch(TABLES_OF_VERSION_3).map_err(wrap)?;
            transaction.pragma_update(None, "user_version", CATALOG_VERSION).map_err(wrap)?;
            transaction.commit().map_err(wrap)?;
        }
        let (found_vault, found_writer): (String, String) = self
            .connection
            .query_row("SELECT vault, writer FROM identity", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(wrap)?;
        if found_vault != vault.as_str() || found_writer != writer.as_str() {
            return Err(CatalogError::Foreign { path, vault: found_vault, writer: found_writer });
        }
        Ok(())
    }

    /// Calls `observe` before every commit of a write; `true` makes the commit fail. For crash tests.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn on_commit(
        &self,
        observe: Option<impl FnMut() -> bool + Send + 'static>,
    ) -> Result<(), CatalogError> {
        self.connection.commit_hook(observe).map_err(|source| sqlite(&self.path, source))
    }

    fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, CatalogError> {
        read(&self.connection).map_err(|source| sqlite(&self.path, source))
    }

    fn write<T>(
        &mut self,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let wrap = |source| sqlite(&self.path, source);
        let transaction = self.connection.transaction().map_err(wrap)?;
        let value = write(&transaction).map_err(wrap)?;
        transaction.commit().map_err(wrap)?;
        Ok(value)
    }

    /// The newest record of one's own that is known to be committed.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn tip(&self) -> Result<Option<RecordName>, CatalogError> {
        self.read(|c| c.query_row("SELECT seq, id FROM tip", [], read_tip).optional())
    }

    /// The record that a run was about to commit when it ended.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn pending(&self) -> Result<Option<OwnRecord>, CatalogError> {
        self.read(|c| c.query_row("SELECT seq, id, bytes FROM pending_record", [], read_record).optional())
    }

    /// The newest records of one's own, oldest first, at most [`KEPT_RECORDS`].
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn kept_records(&self) -> Result<Vec<OwnRecord>, CatalogError> {
        self.read(|c| {
            c.prepare("SELECT seq, id, bytes FROM record ORDER BY seq")?.query_map([], read_record)?.collect()
        })
    }

    /// The newest record of each other ledger that was ever seen.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn seen(&self) -> Result<Vec<Tip>, CatalogError> {
        self.read(|c| {
            c.prepare("SELECT writer, seq, id FROM seen ORDER BY writer")?
                .query_map([], |row| {
                    Ok(Tip { writer: text(row, 0)?, seq: unsigned(row, 1)?, id: text(row, 2)? })
                })?
                .collect()
        })
    }

    /// Remembers the newest record of other ledgers.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn remember_seen(&mut self, tips: &[Tip]) -> Result<(), CatalogError> {
        if self.seen()? == tips {
            return Ok(());
        }
        self.write(|t| {
            for tip in tips {
                t.execute(
                    "INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3)",
                    params![tip.writer.as_str(), signed(tip.seq), tip.id.to_string()],
                )?;
            }
            Ok(())
        })
    }

    /// The objects of the last committed record.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn objects(&self) -> Result<Vec<ObjectEntry>, CatalogError> {
        self.read(|c| {
            c.prepare("SELECT entry FROM object ORDER BY name")?.query_map([], |row| json(row, 0))?.collect()
        })
    }

    /// The VMs of the last committed record, by key.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn vms(&self) -> Result<Vec<HeldVm>, CatalogError> {
        self.read(|c| {
            c.prepare(
                "SELECT key, subject, vm_id, name, source, owner, owner_guardian, fingerprint, captured,
                 carried_since, body, bundles FROM vm ORDER BY key",
            )?
            .query_map([], read_vm)?
            .collect()
        })
    }

    /// The body entry of one VM.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn entry(&self, key: &str) -> Result<Option<PackedEntry>, CatalogError> {
        self.read(|c| {
            c.prepare_cached("SELECT entry FROM vm WHERE key = ?1")?
                .query_row([key], |row| row.get(0).map(PackedEntry::from_bytes))
                .optional()
        })
    }

    /// The folder that a VM, or the place that a companion, lay in when it was captured; none where its entry does not say.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn place(&self, key: &str) -> Result<Option<String>, CatalogError> {
        #[derive(serde::Deserialize)]
        struct Entry {
            #[serde(alias = "companion")]
            vm: Placed,
        }
        #[derive(serde::Deserialize)]
        struct Placed {
            place: String,
        }
        let json = self.entry(key)?.and_then(|entry| entry.json());
        Ok(json.and_then(|json| serde_json::from_slice::<Entry>(&json).ok()).map(|entry| entry.vm.place))
    }

    /// Writes down what is about to be committed; replaces what an ended run left.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn set_pending(&mut self, pending: &Pending<'_>) -> Result<(), CatalogError> {
        self.write(|t| {
            clear_pending(t)?;
            t.execute(
                "INSERT INTO pending_record VALUES (?1, ?2, ?3)",
                params![
                    signed(pending.record.name.seq),
                    pending.record.name.id.to_string(),
                    &pending.record.bytes[..]
                ],
            )?;
            let mut insert = t.prepare("INSERT INTO pending_object VALUES (?1, ?2)")?;
            for object in pending.objects {
                insert.execute(params![object.name.to_string(), to_json(object)])?;
            }
            let mut insert = t.prepare(
                "INSERT INTO pending_vm VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?;
            for (vm, entry) in pending.changed {
                insert.execute(params![
                    vm.key,
                    vm.subject.as_str(),
                    vm.vm_id,
                    vm.name,
                    vm.source,
                    vm.owner.as_str(),
                    vm.owner_guardian.map(|thumbprint| thumbprint.to_string()),
                    vm.fingerprint,
                    vm.captured.unix_seconds(),
                    vm.carried_since.map(Time::unix_seconds),
                    vm.body.to_string(),
                    to_json(&vm.bundles),
                    entry.as_bytes(),
                ])?;
            }
            let mut insert = t.prepare("INSERT INTO pending_gone VALUES (?1)")?;
            for key in pending.gone {
                insert.execute([key])?;
            }
            Ok(())
        })
    }

    /// Makes the pending state the committed one: its record is in the store, or waits in the spool for it.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn promote(&mut self, placed: Placed) -> Result<(), CatalogError> {
        self.write(|t| {
            match placed {
                Placed::Stored => t.execute("DELETE FROM unsent", [])?,
                // The first of a row of spooled records follows the newest one that the store has.
                Placed::Spooled => t.execute(
                    "INSERT OR IGNORE INTO unsent VALUES (1, (SELECT seq FROM tip), (SELECT id FROM tip))",
                    [],
                )?,
            };
            t.execute("INSERT OR REPLACE INTO tip SELECT 1, seq, id FROM pending_record", [])?;
            t.execute("INSERT OR REPLACE INTO record SELECT * FROM pending_record", [])?;
            t.execute(
                "DELETE FROM record WHERE seq <= (SELECT max(seq) FROM record) - ?1",
                [signed(KEPT_RECORDS)],
            )?;
            t.execute("DELETE FROM object", [])?;
            t.execute("INSERT INTO object SELECT * FROM pending_object", [])?;
            t.execute("DELETE FROM vm WHERE key IN (SELECT key FROM pending_gone)", [])?;
            t.execute("INSERT OR REPLACE INTO vm SELECT * FROM pending_vm", [])?;
            clear_pending(t)
        })
    }

    /// Forgets the pending state: its record is not in the store.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn drop_pending(&mut self) -> Result<(), CatalogError> {
        self.write(clear_pending)
    }

    /// Forgets every object and VM, and goes on from `tip`: what the store has is not what was known.
    ///
    /// The subjects of VMs are random ids; a VM that is found again gets a new one.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn drop_knowledge(&mut self, tip: Option<RecordName>) -> Result<(), CatalogError> {
        self.write(|t| {
            t.execute("DELETE FROM unsent", [])?;
            forget(t, tip)
        })
    }

    /// The newest record of one's own that the store is known to have, while newer ones wait in the spool; none
    /// where nothing waits.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn unsent_since(&self) -> Result<Option<Unsent>, CatalogError> {
        self.read(|c| {
            let row = |row: &rusqlite::Row<'_>| {
                let none = row.get_ref(0)? == rusqlite::types::ValueRef::Null;
                Ok(Unsent { after: if none { None } else { Some(read_tip(row)?) } })
            };
            c.query_row("SELECT seq, id FROM unsent", [], row).optional()
        })
    }

    /// Remembers that the store has the spooled record `name` now.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn sent(&mut self, name: &RecordName) -> Result<(), CatalogError> {
        let is_tip = self.tip()? == Some(*name);
        self.write(|t| {
            match is_tip {
                true => t.execute("DELETE FROM unsent", [])?,
                false => t.execute(
                    "UPDATE unsent SET seq = ?1, id = ?2",
                    params![signed(name.seq), name.id.to_string()],
                )?,
            };
            Ok(())
        })
    }

    /// Goes back behind spooled records that are given up: forgets every object and VM, and that these records
    /// ever were. `tip` is the newest that is left, in the store or, if `is_unsent`, in the spool.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn rewind(&mut self, tip: Option<RecordName>, is_unsent: bool) -> Result<(), CatalogError> {
        self.write(|t| {
            if !is_unsent {
                t.execute("DELETE FROM unsent", [])?;
            }
            t.execute("DELETE FROM record WHERE seq > ?1", [signed(tip.map_or(0, |tip| tip.seq))])?;
            forget(t, tip)
        })
    }

    /// What is remembered of each scheduled job, by name.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn jobs(&self) -> Result<Vec<JobState>, CatalogError> {
        let time = |row: &rusqlite::Row<'_>, index| {
            Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(Time::from_unix_seconds))
        };
        self.read(|c| {
            c.prepare("SELECT name, planned, started, ended, exit, next FROM job ORDER BY name")?
                .query_map([], |row| {
                    Ok(JobState {
                        name: row.get(0)?,
                        planned: time(row, 1)?,
                        started: time(row, 2)?,
                        ended: time(row, 3)?,
                        exit: row.get(4)?,
                        next: time(row, 5)?,
                    })
                })?
                .collect()
        })
    }

    /// Remembers a scheduled job.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub fn remember_job(&mut self, job: &JobState) -> Result<(), CatalogError> {
        let seconds = |time: Option<Time>| time.map(Time::unix_seconds);
        self.write(|t| {
            t.execute(
                "INSERT OR REPLACE INTO job VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    job.name,
                    seconds(job.planned),
                    seconds(job.started),
                    seconds(job.ended),
                    job.exit,
                    seconds(job.next)
                ],
            )
            .map(drop)
        })
    }
}

fn forget(t: &Transaction<'_>, tip: Option<RecordName>) -> rusqlite::Result<()> {
    clear_pending(t)?;
    t.execute_batch("DELETE FROM object; DELETE FROM tip;")?;
    // Subjects and names stay, so that a VM keeps its subject; what they point to is gone.
    t.execute("UPDATE vm SET fingerprint = x'', bundles = '[]'", [])?;
    if let Some(tip) = tip {
        t.execute("INSERT INTO tip VALUES (1, ?1, ?2)", params![signed(tip.seq), tip.id.to_string()])?;
    }
    Ok(())
}

fn clear_pending(t: &Transaction<'_>) -> rusqlite::Result<()> {
    t.execute_batch(
        "DELETE FROM pending_record; DELETE FROM pending_object; DELETE FROM pending_vm; DELETE FROM pending_gone;",
    )
}

/// From version 1 to 2: entries are packed.
fn pack_entries(t: &Transaction<'_>) -> rusqlite::Result<()> {
    let failed = |error: std::io::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let mut packer = EntryWriter::new().map_err(failed)?;
    for table in ["vm", "pending_vm"] {
        let keys: Vec<String> = t
            .prepare(&format!("SELECT key FROM {table}"))?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let mut select = t.prepare(&format!("SELECT entry FROM {table} WHERE key = ?1"))?;
        let mut update = t.prepare(&format!("UPDATE {table} SET entry = ?2 WHERE key = ?1"))?;
        for key in keys {
            let json: Vec<u8> = select.query_row([&key], |row| row.get(0))?;
            let packed = packer.pack_json(&json).map_err(failed)?;
            update.execute(params![key, packed.as_bytes()])?;
        }
    }
    Ok(())
}

fn sqlite(path: &Path, source: rusqlite::Error) -> CatalogError {
    CatalogError::Sqlite { path: path.to_owned(), source }
}

/// SQLite's integers are signed; `seq` stays below 2^53.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(index)?).map_err(|error| conversion(index, error))
}

fn text<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &rusqlite::Row<'_>,
    index: usize,
) -> rusqlite::Result<T> {
    row.get::<_, String>(index)?.parse().map_err(|error| conversion(index, error))
}

fn json<T: serde::de::DeserializeOwned>(row: &rusqlite::Row<'_>, index: usize) -> rusqlite::Result<T> {
    serde_json::from_str(&row.get::<_, String>(index)?).map_err(|error| conversion(index, error))
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("documents of the vault have only string keys")
}

fn conversion(index: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error))
}

fn read_tip(row: &rusqlite::Row<'_>) -> rusqlite::Result<RecordName> {
    Ok(RecordName { seq: unsigned(row, 0)?, id: text(row, 1)? })
}

fn read_record(row: &rusqlite::Row<'_>) -> rusqlite::Result<OwnRecord> {
    Ok(OwnRecord { name: read_tip(row)?, bytes: row.get::<_, Vec<u8>>(2)?.into() })
}

fn read_vm(row: &rusqlite::Row<'_>) -> rusqlite::Result<HeldVm> {
    Ok(HeldVm {
        key: row.get(0)?,
        subject: text(row, 1)?,
        vm_id: row.get(2)?,
        name: row.get(3)?,
        source: row.get(4)?,
        owner: text(row, 5)?,
        owner_guardian: if row.get_ref(6)? == rusqlite::types::ValueRef::Null {
            None
        } else {
            Some(text(row, 6)?)
        },
        fingerprint: row.get(7)?,
        captured: Time::from_unix_seconds(row.get(8)?),
        carried_since: row.get::<_, Option<i64>>(9)?.map(Time::from_unix_seconds),
        body: text(row, 10)?,
        bundles: json(row, 11)?,
    })
}

#[cfg(test)]
mod tests;
