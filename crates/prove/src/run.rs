//! A run of `escrow prove`: plans, reads, tries on all cores, and commits what came of it.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt as _, TryStreamExt as _};
use lifeboat_engine::inventory::Inventory;
use lifeboat_escrow::{HeldSecret, Holdings, SealedRecord, SealingError, Span};
use lifeboat_schema::{
    Finding, Kind, OwnerId, PROOF_BODY_VERSION, ProofBody, ProofCounts, ProofEntry, ProofOutcome, Severity,
    Time,
};
use lifeboat_vault::record::RecordName;
use lifeboat_vault::seal::Identities;
use lifeboat_vault::vault::{Ledgers, Vault, VaultError};
use lifeboat_vault::writer::{Known, Writer};

use crate::captured::{Generation, by_volume};
use crate::hold::{Answer, HeldKey, MAX_GUESSES, Pair, Question, hold};
use crate::plan::{Keyring, VolumePlan, homes};
use crate::proofs::Proofs;

/// Entries of one body; a body has about 450 bytes for each.
const MAX_BODY_ENTRIES: usize = 100_000;

/// What to prove.
#[derive(Default)]
pub struct ProveOptions<'o> {
    /// Only volumes of this VM (name or id); all where none is named.
    pub vm: Option<&'o str>,
    /// Try again what is proved.
    pub again: bool,
}

/// Reads from a vault.
pub struct Reader<'a> {
    /// The vault.
    pub vault: &'a Vault,
    /// Its ledgers.
    pub ledgers: &'a Ledgers,
    /// The escrow identity.
    pub identities: &'a Identities,
}

/// Told how far a run is.
pub trait ProveObserver: Sync {
    /// So many volumes have something to prove.
    fn planned(&self, volumes: u64);
    /// One more is done.
    fn volume_done(&self);
}

/// Nobody watches.
pub struct Unobserved;

impl ProveObserver for Unobserved {
    fn planned(&self, _: u64) {}
    fn volume_done(&self) {}
}

/// What a run found out; nothing of it is in the vault yet.
#[derive(Debug, Default)]
pub struct Proved {
    /// Entries, by the owner of the metadata.
    pub entries: BTreeMap<OwnerId, Vec<ProofEntry>>,
    /// Numbers.
    pub counts: ProofCounts,
    /// What was found on the way.
    pub findings: Vec<Finding>,
    /// Whether there was a snapshot of the VM that was named.
    pub knows_vm: bool,
}

/// One volume with all that is needed to try.
struct Work<'w> {
    id: &'w str,
    generations: &'w [Generation],
    plan: VolumePlan,
}

