//! Secrets on their way from a source into the vault.
//!
//! Deliberately without Debug, Display, Clone and comparison operators; the bytes take a named call and are wiped.

use lifeboat_fve::{RecoveryPassword, SecretBytes};
use lifeboat_schema::SecretKind;
use zeroize::Zeroizing;

/// A recovery secret, or a file that leads to one.
pub enum Secret {
    /// 48 digits, all blocks checked.
    RecoveryPassword(RecoveryPassword),
    /// A `.BEK` file, byte-exact, that parses.
    RecoveryKey(SecretBytes),
    /// A key package (`.KPG`, `msFVE-KeyPackage`), byte-exact: opens with its recovery password.
    KeyPackage(SecretBytes),
    /// An encrypted recovery key (`.ebek`), opaque: opens with shielding data and the owner's key.
    EncryptedKey(SecretBytes),
    /// Shielding data (`.pdk`), opaque.
    ShieldingData(SecretBytes),
}

impl Secret {
    /// Returns what it is.
    #[must_use]
    pub fn kind(&self) -> SecretKind {
        match self {
            Self::RecoveryPassword(_) => SecretKind::RecoveryPassword,
            Self::RecoveryKey(_) => SecretKind::RecoveryKey,
            Self::KeyPackage(_) => SecretKind::KeyPackage,
            Self::EncryptedKey(_) => SecretKind::EncryptedKey,
            Self::ShieldingData(_) => SecretKind::ShieldingData,
        }
    }

    /// Reveals the content that is kept: the 48 digits with dashes, or the bytes of the file.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::RecoveryPassword(password) => Zeroizing::new(password.expose().as_bytes().to_vec()),
            Self::RecoveryKey(bytes)
            | Self::KeyPackage(bytes)
            | Self::EncryptedKey(bytes)
            | Self::ShieldingData(bytes) => Zeroizing::new(bytes.expose().to_vec()),
        }
    }
}
