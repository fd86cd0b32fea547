//! The agent: one run, and how it ends; what a run needs; and how those who watch learn of it. The program around it is a few lines.
//!
//! It holds its own signing key and public recipients, and no key that decrypts.

pub mod doctor;
pub mod escrow;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod outcome;
pub mod run;
pub mod supervisor;
pub mod unit;
pub mod watchers;
