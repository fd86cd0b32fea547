//! Keys that sign records: Ed25519 in OpenSSH's forms, so that `ssh-keygen` can make and check all of them.
//!
//! A signing key is a secret: it can be neither printed nor copied, and its text form is only had for
//! writing it to a file of its own.

use ssh_key::private::Ed25519Keypair;
use ssh_key::{Algorithm, HashAlg, LineEnding, SshSig};
use zeroize::Zeroizing;

/// SSHSIG namespace of records: a signature for another purpose is not one of a record.
pub const RECORD_NAMESPACE: &str = "lifeboat-record-v1";

/// Longest armour that is looked at; an Ed25519 signature takes about 300 bytes.
pub const MAX_ARMOUR_BYTES: usize = 4096;

/// Why a key or a signature is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is no OpenSSH key.
    #[error("this is not an OpenSSH key: {0}")]
    NotAKey(#[source] ssh_key::Error),
    /// The key has another algorithm than Ed25519.
    #[error("the key is of type {0}; only ssh-ed25519 keys sign records")]
    WrongAlgorithm(String),
    /// The private key is protected and no passphrase was given.
    #[error("the key is protected by a passphrase; give it at the prompt or with a passphrase file")]
    PassphraseNeeded,
    /// The passphrase does not open the private key.
    #[error("the passphrase does not open this key")]
    WrongPassphrase,
    /// The passphrase could not be set.
    #[error("the key could not be protected by the passphrase: {0}")]
    Protect(#[source] ssh_key::Error),
    /// Signing failed.
    #[error("the record could not be signed: {0}")]
    Sign(#[source] ssh_key::Error),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(String),
}

/// Says why an armoured signature is not the one canonical signature of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSignature {
    /// Not an SSHSIG armour at all.
    #[error("no SSHSIG armour follows the line")]
    NotArmour,
    /// A valid armour in another form: other line widths, more bytes, other line ends.
    #[error("the armour is not in its canonical 70-column form, or bytes follow it")]
    NotCanonical,
    /// Another namespace or hash algorithm.
    #[error("the signature was made for another purpose or with another hash than sha512")]
    WrongPurpose,
    /// None of the keys in question made it.
    #[error("none of this writer's keys made the signature")]
    WrongKey,
}

/// A private key that signs records.
pub struct SigningKey(ssh_key::PrivateKey);

impl SigningKey {
    /// Makes a new key from the operating system's random bytes.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0u8; 32]);
        getrandom::fill(seed.as_mut()).map_err(|error| KeyError::Random(error.to_string()))?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of a seed of 32 secret bytes (RFC 8032).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ssh_key::PrivateKey::from(Ed25519Keypair::from_seed(seed)))
    }

    /// Reads a private key in OpenSSH's form, with `passphrase` if it is protected.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`], [`KeyError::WrongAlgorithm`], [`KeyError::PassphraseNeeded`] or
    /// [`KeyError::WrongPassphrase`].
    pub fn parse(text: &[u8], passphrase: Option<&[u8]>) -> Result<Self, KeyError> {
        let key = ssh_key::PrivateKey::from_openssh(text).map_err(KeyError::NotAKey)?;
        let key = match (key.is_encrypted(), passphrase) {
            (true, None) => return Err(KeyError::PassphraseNeeded),
            (true, Some(passphrase)) => key.decrypt(passphrase).map_err(|_| KeyError::WrongPassphrase)?,
            (false, _) => key,
        };
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(KeyError::WrongAlgorithm(key.algorithm().to_string()));
        }
        Ok(Self(key))
    }

    /// The OpenSSH text, protected by `passphrase` if one is given.
    ///
    /// # Errors
    /// [`KeyError::Protect`].
    pub fn to_openssh(&self, passphrase: Option<&[u8]>) -> Result<Zeroizing<String>, KeyError> {
        match passphrase {
            None => self.0.to_openssh(LineEnding::LF).map_err(KeyError::Protect),
            Some(passphrase) => {
                let protected =
                    self.0.encrypt(&mut ssh_key::rand_core::OsRng, passphrase).map_err(KeyError::Protect)?;
                protected.to_openssh(LineEnding::LF).map_err(KeyError::Protect)
            }
        }
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(ssh_key::PublicKey::from(self.0.public_key().key_data().clone()))
    }

    /// Signs `line` and gives the armour.
    ///
    /// # Errors
    /// [`KeyError::Sign`].
    pub(crate) fn sign(&self, line: &[u8]) -> Result<String, KeyError> {
        let signature = self.0.sign(RECORD_NAMESPACE, HashAlg::Sha512, line).map_err(KeyError::Sign)?;
        armour(&signature).map_err(KeyError::Sign)
    }
}

fn armour(signature: &SshSig) -> Result<String, ssh_key::Error> {
    let mut text = signature.to_pem(LineEnding::LF)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// A public key that checks records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey(ssh_key::PublicKey);

impl VerifyingKey {
    /// Reads `ssh-ed25519 <base64>`; a comment may follow and is dropped.
    ///
    /// # Errors
    /// [`KeyError::NotAKey`] or [`KeyError::WrongAlgorithm`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut key = ssh_key::PublicKey::from_openssh(text.trim_end()).map_err(KeyError::NotAKey)?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(KeyError::WrongAlgorithm(key.algorithm().to_string()));
        }
        key.set_comment("");
        Ok(Self(key))
    }

    /// The OpenSSH text without comment.
    pub fn to_openssh(&self) -> String {
        self.0.to_openssh().expect("an Ed25519 public key always has a text form")
    }

    /// Fingerprint as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }
}

