//! Recovery secrets that can be read back and are not escrowed yet.
//!
//! Any one key of a volume, or a clear key in any captured generation of it, gives its other recovery passwords and
//! external keys.

use lifeboat_engine::inventory::{Inventory, matches};
use lifeboat_escrow::{FoundSecret, HeldSecret, Hints, Holdings, Import, Place, Secret};
use lifeboat_fve::{Credential, ExternalKey, Guid, ReadBack, ReadBackSecret, RecoveryPassword, SecretBytes};
use lifeboat_schema::{Digest, EscrowSource, Finding, SecretKind, Severity};
use lifeboat_vault::vault::VaultError;

use crate::captured::by_volume;
use crate::hold::{Bench, HeldKey};
use crate::plan::{Keyring, MAX_GENERATIONS};
use crate::run::{Reader, fetch};
use crate::sectors::Captured;

/// What was read back.
#[derive(Debug)]
pub struct Harvest {
    /// Secrets that are not escrowed yet.
    pub import: Import,
    /// Volumes that were looked at.
    pub volumes: u64,
    /// Volumes among them that something opened.
    pub opened: u64,
    /// Secrets that were read back and are escrowed.
    pub held: u64,
    /// Stretches that it took.
    pub stretches: u64,
    /// What was found on the way.
    pub findings: Vec<Finding>,
    /// Whether there was a snapshot of the VM that was named.
    pub knows_vm: bool,
}

impl Default for Harvest {
    fn default() -> Self {
        Self {
            import: Import::new(EscrowSource::ReadBack),
            volumes: 0,
            opened: 0,
            held: 0,
            stretches: 0,
            findings: Vec::new(),
            knows_vm: false,
        }
    }
}

/// What is known to be escrowed of one volume.
#[derive(Default)]
pub struct Known<'k> {
    /// Entries of the vault.
    pub secrets: &'k [HeldSecret],
    /// Secrets of this volume that were fetched: the same key may be kept in files that are not the same.
    pub keys: &'k [&'k HeldKey],
}

impl Known<'_> {
    fn has(&self, protector: Guid, secret: &ReadBackSecret) -> bool {
        let id = protector.to_string();
        let is_entry = |kind: SecretKind, digest: Digest| {
            self.secrets
                .iter()
                .any(|one| one.kind == kind && one.secret == digest && one.protector.as_ref() == Some(&id))
        };
        match secret {
            ReadBackSecret::RecoveryPassword(password) => {
                is_entry(SecretKind::RecoveryPassword, Digest::of(password.expose().as_bytes()))
            }
            ReadBackSecret::ExternalKey(key) => {
                let same = |held: &&HeldKey| {
                    held.external_key().is_some_and(|held| held.id == key.id && held.key.same_as(&key.key))
                };
                is_entry(SecretKind::RecoveryKey, Digest::of(&key.encode())) || self.keys.iter().any(same)
            }
            _ => true,
        }
    }
}

/// Where read-back secrets come from, for people.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The VM, where it is known.
    pub vm: Option<String>,
    /// The volume.
    pub volume: Option<Guid>,
    /// The disk, or the capture.
    pub place: String,
}

impl Harvest {
    /// Takes what the BitLocker protectors of one volume keep, as far as it is not known.
    pub fn take(&mut self, read_back: Vec<ReadBack>, known: &Known<'_>, origin: &Origin) {
        for entry in read_back {
            let protector = entry.protector.id;
            let secret = match entry.outcome {
                Ok(secret) => secret,
                Err(_) => continue,
            };
            if !matches!(secret, ReadBackSecret::RecoveryPassword(_) | ReadBackSecret::ExternalKey(_)) {
                continue;
            }
            if known.has(protector, &secret) {
                self.held += 1;
                continue;
            }
            let secret = match secret {
                ReadBackSecret::RecoveryPassword(password) => Secret::RecoveryPassword(password),
                ReadBackSecret::ExternalKey(key) => Secret::RecoveryKey(encoded(&key)),
                _ => continue,
            };
            // Of several generations each gives the same once more.
            let digest = Digest::of(&secret.expose());
            let is_there =
                self.import.found.iter().any(|one| {
                    one.protector == Some(protector) && Digest::of(&one.secret.expose()) == digest
                });
            if !is_there {
                self.import.found.push(FoundSecret {
                    protector: Some(protector),
                    secret,
                    place: Place::Entry(origin.place.clone()),
                    time: None,
                    is_time_of_file: false,
                    hints: Hints { computer: origin.vm.clone(), volume: origin.volume, ..Hints::default() },
                });
            }
        }
    }
}

