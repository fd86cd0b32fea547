//! What a companion says of itself: certificates, the VM key protector in shielding data, private keys where none belong.

use std::path::{Path, PathBuf};

use lifeboat_guardian::{
    GuardianFile, MAX_FILE_BYTES, PrivateMaterial, addressees, certificate_entry, exposed,
};
use lifeboat_key_protector::layout::MAX_DOCUMENT_BYTES;
use lifeboat_key_protector::{AlgorithmRegistry, Certificate, KeyProtector};
use lifeboat_schema::{Class, CompanionCertificate, CompanionKind, CompanionRecord, Digest};

use super::{needs, walk};
use crate::directory::open;

/// Endings of a certificate file beside a PFX of the same name.
const CERTIFICATE_ENDINGS: [&str; 3] = ["cer", "crt", "pem"];
/// Largest file that is taken for a certificate.
const MAX_CERTIFICATE_FILE_BYTES: u64 = 1 << 20;
/// Most VM key protectors that are looked for in one file: shielding data hold one.
const MAX_SOUGHT: usize = 16;

/// A companion as its bytes describe it.
pub(crate) struct Described {
    pub(crate) record: CompanionRecord,
    pub(crate) class: Class,
    /// SHA-256 thumbprint of the signing certificate of the owner guardian, where it tells one.
    pub(crate) owner_guardian: Option<Digest>,
}

/// Describes a file by its bytes. `ingredients` is the folder of what it is made from.
pub(crate) fn describe(
    mut record: CompanionRecord,
    bytes: &[u8],
    location: &Path,
    ingredients: Option<&Path>,
) -> Described {
    let mut class = record.kind.class();
    let mut owner_guardian = None;
    let seen = &bytes[..bytes.len().min(MAX_FILE_BYTES)];
    let private = PrivateMaterial::find(seen);
    record.private_key = private.is_some();
    match record.kind {
        CompanionKind::OwnerKeys | CompanionKind::LocalGuardianKeys | CompanionKind::TemplateSigningKeys => {
            of_keys(&mut record, seen, private, location);
            // Signing and encryption certificate: which is which, only a VM key protector says; policies select by the former.
            owner_guardian = record.certificates.first().map(|one| one.certificate.sha256);
        }
        CompanionKind::GuardianMetadata => of_guardian(&mut record, seen),
        CompanionKind::ShieldingData => {
            record.addressed_to = key_protector_in(seen)
                .and_then(|found| addressees(&found, &found.verify(&AlgorithmRegistry::builtin())));
            match &record.addressed_to {
                Some(addressed_to) => {
                    owner_guardian = addressed_to.owners.first().map(|owner| owner.signing.sha256);
                    record.remarks.push(
                        "its VM key protector was found by search: the format is not published".to_owned(),
                    );
                }
                None => record
                    .remarks
                    .push("no VM key protector was found in it; its format is not published".to_owned()),
            }
        }
        _ => {}
    }
    let is_exposed = match record.kind {
        CompanionKind::GuardianMetadata | CompanionKind::VolumeSignatureCatalog => private.is_some(),
        // Sealed by their own means, as far as is known: keys inside are none that lie open.
        CompanionKind::ShieldingData | CompanionKind::HgsState => private.open > 0,
        _ => false,
    };
    if is_exposed {
        record.findings.push(exposed(&record.place, private));
    }
    if is_exposed || (private.is_some() && matches!(GuardianFile::read(seen), GuardianFile::Pfx)) {
        class = Class::Secret;
    }
    if bytes.len() > seen.len() {
        record.remarks.push(format!("only its first {MAX_FILE_BYTES} bytes were searched for private keys"));
    }
    let ingredients = ingredients.map(walk::names).unwrap_or_default();
    record.needs = needs::of_kind(record.kind, &ingredients);
    Described { record, class, owner_guardian }
}

