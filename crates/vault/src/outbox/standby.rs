//! What a host keeps of the vault for runs without it: `vault.json` and the admin ledger, as they were last read.
//!
//! Nothing here is believed: `vault.json` is the one whose digest is the vault's id, and the ledger is verified
//! each time as if it came from the store. Losing it costs runs without the store, until one reaches it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use lifeboat_schema::VaultId;

use super::spool::SpoolError;
use crate::ledger::{self, Ledger, LedgerFile};
use crate::policy::PolicyChain;
use crate::store::Store;
use crate::vault::{Vault, VaultError};
use crate::writer::OwnRecord;

const HEAD: &str = "vault.json";
const ADMIN: &str = "admin";

/// The folder with what was read of the vault.
#[derive(Debug, Clone)]
pub struct Standby {
    folder: PathBuf,
}

impl Standby {
    /// What is kept in `folder`, which is made when there is something to keep.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Opens the vault in `store`; where the store is down, with the `vault.json` that is kept, and gives the
    /// failure too. `skip` says why the store is not to be asked at all.
    ///
    /// # Errors
    /// As [`Vault::open`], or [`VaultError::NoStandby`].
    pub async fn open_vault(
        &self,
        store: Store,
        pinned: &VaultId,
        skip: Option<String>,
    ) -> Result<(Vault, Option<String>), VaultError> {
        let cause = match skip {
            Some(why) => why,
            None => match Vault::read_head(&store).await {
                Ok(bytes) => {
                    let vault = Vault::with_head(store, pinned, &bytes)?;
                    self.keep(&self.folder.join(HEAD), &bytes)?;
                    return Ok((vault, None));
                }
                Err(error) if error.is_outage() => error.to_string(),
                Err(error) => return Err(error),
            },
        };
        let bytes = fs::read(self.folder.join(HEAD)).map_err(|error| VaultError::NoStandby {
            cause: cause.clone(),
            why: format!("no run of this host has reached the vault before ({error})"),
        })?;
        Ok((Vault::with_head(store, pinned, &bytes)?, Some(cause)))
    }

    /// Keeps the admin ledger as it is now.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub(crate) fn keep_admin(&self, records: &[OwnRecord]) -> Result<(), SpoolError> {
        let folder = self.folder.join(ADMIN);
        let names: BTreeSet<String> = records.iter().map(|record| record.name.to_string()).collect();
        for record in records {
            let path = folder.join(record.name.to_string());
            // A record is named by its digest, and never changes.
            if fs::metadata(&path).map(|metadata| metadata.len()).ok() != Some(record.bytes.len() as u64) {
                self.keep(&path, &record.bytes)?;
            }
        }
        for entry in fs::read_dir(&folder).map_err(|source| at(&folder, source))? {
            let entry = entry.map_err(|source| at(&folder, source))?;
            if entry.file_name().to_str().is_none_or(|name| !names.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// The admin ledger that is kept, verified.
    pub(crate) fn policies(&self, vault: &Vault) -> Result<(Ledger, PolicyChain), SpoolError> {
        let folder = self.folder.join(ADMIN);
        let wrap = |source| at(&folder, source);
        let mut files = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(wrap(error)),
        };
        for entry in entries.into_iter().flatten() {
            let entry = entry.map_err(wrap)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let bytes = fs::read(entry.path()).map(Bytes::from).map_err(|error| error.to_string());
            files.push(LedgerFile { name, bytes });
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ledger::verify_admin(files, &vault.id, vault.admin_keys()))
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> Result<(), SpoolError> {
        let folder = path.parent().expect("it lies below the folder");
        let write = || {
            fs::create_dir_all(folder)?;
            if fs::read(path).is_ok_and(|there| there == bytes) {
                return Ok(());
            }
            let part = path.with_extension("part");
            fs::write(&part, bytes)?;
            fs::rename(&part, path)
        };
        write().map_err(|source| at(path, source))
    }
}

fn at(path: &Path, source: io::Error) -> SpoolError {
    SpoolError::Io { path: path.to_owned(), source }
}
