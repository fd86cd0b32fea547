//! The real programs, as a person types them: what they answer, how they end, and that errors lose nothing.
//!
//! Answers are kept as snapshots (`cargo insta review`, or `INSTA_UPDATE=always`), with ids, times, paths and
//! sealed sizes blanked. After everything that fails the vault must hold what it held.

mod artefacts;
mod audit;
pub(crate) mod desk;
mod doctor;
mod errors;
mod escrow;
mod full;
mod guardians;
mod hosts;
mod journey;
mod plans;
mod prove;
mod secrets;
mod service;