fn of_keys(record: &mut CompanionRecord, bytes: &[u8], private: PrivateMaterial, location: &Path) {
    match GuardianFile::read(bytes) {
        GuardianFile::Pfx => {}
        GuardianFile::Certificates(certificates) => {
            record.certificates = certificates.iter().map(certificate).collect();
            if !private.is_some() {
                record.remarks.push("it holds a certificate and no private key".to_owned());
            }
        }
        _ if private.is_some() => {}
        _ => record.remarks.push("it holds no private key that is recognised".to_owned()),
    }
    if private.open > 0 {
        record
            .remarks
            .push("no password protects this private key; a PFX with a password is better".to_owned());
    }
    if !record.certificates.is_empty() {
        return;
    }
    match certificate_beside(location).and_then(|path| read_certificates(&path)) {
        Some(certificates) => record.certificates = certificates.iter().map(certificate).collect(),
        None => record.remarks.push(
            "whose keys these are cannot be told without its password: put the certificate beside it under the same name (.cer)"
                .to_owned(),
        ),
    }
}

fn of_guardian(record: &mut CompanionRecord, bytes: &[u8]) {
    match GuardianFile::read(bytes) {
        GuardianFile::Metadata(metadata) => {
            let pair = [metadata.signing_certificate(), metadata.encryption_certificate()];
            record.certificates =
                pair.into_iter().chain(metadata.other_signing_certificates()).map(certificate).collect();
            if !metadata.verify(&AlgorithmRegistry::builtin()).certificates_are_valid() {
                record.remarks.push("its signatures do not verify, or could not be checked".to_owned());
            }
        }
        GuardianFile::Certificates(certificates) => {
            record.certificates = certificates.iter().map(certificate).collect();
        }
        GuardianFile::Damaged(error) => record.remarks.push(format!("it is damaged: {error}")),
        GuardianFile::Pfx | GuardianFile::PrivateKey => {}
        _ => record.remarks.push("it is neither guardian metadata nor a certificate".to_owned()),
    }
}

fn certificate(certificate: &Certificate) -> CompanionCertificate {
    let name = certificate.guardian_name();
    CompanionCertificate {
        name: name.guardian.to_owned(),
        host: name.host.map(str::to_owned),
        certificate: certificate_entry(certificate),
    }
}

/// The certificate file that lies beside a file under the same name.
pub(super) fn certificate_beside(location: &Path) -> Option<PathBuf> {
    let candidates = CERTIFICATE_ENDINGS.iter().map(|ending| location.with_extension(ending));
    candidates.into_iter().find(|path| path != location && open::stat_at(path).is_ok())
}

fn read_certificates(path: &Path) -> Option<Vec<Certificate>> {
    let (file, stat) = open::open(path).ok().filter(|(_, stat)| stat.size <= MAX_CERTIFICATE_FILE_BYTES)?;
    let mut bytes = Vec::new();
    open::read_held(&file, stat.size, &mut bytes).ok()?;
    match GuardianFile::read(&bytes) {
        GuardianFile::Certificates(certificates) => Some(certificates),
        _ => None,
    }
}

/// The VM key protector that stands somewhere in a file, in UTF-8 or UTF-16.
fn key_protector_in(bytes: &[u8]) -> Option<KeyProtector> {
    [false, true].into_iter().find_map(|is_wide| {
        let encode = |text: &str| match is_wide {
            false => text.as_bytes().to_vec(),
            true => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        };
        let (begin, end) = (encode("<Protector"), encode("</Protector>"));
        positions(bytes, &begin).take(MAX_SOUGHT).find_map(|from| {
            let rest = &bytes[from..bytes.len().min(from.saturating_add(MAX_DOCUMENT_BYTES))];
            let length = positions(rest, &end).next()? + end.len();
            KeyProtector::parse(&rest[..length]).ok()
        })
    })
}

fn positions<'a>(bytes: &'a [u8], wanted: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(wanted.len()).enumerate().filter(move |(_, window)| *window == wanted).map(|(at, _)| at)
}
