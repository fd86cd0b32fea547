//! Tests of key protectors as a whole, through the public interface.
//!
//! `samples`: the shared synthetic set, made by another implementation, with known answers. `fixtures`: our own
//! owners and guardians. `damage`: documents that break a rule. `forms`: byte forms and saved files. `grant`:
//! granting and revoking. `model`: property tests.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "helpers of tests are tests too")]

mod damage;
mod fixtures;
mod forms;
mod grant;
mod model;
mod samples;
mod templates;
