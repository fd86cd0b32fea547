//! What admins do: make a vault, and change its policy.
//!
//! Everything is written in an order in which a crash leaves either nothing that counts or everything:
//! `vault.json` comes last at `init`, a policy record after its objects.

use std::collections::BTreeMap;

use bytes::Bytes;
use lifeboat_schema::{
    BodyHead, Class, Content, Cut, Kind, NamesBody, ObjectEntry, OwnerId, OwnerTerms, PolicyRef, PolicyTerms,
    RECORD_VERSION, Record, Time, VAULT_FORMAT, VAULT_VERSION, VaultHead, VaultId, WriterId, WriterTerms,
};
use lifeboat_vault::key::{SigningKey, VerifyingKey};
use lifeboat_vault::policy::{PolicyChain, PolicyProblem};
use lifeboat_vault::record::{RecordName, SignedRecord};
use lifeboat_vault::seal::{Identities, Recipients, SealError, SealOptions, Sealer};
use lifeboat_vault::store::{Store, StoreError};
use lifeboat_vault::vault::{Ledgers, Vault, VaultError, head_path};
use lifeboat_vault::writer;

/// Why a vault could not be made or its policy not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The vault refused or failed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The new policy breaks a rule.
    #[error("the new policy is refused: {0}")]
    Policy(#[from] PolicyProblem),
    /// Sealing failed.
    #[error("the names could not be sealed: {0}")]
    Seal(#[from] SealError),
    /// The key is none of the vault's admin keys.
    #[error("the key {0} is none of this vault's admin keys; use one of those that `lifeboat init` wrote")]
    NotAnAdmin(String),
    /// The admin ledger is not in order.
    #[error("the admin ledger is not in order, and no policy is added to it: {0}. Run `lifeboat check`")]
    LedgerDamaged(String),
    /// Another admin changed the policy at the same moment.
    #[error(
        "two admins changed the policy at one moment, and neither change counts: ledger/admin has {own} and {other} for seq {seq}. Agree on one, have the administrator of the store remove the file of the other, run `lifeboat check`, then make the other change again"
    )]
    Collision {
        /// The place that both took.
        seq: u64,
        /// The record of this change.
        own: String,
        /// The other record.
        other: String,
    },
    /// A writer of that id is there already.
    #[error("the writer {0} is named already; ids are never used again")]
    WriterExists(WriterId),
    /// No policy names that writer.
    #[error("no policy names the writer {0}")]
    UnknownWriter(WriterId),
    /// It is retired already.
    #[error("the writer {0} is retired already")]
    Retired(WriterId),
    /// Its terms were narrowed already, and it has written nothing since.
    #[error(
        "the writer {0} has written nothing since its last key ended, so there is no new place to cut at; let it run once with its new key first"
    )]
    NothingSince(WriterId),
}

/// Names for people, by id.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Names of owners.
    pub owners: BTreeMap<OwnerId, String>,
    /// Names of writers.
    pub writers: BTreeMap<WriterId, String>,
}

/// What a new vault is made of.
pub struct NewVault<'a> {
    /// The admin keys, two or more; the first signs the first policy.
    pub admins: &'a [SigningKey],
    /// The first policy.
    pub terms: PolicyTerms,
    /// Names to seal.
    pub names: Names,
    /// Now.
    pub now: Time,
    /// 16 random bytes.
    pub nonce: [u8; 16],
}

/// A vault whose id is settled and of which nothing is written yet.
pub struct PreparedVault<'a> {
    vault: Vault,
    json: Vec<u8>,
    new: NewVault<'a>,
}

/// Settles `vault.json`, and so the id that identity files carry.
///
/// # Errors
/// [`AdminError`] for admin keys that readers would refuse.
pub fn prepare<'a>(store: &Store, new: NewVault<'a>) -> Result<PreparedVault<'a>, AdminError> {
    let head = VaultHead {
        format: VAULT_FORMAT.to_owned(),
        v: VAULT_VERSION,
        admins: new.admins.iter().map(|key| key.verifying_key().to_openssh()).collect(),
        created: new.now,
        nonce: new.nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let mut json = serde_json::to_vec(&head).expect("a vault head has only string keys");
    json.push(b'\n');
    let id = VaultId::of(&json);
    lifeboat_vault::policy::parse_head(&json, &id)
        .map_err(|source| VaultError::Head { store: store.describe(), source })?;
    let vault = Vault::unwritten(store.clone(), id, head).map_err(AdminError::Vault)?;
    Ok(PreparedVault { vault, json, new })
}

impl PreparedVault<'_> {
    /// The id that the vault will have.
    pub fn id(&self) -> &VaultId {
        &self.vault.id
    }

    /// Makes the vault: the first policy, then `vault.json`.
    ///
    /// # Errors
    /// [`VaultError::VaultExists`] where there is one; [`AdminError`]. The store then holds nothing that
    /// counts.
    pub async fn write(self) -> Result<(Vault, PolicyRef), AdminError> {
        let Self { vault, json, new } = self;
        refuse_existing(&vault.store).await?;
        let signer = new.admins.first().ok_or_else(|| AdminError::NotAnAdmin("(none)".to_owned()))?;
        let place = write_policy(&vault, signer, None, new.terms, &new.names, Vec::new(), new.now).await?;
        vault.store.create_record(&head_path(), Bytes::from(json)).await.map_err(VaultError::from)?;
        Ok((vault, place))
    }
}

