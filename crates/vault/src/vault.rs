//! An open vault: its root of trust compared with the pin, its ledgers read and verified.
//!
//! Above `store`, below everything that asks what a vault holds. It does not decrypt (see `fetch`) and does
//! not write (see `writer`).

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_schema::{Digest, Exit, Finding, PolicyRef, Severity, Tip, VaultHead, VaultId, WriterId};

use crate::key::{KeyError, VerifyingKey};
use crate::ledger::{self, Ledger, LedgerFile};
use crate::outbox::SpoolError;
use crate::policy::{self, BadHead, MAX_VAULT_JSON_BYTES, PolicyChain, PolicyProblem};
use crate::record::{MAX_RECORD_BYTES, RecordName};
use crate::seal::SealError;
use crate::store::{Store, StoreError, StorePath};

/// Why a vault cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no vault at this place.
    #[error(
        "{store} holds no vault: vault.json is not there. Check the URL; `lifeboat init` makes a new vault"
    )]
    NoVault {
        /// The store.
        store: String,
    },
    /// There is one already.
    #[error("{store} holds a vault already ({id}). Take another folder or prefix; nothing was changed")]
    VaultExists {
        /// The store.
        store: String,
        /// The id of the vault that is there.
        id: VaultId,
    },
    /// `vault.json` is refused.
    #[error("the vault at {store} is refused: {source}")]
    Head {
        /// The store.
        store: String,
        /// What is wrong.
        #[source]
        source: BadHead,
    },
    /// No policy is valid.
    #[error("the vault at {store} has no valid policy: {why}")]
    NoPolicy {
        /// The store.
        store: String,
        /// What was found instead.
        why: String,
    },
    /// A policy that this client has seen is gone.
    #[error(
        "the vault at {store} no longer has policy {seq} that this client has seen: its admin ledger was rolled back or damaged. Nothing was written. Bring the newer state back from a mirror or older versions of the objects"
    )]
    PolicyRolledBack {
        /// The store.
        store: String,
        /// `seq` of the policy seen.
        seq: u64,
    },
    /// The policies do not allow what is asked.
    #[error(
        "the writer {writer} may not do this: {problem}. Only a new policy changes that; a host that lost its place is enrolled anew with `lifeboat host enroll`"
    )]
    NotAllowed {
        /// The writer.
        writer: WriterId,
        /// The rule.
        #[source]
        problem: PolicyProblem,
    },
    /// The spool cannot be used.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The store cannot be reached, and this host has not kept what a run needs without it.
    #[error("{cause}. The run could not be sealed into the spool either: {why}")]
    NoStandby {
        /// Why the store could not be used.
        cause: String,
        /// What is missing.
        why: String,
    },
    /// Signing failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Sealing or opening failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// An object is not what the signed record says.
    #[error(
        "{place}: {what}. Run `lifeboat check --read-data`, and bring the object back from a mirror or an older version"
    )]
    Damaged {
        /// The object.
        place: String,
        /// What is wrong with it.
        what: String,
    },
}

impl VaultError {
    /// Whether the store, and nothing of ours, is why: it is down, throttles, is full, or refuses these credentials.
    pub fn is_outage(&self) -> bool {
        matches!(self, VaultError::Store(error) if error.is_transient() || error.is_denied() || error.is_full())
    }

    /// The exit code that a command ends with.
    pub fn exit(&self) -> Exit {
        match self {
            VaultError::Store(error) if error.is_denied() => Exit::NoAccess,
            VaultError::Store(StoreError::Configuration { .. }) => Exit::Usage,
            VaultError::Store(_) | VaultError::Spool(_) | VaultError::NoStandby { .. } => Exit::Failed,
            VaultError::NoVault { .. } | VaultError::VaultExists { .. } => Exit::Usage,
            VaultError::Head { source: BadHead::NewerVersion(_), .. } => Exit::Failed,
            VaultError::Head { .. }
            | VaultError::NoPolicy { .. }
            | VaultError::PolicyRolledBack { .. }
            | VaultError::Damaged { .. }
            | VaultError::Seal(SealError::Corrupt(_)) => Exit::Damage,
            VaultError::NotAllowed { .. } | VaultError::Key(_) => Exit::NoAccess,
            VaultError::Seal(
                SealError::NoMatch | SealError::WrongPassphrase | SealError::PassphraseNeeded,
            ) => Exit::NoAccess,
            VaultError::Seal(
                SealError::BadIdentity { .. } | SealError::BadIdentityFile { .. } | SealError::NoIdentity,
            ) => Exit::Usage,
            VaultError::Seal(_) => Exit::Failed,
        }
    }
}

/// What a client remembers of a vault, to notice when it is shown an older state.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The newest record seen of each ledger, the admin ledger included.
    pub tips: Vec<Tip>,
}

impl Memory {
    /// What is remembered of one ledger.
    pub fn tip(&self, writer: &WriterId) -> Option<&Tip> {
        self.tips.iter().find(|tip| tip.writer == *writer)
    }
}

