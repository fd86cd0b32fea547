//! All that can be said of a file, as the report that `lifeboat guardian inspect` gives.

use std::collections::BTreeSet;

use lifeboat_key_protector::algorithm::{Algorithm, AlgorithmRole};
use lifeboat_key_protector::verify::Unchecked;
use lifeboat_key_protector::{
    AlgorithmRegistry, Certificate, Check, Error, Evidence, GuardianMetadata, KeyProtector,
};
use lifeboat_schema::{
    AlgorithmEntry, AlgorithmEvidence, CheckEntry, CheckResult, Digest, Finding, GuardianFileForm,
    GuardianInspectReport, InspectedCertificate, PRIVATE_KEY_EXPOSED, Severity, Time,
};

use crate::file::{GuardianFile, form_name};
use crate::private::PrivateMaterial;
use crate::{addressees, certificate_entry};

/// Endings of names under which only public material is given away.
const PUBLIC_ENDINGS: [&str; 7] = [".cer", ".crt", ".der", ".p7b", ".xml", ".bin", ".kp"];

/// A certificate out of a PFX that was opened.
pub struct PfxCertificate<'a> {
    /// The certificate.
    pub certificate: &'a Certificate,
    /// The name that the PFX gives the pair.
    pub friendly_name: Option<&'a str>,
}