async fn refuse_existing(store: &Store) -> Result<(), AdminError> {
    match store.read(&head_path(), lifeboat_vault::policy::MAX_VAULT_JSON_BYTES).await {
        Ok(bytes) => Err(VaultError::VaultExists { store: store.describe(), id: VaultId::of(&bytes) }.into()),
        Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(VaultError::from(error).into()),
    }
}

/// Adds a writer to the policy.
///
/// # Errors
/// [`AdminError`]; nothing counts then.
pub async fn add_writer(
    vault: &Vault,
    admin: &SigningKey,
    terms: WriterTerms,
    name: &str,
    now: Time,
) -> Result<PolicyRef, AdminError> {
    add_writers(vault, admin, vec![(terms, name.to_owned())], now).await
}

/// Adds several writers by one policy.
///
/// # Errors
/// [`AdminError`]; nothing counts then.
pub async fn add_writers(
    vault: &Vault,
    admin: &SigningKey,
    writers: Vec<(WriterTerms, String)>,
    now: Time,
) -> Result<PolicyRef, AdminError> {
    let names = writers.iter().map(|(terms, name)| (terms.id.clone(), name.clone())).collect();
    let names = Names { writers: names, ..Names::default() };
    change_policy(vault, admin, &names, now, |changed, policies| {
        for (terms, _) in writers {
            if policies.writers().contains(&terms.id) || changed.writers.iter().any(|one| one.id == terms.id)
            {
                return Err(AdminError::WriterExists(terms.id));
            }
            changed.writers.push(terms);
        }
        Ok(())
    })
    .await
}

/// Lets a writer write no more. What it wrote up to its newest record that counts stays valid, and nothing after it.
///
/// # Errors
/// [`AdminError`]; nothing counts then.
pub async fn retire_writer(
    vault: &Vault,
    admin: &SigningKey,
    writer: &WriterId,
    now: Time,
) -> Result<(PolicyRef, Cut), AdminError> {
    narrow(vault, admin, writer, now, |terms| {
        terms.kinds.clear();
        terms.max_silence_seconds = None;
    })
    .await
}

/// Gives a writer another key. Its ledger goes on: the old key's records count up to the newest one, and its next record
/// is signed by the new key.
///
/// # Errors
/// [`AdminError`]; nothing counts then.
pub async fn rekey_writer(
    vault: &Vault,
    admin: &SigningKey,
    writer: &WriterId,
    key: &VerifyingKey,
    now: Time,
) -> Result<(PolicyRef, Cut), AdminError> {
    narrow(vault, admin, writer, now, |terms| terms.key = key.to_openssh()).await
}

/// Narrows the terms of a writer, with a cut behind its newest record that counts.
async fn narrow(
    vault: &Vault,
    admin: &SigningKey,
    writer: &WriterId,
    now: Time,
    change: impl FnOnce(&mut WriterTerms),
) -> Result<(PolicyRef, Cut), AdminError> {
    let (_, policies) = vault.policies(None).await?;
    let ledger = vault.ledger(writer, &policies).await?;
    let newest = ledger.newest().map(|record| record.signed.name);
    let cut = newest.map_or(Cut { seq: 0, id: None }, |name| Cut { seq: name.seq, id: Some(name.id) });
    let place = change_policy(vault, admin, &Names::default(), now, |changed, _| {
        let terms = changed.writers.iter_mut().find(|terms| terms.id == *writer);
        let terms = terms.ok_or_else(|| AdminError::UnknownWriter(writer.clone()))?;
        if terms.kinds.is_empty() {
            return Err(AdminError::Retired(writer.clone()));
        }
        if terms.cut == Some(cut) {
            return Err(AdminError::NothingSince(writer.clone()));
        }
        terms.cut = Some(cut);
        change(terms);
        Ok(())
    })
    .await?;
    Ok((place, cut))
}

/// Signs a policy that follows the newest one, with `change` made to its terms, and `names` sealed beside it.
///
/// # Errors
/// [`AdminError`]; nothing counts then.
pub async fn change_policy(
    vault: &Vault,
    admin: &SigningKey,
    names: &Names,
    now: Time,
    change: impl FnOnce(&mut PolicyTerms, &PolicyChain) -> Result<(), AdminError>,
) -> Result<PolicyRef, AdminError> {
    let (ledger, policies) = vault.policies(None).await?;
    if let Some(finding) = ledger.findings.first() {
        return Err(AdminError::LedgerDamaged(format!("{}: {}", finding.place, finding.what)));
    }
    let newest = policies.newest().expect("policies were required above");
    let mut changed = newest.terms.clone();
    change(&mut changed, &policies)?;
    let carried = ledger
        .at(newest.place.seq, &newest.place.id)
        .map(|record| record.signed.record.objects.clone())
        .unwrap_or_default();
    let last = ledger.newest().map(|record| record.signed.name).expect("the newest policy is a record of it");
    let before = Before { policies: &policies, last };
    write_policy(vault, admin, Some(before), changed, names, carried, now).await
}

