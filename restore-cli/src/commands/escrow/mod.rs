//! `lifeboat escrow`.

mod enroll;
mod harvest;
mod import;
mod list;
mod operator;
mod prove;
mod reveal;

use lifeboat_schema::{Exit, Role};

use super::Context;
use crate::error::CliError;
use crate::kit::{HeldIdentity, Kit};
use crate::output;

/// Keeps BitLocker recovery secrets: imports, proves, lists and reveals them.
#[derive(clap::Subcommand)]
pub(crate) enum Escrow {
    /// Lets an importer write recovery secrets, and writes its folder.
    Enroll(enroll::Enroll),
    /// Seals the recovery secrets of files into the vault.
    Import(import::Import),
    /// Lists the recovery secrets that the vault holds, without them.
    List(list::List),
    /// Tries every escrowed secret on captured BitLocker metadata, and records what opens.
    Prove(prove::Prove),
    /// Escrows every other recovery secret that one key of a volume gives back.
    Harvest(Box<harvest::Harvest>),
    /// Shows one recovery secret to a person, after a signed record of it.
    Reveal(reveal::Reveal),
}

pub(crate) async fn run(context: &Context, command: &Escrow) -> Result<Exit, CliError> {
    match command {
        Escrow::Enroll(arguments) => enroll::run(context, arguments).await,
        Escrow::Import(arguments) => import::run(context, arguments).await,
        Escrow::List(arguments) => list::run(context, arguments).await,
        Escrow::Prove(arguments) => prove::run(context, arguments).await,
        Escrow::Harvest(arguments) => harvest::run(context, arguments).await,
        Escrow::Reveal(arguments) => reveal::run(context, arguments).await,
    }
}

/// The identity that recovery secrets are sealed to.
fn escrow_identity(context: &Context, kit: &Kit) -> Result<HeldIdentity, CliError> {
    let identity = kit.one_identity(&context.kit, &[Role::Escrow])?;
    if !identity.opens.iter().any(|(_, role)| *role == Role::Escrow) {
        return Err(CliError::new(
            Exit::NoAccess,
            format!(
                "{} opens no recovery secret of this vault; give the escrow identity with --identity",
                identity.path.display()
            ),
        ));
    }
    Ok(identity)
}

/// No snapshot has a VM that was named.
fn no_such_vm(wanted: &str) -> CliError {
    CliError::new(
        Exit::Failed,
        format!(
            "the vault holds no VM {:?}, by name or id; `lifeboat vms` lists those that it holds",
            output::plain(wanted)
        ),
    )
}