fn encoded(key: &ExternalKey) -> SecretBytes {
    SecretBytes::new(key.encode().to_vec())
}

/// Reads back from captured metadata whatever escrowed secrets, clear keys and `given` open.
///
/// # Errors
/// [`VaultError`] when the store is down. What cannot be read is a finding.
pub async fn harvest(
    reader: &Reader<'_>,
    vm: Option<&str>,
    given: Vec<Credential>,
) -> Result<Harvest, VaultError> {
    let mut holdings = Holdings::read(reader.vault, reader.ledgers, reader.identities).await?;
    let mut inventory = Inventory::new(reader.vault, reader.ledgers, reader.identities);
    let mut found = inventory.all().await?;
    found.retain(|one| vm.is_none_or(|wanted| matches(&one.entry, wanted)));
    let mut harvest = Harvest {
        knows_vm: !found.is_empty(),
        findings: std::mem::take(&mut holdings.findings),
        ..Harvest::default()
    };
    harvest.findings.append(&mut inventory.findings);
    let given: Vec<HeldKey> = given.into_iter().filter_map(HeldKey::given).collect();
    let keyring = Keyring::new(&holdings.secrets);
    for (id, generations) in &by_volume(found) {
        harvest.volumes += 1;
        let (mut captured, mut places): (Vec<Captured>, Vec<usize>) = (Vec::new(), Vec::new());
        for (index, generation) in generations.iter().enumerate().take(MAX_GENERATIONS) {
            match generation.read(reader.vault, reader.identities).await {
                Ok(one) => {
                    captured.push(one);
                    places.push(index);
                }
                Err(error) => harvest.findings.push(Finding::new(
                    Severity::Warning,
                    "captured-metadata-unread",
                    format!("{}, volume {id}", generation.newest().entry.vm.name),
                    format!("the metadata captured {} could not be used: {error}", generation.captured),
                    "`lifeboat check --read-data` tells damage; the next snapshot of the VM captures it anew",
                )),
            }
        }
        let mut protectors: Vec<&str> =
            generations.iter().flat_map(|one| &one.protectors).map(|one| one.id.as_str()).collect();
        protectors.sort_unstable();
        protectors.dedup();
        let mut keys = Vec::new();
        for secret in protectors.iter().flat_map(|protector| keyring.of_protector(protector)) {
            if let Ok(key) = fetch(reader, &holdings.secrets[*secret]).await? {
                keys.push(key);
            }
        }
        let all: Vec<&HeldKey> = keys.iter().chain(&given).collect();
        let (read, stretches) = tokio::task::block_in_place(|| Bench::new(&captured, &all).read_back());
        harvest.stretches += stretches;
        harvest.opened += u64::from(!read.is_empty());
        let known = Known { secrets: &holdings.secrets, keys: &all };
        for (index, read_back) in read {
            let generation = &generations[places[index]];
            let origin = Origin {
                vm: Some(generation.newest().entry.vm.name.clone()),
                volume: id.parse().ok(),
                place: format!("{}, captured {}", generation.newest().entry.vm.name, generation.captured),
            };
            harvest.take(read_back, &known, &origin);
        }
    }
    Ok(harvest)
}

impl HeldKey {
    /// Takes a key that a person gave; nothing for a password or a clear key, which need no escrow.
    #[must_use]
    pub fn given(credential: Credential) -> Option<Self> {
        match credential {
            Credential::RecoveryPassword(password) => {
                let digits = RecoveryPassword::expose(&password);
                Self::parse(SecretKind::RecoveryPassword, None, digits.as_bytes())
            }
            Credential::ExternalKey(key) => Self::parse(SecretKind::RecoveryKey, Some(key.id), &key.encode()),
            _ => None,
        }
    }
}