/// Holds every escrowed secret against every captured generation that no proof speaks of.
///
/// # Errors
/// [`VaultError`] when the store is down. What cannot be read is a finding, and tried again next time.
pub async fn prove(
    reader: &Reader<'_>,
    options: &ProveOptions<'_>,
    clock: &(dyn Fn() -> Time + Sync),
    observer: &dyn ProveObserver,
) -> Result<Proved, VaultError> {
    let Reader { vault, ledgers, identities } = *reader;
    let mut holdings = Holdings::read(vault, ledgers, identities).await?;
    let proofs = Proofs::read(vault, ledgers, identities).await?;
    let mut inventory = Inventory::new(vault, ledgers, identities);
    let mut found = inventory.all().await?;
    let mut proved = Proved { findings: std::mem::take(&mut holdings.findings), ..Proved::default() };
    proved.findings.extend(proofs.findings.iter().cloned());
    proved.findings.append(&mut inventory.findings);
    if let Some(wanted) = options.vm {
        found.retain(|one| lifeboat_engine::inventory::matches(&one.entry, wanted));
    }
    proved.knows_vm = !found.is_empty();
    let volumes = by_volume(found);
    let keyring = Keyring::new(&holdings.secrets);
    let homes = homes(&proofs);
    let mut work = Vec::new();
    for (id, generations) in &volumes {
        let plan = keyring.plan(id, generations, &proofs, &homes, options.again);
        proved.counts.volumes += 1;
        proved.counts.generations += generations.len() as u64;
        proved.counts.known += plan.known.len() as u64;
        if plan.left > 0 {
            proved.findings.push(Finding::new(
                Severity::Note,
                "prove-older-left",
                format!("volume {id}"),
                format!(
                    "of {} captured generations the oldest {} were not looked at",
                    generations.len(),
                    plan.left
                ),
                "nothing: the newer ones count",
            ));
        }
        if !plan.is_empty() {
            work.push(Work { id, generations, plan });
        }
    }
    proved.counts.changed = work.len() as u64;
    observer.planned(work.len() as u64);

    // One more than there are cores: the next volume is fetched while those compute.
    let at_once = std::thread::available_parallelism().map_or(1, usize::from) + 1;
    let secrets = holdings.secrets.as_slice();
    let done = futures::stream::iter(&work)
        .map(|one| async move {
            let tried = try_volume(reader, one, secrets).await;
            observer.volume_done();
            tried.map(|tried| (one, tried))
        })
        .buffer_unordered(at_once);
    let mut done: Vec<(&Work<'_>, Tried)> = done.try_collect().await?;
    done.sort_by_key(|(one, _)| one.id);
    for (one, tried) in done {
        take(&mut proved, one, tried, secrets, clock());
    }
    Ok(proved)
}

/// What came of one volume.
struct Tried {
    answer: Answer,
    /// Places in the lists of the answer, as places in those of the volume.
    generations: Vec<usize>,
    keys: Vec<usize>,
    findings: Vec<Finding>,
}

async fn try_volume(
    reader: &Reader<'_>,
    work: &Work<'_>,
    secrets: &[HeldSecret],
) -> Result<Tried, VaultError> {
    let mut findings = Vec::new();
    let (mut generations, mut captured) = (Vec::new(), Vec::new());
    for index in work.plan.generations() {
        let generation = &work.generations[index];
        match generation.read(reader.vault, reader.identities).await {
            Ok(one) => {
                generations.push(index);
                captured.push(one);
            }
            Err(error) => findings.push(unread(work.id, generation, &error)),
        }
    }
    let (mut indices, mut keys) = (Vec::new(), Vec::new());
    for index in work.plan.secrets() {
        match fetch(reader, &secrets[index]).await? {
            Ok(key) => {
                indices.push(index);
                keys.push(key);
            }
            Err(why) => findings.push(Finding::new(
                Severity::Warning,
                "escrow-not-tried",
                secrets[index].protector.clone().unwrap_or_else(|| secrets[index].secret.to_string()),
                format!("the escrowed {} was not tried: {why}", secrets[index].kind.name()),
                "import it again from its source",
            )),
        }
    }
    let question = question(work, &generations, &indices);
    // Stretches take a core each; the runtime's own threads go on reading.
    let answer = tokio::task::spawn_blocking(move || {
        let keys: Vec<&HeldKey> = keys.iter().collect();
        hold(&captured, &keys, &question)
    })
    .await
    .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    Ok(Tried { answer, generations, keys: indices, findings })
}

/// Puts the plan into places of what could be read.
fn question(work: &Work<'_>, generations: &[usize], keys: &[usize]) -> Question {
    let at = |list: &[usize], wanted: usize| list.iter().position(|one| *one == wanted);
    let pair = |one: &crate::plan::Wanted| {
        Some(Pair {
            generation: at(generations, one.generation)?,
            key: at(keys, one.secret)?,
            protector: one.protector.parse().ok()?,
        })
    };
    Question {
        pairs: work.plan.wanted.iter().filter_map(pair).collect(),
        guesses: work
            .plan
            .guesses
            .iter()
            .filter_map(|(generation, key)| Some((at(generations, *generation)?, at(keys, *key)?)))
            .collect(),
        known: work
            .plan
            .known
            .iter()
            .filter_map(|(one, outcome)| Some((pair(one)?, *outcome)))
            .collect::<HashMap<_, _>>(),
    }
}

/// Fetches a secret: a damaged copy keeps no whole one away.
pub(crate) async fn fetch(
    reader: &Reader<'_>,
    secret: &HeldSecret,
) -> Result<Result<HeldKey, String>, VaultError> {
    let mut first = None;
    for entry in &secret.entries {
        match entry.fetch(reader.vault, reader.identities).await {
            Ok(bytes) => {
                let protector = secret.protector.as_ref().and_then(|id| id.parse().ok());
                let key = HeldKey::parse(secret.kind, protector, &bytes);
                return Ok(key.ok_or_else(|| format!("it is no {}", secret.kind.name())));
            }
            Err(error @ VaultError::Store(_)) => return Err(error),
            Err(error) => {
                first.get_or_insert(error.to_string());
            }
        }
    }
    Ok(Err(first.unwrap_or_default()))
}

fn unread(volume: &str, generation: &Generation, error: &str) -> Finding {
    let found = generation.newest();
    Finding::new(
        Severity::Warning,
        "captured-metadata-unread",
        format!("{}, volume {volume}", found.entry.vm.name),
        format!("the metadata captured {} could not be used: {error}", generation.captured),
        "`lifeboat check --read-data` tells damage; the next snapshot of the VM captures it anew",
    )
}

/// Turns what came of a volume into entries and findings.
fn take(proved: &mut Proved, work: &Work<'_>, tried: Tried, secrets: &[HeldSecret], now: Time) {
    let counts = &mut proved.counts;
    counts.stretches += tried.answer.stretches;
    counts.left_out += tried.answer.left_out;
    proved.findings.extend(tried.findings);
    // Of these BitLocker protectors something is right, so what is wrong is only old.
    let good: Vec<(usize, lifeboat_fve::Guid)> = tried
        .answer
        .outcomes
        .iter()
        .filter(|one| one.outcome.level().is_some())
        .map(|one| (one.pair.generation, one.pair.protector))
        .collect();
    for one in &tried.answer.outcomes {
        let generation = &work.generations[tried.generations[one.pair.generation]];
        let secret = &secrets[tried.keys[one.pair.key]];
        let protector = one.pair.protector.to_string();
        match one.outcome {
            ProofOutcome::Data => counts.data += 1,
            ProofOutcome::Key => counts.key += 1,
            ProofOutcome::Refused => counts.refused += 1,
            _ => counts.unusable += 1,
        }
        let is_good = good.contains(&(one.pair.generation, one.pair.protector))
            || work.plan.known.iter().any(|(known, outcome)| {
                known.protector == protector
                    && known.generation == tried.generations[one.pair.generation]
                    && outcome.level().is_some()
            });
        let is_told = generation.is_current && generation.has(&protector) && secret.protector.is_some();
        if is_told && !is_good && one.outcome.level().is_none() {
            proved.findings.push(not_proved(work.id, generation, secret, &protector, one.outcome));
        }
        // Whose it is, is in the record; without an owner there is nobody to seal it to.
        let Some(owner) = generation.owner() else { continue };
        proved.entries.entry(owner.clone()).or_default().push(ProofEntry {
            subject: generation.newest().entry.subject.clone(),
            volume: work.id.to_owned(),
            metadata: generation.metadata,
            captured: generation.captured,
            protector,
            kind: secret.kind,
            secret: secret.secret,
            outcome: one.outcome,
            proved: now,
        });
    }
    if tried.answer.left_out > 0 {
        proved.findings.push(Finding::new(
            Severity::Note,
            "prove-guesses-left",
            format!("volume {}", work.id),
            format!(
                "{} recovery passwords without an id were not tried: {MAX_GUESSES} tries opened nothing",
                tried.answer.left_out
            ),
            "an export with ids beside the recovery passwords proves them at once",
        ));
    }
}

fn not_proved(
    volume: &str,
    generation: &Generation,
    secret: &HeldSecret,
    protector: &str,
    outcome: ProofOutcome,
) -> Finding {
    let vm = &generation.newest().entry.vm.name;
    let place = format!("{vm}, volume {volume}, BitLocker protector {protector}");
    let (captured, what) = (generation.captured, secret.kind.name());
    if outcome == ProofOutcome::Refused {
        return Finding::new(
            Severity::Warning,
            "escrow-refused",
            place,
            format!("the escrowed {what} does not open it, in the metadata captured {captured}"),
            "it would not bring this volume back: export the recovery secrets of the VM again, and import them",
        );
    }
    Finding::new(
        Severity::Warning,
        "escrow-unproved",
        place,
        format!("whether the escrowed {what} opens it cannot be told from the metadata captured {captured}"),
        "keep it, and add a BitLocker protector that can be proved: a recovery password without FIPS mode",
    )
}

/// Commits what was found out; nothing where there is nothing new.
///
/// # Errors
/// [`SealingError`]; nothing was committed.
pub async fn commit(
    vault: &Vault,
    operator: &Writer,
    known: &Known,
    proved: &Proved,
    span: Span,
) -> Result<Option<RecordName>, SealingError> {
    if proved.entries.is_empty() {
        return Ok(None);
    }
    let start = vault.begin(operator, Kind::Proof, known).await?;
    let parts: Vec<(&OwnerId, &[ProofEntry])> = proved
        .entries
        .iter()
        .flat_map(|(owner, entries)| entries.chunks(MAX_BODY_ENTRIES).map(move |part| (owner, part)))
        .collect();
    let make: Vec<_> = parts
        .iter()
        .map(|(_, part)| {
            move |head| {
                let body = ProofBody { head, proofs: part.to_vec() };
                serde_json::to_vec(&body).expect("bodies have only string keys")
            }
        })
        .collect();
    let bodies: Vec<(OwnerId, lifeboat_escrow::MakeBody<'_>)> = parts
        .iter()
        .zip(&make)
        .map(|((owner, _), make)| ((*owner).clone(), make as lifeboat_escrow::MakeBody<'_>))
        .collect();
    let sealed =
        SealedRecord::new(vault, operator, &start, (Kind::Proof, PROOF_BODY_VERSION), span, &bodies)?;
    Ok(Some(sealed.put(vault).await.map_err(SealingError::from)?))
}
