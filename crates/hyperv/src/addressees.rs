//! Whom a VM key protector is for: from its bytes to the record's `Addressees`.
//!
//! Nothing secret is needed for it, and nothing here is fatal: a VM key protector in an unknown form is captured all the same.

use std::cell::RefCell;

use lifeboat_key_protector::protector::Wrapping;
use lifeboat_key_protector::{
    AlgorithmRegistry, Certificate, Check, Corruption, Error, Evidence, GuardianMetadata, KeyProtector,
    Verification, VerificationMemo,
};
use lifeboat_schema::{Addressees, CertificateEntry, Digest, GuardianEntry, SignatureState, Time};

thread_local! {
    /// What this thread knows of certificates and of the value that it read last. The VMs of a host name the same few
    /// guardians, and the last known good value often is the current one.
    static KNOWN: RefCell<Known> = RefCell::default();
}

#[derive(Default)]
struct Known {
    memo: VerificationMemo,
    last: Option<(Digest, Read)>,
}

/// What was read of a VM key protector.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    /// SHA-256 thumbprint of the signing certificate of its only owner.
    pub(crate) owner: Option<Digest>,
    /// For the record; absent when it is not understood.
    pub(crate) addressees: Option<Addressees>,
    /// What a person should know, beginning with what "its VM key protector" is or does.
    pub(crate) remark: Option<String>,
    /// Whether the value breaks off: it begins as a VM key protector and is shorter than it says.
    pub(crate) is_torn: bool,
}

/// Reads a VM key protector.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let digest = Digest::of(bytes);
    KNOWN.with_borrow_mut(|known| match &known.last {
        Some((last, read)) if *last == digest => read.clone(),
        _ => {
            let read = read_anew(bytes, &mut known.memo);
            known.last = Some((digest, read.clone()));
            read
        }
    })
}

fn read_anew(bytes: &[u8], memo: &mut VerificationMemo) -> Read {
    let protector = match KeyProtector::parse(bytes) {
        Ok(protector) => protector,
        Err(error) => {
            let is_torn = breaks_off(bytes, &error);
            let what = if is_torn { "is torn" } else { "is not understood" };
            return Read { owner: None, addressees: None, remark: Some(format!("{what}: {error}")), is_torn };
        }
    };
    let (owner, mut remark) = match protector.sole_owner() {
        Ok(owner) => (Some(sha256(&owner.signing_certificate)), None),
        Err(error) => (None, Some(format!("names no single owner: {error}"))),
    };
    let signatures = signatures(&protector.verify_remembering(&AlgorithmRegistry::builtin(), memo));
    if signatures == SignatureState::Invalid {
        remark = Some("has a signature that does not verify: it was altered, or is damaged".to_owned());
    }
    // The parser accepts no signer that has no wrapping.
    let signer = protector.wrapping(protector.guardian_signature().wrapping_id);
    let addressees = signer.map(|signer| Addressees {
        owners: protector.owners().map(guardian).collect(),
        guardians: protector.guardians().map(guardian).collect(),
        signed_by: sha256(&signer.signing_certificate),
        signatures,
        max_offline_unwraps: protector.max_offline_unwraps(),
    });
    Read { owner, addressees, remark, is_torn: false }
}

/// Reads the public metadata of a guardian, as an HGS publishes it: its name and its certificates.
///
/// # Errors
/// That of the parser: the bytes are no guardian metadata, or damaged.
pub fn read_guardian_metadata(bytes: &[u8]) -> Result<GuardianEntry, Error> {
    let metadata = GuardianMetadata::parse(bytes)?;
    let name = metadata.guardian_name();
    Ok(GuardianEntry {
        name: name.guardian.to_owned(),
        host: name.host.map(str::to_owned),
        signing: certificate(metadata.signing_certificate()),
        encryption: certificate(metadata.encryption_certificate()),
    })
}

/// Tells whether a value begins as an XML document behind its length, and is shorter than that length.
fn breaks_off(bytes: &[u8], error: &Error) -> bool {
    const BEGINNINGS: [&[u8]; 5] = [b"<", b"\xef\xbb\xbf<", b"\xff\xfe<\0", b"\xfe\xff\0<", b"<\0"];
    let Error::Corrupt(Corruption::LengthPrefix { declared, have }) = error else { return false };
    let document = bytes.get(size_of::<u32>()..).unwrap_or_default();
    usize::try_from(*declared).is_ok_and(|declared| declared > *have)
        && BEGINNINGS.iter().any(|beginning| document.starts_with(beginning))
}

fn guardian(wrapping: &Wrapping) -> GuardianEntry {
    let name = wrapping.guardian_name();
    GuardianEntry {
        name: name.guardian.to_owned(),
        host: name.host.map(str::to_owned),
        signing: certificate(&wrapping.signing_certificate),
        encryption: certificate(&wrapping.encryption_certificate),
    }
}

fn certificate(certificate: &Certificate) -> CertificateEntry {
    let time = |seconds| Time::from_unix_seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
    let validity = certificate.validity();
    CertificateEntry {
        sha256: sha256(certificate),
        sha1: certificate.sha1().to_string(),
        public_key: Some(Digest::of(certificate.public_key_info())),
        not_before: time(validity.not_before_unix_seconds),
        not_after: time(validity.not_after_unix_seconds),
    }
}

fn sha256(certificate: &Certificate) -> Digest {
    Digest::from_bytes(certificate.sha256().0)
}

/// The weakest of all checks that need no secret.
fn signatures(verification: &Verification) -> SignatureState {
    if verification.has_invalid() {
        return SignatureState::Invalid;
    }
    if !verification.is_valid_without_transport_key() {
        return SignatureState::NotChecked;
    }
    let is_confirmed =
        |check: &Check| !matches!(check, Check::Valid { evidence } if *evidence < Evidence::Confirmed);
    if verification.checks().all(is_confirmed) {
        SignatureState::Valid
    } else {
        SignatureState::ValidAsAssumed
    }
}

#[cfg(test)]
mod tests;
