//! Files of owners and guardians as people keep them: what each is, and what it says as a document of the schema.
//!
//! Sits between `lifeboat-key-protector`, which knows the formats, and those who meet such files: the agent's sources and
//! `lifeboat guardian`. [`GuardianFile::read`] tells what a file is, [`PrivateMaterial::find`] whether private keys stand in
//! it, [`inspect`] says all of it.
//!
//! Deliberately opens no private key, knows no password (PFX files are opened by `lifeboat-keys`), reads no file and
//! writes none.

#![forbid(unsafe_code)]

mod entry;
mod file;
mod inspect;
mod private;

pub use entry::{addressees, certificate_entry, read_guardian_metadata, signature_state};
pub use file::{GuardianFile, MAX_FILE_BYTES, breaks_off};
pub use inspect::{PfxCertificate, algorithm_evidence, exposed, inspect};
pub use private::PrivateMaterial;
