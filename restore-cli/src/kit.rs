//! The kit: the folder that `lifeboat init` wrote, or the part of it that a person holds.
//!
//! `vault.toml` says where the vault is and which one it must be. Identities lie beside it as
//! `<role>.identity`; who holds only some of them can do only what those open.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lifeboat_escrow::Spool;
use lifeboat_schema::{Exit, Finding, OwnerId, PolicyRef, Role, VaultId};
use lifeboat_vault::seal::Identities;
use lifeboat_vault::store::{Store, StoreOptions};
use lifeboat_vault::vault::{Ledgers, Memory, Vault, VaultError};
use serde::{Deserialize, Serialize};

use crate::error::CliError;
use crate::secrets::{PassphraseSource, read_identities};

/// `vault.toml` of a kit.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KitFile {
    /// The vault's id.
    pub(crate) vault: VaultId,
    /// The newest policy when the kit was written: an older one is refused.
    pub(crate) policy: PolicyRef,
    /// Where it is.
    pub(crate) store: KitStore,
}

/// Where a vault is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KitStore {
    pub(crate) url: String,
    #[serde(default)]
    pub(crate) options: StoreOptions,
}

/// Which kit to use, and with which identities.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct KitArguments {
    /// Folder with vault.toml and the identities that you hold.
    #[arg(long, global = true, value_name = "DIR", env = "LIFEBOAT_KIT", default_value = ".")]
    pub(crate) kit: PathBuf,
    /// Identity file to use instead of those in the kit; may be given again.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) identity: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) passphrases: PassphraseSource,
}

/// An identity with what its file says of it.
pub(crate) struct HeldIdentity {
    pub(crate) path: PathBuf,
    pub(crate) identities: Identities,
    /// Owners and roles whose recipients it opens for.
    pub(crate) opens: Vec<(OwnerId, Role)>,
}

/// An open kit: the vault, its verified ledgers, and the identities that were asked for.
pub(crate) struct Kit {
    pub(crate) vault: Vault,
    pub(crate) ledgers: Ledgers,
    folder: PathBuf,
    memory: Memory,
}

impl KitArguments {
    /// As a person would type them again.
    pub(crate) fn flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = Vec::new();
        if self.kit != Path::new(".") {
            flags.extend(["--kit".into(), (&self.kit).into()]);
        }
        for identity in &self.identity {
            flags.extend(["--identity".into(), identity.into()]);
        }
        flags
    }
}

/// Folder of the kit for records that the store could not take.
const SPOOL_FOLDER: &str = "spool";

/// File in the kit that remembers the newest records seen.
const MEMORY_FILE: &str = "seen.json";

impl KitFile {
    pub(crate) fn read(folder: &Path) -> Result<Self, CliError> {
        let path = folder.join("vault.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| {
            CliError::usage(format!(
                "{} cannot be read: {error}. Name the folder that `lifeboat init` wrote with --kit or LIFEBOAT_KIT",
                path.display()
            ))
        })?;
        toml::from_str(&text)
            .map_err(|error| CliError::usage(format!("{} is refused:\n{error}", path.display())))
    }

    pub(crate) fn open_store(&self) -> Result<Store, CliError> {
        Ok(Store::open(&self.store.url, &self.store.options, &|name| std::env::var(name).ok())?)
    }
}

impl Kit {
    /// Opens the vault of the kit and verifies all its ledgers against what was seen before.
    pub(crate) async fn open(arguments: &KitArguments) -> Result<Self, CliError> {
        let file = KitFile::read(&arguments.kit)?;
        let vault = Vault::open(file.open_store()?, &file.vault).await?;
        let memory = read_memory(&arguments.kit.join(MEMORY_FILE))?;
        let ledgers = vault.ledgers(&memory).await?;
        if ledgers.policies.at(&file.policy).is_none() {
            return Err(
                VaultError::PolicyRolledBack { store: vault.store.describe(), seq: file.policy.seq }.into()
            );
        }
        let mut kit = Self { vault, ledgers, folder: arguments.kit.clone(), memory };
        kit.put_in_order().await?;
        Ok(kit)
    }

    /// Records that the store could not take when they were made.
    pub(crate) fn spool(&self) -> Spool {
        Spool::new(self.folder.join(SPOOL_FOLDER))
    }

    /// Puts waiting records into the store, as they were signed, and reads the ledgers again where one was put. What
    /// cannot be put keeps no command from its work.
    async fn put_in_order(&mut self) -> Result<(), CliError> {
        match self.spool().put_in_order(&self.vault, &self.ledgers, None).await {
            Ok(done) => {
                if let Some((count, why)) = &done.waiting {
                    crate::output::note(crate::output::plain(&format!(
                        "note: {count} records of reveals still wait for the store: {why}"
                    )));
                }
                if done.put > 0 {
                    crate::output::note(format!(
                        "{} records of reveals that waited are in the vault now.",
                        done.put
                    ));
                    self.ledgers = self.vault.ledgers(&self.memory).await?;
                }
            }
            Err(error) => crate::output::note(crate::output::plain(&format!(
                "note: records of reveals wait in the kit, and cannot be put in order: {error}"
            ))),
        }
        Ok(())
    }

