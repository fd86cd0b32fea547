//! What enrolling hosts and enrolling an importer have in common: new writers in one policy, and a folder for each
//! with its key and its configuration.

use std::path::{Path, PathBuf};

use lifeboat_config::StoreConfig;
use lifeboat_engine::admin::add_writers;
use lifeboat_schema::{EnrollReport, Exit, Kind, PolicyRef, Role, WriterId, WriterTerms};
use lifeboat_vault::key::SigningKey;

use super::init::open_challenge;
use super::{Context, NewFolder, now, random, write_private};
use crate::error::CliError;
use crate::kit::{Kit, KitFile};
use crate::secrets::read_signing_key;

/// A writer's name, and the new folder for it.
pub(super) type Named = (String, PathBuf);

/// Writers that are to be.
pub(super) struct Enrollment {
    folders: Vec<(Named, NewFolder)>,
    store: StoreConfig,
    pub(super) kit: Kit,
}

/// Writers that stand in the policy, and whose folders are not finished.
pub(super) struct Enrolled {
    pub(super) writers: Vec<EnrolledWriter>,
    pub(super) store: StoreConfig,
    pub(super) kit: Kit,
    pub(super) policy: PolicyRef,
}

/// One of them.
pub(super) struct EnrolledWriter {
    pub(super) name: String,
    pub(super) writer: WriterId,
    out: PathBuf,
    folder: NewFolder,
}

/// What its policy lets a writer do.
pub(super) struct Terms {
    /// Beginning of its id.
    pub(super) prefix: &'static str,
    pub(super) kind: Kind,
    pub(super) max_silence_seconds: Option<u64>,
}

impl Enrollment {
    /// Makes the folders under their temporary names and opens the kit. `what` is enrolled: a host, an importer.
    pub(super) async fn begin(context: &Context, what: &str, named: &[Named]) -> Result<Self, CliError> {
        let mut folders = Vec::new();
        for (name, out) in named {
            if name.trim().is_empty() || name.chars().any(char::is_control) {
                return Err(CliError::usage(format!("the {what}'s name is empty or has control characters")));
            }
            folders.push(((name.clone(), out.clone()), NewFolder::create(out)?));
        }
        let file = KitFile::read(&context.kit.kit)?;
        let store =
            StoreConfig { url: file.store.url.clone(), options: file.store.options, credentials_file: None };
        let kit = Kit::open(&context.kit).await?;
        if let Some(finding) = kit.ledgers.admin.findings.first() {
            return Err(CliError::new(Exit::Damage, format!("{}: {}", finding.place, finding.what)));
        }
        Ok(Self { folders, store, kit })
    }

    /// Puts the writers into a new policy, once each restore and escrow identity has opened a challenge.
    pub(super) async fn sign(
        self,
        context: &Context,
        admin_key: Option<&Path>,
        terms: Terms,
    ) -> Result<Enrolled, CliError> {
        let Self { folders, store, kit } = self;
        challenge_all(context, &kit)?;
        let admin = read_admin_key(context, admin_key)?;
        let mut writers = Vec::new();
        let mut all_terms = Vec::new();
        for ((name, out), folder) in folders {
            let key = SigningKey::generate()?;
            let writer = WriterId::random(terms.prefix, random()?);
            write_private(&folder.path("signing.key"), key.to_openssh(None)?.as_bytes())?;
            let terms = WriterTerms {
                id: writer.clone(),
                key: key.verifying_key().to_openssh(),
                kinds: vec![terms.kind],
                max_silence_seconds: terms.max_silence_seconds,
                cut: None,
            };
            all_terms.push((terms, name.clone()));
            writers.push(EnrolledWriter { name, writer, out, folder });
        }
        let policy = add_writers(&kit.vault, &admin, all_terms, now()).await?;
        Kit::open(&context.kit).await?.remember();
        Ok(Enrolled { writers, store, kit, policy })
    }
}

impl Enrolled {
    /// Writes each writer's configuration below a heading, and gives the folders their names.
    pub(super) fn finish<C: serde::Serialize>(
        self,
        file: &str,
        configure: impl Fn(&EnrolledWriter, &Kit, &StoreConfig, PolicyRef) -> (String, C),
    ) -> Result<Vec<EnrollReport>, CliError> {
        let mut reports = Vec::new();
        for one in self.writers {
            let (heading, config) = configure(&one, &self.kit, &self.store, self.policy);
            let text = toml::to_string_pretty(&config).map_err(|error| {
                CliError::new(Exit::Failed, format!("{file} could not be written: {error}"))
            })?;
            write_private(&one.folder.path(file), format!("{heading}\n{text}").as_bytes())?;
            one.folder.finish()?;
            reports.push(EnrollReport {
                vault: self.kit.vault.id.clone(),
                writer: one.writer,
                name: one.name,
                policy: self.policy,
                folder: one.out.display().to_string(),
            });
        }
        Ok(reports)
    }
}

/// The admin key that was named, or the first of the kit.
pub(super) fn read_admin_key(context: &Context, admin_key: Option<&Path>) -> Result<SigningKey, CliError> {
    let in_kit = context.kit.kit.join("admin-1.key");
    read_signing_key(admin_key.unwrap_or(&in_kit), &context.kit.passphrases)
}

/// Has every restore and escrow recipient of the policy opened by an identity that is at hand.
fn challenge_all(context: &Context, kit: &Kit) -> Result<(), CliError> {
    let held = kit.identities(&context.kit, &[Role::Restore, Role::Escrow])?;
    let newest = kit.ledgers.policies.newest().expect("an open kit has a valid policy");
    for owner in &newest.terms.owners {
        for role in [Role::Restore, Role::Escrow] {
            for recipient in owner.recipients.get(&role).into_iter().flatten() {
                let opened = held.iter().any(|held| open_challenge(&held.identities, recipient).is_ok());
                if !opened {
                    return Err(CliError::new(
                        Exit::NoAccess,
                        format!(
                            "no {role} identity at hand opens what is sealed to {recipient}; nothing is enrolled. Put {role}.identity into the kit for this moment, or name it with --identity"
                        ),
                    ));
                }
            }
        }
    }
    Ok(())
}
