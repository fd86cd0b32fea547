//! Identities: who can open objects. Identity files, their passphrases, and new X25519 identities.
//!
//! An identity file is text: comments (`#`) and one identity a line, `AGE-SECRET-KEY-1...` or
//! `AGE-PLUGIN-NAME-1...`; it may itself be an age file under a passphrase, which stock `age -d` opens. Secrets
//! have types that cannot be printed, cloned or serialized, and are wiped on drop.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use age::armor::ArmoredReader;
use age::plugin::{self, IdentityPluginV1, ResolveError};
use age::secrecy::{ExposeSecret, SecretString};
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use age_core::format::{FileKey, Stanza};
use zeroize::Zeroizing;

use super::error::SealError;

pub use age::{Callbacks, NoCallbacks};

/// Largest identity file in bytes; one identity has less than 100.
pub const MAX_IDENTITY_FILE_BYTES: usize = 1024 * 1024;
/// Highest scrypt work factor accepted, as a base-2 logarithm: 4 GiB of memory, some 15 seconds; stock `age`
/// accepts the same.
pub const MAX_SCRYPT_WORK_FACTOR: u8 = 22;
/// Work factor of the files we protect: 256 MiB of memory, about a second; stock `age` uses the same.
pub const SCRYPT_WORK_FACTOR: u8 = 18;

/// First bytes of an age file, of which a protected identity file is one.
const AGE_MAGIC: &[u8] = b"age-encryption.org/";
/// First bytes of an age file in ASCII armour.
const ARMOR_MAGIC: &[u8] = b"-----BEGIN AGE ENCRYPTED FILE-----";

/// A passphrase that protects an identity file.
pub struct Passphrase(SecretString);

impl Passphrase {
    /// Takes over a text that a person typed or a file held, without its line end.
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }
}

/// The text of an identity file.
pub struct IdentityText(Zeroizing<String>);

impl IdentityText {
    /// The text itself, for writing it where only its owner can read it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// A new X25519 identity.
pub struct NewIdentity(x25519::Identity);

impl NewIdentity {
    /// Generates an identity from the operating system's random numbers.
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// The recipient that this identity opens for: `age1...`.
    pub fn recipient(&self) -> String {
        self.0.to_public().to_string()
    }

    /// The identity file: `comments`, one line each, the recipient as a comment, and the identity.
    pub fn file(&self, comments: &[&str]) -> IdentityText {
        let secret = self.0.to_string();
        let secret = secret.expose_secret();
        let recipient = self.recipient();
        // Reserved at once, so that no copy of the secret is left behind by a text that grows.
        let comment_bytes: usize = comments.iter().map(|comment| comment.len() + 3).sum();
        let mut text =
            Zeroizing::new(String::with_capacity(comment_bytes + recipient.len() + secret.len() + 32));
        for line in comments.iter().flat_map(|comment| comment.lines()) {
            text.push_str("# ");
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("# public key: ");
        text.push_str(&recipient);
        text.push('\n');
        text.push_str(secret);
        text.push('\n');
        IdentityText(text)
    }
}

impl IdentityText {
    /// Protects the file with a passphrase: an age file that stock `age -d` turns back into this text.
    ///
    /// # Errors
    /// [`SealError::EmptyPassphrase`].
    pub fn protect(&self, passphrase: &Passphrase) -> Result<Vec<u8>, SealError> {
        self.protect_with_work_factor(passphrase, SCRYPT_WORK_FACTOR)
    }

    pub(super) fn protect_with_work_factor(
        &self,
        passphrase: &Passphrase,
        work_factor: u8,
    ) -> Result<Vec<u8>, SealError> {
        if passphrase.0.expose_secret().is_empty() {
            return Err(SealError::EmptyPassphrase);
        }
        let mut recipient = scrypt::Recipient::new(passphrase.0.clone());
        recipient.set_work_factor(work_factor);
        let failed = |message: String| SealError::Header { message };
        let encryptor = Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            .map_err(|e| failed(e.to_string()))?;
        let mut file = Vec::new();
        let mut writer = encryptor.wrap_output(&mut file).map_err(|e| failed(e.to_string()))?;
        writer.write_all(self.0.as_bytes()).map_err(|e| failed(e.to_string()))?;
        writer.finish().map_err(|e| failed(e.to_string()))?;
        Ok(file)
    }
}

/// Parsed identities, tried in their order. May be shared between threads.
pub struct Identities {
    entries: Vec<Entry>,
    recipients: Vec<String>,
    comments: Vec<String>,
}

enum Entry {
    Usable(Box<dyn age::Identity + Send + Sync>),
    /// A plugin whose program is missing; other identities may still do.
    Missing(ResolveError),
}

impl Identities {
    /// Whether `file` is protected by a passphrase (or is another kind of age file).
    pub fn is_protected(file: &[u8]) -> bool {
        let start = file.trim_ascii_start();
        start.starts_with(AGE_MAGIC) || start.starts_with(ARMOR_MAGIC)
    }

