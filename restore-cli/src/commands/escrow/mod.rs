//! `lifeboat escrow`.

mod enroll;
mod import;
mod list;
mod reveal;
mod sources;

use lifeboat_schema::Exit;

use super::Context;
use crate::error::CliError;

/// Keeps BitLocker recovery secrets: imports, lists and reveals them.
#[derive(clap::Subcommand)]
pub(crate) enum Escrow {
    /// Lets an importer write recovery secrets, and writes its folder.
    Enroll(enroll::Enroll),
    /// Seals the recovery secrets of files into the vault.
    Import(import::Import),
    /// Lists the recovery secrets that the vault holds, without them.
    List(list::List),
    /// Shows one recovery secret to a person, after a signed record of it.
    Reveal(reveal::Reveal),
}

pub(crate) async fn run(context: &Context, command: &Escrow) -> Result<Exit, CliError> {
    match command {
        Escrow::Enroll(arguments) => enroll::run(context, arguments).await,
        Escrow::Import(arguments) => import::run(context, arguments).await,
        Escrow::List(arguments) => list::run(context, arguments).await,
        Escrow::Reveal(arguments) => reveal::run(context, arguments).await,
    }
}