/// Names that the newest policy carries, as far as `identities` open them; later ones win.
///
/// # Errors
/// [`VaultError`] where the store fails. What these identities do not open is left out.
pub async fn read_names(
    vault: &Vault,
    ledgers: &Ledgers,
    identities: &Identities,
) -> Result<Names, VaultError> {
    let mut names = Names::default();
    let Some(newest) = ledgers.policies.newest() else { return Ok(names) };
    let Some(record) = ledgers.admin.at(newest.place.seq, &newest.place.id) else { return Ok(names) };
    let record = &record.signed.record;
    for entry in record.objects.iter().filter(|entry| entry.content == Content::Body) {
        match vault.read_body::<NamesBody>(record, entry, identities).await {
            Ok(body) => {
                names.owners.extend(body.owners);
                names.writers.extend(body.writers);
            }
            Err(VaultError::Store(error)) => return Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(names)
}

/// What a new policy follows.
struct Before<'a> {
    policies: &'a PolicyChain,
    last: RecordName,
}

/// Seals `names`, signs the policy that follows `before`, and commits it.
async fn write_policy(
    vault: &Vault,
    admin: &SigningKey,
    before: Option<Before<'_>>,
    terms: PolicyTerms,
    names: &Names,
    carried: Vec<ObjectEntry>,
    now: Time,
) -> Result<PolicyRef, AdminError> {
    let key: VerifyingKey = admin.verifying_key();
    if !vault.admin_keys().contains(&key) {
        return Err(AdminError::NotAnAdmin(key.fingerprint()));
    }
    let seq = before.as_ref().map_or(1, |before| before.last.seq + 1);
    let mut record = Record {
        v: RECORD_VERSION,
        critical: Vec::new(),
        vault: vault.id.clone(),
        writer: WriterId::admin(),
        seq,
        prev: before.as_ref().map(|before| before.last.id),
        kind: Kind::Policy,
        policy: before.as_ref().and_then(|before| before.policies.newest()).map(|policy| policy.place),
        seen: Vec::new(),
        started: now,
        finished: now,
        objects: Vec::new(),
        subjects: BTreeMap::new(),
        terms: Some(terms.clone()),
    };
    let mut sealer = Sealer::new(&SealOptions::default())?;
    for owner in &terms.owners {
        let set = owner.recipient_set(Class::Metadata);
        // Older names stay readable while they are sealed to today's recipients.
        record.objects.extend(carried.iter().filter(|o| o.owner == owner.id && o.recipients == set).cloned());
        let sealed = seal_names(vault, &mut sealer, owner, seq, names)?;
        let entry = writer::object_entry(&sealed, Content::Body, Class::Metadata, &owner.id, &set);
        vault.put_object(&WriterId::admin(), &entry.name, Bytes::from(sealed.bytes)).await?;
        record.objects.push(entry);
    }
    let signed = SignedRecord::sign(record, admin).map_err(VaultError::from)?;
    // What readers will do with it, done before it is written.
    let mut chain = before.map(|before| before.policies.clone()).unwrap_or_default();
    chain.push(&signed)?;
    vault.put_record(&WriterId::admin(), &signed).await?;
    // Nothing keeps two admins from signing at one moment, and then neither policy counts: say so at once.
    let (ledger, policies) = vault.policies(None).await?;
    let place = PolicyRef { seq: signed.name.seq, id: signed.name.id };
    if policies.at(&place).is_none() {
        let other =
            ledger.records.iter().find(|r| r.signed.name.seq == place.seq && r.signed.name.id != place.id);
        let other =
            other.map_or_else(|| "another record".to_owned(), |record| record.signed.name.to_string());
        return Err(AdminError::Collision { seq: place.seq, own: signed.name.to_string(), other });
    }
    Ok(PolicyRef { seq: signed.name.seq, id: signed.name.id })
}

fn seal_names(
    vault: &Vault,
    sealer: &mut Sealer,
    owner: &OwnerTerms,
    seq: u64,
    names: &Names,
) -> Result<lifeboat_vault::seal::SealedObject, SealError> {
    let own = names.owners.get(&owner.id).map(|name| (owner.id.clone(), name.clone()));
    let body = NamesBody {
        head: BodyHead {
            v: 1,
            vault: vault.id.clone(),
            writer: WriterId::admin(),
            seq,
            kind: Kind::Policy,
            class: Class::Metadata,
            owner: owner.id.clone(),
        },
        owners: own.into_iter().collect(),
        writers: names.writers.clone(),
    };
    let json = serde_json::to_vec(&body).expect("names have only string keys");
    sealer.seal_body(&Recipients::parse(&owner.recipients_of(Class::Metadata))?, &json)
}