    /// Parses an identity file, protected or not. Plugins talk to a person through `callbacks`
    /// ([`NoCallbacks`] where there is none).
    ///
    /// # Errors
    /// A file that is too large or holds anything but identities and comments; a passphrase that is missing or
    /// wrong; a work factor above [`MAX_SCRYPT_WORK_FACTOR`].
    pub fn parse(
        file: &[u8],
        passphrase: Option<&Passphrase>,
        callbacks: impl Callbacks,
    ) -> Result<Self, SealError> {
        if file.len() > MAX_IDENTITY_FILE_BYTES {
            return Err(SealError::BadIdentityFile { why: "it is larger than 1 MiB" });
        }
        if Self::is_protected(file) {
            let passphrase = passphrase.ok_or(SealError::PassphraseNeeded)?;
            Self::parse_text(&unprotect(file, passphrase)?, callbacks)
        } else {
            Self::parse_text(file, callbacks)
        }
    }

    fn parse_text(text: &[u8], callbacks: impl Callbacks) -> Result<Self, SealError> {
        let text = std::str::from_utf8(text)
            .map_err(|_| SealError::BadIdentityFile { why: "it is not UTF-8 text" })?;
        let mut parsed = Self { entries: Vec::new(), recipients: Vec::new(), comments: Vec::new() };
        let mut plugins: BTreeMap<String, Vec<plugin::Identity>> = BTreeMap::new();
        for (line, number) in text.lines().zip(1..) {
            if let Some(comment) = line.strip_prefix('#') {
                parsed.comments.push(comment.trim().to_owned());
            } else if line.is_empty() {
            } else if let Ok(identity) = line.parse::<x25519::Identity>() {
                parsed.recipients.push(identity.to_public().to_string());
                parsed.entries.push(Entry::Usable(Box::new(identity)));
            } else if let Ok(identity) = line.parse::<plugin::Identity>() {
                plugins.entry(identity.plugin().to_owned()).or_default().push(identity);
            } else {
                return Err(SealError::BadIdentity { line: number });
            }
        }
        for (name, identities) in plugins {
            parsed.entries.push(match IdentityPluginV1::new(&name, &identities, callbacks.clone()) {
                Ok(identity) => Entry::Usable(Box::new(identity)),
                Err(error) => Entry::Missing(error),
            });
        }
        if parsed.entries.is_empty() {
            return Err(SealError::NoIdentity);
        }
        Ok(parsed)
    }

    /// Adds the identities of another file, to be tried after these.
    pub fn extend(&mut self, other: Identities) {
        self.entries.extend(other.entries);
        self.recipients.extend(other.recipients);
        self.comments.extend(other.comments);
    }

    /// Recipients of the X25519 identities; those of plugins are known only to the plugin.
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// Comments of the file without their `#`, such as the vault id that the identity belongs to.
    pub fn comments(&self) -> &[String] {
        &self.comments
    }

    /// The file key, by the first identity that finds it; else the first failure; else `None`.
    pub(super) fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, DecryptError>> {
        let mut failure = None;
        for entry in &self.entries {
            let error = match entry {
                Entry::Usable(identity) => match identity.unwrap_stanzas(stanzas) {
                    Some(Err(error)) => error,
                    Some(Ok(file_key)) => return Some(Ok(file_key)),
                    None => continue,
                },
                Entry::Missing(error) => DecryptError::PluginResolve(error.clone()),
            };
            failure.get_or_insert(Err(error));
        }
        failure
    }
}

fn unprotect(file: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let bad = |why| SealError::BadIdentityFile { why };
    let decryptor =
        Decryptor::new_buffered(ArmoredReader::new(file)).map_err(|_| bad("its age header is damaged"))?;
    if !decryptor.is_scrypt() {
        return Err(bad("it is sealed to a recipient, not to a passphrase"));
    }
    let mut identity = scrypt::Identity::new(passphrase.0.clone());
    identity.set_max_work_factor(MAX_SCRYPT_WORK_FACTOR);
    let reader =
        decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|e| match e {
            DecryptError::DecryptionFailed
            | DecryptError::KeyDecryptionFailed
            | DecryptError::NoMatchingKeys => SealError::WrongPassphrase,
            DecryptError::ExcessiveWork { required, .. } => {
                SealError::ExcessiveWork { required, max: MAX_SCRYPT_WORK_FACTOR }
            }
            _ => bad("its age header is damaged"),
        })?;
    let mut text = Zeroizing::new(Vec::with_capacity(file.len()));
    reader.take(MAX_IDENTITY_FILE_BYTES as u64).read_to_end(&mut text).map_err(|_| bad("it is damaged"))?;
    Ok(text)
}
