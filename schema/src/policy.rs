//! Who may read and write a vault: `vault.json`, and the terms that admin keys sign in policy records.
//!
//! Both are public to whoever sees the store. They hold public keys and random ids; the names that people
//! use stand in the sealed body of the policy record ([`NamesBody`](crate::NamesBody)).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Class, Digest, Kind, OwnerId, RecipientSetId, Role, Time, VaultId, WriterId};

/// Version of the vault format that this program reads and writes.
pub const VAULT_VERSION: u32 = 1;

/// `vault.json`: the root of trust of a vault, written once. Its digest is the vault's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultHead {
    /// Always `lifeboat-vault`.
    pub format: String,
    /// Format version, [`VAULT_VERSION`].
    pub v: u32,
    /// Public keys (OpenSSH form, `ssh-ed25519 ...`) that sign policies: two or more.
    pub admins: Vec<String>,
    /// When the vault was made, by its maker's clock.
    pub created: Time,
    /// 16 random bytes in hexadecimal digits, so that no two vaults have one id.
    pub nonce: String,
}

/// Value of [`VaultHead::format`].
pub const VAULT_FORMAT: &str = "lifeboat-vault";

/// The rules from one policy record on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyTerms {
    /// Whose VMs there are, and who may open what is kept of them. The first owner that selects a VM has it.
    pub owners: Vec<OwnerTerms>,
    /// Who may write, all of them: a writer that is left out may not write any more.
    pub writers: Vec<WriterTerms>,
}

/// One owner: a set of VMs and the recipients of their objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnerTerms {
    /// Random id of the owner.
    pub id: OwnerId,
    /// Which VMs are this owner's; any match suffices.
    pub vms: Vec<VmSelector>,
    /// Recipients (age, `age1...`) for each role. Every role has at least one.
    pub recipients: BTreeMap<Role, Vec<String>>,
}

impl OwnerTerms {
    /// The recipients of objects of `class`: those of all its roles, each once, in ascending order.
    pub fn recipients_of(&self, class: Class) -> Vec<String> {
        let mut all: Vec<String> = class
            .roles()
            .iter()
            .flat_map(|role| self.recipients.get(role).into_iter().flatten().cloned())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The id of the recipients of objects of `class`.
    pub fn recipient_set(&self, class: Class) -> RecipientSetId {
        RecipientSetId::of(&self.id, class, &self.recipients_of(class))
    }
}

/// Tells which VMs are an owner's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VmSelector {
    /// Every VM.
    All,
    /// VMs whose VM key protector's owner guardian has this SHA-256 thumbprint of its signing certificate.
    OwnerGuardian(Digest),
    /// VMs of this name, by [`VmSelector::name_digest`]; names themselves are not public.
    Name(Digest),
}

impl VmSelector {
    /// The digest that stands for a VM's name (case is ignored). Short names can be guessed from it.
    pub fn name_digest(vault: &VaultId, name: &str) -> Digest {
        Digest::of(format!("lifeboat-vm-name-v1\n{vault}\n{}\n", name.to_lowercase()).as_bytes())
    }
}

/// One writer: its key and what it may state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriterTerms {
    /// Random id of the writer; never used again for another.
    pub id: WriterId,
    /// Public key in OpenSSH form, `ssh-ed25519 ...`, without comment.
    pub key: String,
    /// The kinds of records that it may sign; none for a retired writer.
    pub kinds: Vec<Kind>,
    /// Silence for longer than this is a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_silence_seconds: Option<u64>,
    /// The last record that counts under the terms before these. Must be set when a policy changes the key
    /// or takes a kind away: later records must name this policy or a newer one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// A place in a ledger up to which older terms hold. `seq` 0 means that no record counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// `seq` of the last record under the older terms.
    pub seq: u64,
    /// Id of that record; none when `seq` is 0.
    pub id: Option<Digest>,
}
