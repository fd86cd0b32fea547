//! The agent: one run, and how it ends; and the service that runs jobs when they are due. The program around it is a few lines.
//!
//! It holds its own signing key and public recipients, and no key that decrypts.

pub mod agent;
pub mod breaker;
pub mod clock;
pub mod credentials;
pub mod jobs;
pub mod run;
pub mod schedule;
pub mod service;
pub mod spooling;
pub mod upload;
pub mod watch;
