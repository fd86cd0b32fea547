//! The agent: one run, and how it ends. The program around it is a few lines.
//!
//! It holds its own signing key and public recipients, and no key that decrypts.

pub mod doctor;
pub mod escrow;
pub mod run;
