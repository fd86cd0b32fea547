//! What enrolling a host and enrolling an importer have in common: a new writer in the policy, and a folder for it
//! with its key and its configuration.

use std::path::{Path, PathBuf};

use lifeboat_config::StoreConfig;
use lifeboat_engine::admin::add_writer;
use lifeboat_schema::{EnrollReport, Exit, Kind, PolicyRef, Role, WriterId, WriterTerms};
use lifeboat_vault::key::SigningKey;

use super::init::open_challenge;
use super::{Context, NewFolder, now, random, write_private};
use crate::error::CliError;
use crate::kit::{Kit, KitFile};
use crate::secrets::read_signing_key;

/// A writer that is to be.
pub(super) struct Enrollment {
    name: String,
    out: PathBuf,
    folder: NewFolder,
    store: StoreConfig,
    pub(super) kit: Kit,
}

/// A writer that stands in the policy, and whose folder is not finished.
pub(super) struct Enrolled {
    name: String,
    out: PathBuf,
    folder: NewFolder,
    pub(super) store: StoreConfig,
    pub(super) kit: Kit,
    pub(super) writer: WriterId,
    pub(super) policy: PolicyRef,
}

/// What its policy lets a writer do.
pub(super) struct Terms {
    /// Beginning of its id.
    pub(super) prefix: &'static str,
    pub(super) kind: Kind,
    pub(super) max_silence_seconds: Option<u64>,
}

impl Enrollment {
    /// Makes the folder under its temporary name and opens the kit. `what` is enrolled: a host, an importer.
    pub(super) async fn begin(
        context: &Context,
        what: &str,
        name: &str,
        out: &Path,
    ) -> Result<Self, CliError> {
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            return Err(CliError::usage(format!("the {what}'s name is empty or has control characters")));
        }
        let folder = NewFolder::create(out)?;
        let file = KitFile::read(&context.kit.kit)?;
        let store = StoreConfig { url: file.store.url.clone(), options: file.store.options };
        let kit = Kit::open(&context.kit).await?;
        if let Some(finding) = kit.ledgers.admin.findings.first() {
            return Err(CliError::new(Exit::Damage, format!("{}: {}", finding.place, finding.what)));
        }
        Ok(Self { name: name.to_owned(), out: out.to_owned(), folder, store, kit })
    }

    /// Puts the writer into a new policy, once each restore and escrow identity has opened a challenge.
    pub(super) async fn sign(
        self,
        context: &Context,
        admin_key: Option<&Path>,
        terms: Terms,
    ) -> Result<Enrolled, CliError> {
        let Self { name, out, folder, store, kit } = self;
        challenge_all(context, &kit)?;
        let in_kit = context.kit.kit.join("admin-1.key");
        let admin = read_signing_key(admin_key.unwrap_or(&in_kit), &context.kit.passphrases)?;
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
        let policy = add_writer(&kit.vault, &admin, terms, &name, now()).await?;
        Kit::open(&context.kit).await?.remember();
        Ok(Enrolled { name, out, folder, store, kit, writer, policy })
    }
}

impl Enrolled {
    /// Writes the configuration below a heading, and gives the folder its name.
    pub(super) fn finish(
        self,
        file: &str,
        heading: &str,
        config: &impl serde::Serialize,
    ) -> Result<EnrollReport, CliError> {
        let text = toml::to_string_pretty(config)
            .map_err(|error| CliError::new(Exit::Failed, format!("{file} could not be written: {error}")))?;
        write_private(&self.folder.path(file), format!("{heading}\n{text}").as_bytes())?;
        self.folder.finish()?;
        Ok(EnrollReport {
            vault: self.kit.vault.id,
            writer: self.writer,
            name: self.name,
            policy: self.policy,
            folder: self.out.display().to_string(),
        })
    }
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