/// Says what a file is and holds. `pfx` has the pairs of a PFX whose password was given; `now` tells what is expired.
pub fn inspect(
    name: &str,
    bytes: &[u8],
    pfx: Option<&[PfxCertificate<'_>]>,
    now: Time,
) -> GuardianInspectReport {
    let file = GuardianFile::read(bytes);
    let private = PrivateMaterial::find(bytes);
    let mut report = GuardianInspectReport {
        file: name.to_owned(),
        size: bytes.len() as u64,
        digest: Digest::of(bytes),
        form: GuardianFileForm::Unknown,
        saved_as: None,
        problem: None,
        addressed_to: None,
        certificates: Vec::new(),
        algorithms: Vec::new(),
        checks: Vec::new(),
        private_keys: private.open + private.protected,
        findings: Vec::new(),
    };
    let mut has_public_form = PUBLIC_ENDINGS.iter().any(|ending| name.to_ascii_lowercase().ends_with(ending));
    match &file {
        GuardianFile::KeyProtector { form, protector } => {
            has_public_form = true;
            report.form = GuardianFileForm::KeyProtector;
            report.saved_as = Some(form_name(*form).to_owned());
            of_key_protector(protector, &mut report);
        }
        GuardianFile::NoKeyProtector => report.form = GuardianFileForm::NoKeyProtector,
        GuardianFile::Damaged(error) => {
            has_public_form = true;
            report.form = GuardianFileForm::Damaged;
            report.problem = Some(error.to_string());
            report.findings.push(Finding::new(
                Severity::Damage,
                "guardian-file-damaged",
                name,
                format!("it is damaged: {error}"),
                "take it again from where it came: from a snapshot (lifeboat restore), from HGS, or from its owner",
            ));
        }
        GuardianFile::Metadata(metadata) => {
            has_public_form = true;
            report.form = GuardianFileForm::GuardianMetadata;
            of_metadata(metadata, &mut report);
        }
        GuardianFile::Certificates(certificates) => {
            has_public_form = true;
            report.form = GuardianFileForm::Certificates;
            for (number, certificate) in (1..).zip(certificates) {
                let place = if certificates.len() == 1 {
                    "certificate".to_owned()
                } else {
                    format!("certificate {number}")
                };
                report
                    .checks
                    .push(check(format!("self-signature of {place}"), &certificate.check_self_signature()));
                report.certificates.push(inspected(place, certificate, false));
            }
        }
        GuardianFile::Pfx => {
            report.form = GuardianFileForm::Pfx;
            if let Some(pairs) = pfx {
                report.private_keys = pairs.len() as u64;
            }
            for (number, pair) in (1..).zip(pfx.unwrap_or_default()) {
                let place = match pair.friendly_name {
                    Some(friendly) => format!("pair {number} ({friendly})"),
                    None => format!("pair {number}"),
                };
                report.certificates.push(inspected(place, pair.certificate, true));
            }
        }
        GuardianFile::PrivateKey => report.form = GuardianFileForm::PrivateKey,
        GuardianFile::Unknown(why) => report.problem = Some(why.clone()),
    }
    if private.is_some() && has_public_form {
        report.findings.push(exposed(name, private));
    }
    if private.open > 0 && !has_public_form {
        report.findings.push(Finding::new(
            Severity::Warning,
            "private-key-unprotected",
            name,
            "no password protects this private key",
            "put it into a PFX with a password, and remove this file",
        ));
    }
    remark_on_validity(&mut report, now);
    report
}

/// The finding about a private key in a place for public material.
pub fn exposed(place: &str, private: PrivateMaterial) -> Finding {
    let what = if private.open > 0 {
        "a private key stands open in a file that is made to be given away"
    } else {
        "a private key stands, under a password, in a file that is made to be given away"
    };
    Finding::new(
        Severity::Warning,
        PRIVATE_KEY_EXPOSED,
        place,
        what,
        "remove it from there; whoever had the file may have the key: make new certificates for this guardian, and grant \
         them access before the old ones are revoked",
    )
}

fn of_key_protector(protector: &KeyProtector, report: &mut GuardianInspectReport) {
    let registry = AlgorithmRegistry::builtin();
    let verification = protector.verify(&registry);
    report.addressed_to = addressees(protector, &verification);
    let mut algorithms = Algorithms::default();
    let transport = protector.transport_key_signature();
    algorithms.take(AlgorithmRole::KeyDerivation, &transport.key_derivation_method, &registry);
    algorithms.take(AlgorithmRole::Mac, &transport.signature.algorithm, &registry);
    algorithms.take(AlgorithmRole::Signature, &protector.guardian_signature().signature.algorithm, &registry);
    for wrapping in protector.wrappings() {
        let whose = if wrapping.is_owner() { "owner" } else { "guardian" };
        let place = |what: &str| format!("{what} of wrapping {} ({whose})", wrapping.id);
        report.certificates.push(inspected(
            place("signing certificate"),
            &wrapping.signing_certificate,
            false,
        ));
        report.certificates.push(inspected(
            place("encryption certificate"),
            &wrapping.encryption_certificate,
            false,
        ));
        algorithms.take(
            AlgorithmRole::Signature,
            &wrapping.signing_certificate_signature.algorithm,
            &registry,
        );
        algorithms.take(
            AlgorithmRole::Signature,
            &wrapping.encryption_certificate_signature.algorithm,
            &registry,
        );
        algorithms.take(AlgorithmRole::KeyTransport, &wrapping.transport_key.algorithm, &registry);
    }
    report.algorithms = algorithms.0.into_iter().collect();
    let signer = protector.guardian_signature().wrapping_id;
    report.checks.push(check(format!("whole, by wrapping {signer}"), &verification.guardian_signature));
    report
        .checks
        .push(check("whole, by the transport key".to_owned(), &verification.transport_key_signature));
    for wrapping in &verification.wrappings {
        let of = |what: &str| format!("{what} of wrapping {}", wrapping.id);
        report.checks.push(check(of("signing certificate"), &wrapping.signing_certificate));
        report.checks.push(check(of("encryption certificate"), &wrapping.encryption_certificate));
    }
    if verification.owners > 1 {
        report.findings.push(Finding::new(
            Severity::Warning,
            "several-owners",
            &report.file,
            format!("it has {} owners; the tools of Windows know one", verification.owners),
            "ask whoever made it; `guardian grant` does not work on it",
        ));
    }
    if !protector.is_canonical_in_source() {
        report.findings.push(Finding::new(
            Severity::Note,
            "not-canonical",
            &report.file,
            "its signed part is not written in canonical form: somebody may have reformatted it",
            "nothing, if its signatures verify; keep the original bytes",
        ));
    }
    invalid_signatures(report);
}

fn of_metadata(metadata: &GuardianMetadata, report: &mut GuardianInspectReport) {
    let registry = AlgorithmRegistry::builtin();
    let verification = metadata.verify(&registry);
    let mut algorithms = Algorithms::default();
    for signature in
        [metadata.encryption_certificate_signature(), metadata.signing_certificate_self_signature()]
    {
        algorithms.take(AlgorithmRole::Signature, &signature.algorithm, &registry);
    }
    report.algorithms = algorithms.0.into_iter().collect();
    report.certificates.push(inspected(
        "signing certificate".to_owned(),
        metadata.signing_certificate(),
        false,
    ));
    report.certificates.push(inspected(
        "encryption certificate".to_owned(),
        metadata.encryption_certificate(),
        false,
    ));
    for other in metadata.other_signing_certificates() {
        report.certificates.push(inspected("further signing certificate".to_owned(), other, false));
    }
    report.checks.push(check("signing certificate".to_owned(), &verification.signing_certificate));
    report.checks.push(check("encryption certificate".to_owned(), &verification.encryption_certificate));
    report.checks.push(check("document (XML signature)".to_owned(), &verification.document));
    invalid_signatures(report);
}

fn invalid_signatures(report: &mut GuardianInspectReport) {
    let invalid: Vec<&str> = report
        .checks
        .iter()
        .filter(|check| check.result == CheckResult::Invalid)
        .map(|check| check.what.as_str())
        .collect();
    if !invalid.is_empty() {
        report.findings.push(Finding::new(
            Severity::Damage,
            "signature-invalid",
            &report.file,
            format!("signatures that do not verify: {}; it was altered, or is damaged", invalid.join("; ")),
            "do not use it; take it again from where it came",
        ));
    }
    let unknown: Vec<&str> = report
        .algorithms
        .iter()
        .filter(|algorithm| algorithm.evidence == AlgorithmEvidence::Unknown)
        .map(|algorithm| algorithm.uri.as_str())
        .collect();
    if !unknown.is_empty() {
        report.findings.push(Finding::new(
            Severity::Note,
            "algorithm-unknown",
            &report.file,
            format!("algorithms that are not known here: {}", unknown.join(", ")),
            "nothing is tried in their place; the cmdlets of Windows know their own",
        ));
    }
}

fn remark_on_validity(report: &mut GuardianInspectReport, now: Time) {
    let mut expired: Vec<&str> = report
        .certificates
        .iter()
        .filter(|one| one.certificate.not_after < now)
        .map(|one| one.certificate.sha1.as_str())
        .collect();
    expired.dedup();
    if !expired.is_empty() {
        report.findings.push(Finding::new(
            Severity::Note,
            "certificate-expired",
            &report.file,
            format!("expired certificates: {}", expired.join(", ")),
            "HGS does not check it; the cmdlets want -AllowExpired. Renew with the same key, or grant a new guardian",
        ));
    }
}

/// Algorithms that a document names, each once.
#[derive(Default)]
struct Algorithms(BTreeSet<AlgorithmEntry>);

impl Algorithms {
    fn take(&mut self, role: AlgorithmRole, algorithm: &Algorithm, registry: &AlgorithmRegistry) {
        let evidence = match role {
            AlgorithmRole::Signature => registry.signature(algorithm).map(|entry| entry.evidence),
            AlgorithmRole::KeyTransport => registry.key_transport(algorithm).map(|entry| entry.evidence),
            AlgorithmRole::KeyDerivation => registry.key_derivation(algorithm).map(|entry| entry.evidence),
            AlgorithmRole::Mac => registry.mac(algorithm).map(|entry| entry.evidence),
        };
        self.0.insert(AlgorithmEntry {
            role: role.to_string(),
            uri: algorithm.uri.clone(),
            evidence: known(evidence),
        });
    }
}

fn known(evidence: Result<Evidence, Error>) -> AlgorithmEvidence {
    evidence.map_or(AlgorithmEvidence::Unknown, algorithm_evidence)
}

/// Evidence as reports have it.
pub fn algorithm_evidence(evidence: Evidence) -> AlgorithmEvidence {
    match evidence {
        Evidence::Confirmed => AlgorithmEvidence::Confirmed,
        Evidence::Assumed => AlgorithmEvidence::Assumed,
        Evidence::Synthetic => AlgorithmEvidence::Synthetic,
    }
}

fn inspected(place: String, certificate: &Certificate, has_private_key: bool) -> InspectedCertificate {
    InspectedCertificate {
        place,
        subject: certificate.subject().to_owned(),
        issuer: certificate.issuer().to_owned(),
        certificate: certificate_entry(certificate),
        has_private_key,
    }
}

fn check(what: String, check: &Check) -> CheckEntry {
    let (result, why) = match check {
        Check::Valid { evidence: Evidence::Confirmed } => (CheckResult::Valid, None),
        Check::Valid { .. } => (CheckResult::ValidAsAssumed, None),
        Check::Invalid => (CheckResult::Invalid, None),
        Check::NotChecked(why) => (CheckResult::NotChecked, Some(reason(why))),
    };
    CheckEntry { what, result, why }
}

fn reason(why: &Unchecked) -> String {
    match why {
        Unchecked::UnknownAlgorithm { uri } => format!("the algorithm {uri} is not known here"),
        Unchecked::ParametersNotUnderstood { uri } => format!("the parameters of {uri} are not understood"),
        Unchecked::PublicKey => "its certificate holds no RSA key of 1024 to 8192 bits".to_owned(),
        Unchecked::TransportKeyNotGiven => "that takes the transport key".to_owned(),
        Unchecked::Canonicalization(error) => format!("the signed bytes are not known: {error}"),
        Unchecked::IssuedByOther { issuer } => format!("another certificate issued it: {issuer}"),
        Unchecked::Absent => "there is none".to_owned(),
        Unchecked::XmlSignature => "XML signatures are carried, not verified".to_owned(),
        _ => "it is not known how".to_owned(),
    }
}
