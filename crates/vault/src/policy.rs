//! Policies: which writers count, under which terms, and for whom objects are sealed.
//!
//! The admin ledger is one chain of policy records signed by the keys of `vault.json`. What a record of any
//! other writer is worth is decided here, by its place in the chains and never by a clock.

use std::collections::{BTreeMap, BTreeSet};

use lifeboat_schema::{
    Class, Cut, Digest, Kind, OwnerTerms, PolicyRef, PolicyTerms, Role, VAULT_FORMAT, VAULT_VERSION,
    VaultHead, VaultId, WriterId, WriterTerms,
};

use crate::key::{KeyError, VerifyingKey};
use crate::record::SignedRecord;
use crate::seal::Recipients;
use crate::strict_json;

/// Most bytes that `vault.json` may have; it takes about 400.
pub const MAX_VAULT_JSON_BYTES: u64 = 64 << 10;

/// Why `vault.json` is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadHead {
    /// Its digest is another than the pinned vault id.
    #[error(
        "vault.json belongs to the vault {found}, and {pinned} is pinned here. If the pinned id is right, someone put another vault in its place: do not use it"
    )]
    OtherVault {
        /// The id of what the store holds.
        found: VaultId,
        /// The id that this client pins.
        pinned: VaultId,
    },
    /// It is no vault head.
    #[error("vault.json cannot be read: {0}")]
    Json(#[source] serde_json::Error),
    /// Something else lies there.
    #[error("vault.json says that it is {0:?}, not a Lifeboat vault")]
    OtherFormat(String),
    /// A newer program made it.
    #[error("the vault has format version {0}, and this program reads version 1: use a newer Lifeboat")]
    NewerVersion(u32),
    /// Fewer than two admin keys.
    #[error("the vault has {0} admin keys, and two are the least")]
    TooFewAdmins(usize),
    /// An admin key cannot be read.
    #[error("an admin key of vault.json is refused: {0}")]
    Key(#[source] KeyError),
}

#[derive(serde::Deserialize)]
struct Envelope {
    format: String,
    v: u32,
}

/// Parses `vault.json` after comparing it with the pinned vault id.
///
/// # Errors
/// [`BadHead`].
pub fn parse_head(bytes: &[u8], pinned: &VaultId) -> Result<(VaultHead, Vec<VerifyingKey>), BadHead> {
    let found = VaultId::of(bytes);
    if found != *pinned {
        return Err(BadHead::OtherVault { found, pinned: pinned.clone() });
    }
    let envelope: Envelope = strict_json::parse(bytes).map_err(BadHead::Json)?;
    if envelope.format != VAULT_FORMAT {
        return Err(BadHead::OtherFormat(envelope.format.chars().take(80).collect()));
    }
    if envelope.v != VAULT_VERSION {
        return Err(BadHead::NewerVersion(envelope.v));
    }
    let head: VaultHead = serde_json::from_slice(bytes).map_err(BadHead::Json)?;
    let keys = head.admins.iter().map(|text| VerifyingKey::parse(text)).collect::<Result<Vec<_>, _>>();
    let keys = keys.map_err(BadHead::Key)?;
    let distinct: BTreeSet<String> = keys.iter().map(VerifyingKey::to_openssh).collect();
    if distinct.len() < 2 {
        return Err(BadHead::TooFewAdmins(distinct.len()));
    }
    Ok((head, keys))
}

/// Why a policy is not valid, or a record not under the policies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyProblem {
    /// A policy does not follow the one before it.
    #[error("the policy does not name its predecessor as its policy")]
    NotSuccessor,
    /// A policy has no owner.
    #[error("the policy names no owner")]
    NoOwner,
    /// Two owners or two writers have one id.
    #[error("the policy names {0} twice")]
    Twice(String),
    /// A role of an owner has no recipient.
    #[error("the owner {owner} has no {role} recipient")]
    NoRecipient {
        /// The owner.
        owner: String,
        /// The role without recipients.
        role: Role,
    },
    /// A recipient's text is refused.
    #[error("a recipient of the owner {owner} is refused: {why}")]
    Recipient {
        /// The owner.
        owner: String,
        /// What is wrong with it.
        why: String,
    },
    /// A writer's key is refused.
    #[error("the key of the writer {writer} is refused: {why}")]
    Key {
        /// The writer.
        writer: WriterId,
        /// What is wrong with it.
        why: String,
    },
    /// A policy names the admin ledger as a writer, or grants `policy` to one.
    #[error("only admin keys sign policies; {0} cannot be made an ordinary writer of them")]
    AdminWriter(WriterId),
    /// A writer is left out that an older policy names.
    #[error("the writer {0} is left out; a retired writer stays named, with no kinds and a cut")]
    WriterDropped(WriterId),
    /// Terms were narrowed without a cut.
    #[error("the terms of the writer {0} are narrowed without a cut")]
    CutMissing(WriterId),
    /// A cut has no id, or one without a record.
    #[error("the cut of the writer {0} is not a place in a ledger")]
    BadCut(WriterId),
    /// A record names no policy or one that is not in the admin ledger.
    #[error("it names a policy that the vault does not have")]
    UnknownPolicy,
    /// A record names an older policy than its predecessor did.
    #[error("it names an older policy than the record before it")]
    OlderPolicy,
    /// The policy does not know the writer.
    #[error("the policy that it names does not know this writer")]
    UnknownWriter,
    /// The policy does not allow the kind to the writer.
    #[error("the policy that it names does not allow {0} records to this writer")]
    KindNotAllowed(Kind),
    /// Signed by another key than the policy names.
    #[error("it is signed by another key than the policy that it names gives this writer")]
    OtherKey,
    /// It lies beyond a cut, and names a policy from before it.
    #[error("it lies beyond the cut at seq {0}, and names a policy from before that cut")]
    BeyondCut(u64),
    /// The ledger has another record at a cut.
    #[error("policy names another record at seq {0} as the last under the older terms")]
    NotTheCut(u64),
    /// An object's owner is not named by the policy.
    #[error("an object belongs to the owner {0}, whom the policy that it names does not know")]
    UnknownOwner(String),
    /// An object is sealed to other recipients than the policy names.
    #[error("the object {0} is sealed to other recipients than the policy that it names gives its class")]
    OtherRecipients(Digest),
    /// Objects of one name stand in the record twice.
    #[error("the object {0} is named twice")]
    ObjectTwice(Digest),
}

