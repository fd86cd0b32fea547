//! VM key protectors and guardian metadata, as specified by MS-KPS.
//!
//! A VM with a virtual TPM carries a key protector: the transport key of its vTPM state, wrapped for one owner
//! and any number of guardians. This crate reads key protectors in every form they are kept in, tells who could
//! open them, verifies their signatures, and, with an owner's keys, opens the transport key and grants or revokes
//! guardians. `FORMAT.md` describes the bytes.
//!
//! MS-KPS leaves every algorithm open. What this crate assumes about algorithms stands in the
//! [`AlgorithmRegistry`], and every answer carries the [`Evidence`] behind it. It reads no file, clock or
//! certificate store, trusts no certificate, and never reformats what it was given.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod algorithm;
mod canonical;
pub mod certificate;
pub mod error;
#[cfg(feature = "fixtures")]
pub mod fixtures;
mod grant;
pub mod keys;
pub mod layout;
pub mod metadata;
pub mod protector;
pub mod saved;
pub mod unwrap;
mod value;
pub mod verify;
pub mod write;
mod xml;

pub use rsa::rand_core;

pub use crate::algorithm::{AlgorithmRegistry, Evidence};
pub use crate::certificate::{Certificate, GuardianName, Sha1Thumbprint, Sha256Thumbprint, Validity};
pub use crate::error::{CanonicalizationError, Corruption, Error};
pub use crate::keys::{OwnerKeys, PrivateKey, TransportKey};
pub use crate::metadata::GuardianMetadata;
pub use crate::protector::{KeyProtector, Wrapping, WrappingId};
pub use crate::saved::{SavedForm, SavedKeyProtector};
pub use crate::unwrap::UnwrappedTransportKey;
pub use crate::value::Encoding;
pub use crate::verify::{Check, MetadataVerification, Unchecked, Verification, VerificationMemo};
pub use crate::write::{AlgorithmSuite, EncodeOptions, GuardianKeys, KeyProtectorTemplate};
