//! One run of an importer: what its sources have into the vault, whoever starts it.
//!
//! Between `config`, which says which sources there are, `escrow`, which reads and seals, and the programs: a person
//! starts a run with `lifeboat escrow import`, a timer with `lifeboat-agent run`.
//!
//! Deliberately has no clock and no environment of its own, asks nobody, and ends no run because one source fails.

mod error;
mod files;
mod run;
mod sources;

pub use error::ImporterError;
pub use files::read_secret_file;
pub use run::{What, World, exit_of, run};
