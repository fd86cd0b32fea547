//! Whom a VM key protector is addressed to: owner and guardians by their public certificates.
//!
//! All of this stands in the VM key protector in clear, and is for the audit. What it cannot say is whether anybody still
//! has the private keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, Time};

/// What a VM key protector says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Addressees {
    /// Owners: one, as Windows makes it; the specification allows several.
    pub owners: Vec<GuardianEntry>,
    /// Guardians, in the order of their wrappings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guardians: Vec<GuardianEntry>,
    /// SHA-256 thumbprint of the signing certificate of the owner or guardian who signed last: HGS, after it rolled.
    pub signed_by: Digest,
    /// What its signatures say, as far as they can be checked without the transport key.
    pub signatures: SignatureState,
    /// How often a host may unwrap a cached key without HGS; 0 is never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_offline_unwraps: u32,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Addressees {
    /// Walks owners and guardians.
    pub fn all(&self) -> impl Iterator<Item = &GuardianEntry> {
        self.owners.iter().chain(&self.guardians)
    }
}

/// An owner or guardian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardianEntry {
    /// Name, taken from the signing certificate's subject.
    pub name: String,
    /// The host that made the certificates, for a local guardian.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Certificate of the signing key.
    pub signing: CertificateEntry,
    /// Certificate of the encryption key: whoever has that key opens the VM key protector.
    pub encryption: CertificateEntry,
}

/// A certificate by its thumbprints and its validity. A guarded fabric does not check expiry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateEntry {
    /// SHA-256 thumbprint.
    pub sha256: Digest,
    /// SHA-1 thumbprint in upper case, as Windows shows it.
    pub sha1: String,
    /// BLAKE3 digest of its public key (SubjectPublicKeyInfo): a renewed certificate may have the key of the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<Digest>,
    /// First second of its validity.
    pub not_before: Time,
    /// Last second of its validity.
    pub not_after: Time,
}

/// What can be said of the signatures in a VM key protector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureState {
    /// Every signature that needs no secret verifies, under algorithms confirmed on a VM key protector of Windows.
    Valid,
    /// Every one verifies, under algorithms whose use in VM key protectors is assumed.
    ValidAsAssumed,
    /// At least one could not be checked: its algorithm is not known here.
    NotChecked,
    /// At least one does not verify.
    Invalid,
}
