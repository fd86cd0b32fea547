//! What a vault says of escrowed recovery secrets, without the secrets: bodies of `escrow` and `reveal` records.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BodyHead, Class, Digest, PartEntry, Time, WriterId};

/// Version of the bodies of `escrow` and `reveal` records.
pub const ESCROW_BODY_VERSION: u32 = 1;

/// What an escrowed secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SecretKind {
    /// 48 digits.
    RecoveryPassword,
    /// A `.BEK` file.
    RecoveryKey,
    /// A key package (`.KPG`), which opens with its recovery password.
    KeyPackage,
    /// An encrypted recovery key (`.ebek`), which opens with shielding data and the owner's key.
    EncryptedKey,
    /// Shielding data (`.pdk`).
    ShieldingData,
}

impl SecretKind {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::RecoveryPassword => "recovery password",
            Self::RecoveryKey => "recovery key (.BEK)",
            Self::KeyPackage => "key package (.KPG)",
            Self::EncryptedKey => "encrypted recovery key (.ebek)",
            Self::ShieldingData => "shielding data (.pdk)",
        }
    }
}

/// Where a secret was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum EscrowSource {
    /// Text with ids and recovery passwords, such as the file that Windows saves.
    Text,
    /// Output of `manage-bde -protectors -get`.
    ManageBde,
    /// JSON of `Get-BitLockerVolume`.
    PowerShell,
    /// JSON of recovery objects of AD DS.
    AdJson,
    /// JSON of Microsoft Graph.
    EntraJson,
    /// Any other JSON with ids and recovery passwords.
    Json,
    /// A table: an export of MBAM or Configuration Manager, or a list of one's own.
    Csv,
    /// LDIF.
    Ldif,
    /// A file that is itself the secret.
    KeyFile,
    /// AD DS, asked over LDAP.
    Ldap,
    /// Entra ID, asked through Microsoft Graph.
    Entra,
}

impl EscrowSource {
    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::ManageBde => "manage-bde",
            Self::PowerShell => "PowerShell JSON",
            Self::AdJson => "AD JSON",
            Self::EntraJson => "Entra JSON",
            Self::Json => "JSON",
            Self::Csv => "CSV",
            Self::Ldif => "LDIF",
            Self::KeyFile => "key file",
            Self::Ldap => "AD DS",
            Self::Entra => "Entra ID",
        }
    }
}

/// Body of an `escrow` record: what one run of an importer sealed anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowBody {
    /// Where it belongs.
    pub head: BodyHead,
    /// The importer's name for people.
    pub importer: String,
    /// What the run read.
    pub sources: Vec<EscrowRunSource>,
    /// Secrets that this run sealed.
    pub entries: Vec<EscrowEntry>,
}

/// One source that a run read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowRunSource {
    /// What it is.
    pub source: EscrowSource,
    /// Its name: a file, or the address of a service.
    pub name: String,
    /// Secrets that it held.
    pub found: u64,
    /// Secrets among them that were sealed before with nothing new to say of them.
    pub known: u64,
    /// Things in it that could not be read.
    pub problems: u64,
}

/// One escrowed secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowEntry {
    /// What it is.
    pub kind: SecretKind,
    /// The BitLocker protector that it opens, in lower case without braces; absent where the source did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protector: Option<String>,
    /// Tells equal secrets from different ones without telling them: 16 bytes of a keyed digest.
    pub fingerprint: String,
    /// Where it was found.
    pub source: EscrowSource,
    /// The file, service or directory entry that it was found in.
    pub origin: String,
    /// When it was sealed.
    pub imported: Time,
    /// When the source says that it was made or stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Time>,
    /// Name of the computer, or its id in Entra, as the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub computer: Option<String>,
    /// Id of the volume, as the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Where the volume was mounted, as the source says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Whether the source says that someone was shown the secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disclosed: bool,
    /// Class of the bundle that holds it.
    pub class: Class,
    /// Where its bytes are.
    pub part: PartEntry,
}

/// Body of a `reveal` record: a person is about to be shown a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevealBody {
    /// Where it belongs.
    pub head: BodyHead,
    /// When it was asked for.
    pub asked: Time,
    /// Why, in the words of who asked.
    pub reason: String,
    /// What the secret is.
    pub kind: SecretKind,
    /// The BitLocker protector that it opens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protector: Option<String>,
    /// Which secret, by its fingerprint.
    pub fingerprint: String,
    /// The importer in whose ledger it is.
    pub importer: WriterId,
    /// The record there.
    pub record: Digest,
}
