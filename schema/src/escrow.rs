//! What a vault says of escrowed recovery secrets, without the secrets: bodies of `escrow` and `reveal` records.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BodyHead, Class, Digest, Finding, PartEntry, Time, VaultId, WriterId};

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
    /// The class that it is sealed under.
    pub fn class(self) -> Class {
        match self {
            Self::ShieldingData => Class::Machine,
            _ => Class::Secret,
        }
    }

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
    /// A BitLocker protector's own copy of its secret, which any other key of the volume opens.
    ReadBack,
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
            Self::ReadBack => "read-back",
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
    /// Where its bytes are. The digest tells equal secrets from different ones; they are too long to be guessed.
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
    /// Which secret, by the digest of its bytes.
    pub secret: Digest,
    /// The importer in whose ledger it is.
    pub importer: WriterId,
    /// The record there.
    pub record: Digest,
}

/// `lifeboat escrow import --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowImportReport {
    /// The vault.
    pub vault: VaultId,
    /// The importer's writer id.
    pub writer: WriterId,
    /// The record that was committed; none where there was nothing new.
    pub record: Option<Digest>,
    /// What was read.
    pub sources: Vec<EscrowRunSource>,
    /// Secrets sealed by this run.
    pub sealed: u64,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// `lifeboat escrow list --json`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowListReport {
    /// The vault.
    pub vault: VaultId,
    /// Every secret once.
    pub secrets: Vec<EscrowListEntry>,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// One escrowed secret, wherever it was found.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowListEntry {
    /// What it is.
    pub kind: SecretKind,
    /// The BitLocker protector that it opens.
    pub protector: Option<String>,
    /// The digest that names it.
    pub secret: Digest,
    /// VMs with a volume that has this BitLocker protector, as the newest snapshots know them.
    pub vms: Vec<String>,
    /// Every time it was sealed, the newest first, as its importer recorded it.
    pub entries: Vec<EscrowEntry>,
}

/// `lifeboat escrow reveal --json`: the one report that holds a secret.
#[derive(Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EscrowRevealReport<'a> {
    /// What it is.
    pub kind: SecretKind,
    /// The BitLocker protector that it opens.
    pub protector: Option<String>,
    /// The record that says that it was shown.
    pub record: Digest,
    /// The 48 digits; none where the secret is a file.
    pub recovery_password: Option<&'a str>,
    /// The file that was written; none for a recovery password.
    pub file: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the form that programs of version 1 wrote; never made anew.
    const ESCROW_V1: &str = include_str!("../fixtures/escrow-body-v1.json");
    const REVEAL_V1: &str = include_str!("../fixtures/reveal-body-v1.json");

    #[test]
    fn bodies_of_version_1_are_read_and_lose_nothing() {
        let body: EscrowBody = serde_json::from_str(ESCROW_V1).unwrap();
        assert_eq!((body.head.v, body.entries.len()), (ESCROW_BODY_VERSION, 2));
        let again = serde_json::to_value(&body).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(ESCROW_V1).unwrap());
        let body: RevealBody = serde_json::from_str(REVEAL_V1).unwrap();
        assert_eq!(
            body.secret,
            serde_json::from_str::<EscrowBody>(ESCROW_V1).unwrap().entries[0].part.digest
        );
        let again = serde_json::to_value(&body).unwrap();
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(REVEAL_V1).unwrap());
    }

    #[test]
    fn shielding_data_goes_to_restore_and_all_else_to_escrow() {
        for kind in [
            SecretKind::RecoveryPassword,
            SecretKind::RecoveryKey,
            SecretKind::KeyPackage,
            SecretKind::EncryptedKey,
        ] {
            assert_eq!(kind.class(), Class::Secret);
        }
        assert_eq!(SecretKind::ShieldingData.class(), Class::Machine);
    }
}
