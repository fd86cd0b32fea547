//! `lifeboat escrow enroll`.

use std::path::PathBuf;

use lifeboat_config::ImporterConfig;
use lifeboat_schema::{Exit, Kind, OwnerId};

use crate::commands::Context;
use crate::commands::enroll::{Enrollment, Terms};
use crate::error::CliError;
use crate::kit::Kit;
use crate::output;

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
    let named = [(arguments.name.clone(), arguments.out.clone())];
    let enrollment = Enrollment::begin(context, "importer", &named).await?;
    let owner = owner(&enrollment.kit, arguments.owner.as_ref())?;
    let terms = Terms { prefix: "e", kind: Kind::Escrow, max_silence_seconds: None };
    let enrolled = enrollment.sign(context, arguments.admin_key.as_deref(), terms).await?;
    let reports = enrolled.finish(ImporterConfig::file_name(), |one, kit, store, policy| {
        let config = ImporterConfig {
            vault: kit.vault.id.clone(),
            writer: one.writer.clone(),
            name: one.name.clone(),
            owner: owner.clone(),
            policy,
            signing_key: "signing.key".into(),
            state_folder: "state".into(),
            store: store.clone(),
            folders: Vec::new(),
            directories: Vec::new(),
            tenants: Vec::new(),
        };
        (format!("# Importer of recovery secrets: {}.", one.name.escape_default()), config)
    })?;
    let report = reports.into_iter().next().expect("one importer was enrolled");
    context.answer(&report, |report| {
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
    });
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