/// Finds which of `keys` made the signature `armour_bytes` of `line`.
pub(crate) fn verify<'k>(
    line: &[u8],
    armour_bytes: &[u8],
    keys: &'k [VerifyingKey],
) -> Result<&'k VerifyingKey, BadSignature> {
    if armour_bytes.len() > MAX_ARMOUR_BYTES {
        return Err(BadSignature::NotCanonical);
    }
    let text = std::str::from_utf8(armour_bytes).map_err(|_| BadSignature::NotArmour)?;
    let signature = SshSig::from_pem(text).map_err(|_| BadSignature::NotArmour)?;
    if armour(&signature).map_err(|_| BadSignature::NotArmour)?.as_bytes() != armour_bytes {
        return Err(BadSignature::NotCanonical);
    }
    if signature.namespace() != RECORD_NAMESPACE
        || signature.hash_alg() != HashAlg::Sha512
        || !signature.reserved().is_empty()
        || signature.version() != 1
    {
        return Err(BadSignature::WrongPurpose);
    }
    keys.iter()
        .find(|key| {
            key.0.key_data() == signature.public_key()
                && key.0.verify(RECORD_NAMESPACE, line, &signature).is_ok()
        })
        .ok_or(BadSignature::WrongKey)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&[n; 32])
    }

    #[test]
    fn a_signature_is_checked_with_its_own_key_and_line_only() {
        let keys = [key(1).verifying_key(), key(2).verifying_key()];
        let armour = key(2).sign(b"line\n").unwrap();
        assert_eq!(verify(b"line\n", armour.as_bytes(), &keys).unwrap(), &keys[1]);
        assert_eq!(verify(b"lime\n", armour.as_bytes(), &keys), Err(BadSignature::WrongKey));
        assert_eq!(verify(b"line\n", armour.as_bytes(), &keys[..1]), Err(BadSignature::WrongKey));
    }

    #[test]
    fn only_the_canonical_armour_counts() {
        let keys = [key(1).verifying_key()];
        let armour = key(1).sign(b"line\n").unwrap();
        let body: String = armour.lines().filter(|l| !l.starts_with("-----")).collect();
        let (begin, end) = ("-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----");
        let widths: Vec<String> =
            body.as_bytes().chunks(64).map(|c| String::from_utf8(c.to_vec()).unwrap()).collect();
        let others = [
            format!("{begin}\n{}\n{end}\n", widths.join("\n")),
            format!("{begin}\n{body}\n{end}\n"),
            format!("{armour}\n"),
            armour.trim_end().to_owned(),
            format!("{armour}{armour}"),
            armour.replace('\n', "\r\n"),
            format!(" {armour}"),
        ];
        for other in others {
            assert!(verify(b"line\n", other.as_bytes(), &keys).is_err(), "accepted:\n{other}");
        }
        let foreign = key(1).0.sign("file", HashAlg::Sha512, b"line\n").unwrap();
        let foreign = super::armour(&foreign).unwrap();
        assert_eq!(verify(b"line\n", foreign.as_bytes(), &keys), Err(BadSignature::WrongPurpose));
        let sha256 = key(1).0.sign(RECORD_NAMESPACE, HashAlg::Sha256, b"line\n").unwrap();
        let sha256 = super::armour(&sha256).unwrap();
        assert_eq!(verify(b"line\n", sha256.as_bytes(), &keys), Err(BadSignature::WrongPurpose));
    }

    #[test]
    fn every_flipped_byte_of_an_armour_is_refused() {
        let keys = [key(1).verifying_key()];
        let armour = key(1).sign(b"line\n").unwrap().into_bytes();
        for at in 0..armour.len() {
            let mut bytes = armour.clone();
            bytes[at] ^= 1;
            assert!(verify(b"line\n", &bytes, &keys).is_err(), "byte {at} flipped and accepted");
            assert!(verify(b"line\n", &armour[..at], &keys).is_err(), "cut at {at} and accepted");
        }
    }

    #[test]
    fn protected_keys_open_with_their_passphrase_only() {
        let text = key(7).to_openssh(Some(b"open sesame")).unwrap();
        assert!(matches!(SigningKey::parse(text.as_bytes(), None), Err(KeyError::PassphraseNeeded)));
        assert!(matches!(SigningKey::parse(text.as_bytes(), Some(b"x")), Err(KeyError::WrongPassphrase)));
        let opened = SigningKey::parse(text.as_bytes(), Some(b"open sesame")).unwrap();
        assert_eq!(opened.verifying_key(), key(7).verifying_key());
        let plain = key(7).to_openssh(None).unwrap();
        assert_eq!(
            SigningKey::parse(plain.as_bytes(), None).unwrap().verifying_key(),
            key(7).verifying_key()
        );
    }
}