    /// What is wrong with the ledgers, followed by what was found while reading what they name.
    pub(crate) fn findings_with(&self, found: &mut Vec<Finding>) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.ledgers.findings().cloned().collect();
        findings.append(found);
        findings
    }

    /// Remembers the newest records, so that an older state of the store is noticed next time. A kit on a
    /// read-only medium goes without.
    pub(crate) fn remember(&self) {
        let memory = self.ledgers.remember(&self.memory);
        if memory == self.memory {
            return;
        }
        let path = self.folder.join(MEMORY_FILE);
        let json = serde_json::to_vec_pretty(&memory).expect("tips have only string keys");
        if let Err(error) = replace_file(&path, &json) {
            crate::output::note(format!(
                "note: {} cannot be written ({error}); a rollback of the vault to a state older than now will not be noticed from here",
                path.display()
            ));
        }
    }

    /// The identities that were named, or those of `roles` that lie in the kit, in that order.
    pub(crate) fn identities(
        &self,
        arguments: &KitArguments,
        roles: &[Role],
    ) -> Result<Vec<HeldIdentity>, CliError> {
        let named = !arguments.identity.is_empty();
        let paths: Vec<PathBuf> = if named {
            arguments.identity.clone()
        } else {
            roles
                .iter()
                .map(|role| arguments.kit.join(format!("{role}.identity")))
                .filter(|path| path.exists())
                .collect()
        };
        let mut held = Vec::new();
        for path in paths {
            let identities = read_identities(&path, &arguments.passphrases)?;
            check_vault(&path, &identities, &self.vault.id)?;
            let opens = self.opens(&identities);
            held.push(HeldIdentity { path, identities, opens });
        }
        Ok(held)
    }

    /// One identity that opens something for one of `roles`.
    pub(crate) fn one_identity(
        &self,
        arguments: &KitArguments,
        roles: &[Role],
    ) -> Result<HeldIdentity, CliError> {
        // Only the first that is there: its passphrase is the only one to ask for.
        for role in roles {
            let found = self.identities(arguments, std::slice::from_ref(role))?;
            if let Some(held) = found.into_iter().next() {
                return Ok(held);
            }
        }
        let names: Vec<String> = roles.iter().map(|role| format!("{role}.identity")).collect();
        Err(CliError::new(
            Exit::NoAccess,
            format!(
                "no identity is at hand: {} holds none of {}; name one with --identity",
                arguments.kit.display(),
                names.join(", ")
            ),
        ))
    }

    /// Owners and roles of any policy whose recipients the identities open for. Identities of plugins do not
    /// tell their recipient; their file says the role.
    fn opens(&self, identities: &Identities) -> Vec<(OwnerId, Role)> {
        let said = comment(identities, "role").and_then(|role| role.parse::<Role>().ok());
        let mut opens = Vec::new();
        for policy in self.ledgers.policies.iter() {
            for owner in &policy.terms.owners {
                for (role, recipients) in &owner.recipients {
                    let known = recipients.iter().any(|text| identities.recipients().contains(text));
                    let said = identities.recipients().is_empty() && said == Some(*role);
                    if (known || said) && !opens.contains(&(owner.id.clone(), *role)) {
                        opens.push((owner.id.clone(), *role));
                    }
                }
            }
        }
        opens
    }
}

/// The value of a comment `name: value` in an identity file.
fn comment<'a>(identities: &'a Identities, name: &str) -> Option<&'a str> {
    identities.comments().iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

/// Refuses an identity that says it belongs to another vault.
fn check_vault(path: &Path, identities: &Identities, vault: &VaultId) -> Result<(), CliError> {
    match comment(identities, "vault") {
        Some(said) if said != vault.as_str() => Err(CliError::new(
            Exit::Damage,
            format!(
                "the identity {} belongs to the vault {said}, and the kit is for {vault}; take the identity of this vault, and find out which of the two is wrong",
                path.display()
            ),
        )),
        _ => Ok(()),
    }
}

fn read_memory(path: &Path) -> Result<Memory, CliError> {
    match std::fs::read(path) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| {
            CliError::new(
                Exit::Failed,
                format!(
                    "{} is damaged ({error}). It remembers the newest records seen, so that a rollback is noticed; if you know why it is damaged, remove it",
                    path.display()
                ),
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Memory::default()),
        Err(error) => Err(CliError::file(path, "read", &error)),
    }
}

/// Writes a file so that either the old or the new content is there.
fn replace_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, content)?;
    std::fs::rename(&temporary, path)
}