/// One valid policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its place in the admin ledger.
    pub place: PolicyRef,
    /// What it says.
    pub terms: PolicyTerms,
    keys: BTreeMap<WriterId, VerifyingKey>,
}

impl Policy {
    /// The terms of `writer`.
    pub fn writer(&self, writer: &WriterId) -> Option<&WriterTerms> {
        self.terms.writers.iter().find(|w| w.id == *writer)
    }

    /// The key of `writer`.
    pub fn key(&self, writer: &WriterId) -> Option<&VerifyingKey> {
        self.keys.get(writer)
    }

    /// The owner of that id.
    pub fn owner(&self, id: &lifeboat_schema::OwnerId) -> Option<&OwnerTerms> {
        self.terms.owners.iter().find(|o| o.id == *id)
    }

    /// Parses terms and checks what can be checked without their predecessor.
    ///
    /// # Errors
    /// The first rule of [`PolicyProblem`] that is broken.
    pub fn new(place: PolicyRef, terms: PolicyTerms) -> Result<Self, PolicyProblem> {
        if terms.owners.is_empty() {
            return Err(PolicyProblem::NoOwner);
        }
        let mut ids = BTreeSet::new();
        for owner in &terms.owners {
            if !ids.insert(owner.id.as_str()) {
                return Err(PolicyProblem::Twice(owner.id.to_string()));
            }
            for role in Role::ALL {
                let recipients = owner.recipients.get(role).map(Vec::as_slice).unwrap_or_default();
                if recipients.is_empty() {
                    return Err(PolicyProblem::NoRecipient { owner: owner.id.to_string(), role: *role });
                }
                Recipients::parse(recipients).map_err(|error| PolicyProblem::Recipient {
                    owner: owner.id.to_string(),
                    why: error.to_string(),
                })?;
            }
            for class in Class::ALL {
                // A class is sealed to several roles at once; their recipients together must be sealable.
                if let Err(error) = Recipients::parse(&owner.recipients_of(*class)) {
                    let (owner, why) =
                        (owner.id.to_string(), format!("those of class {class} together: {error}"));
                    return Err(PolicyProblem::Recipient { owner, why });
                }
            }
        }
        let mut keys = BTreeMap::new();
        for writer in &terms.writers {
            let id = &writer.id;
            if *id == WriterId::admin() || writer.kinds.contains(&Kind::Policy) {
                return Err(PolicyProblem::AdminWriter(id.clone()));
            }
            if let Some(cut) = writer.cut
                && (cut.seq == 0) != cut.id.is_none()
            {
                return Err(PolicyProblem::BadCut(id.clone()));
            }
            let key = VerifyingKey::parse(&writer.key)
                .map_err(|error| PolicyProblem::Key { writer: id.clone(), why: error.to_string() })?;
            if keys.insert(id.clone(), key).is_some() {
                return Err(PolicyProblem::Twice(id.to_string()));
            }
        }
        Ok(Self { place, terms, keys })
    }

