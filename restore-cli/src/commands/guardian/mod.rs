//! `lifeboat guardian`: who can open VM key protectors, and files of owners and guardians.

mod change;
mod fetch;
mod keys;
mod list;
mod look;

use lifeboat_schema::Exit;

use super::Context;
use crate::error::CliError;

/// Works with owners and guardians of VM key protectors.
#[derive(clap::Subcommand)]
pub(crate) enum Guardian {
    /// Lists every owner and guardian that the captured VM key protectors name, with the VMs that each can open.
    List,
    /// Says what a file of an owner or guardian is: a VM key protector as saved from Windows, guardian metadata, a
    /// certificate, a PFX. Needs no vault, and shows no secret.
    Inspect(look::Inspect),
    /// Fetches the guardian metadata of a Host Guardian Service, for --fabric of a plan or for a grant. Needs no vault.
    Fetch(fetch::Fetch),
    /// EXPERIMENTAL: adds a guardian to a VM key protector, with the owner's keys, into a new file.
    Grant(change::Grant),
    /// EXPERIMENTAL: drops a guardian from a VM key protector, with the owner's keys, into a new file.
    Revoke(change::Revoke),
}

pub(crate) async fn run(context: &Context, command: &Guardian) -> Result<Exit, CliError> {
    match command {
        Guardian::List => list::run(context).await,
        Guardian::Inspect(arguments) => look::run(context, arguments),
        Guardian::Fetch(arguments) => fetch::run(context, arguments).await,
        Guardian::Grant(arguments) => change::grant(context, arguments),
        Guardian::Revoke(arguments) => change::revoke(context, arguments),
    }
}