/// All ledgers of a vault.
#[derive(Debug, Clone)]
pub struct Ledgers {
    /// The policies that hold.
    pub policies: PolicyChain,
    /// The admin ledger.
    pub admin: Ledger,
    /// Every other ledger that a policy names.
    pub writers: BTreeMap<WriterId, Ledger>,
    /// Files below `ledger/` that belong to no writer.
    pub strays: Vec<Finding>,
}

impl Ledgers {
    /// Compares every ledger with what was seen before; what is missing becomes a finding.
    pub fn compare_with(&mut self, memory: &Memory) {
        for tip in &memory.tips {
            if tip.writer == self.admin.writer {
                self.admin.compare_with(tip);
            } else if let Some(ledger) = self.writers.get_mut(&tip.writer) {
                ledger.compare_with(tip);
            } else {
                let mut empty = Ledger { writer: tip.writer.clone(), records: vec![], findings: vec![] };
                empty.compare_with(tip);
                self.strays.append(&mut empty.findings);
            }
        }
    }

    /// What to remember: the newest of `memory` and of what is here, so that it never goes back.
    pub fn remember(&self, memory: &Memory) -> Memory {
        let mut tips: BTreeMap<WriterId, Tip> =
            memory.tips.iter().map(|tip| (tip.writer.clone(), tip.clone())).collect();
        for ledger in self.all() {
            let Some(newest) = ledger.newest() else { continue };
            let tip =
                Tip { writer: ledger.writer.clone(), seq: newest.signed.name.seq, id: newest.signed.name.id };
            let known = tips.entry(tip.writer.clone()).or_insert_with(|| tip.clone());
            if known.seq < tip.seq {
                *known = tip;
            }
        }
        Memory { tips: tips.into_values().collect() }
    }

    /// The admin ledger and all others.
    pub fn all(&self) -> impl Iterator<Item = &Ledger> {
        std::iter::once(&self.admin).chain(self.writers.values())
    }

    /// Everything that is wrong.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.strays.iter().chain(self.all().flat_map(|ledger| &ledger.findings))
    }
}

/// A vault whose `vault.json` is the pinned one.
#[derive(Clone)]
pub struct Vault {
    /// Where its objects are.
    pub store: Store,
    /// Its id.
    pub id: VaultId,
    /// Its root of trust.
    pub head: VaultHead,
    admin_keys: Vec<VerifyingKey>,
}

/// Path of `vault.json`.
pub fn head_path() -> StorePath {
    path("vault.json".to_owned())
}

/// Path of an object.
pub fn object_path(writer: &WriterId, name: &Digest) -> StorePath {
    path(format!("objects/{writer}/{name}.age"))
}

/// Path of a record.
pub fn record_path(writer: &WriterId, name: &RecordName) -> StorePath {
    path(format!("ledger/{writer}/{name}"))
}

fn path(text: String) -> StorePath {
    StorePath::parse(&text).expect("ids and digests are lower-case names")
}

impl Vault {
    /// Opens the vault in `store` whose id is `pinned`.
    ///
    /// # Errors
    /// [`VaultError::NoVault`], [`VaultError::Head`], [`VaultError::Store`], or [`VaultError::Damaged`] where
    /// there are ledgers without `vault.json`.
    pub async fn open(store: Store, pinned: &VaultId) -> Result<Self, VaultError> {
        let bytes = Self::read_head(&store).await?;
        Self::with_head(store, pinned, &bytes)
    }

