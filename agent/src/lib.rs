//! The agent: one run, and how it ends; what a run needs; the service that runs jobs when they are due; and how those who watch
//! learn of it. The program around it is a few lines.
//!
//! It holds its own signing key and public recipients, and no key that decrypts.

pub mod agent;
pub mod breaker;
pub mod clock;
pub mod credentials;
pub mod doctor;
pub mod escrow;
pub mod jobs;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod outcome;
pub mod reporter;
pub mod run;
pub mod schedule;
pub mod service;
pub mod spooling;
pub mod supervisor;
pub mod unit;
pub mod upload;
pub mod watch;
pub mod watchers;
