//! Escrowed recovery secrets held against captured FVE metadata: which of them opens which volume.
//!
//! Above `engine`, which knows what was captured, `escrow`, which knows what is kept, and `formats/fve`, which opens;
//! below the programs. [`Proofs`] reads what was proved, with the audit identity alone.
//!
//! Deliberately touches no disk, prints nothing, and has no clock of its own.

mod proofs;

pub use proofs::{ProofKey, Proofs};
