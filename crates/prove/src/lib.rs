//! Escrowed recovery secrets held against captured FVE metadata: which of them opens which volume.
//!
//! Above `engine`, which knows what was captured, `escrow`, which knows what is kept, and `formats/fve`, which opens;
//! below the programs. [`Proofs`] reads what was proved, with the audit identity alone. [`hold`] is the pure part: secrets and
//! metadata to outcomes; [`prove`] reads the vault for it and [`commit`] writes the record. [`harvest`] reads back what is
//! not escrowed yet.
//!
//! Deliberately touches no disk, prints nothing, and has no clock of its own.

mod captured;
mod harvest;
mod hold;
mod plan;
mod proofs;
mod run;
mod sectors;

pub use captured::{Generation, by_volume, read_head};
pub use harvest::{Harvest, Known, Origin, harvest};
pub use hold::{Answer, HeldKey, MAX_GUESSES, Outcome, Pair, Question, hold};
pub use plan::{Keyring, MAX_GENERATIONS, VolumePlan, Wanted, homes};
pub use proofs::{ProofKey, Proofs};
pub use run::{ProveObserver, ProveOptions, Proved, Reader, Unobserved, commit, prove};
pub use sectors::{Captured, Unusable};
