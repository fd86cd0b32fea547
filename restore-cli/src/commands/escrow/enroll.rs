//! `lifeboat escrow enroll`.

use std::path::PathBuf;

use lifeboat_config::{ImporterConfig, StoreConfig};
use lifeboat_engine::admin::add_writer;
use lifeboat_schema::{EnrollReport, Exit, Kind, OwnerId, WriterId, WriterTerms};
use lifeboat_vault::key::SigningKey;

use crate::commands::host::challenge_all;
use crate::commands::{Context, NewFolder, now, random, write_private};
use crate::error::CliError;
use crate::kit::{Kit, KitFile};
use crate::output;
use crate::secrets::read_signing_key;

/// Lets an importer write recovery secrets, and writes its folder.
///
/// The importer seals to the escrow identity and can read nothing back, not even its own. It refuses to finish until
/// each restore and escrow identity of the policy has opened a challenge.
#[derive(clap::Args)]
pub(crate) struct Enroll {
    /// Name of the importer for people.
    name: String,
    /// New folder for the importer: configuration and signing key.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Whose secrets it imports; needed where the policy has several owners.
    #[arg(long, value_name = "ID")]
    owner: Option<OwnerId>,
    /// Admin key that signs the new policy [default: admin-1.key in the kit].
    #[arg(long, value_name = "FILE")]
    admin_key: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, arguments: &Enroll) -> Result<Exit, CliError> {
    if arguments.name.trim().is_empty() || arguments.name.chars().any(char::is_control) {
        return Err(CliError::usage("the importer's name is empty or has control characters"));
    }
    let folder = NewFolder::create(&arguments.out)?;
    let file = KitFile::read(&context.kit.kit)?;
    let kit = Kit::open(&context.kit).await?;
    if let Some(finding) = kit.ledgers.admin.findings.first() {
        return Err(CliError::new(Exit::Damage, format!("{}: {}", finding.place, finding.what)));
    }
    let owner = owner(&kit, arguments.owner.as_ref())?;
    challenge_all(context, &kit)?;
    let admin_path = arguments.admin_key.clone().unwrap_or_else(|| context.kit.kit.join("admin-1.key"));
    let admin = read_signing_key(&admin_path, &context.kit.passphrases)?;

    let key = SigningKey::generate()?;
    let writer = WriterId::random("e", random()?);
    write_private(&folder.path("signing.key"), key.to_openssh(None)?.as_bytes())?;
    let terms = WriterTerms {
        id: writer.clone(),
        key: key.verifying_key().to_openssh(),
        kinds: vec![Kind::Escrow],
        max_silence_seconds: None,
        cut: None,
    };
    let policy = add_writer(&kit.vault, &admin, terms, &arguments.name, now()).await?;
    Kit::open(&context.kit).await?.remember();

    let config = ImporterConfig {
        vault: kit.vault.id.clone(),
        writer: writer.clone(),
        name: arguments.name.clone(),
        owner,
        policy,
        signing_key: "signing.key".into(),
        state_folder: "state".into(),
        store: StoreConfig { url: file.store.url.clone(), options: file.store.options },
        directories: Vec::new(),
        tenants: Vec::new(),
    };
    let text = toml::to_string_pretty(&config).map_err(|error| {
        CliError::new(Exit::Failed, format!("importer.toml could not be written: {error}"))
    })?;
    let text = format!("# Importer of recovery secrets: {}.\n{text}", arguments.name.escape_default());
    write_private(&folder.path(ImporterConfig::file_name()), text.as_bytes())?;
    folder.finish()?;

    let report = EnrollReport {
        vault: kit.vault.id.clone(),
        writer,
        name: arguments.name.clone(),
        policy,
        folder: arguments.out.display().to_string(),
    };
    if context.json {
        output::json(&report);
    } else {
        output::line(format!(
            "The importer {} may write recovery secrets as {}.",
            output::plain(&report.name),
            report.writer
        ));
        output::line(format!(
            "Keep {} on the owner's management server; its signing.key decrypts nothing.",
            report.folder
        ));
        output::line(format!("Next: lifeboat escrow import --importer {} FILE...", report.folder));
    }
    Ok(Exit::Done)
}

/// The owner that is named, or the only one that there is.
fn owner(kit: &Kit, wanted: Option<&OwnerId>) -> Result<OwnerId, CliError> {
    let newest = kit.ledgers.policies.newest().expect("an open kit has a valid policy");
    let ids: Vec<&OwnerId> = newest.terms.owners.iter().map(|owner| &owner.id).collect();
    match (wanted, ids.as_slice()) {
        (Some(wanted), ids) if ids.contains(&wanted) => Ok(wanted.clone()),
        (None, [only]) => Ok((*only).clone()),
        (_, ids) => {
            let names: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
            Err(CliError::usage(format!(
                "name one of the policy's owners with --owner: {}",
                names.join(", ")
            )))
        }
    }
}
