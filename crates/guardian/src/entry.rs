//! From parsed VM key protectors and certificates to the entries of records and reports.

use lifeboat_key_protector::protector::Wrapping;
use lifeboat_key_protector::{
    Certificate, Check, Error, Evidence, GuardianMetadata, KeyProtector, Verification,
};
use lifeboat_schema::{Addressees, CertificateEntry, Digest, GuardianEntry, SignatureState, Time};

/// Whom a VM key protector is for, with what `verification` found; `None` if its signer has no wrapping, which no parsed
/// one lacks.
pub fn addressees(protector: &KeyProtector, verification: &Verification) -> Option<Addressees> {
    let signer = protector.wrapping(protector.guardian_signature().wrapping_id)?;
    Some(Addressees {
        owners: protector.owners().map(guardian).collect(),
        guardians: protector.guardians().map(guardian).collect(),
        signed_by: Digest::from_bytes(signer.signing_certificate.sha256().0),
        signatures: signature_state(verification),
        max_offline_unwraps: protector.max_offline_unwraps(),
    })
}

fn guardian(wrapping: &Wrapping) -> GuardianEntry {
    let name = wrapping.guardian_name();
    GuardianEntry {
        name: name.guardian.to_owned(),
        host: name.host.map(str::to_owned),
        signing: certificate_entry(&wrapping.signing_certificate),
        encryption: certificate_entry(&wrapping.encryption_certificate),
    }
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
        signing: certificate_entry(metadata.signing_certificate()),
        encryption: certificate_entry(metadata.encryption_certificate()),
    })
}

/// A certificate's thumbprints and validity.
pub fn certificate_entry(certificate: &Certificate) -> CertificateEntry {
    let time = |seconds| Time::from_unix_seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
    let validity = certificate.validity();
    CertificateEntry {
        sha256: Digest::from_bytes(certificate.sha256().0),
        sha1: certificate.sha1().to_string(),
        public_key: Some(Digest::of(certificate.public_key_info())),
        not_before: time(validity.not_before_unix_seconds),
        not_after: time(validity.not_after_unix_seconds),
    }
}

/// The weakest of all checks that need no secret.
pub fn signature_state(verification: &Verification) -> SignatureState {
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
