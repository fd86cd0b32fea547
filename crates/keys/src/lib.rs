//! Private keys of owners and guardians as people hold them: PFX files, which Windows exports.
//!
//! Sits between files and `lifeboat-key-protector`, which works with single keys: [`parse_pfx`] gives each private key of a
//! file together with its certificate. A guardian has two pairs, for signing and for encryption; which is which, a VM key
//! protector says by its certificates.
//!
//! Deliberately writes no PFX, keeps no password, and checks neither validity nor chain of a certificate: a guarded fabric
//! does not either.

#![forbid(unsafe_code)]

mod pfx;

pub use pfx::{KeyPair, MAX_PFX_BYTES, PfxError, parse_pfx};
