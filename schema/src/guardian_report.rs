//! What `lifeboat guardian` answers with `--json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Addressees, CertificateEntry, Digest, Finding, GuardianEntry, VaultId};

/// `lifeboat guardian list --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardianListReport {
    /// The vault.
    pub vault: VaultId,
    /// Every owner and guardian that a captured VM key protector names, by name.
    pub guardians: Vec<KnownGuardian>,
    /// VMs with a VM key protector that is not understood, so that nobody can say whom it is for.
    pub not_understood: Vec<VmName>,
    /// What is wrong with the vault.
    pub findings: Vec<Finding>,
}

/// An owner or guardian, and the VMs that it can open.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnownGuardian {
    /// Name and certificates.
    pub guardian: GuardianEntry,
    /// Whether a certificate's validity was over when the list was made. A guarded fabric does not check it.
    pub is_expired: bool,
    /// VMs whose VM key protector it owns.
    pub owns: Vec<VmName>,
    /// VMs whose VM key protector is addressed to it as a guardian.
    pub guards: Vec<VmName>,
    /// VMs whose last known good VM key protector alone names it.
    pub formerly: Vec<VmName>,
}

/// A VM by id and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmName {
    /// The VM's name.
    pub name: String,
    /// The VM's id.
    pub vm_id: String,
}

/// `lifeboat guardian inspect --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardianInspectReport {
    /// The file.
    pub file: String,
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3 digest of the file.
    pub digest: Digest,
    /// What it is.
    pub form: GuardianFileForm,
    /// How a VM key protector was saved: `raw`, `decimal-numbers` or `base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_as: Option<String>,
    /// Why it is not understood, or damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whom a VM key protector is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addressed_to: Option<Addressees>,
    /// Certificates that stand in the file.
    pub certificates: Vec<InspectedCertificate>,
    /// Algorithms that it names.
    pub algorithms: Vec<AlgorithmEntry>,
    /// Signatures, each with its answer.
    pub checks: Vec<CheckEntry>,
    /// Private keys that the file holds, as far as can be told without a password.
    pub private_keys: u64,
    /// What a person should know.
    pub findings: Vec<Finding>,
}

/// What a guardian's or owner's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuardianFileForm {
    /// A VM key protector.
    KeyProtector,
    /// The value that says that a VM has no VM key protector.
    NoKeyProtector,
    /// A VM key protector or guardian metadata that is not whole.
    Damaged,
    /// Guardian metadata (XML).
    GuardianMetadata,
    /// One or more certificates.
    Certificates,
    /// Private keys with their certificates, under a password (PKCS#12).
    Pfx,
    /// A private key without certificate.
    PrivateKey,
    /// None of these.
    Unknown,
}

/// A certificate that stands in an inspected file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InspectedCertificate {
    /// What it is there for, such as `signing certificate of wrapping 1`.
    pub place: String,
    /// Subject, as RFC 4514 writes it.
    pub subject: String,
    /// Issuer, likewise.
    pub issuer: String,
    /// Thumbprints and validity.
    pub certificate: CertificateEntry,
    /// Whether its private key is in the same file, where that was looked for.
    pub has_private_key: bool,
}

/// An algorithm that a document names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlgorithmEntry {
    /// What it is used for.
    pub role: String,
    /// Its URI, as in the document.
    pub uri: String,
    /// What is known of it here.
    pub evidence: AlgorithmEvidence,
}

/// How much is known of an algorithm in VM key protectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlgorithmEvidence {
    /// Not known here: nothing is tried in its place.
    Unknown,
    /// Only synthetic documents use it.
    Synthetic,
    /// Its meaning is standard; how a VM key protector uses it is assumed.
    Assumed,
    /// Verified on a VM key protector made by Windows.
    Confirmed,
}

/// One signature and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckEntry {
    /// Which signature.
    pub what: String,
    /// The answer.
    pub result: CheckResult,
    /// Why it was not checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The answer about a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckResult {
    /// It verifies, under algorithms confirmed on a document of Windows.
    Valid,
    /// It verifies, under algorithms whose use is assumed.
    ValidAsAssumed,
    /// It does not verify.
    Invalid,
    /// It could not be checked.
    NotChecked,
}

/// `lifeboat guardian grant --json` and `lifeboat guardian revoke --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardianChangeReport {
    /// The VM key protector that was read.
    pub from: String,
    /// The file that was written.
    pub written: String,
    /// BLAKE3 digest of the new file.
    pub digest: Digest,
    /// Whom the new VM key protector is for.
    pub addressed_to: Addressees,
    /// The weakest evidence of the algorithms that were used. Below `confirmed` nothing shows that Windows takes it.
    pub evidence: AlgorithmEvidence,
    /// What to do next.
    pub next: Vec<String>,
}