    /// Checks the rules between this policy and the one before it.
    fn follows(&self, before: &Policy) -> Result<(), PolicyProblem> {
        for old in &before.terms.writers {
            let Some(new) = self.writer(&old.id) else {
                return Err(PolicyProblem::WriterDropped(old.id.clone()));
            };
            let narrowed = self.key(&old.id) != before.key(&old.id)
                || old.kinds.iter().any(|kind| !new.kinds.contains(kind));
            if narrowed && (new.cut.is_none() || new.cut == old.cut) {
                return Err(PolicyProblem::CutMissing(old.id.clone()));
            }
        }
        Ok(())
    }
}

/// The valid policies of a vault, oldest first.
#[derive(Debug, Clone, Default)]
pub struct PolicyChain(Vec<Policy>);

impl PolicyChain {
    /// Adds the next record of the admin ledger.
    ///
    /// # Errors
    /// A [`PolicyProblem`]; the chain is as before.
    pub fn push(&mut self, signed: &SignedRecord) -> Result<(), PolicyProblem> {
        let before = self.0.last();
        if signed.record.policy != before.map(|p| p.place) {
            return Err(PolicyProblem::NotSuccessor);
        }
        let terms = signed.record.terms.clone().ok_or(PolicyProblem::UnknownPolicy)?;
        let place = PolicyRef { seq: signed.name.seq, id: signed.name.id };
        let policy = Policy::new(place, terms)?;
        if let Some(before) = before {
            policy.follows(before)?;
        }
        check_objects(&signed.record, &policy)?;
        self.0.push(policy);
        Ok(())
    }

    /// The newest policy.
    pub fn newest(&self) -> Option<&Policy> {
        self.0.last()
    }

    /// The policy at `place`.
    pub fn at(&self, place: &PolicyRef) -> Option<&Policy> {
        self.0.iter().find(|policy| policy.place == *place)
    }

    /// All policies, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Policy> {
        self.0.iter()
    }

    /// Every key that a policy ever gave to `writer`, oldest first.
    pub fn keys_of(&self, writer: &WriterId) -> Vec<VerifyingKey> {
        let mut keys: Vec<VerifyingKey> = Vec::new();
        for key in self.0.iter().filter_map(|policy| policy.key(writer)) {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        keys
    }

    /// Every writer that a policy ever named.
    pub fn writers(&self) -> BTreeSet<WriterId> {
        self.0.iter().flat_map(|policy| policy.terms.writers.iter().map(|w| w.id.clone())).collect()
    }

    /// Checks that an ordinary writer's record stands under the policies. `before` is the policy that its
    /// predecessor named.
    ///
    /// # Errors
    /// The first rule of [`PolicyProblem`] that is broken.
    pub fn judge(&self, signed: &SignedRecord, before: Option<PolicyRef>) -> Result<(), PolicyProblem> {
        let record = &signed.record;
        let policy =
            record.policy.as_ref().and_then(|place| self.at(place)).ok_or(PolicyProblem::UnknownPolicy)?;
        if before.is_some_and(|before| policy.place.seq < before.seq) {
            return Err(PolicyProblem::OlderPolicy);
        }
        let terms = policy.writer(&record.writer).ok_or(PolicyProblem::UnknownWriter)?;
        if !terms.kinds.contains(&record.kind) {
            return Err(PolicyProblem::KindNotAllowed(record.kind));
        }
        if policy.key(&record.writer) != Some(&signed.signer) {
            return Err(PolicyProblem::OtherKey);
        }
        for cut in self.cuts_after(&record.writer, policy.place.seq) {
            if record.seq > cut.seq {
                return Err(PolicyProblem::BeyondCut(cut.seq));
            }
            if record.seq == cut.seq && cut.id != Some(signed.name.id) {
                return Err(PolicyProblem::NotTheCut(cut.seq));
            }
        }
        check_objects(record, policy)
    }

    /// The cuts that policies newer than `seq` made for `writer`; a cut that a policy only repeats is left out.
    fn cuts_after(&self, writer: &WriterId, seq: u64) -> impl Iterator<Item = Cut> {
        let mut last = None;
        let mut cuts = Vec::new();
        for policy in &self.0 {
            let cut = policy.writer(writer).and_then(|w| w.cut);
            if cut != last
                && policy.place.seq > seq
                && let Some(cut) = cut
            {
                cuts.push(cut);
            }
            last = cut;
        }
        cuts.into_iter()
    }
}

/// Checks that each object is sealed to the recipients that `policy` gives its owner and class.
fn check_objects(record: &lifeboat_schema::Record, policy: &Policy) -> Result<(), PolicyProblem> {
    let mut names = BTreeSet::new();
    for object in &record.objects {
        let owner = policy
            .owner(&object.owner)
            .ok_or_else(|| PolicyProblem::UnknownOwner(object.owner.to_string()))?;
        if owner.recipient_set(object.class) != object.recipients {
            return Err(PolicyProblem::OtherRecipients(object.name));
        }
        if !names.insert(object.name) {
            return Err(PolicyProblem::ObjectTwice(object.name));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