    /// Reads `vault.json`, whatever it says.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub async fn read_head(store: &Store) -> Result<Bytes, VaultError> {
        match store.read(&head_path(), MAX_VAULT_JSON_BYTES).await {
            Ok(bytes) => Ok(bytes),
            Err(StoreError::NotFound { .. }) => Err(no_head(store).await?),
            Err(error) => Err(error.into()),
        }
    }

    /// The vault in `store` whose `vault.json` was read before: its id is the digest of these bytes.
    ///
    /// # Errors
    /// [`VaultError::Head`].
    pub fn with_head(store: Store, pinned: &VaultId, bytes: &[u8]) -> Result<Self, VaultError> {
        let (head, admin_keys) = policy::parse_head(bytes, pinned)
            .map_err(|source| VaultError::Head { store: store.describe(), source })?;
        Ok(Self { store, id: pinned.clone(), head, admin_keys })
    }

    /// A vault that is about to be made: `vault.json` is not in the store yet.
    ///
    /// # Errors
    /// [`VaultError::Key`] if an admin key cannot be read.
    pub fn unwritten(store: Store, id: VaultId, head: VaultHead) -> Result<Self, VaultError> {
        let admin_keys =
            head.admins.iter().map(|text| VerifyingKey::parse(text)).collect::<Result<_, _>>()?;
        Ok(Self { store, id, head, admin_keys })
    }

    /// The keys that sign policies.
    pub fn admin_keys(&self) -> &[VerifyingKey] {
        &self.admin_keys
    }

    /// Reads the admin ledger, refusing a state older than `seen`.
    ///
    /// # Errors
    /// [`VaultError::NoPolicy`], [`VaultError::PolicyRolledBack`] or [`VaultError::Store`].
    pub async fn policies(&self, seen: Option<&PolicyRef>) -> Result<(Ledger, PolicyChain), VaultError> {
        let listing = self.store.list("ledger/admin", None).await?;
        let names = listing.objects.into_iter().map(|listed| listed.path).collect();
        let files = self.read_files(names).await?;
        let (ledger, policies) = ledger::verify_admin(files, &self.id, &self.admin_keys);
        self.require_policy(&ledger, &policies, seen)?;
        Ok((ledger, policies))
    }

    fn require_policy(
        &self,
        ledger: &Ledger,
        policies: &PolicyChain,
        seen: Option<&PolicyRef>,
    ) -> Result<(), VaultError> {
        let store = || self.store.describe();
        if let Some(seen) = seen
            && policies.at(seen).is_none()
        {
            return Err(VaultError::PolicyRolledBack { store: store(), seq: seen.seq });
        }
        if policies.newest().is_none() {
            let why = match ledger.findings.first() {
                Some(finding) => format!("{}: {}", finding.place, finding.what),
                None => {
                    "ledger/admin is empty; `lifeboat init` did not finish, or storage lost it".to_owned()
                }
            };
            return Err(VaultError::NoPolicy { store: store(), why });
        }
        Ok(())
    }

    /// Reads every ledger.
    ///
    /// # Errors
    /// As [`policies`](Self::policies). A damaged record is a finding and no error.
    pub async fn ledgers(&self, memory: &Memory) -> Result<Ledgers, VaultError> {
        let listing = self.store.list("ledger", None).await?;
        let mut strays: Vec<Finding> = listing
            .foreign
            .iter()
            .map(|name| stray(name, "its name is not one that Lifeboat gives"))
            .collect();
        let mut by_writer: BTreeMap<WriterId, Vec<StorePath>> = BTreeMap::new();
        for listed in listing.objects {
            let writer = listed.path.as_str().split('/').nth(1).and_then(|id| id.parse::<WriterId>().ok());
            match writer {
                Some(writer) if listed.path.as_str().split('/').count() == 3 => {
                    by_writer.entry(writer).or_default().push(listed.path);
                }
                _ => strays.push(stray(listed.path.as_str(), "it lies outside of any ledger")),
            }
        }
        let admin_files = self.read_files(by_writer.remove(&WriterId::admin()).unwrap_or_default()).await?;
        let (admin, policies) = ledger::verify_admin(admin_files, &self.id, &self.admin_keys);
        self.require_policy(&admin, &policies, None)?;
        let mut writers = BTreeMap::new();
        for writer in policies.writers() {
            let files = self.read_files(by_writer.remove(&writer).unwrap_or_default()).await?;
            writers.insert(writer.clone(), ledger::verify(&writer, files, &self.id, &policies));
        }
        for (writer, files) in by_writer {
            let what =
                format!("no policy names the writer {writer}; {} files lie in its ledger", files.len());
            strays.push(stray(&format!("ledger/{writer}"), &what));
        }
        let mut ledgers = Ledgers { policies, admin, writers, strays };
        ledgers.compare_with(memory);
        Ok(ledgers)
    }

    /// Reads one ledger under `policies`.
    ///
    /// # Errors
    /// [`VaultError::Store`].
    pub async fn ledger(&self, writer: &WriterId, policies: &PolicyChain) -> Result<Ledger, VaultError> {
        let listing = self.store.list(&format!("ledger/{writer}"), None).await?;
        let names = listing.objects.into_iter().map(|listed| listed.path).collect();
        let files = self.read_files(names).await?;
        Ok(ledger::verify(writer, files, &self.id, policies))
    }

    /// Reads files of one ledger; a file that cannot be read is passed on as such, unless the store is down.
    pub(crate) async fn read_files(&self, paths: Vec<StorePath>) -> Result<Vec<LedgerFile>, VaultError> {
        let reads = paths.into_iter().map(|path| async move {
            let bytes: Result<Bytes, String> = match self.store.read(&path, MAX_RECORD_BYTES).await {
                Ok(bytes) => Ok(bytes),
                Err(error @ (StoreError::NotFound { .. } | StoreError::TooLarge { .. })) => {
                    Err(error.to_string())
                }
                Err(error) => return Err(VaultError::Store(error)),
            };
            Ok(LedgerFile { name: path.file_name().to_owned(), bytes })
        });
        futures::stream::iter(reads).buffered(self.store.concurrency().max(1)).try_collect().await
    }
}

/// Why there is no `vault.json`: there never was a vault, or it was taken out of one.
async fn no_head(store: &Store) -> Result<VaultError, VaultError> {
    let has_records = store.list_stream("ledger", None)?.try_next().await?.is_some();
    Ok(match has_records {
        true => VaultError::Damaged {
            place: head_path().to_string(),
            what: format!("{} has ledgers, and this file is missing", store.describe()),
        },
        false => VaultError::NoVault { store: store.describe() },
    })
}

fn stray(place: &str, what: &str) -> Finding {
    Finding::new(
        Severity::Damage,
        "foreign-file",
        place,
        what,
        "nothing of Lifeboat wrote it for this vault: find out who did, and remove it",
    )
}
