//! Files of owners and guardians, read whole, and the private keys in them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use lifeboat_guardian::{GuardianFile, MAX_FILE_BYTES};
use lifeboat_key_protector::{KeyProtector, OwnerKeys, PrivateKey};
use lifeboat_keys::{KeyPair, PfxError, parse_pfx};
use lifeboat_schema::Exit;
use zeroize::Zeroizing;

use crate::error::CliError;
use crate::secrets::PassphraseSource;

/// Reads a file of an owner or guardian; wiped, as it may hold private keys.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, CliError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let limit = MAX_FILE_BYTES as u64 + 1;
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| CliError::file(path, "read", &error))?;
    Ok(bytes)
}

/// Opens a PFX with its password.
pub(super) fn open_pfx(
    path: &Path,
    bytes: &[u8],
    passphrases: &PassphraseSource,
) -> Result<Vec<KeyPair>, CliError> {
    let password = passphrases.ask(&path.display().to_string())?;
    parse_pfx(bytes, &password).map_err(|error| {
        let exit = match error {
            PfxError::WrongPassword => Exit::NoAccess,
            PfxError::NotPfx { .. } => Exit::Damage,
            _ => Exit::Failed,
        };
        CliError::new(exit, error.to_string()).about(path.display())
    })
}

/// Every private key of a file: PFX, or PEM and DER without password.
fn private_keys(path: &Path, passphrases: &PassphraseSource) -> Result<Vec<PrivateKey>, CliError> {
    let bytes = read(path)?;
    let refused = |error: lifeboat_key_protector::Error| {
        CliError::new(Exit::NoAccess, error.to_string()).about(path.display())
    };
    match GuardianFile::read(&bytes) {
        GuardianFile::Pfx => {
            Ok(open_pfx(path, &bytes, passphrases)?.into_iter().map(|pair| pair.key).collect())
        }
        GuardianFile::PrivateKey if bytes.starts_with(&[0x30]) => {
            Ok(vec![PrivateKey::parse_pkcs8_der(&bytes).map_err(refused)?])
        }
        _ => {
            let text = std::str::from_utf8(&bytes).map_err(|_| {
                CliError::usage(format!("{} is no PFX and no PEM file of a private key", path.display()))
            })?;
            let blocks = text.match_indices("-----BEGIN ").filter(|(at, _)| {
                text[*at..].lines().next().is_some_and(|label| label.trim_end().ends_with("PRIVATE KEY-----"))
            });
            let keys = blocks
                .map(|(at, _)| PrivateKey::parse_pem(&text[at..]).map_err(refused))
                .collect::<Result<Vec<_>, _>>()?;
            if keys.is_empty() {
                return Err(CliError::usage(format!(
                    "{} holds no private key; give the owner's PFX or PEM files",
                    path.display()
                )));
            }
            Ok(keys)
        }
    }
}

/// The owner's two keys, out of all keys of these files.
pub(super) fn owner_keys(
    protector: &KeyProtector,
    files: &[PathBuf],
    passphrases: &PassphraseSource,
) -> Result<OwnerKeys, CliError> {
    let owner = protector.sole_owner().map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
    let (mut signing, mut encryption) = (None, None);
    for path in files {
        for key in private_keys(path, passphrases)? {
            // One key may carry both certificates; then its file is given twice.
            if signing.is_none() && key.belongs_to(&owner.signing_certificate) {
                signing = Some(key);
            } else if encryption.is_none() && key.belongs_to(&owner.encryption_certificate) {
                encryption = Some(key);
            }
        }
    }
    let lacking = |what: &str, thumbprint: String| {
        CliError::new(
            Exit::NoAccess,
            format!(
                "none of the given files holds the owner's {what} key (certificate {thumbprint}); give both PFX or PEM files of {} with --owner",
                crate::output::plain(owner.guardian_name().guardian)
            ),
        )
    };
    let signing = signing.ok_or_else(|| lacking("signing", owner.signing_certificate.sha1().to_string()))?;
    let encryption =
        encryption.ok_or_else(|| lacking("encryption", owner.encryption_certificate.sha1().to_string()))?;
    Ok(OwnerKeys { signing, encryption })
}
