//! What is left to prove: every escrowed secret against every captured generation, less what a proof says already.
//!
//! Needs no secret: ids, digests and the lists of BitLocker protectors decide.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lifeboat_escrow::HeldSecret;
use lifeboat_schema::{Digest, ProofOutcome, SecretKind};

use crate::captured::Generation;
use crate::proofs::{ProofKey, Proofs};

/// Generations of one volume that one run looks at, the newest first; the next run takes those behind.
pub const MAX_GENERATIONS: usize = 64;

/// A secret on a BitLocker protector of a generation, by their places in the lists given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wanted {
    /// The generation.
    pub generation: usize,
    /// The secret.
    pub secret: usize,
    /// The BitLocker protector.
    pub protector: String,
}

/// What is to be done about one volume.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct VolumePlan {
    /// Pairs without a proof.
    pub wanted: Vec<Wanted>,
    /// Recovery passwords whose id nobody knows, each with the generation to look for it in.
    pub guesses: Vec<(usize, usize)>,
    /// Pairs that an earlier proof settled, of the same volume.
    pub known: Vec<(Wanted, ProofOutcome)>,
    /// Generations that are left for the next run.
    pub left: usize,
}

impl VolumePlan {
    /// Tells whether there is anything to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.guesses.is_empty()
    }

    /// Returns the generations whose metadata is needed.
    #[must_use]
    pub fn generations(&self) -> BTreeSet<usize> {
        let wanted = self.wanted.iter().map(|one| one.generation);
        // Through these stale secrets reach the newest.
        let stale: BTreeSet<(&str, usize)> =
            self.wanted.iter().map(|one| (one.protector.as_str(), one.secret)).collect();
        let known =
            self.known.iter().filter(|(one, _)| stale.contains(&(one.protector.as_str(), one.secret)));
        wanted
            .chain(self.guesses.iter().map(|(generation, _)| *generation))
            .chain(known.map(|(one, _)| one.generation))
            .collect()
    }

    /// Returns the secrets that are needed.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<usize> {
        let guessed: BTreeSet<usize> = self.guesses.iter().map(|(generation, _)| *generation).collect();
        let openers = self
            .known
            .iter()
            .filter(|(one, outcome)| outcome.level().is_some() && guessed.contains(&one.generation));
        self.wanted
            .iter()
            .map(|one| one.secret)
            .chain(self.guesses.iter().map(|(_, secret)| *secret))
            .chain(openers.map(|(one, _)| one.secret))
            .collect()
    }
}

/// The escrowed secrets by what they may open.
pub struct Keyring<'h> {
    secrets: &'h [HeldSecret],
    by_protector: HashMap<&'h str, Vec<usize>>,
    without_id: Vec<usize>,
}

fn can_be_tried(kind: SecretKind) -> bool {
    matches!(kind, SecretKind::RecoveryPassword | SecretKind::RecoveryKey | SecretKind::KeyPackage)
}

impl<'h> Keyring<'h> {
    /// Sorts secrets.
    #[must_use]
    pub fn new(secrets: &'h [HeldSecret]) -> Self {
        let mut keyring = Self { secrets, by_protector: HashMap::new(), without_id: Vec::new() };
        for (index, one) in secrets.iter().enumerate().filter(|(_, one)| can_be_tried(one.kind)) {
            match &one.protector {
                Some(protector) => keyring.by_protector.entry(protector).or_default().push(index),
                None if one.kind == SecretKind::RecoveryPassword => keyring.without_id.push(index),
                None => {}
            }
        }
        keyring
    }

    /// Returns the secrets that are said to open a BitLocker protector.
    #[must_use]
    pub fn of_protector(&self, protector: &str) -> &[usize] {
        self.by_protector.get(protector).map(Vec::as_slice).unwrap_or_default()
    }

    /// Plans one volume. `again` ignores what is proved.
    #[must_use]
    pub fn plan(
        &self,
        volume: &str,
        generations: &[Generation],
        proofs: &Proofs,
        found_home: &BTreeMap<Digest, (String, String)>,
        again: bool,
    ) -> VolumePlan {
        let left = generations.len().saturating_sub(MAX_GENERATIONS);
        let mut plan = VolumePlan { left, ..VolumePlan::default() };
        let generations = &generations[..generations.len() - left];
        let every: BTreeSet<&str> =
            generations.iter().flat_map(|one| &one.protectors).map(|one| one.id.as_str()).collect();
        for (index, generation) in generations.iter().enumerate() {
            for &protector in &every {
                // A secret that this generation has lost is of interest only where it is the newest.
                if !generation.has(protector) && !generation.is_current {
                    continue;
                }
                for secret in self.secrets_of(volume, protector, found_home) {
                    let key = ProofKey {
                        volume: volume.to_owned(),
                        metadata: generation.metadata,
                        protector: protector.to_owned(),
                        secret: self.secrets[secret].secret,
                    };
                    let one = Wanted { generation: index, secret, protector: protector.to_owned() };
                    match proofs.get(&key).filter(|_| !again) {
                        Some(entry) => plan.known.push((one, entry.outcome)),
                        None => plan.wanted.push(one),
                    }
                }
            }
            if generation.is_current && generation.has_recovery_password() {
                let tried: BTreeSet<Digest> =
                    proofs.of_generation(volume, &generation.metadata).map(|entry| entry.secret).collect();
                for &secret in &self.without_id {
                    let held = &self.secrets[secret];
                    // One that says of which volume it is, is looked for there.
                    let says = held.entries.iter().find_map(|entry| entry.entry.volume.as_deref());
                    let is_new = again || !tried.contains(&held.secret);
                    if is_new && !found_home.contains_key(&held.secret) && says.is_none_or(|id| id == volume)
                    {
                        plan.guesses.push((index, secret));
                    }
                }
            }
        }
        plan
    }

    /// Secrets said to open a BitLocker protector, and those without an id that a proof found to.
    fn secrets_of<'k>(
        &'k self,
        volume: &'k str,
        protector: &'k str,
        found_home: &'k BTreeMap<Digest, (String, String)>,
    ) -> impl Iterator<Item = usize> + 'k {
        let found = self.without_id.iter().filter(move |index| {
            let home = found_home.get(&self.secrets[**index].secret);
            home.is_some_and(|(of, id)| of == volume && id == protector)
        });
        self.of_protector(protector).iter().chain(found).copied()
    }
}

/// Where secrets were found to belong: for each that opens something, volume and BitLocker protector.
#[must_use]
pub fn homes(proofs: &Proofs) -> BTreeMap<Digest, (String, String)> {
    let proved = proofs.newest.values().filter(|entry| entry.outcome.level().is_some());
    proved.map(|entry| (entry.secret, (entry.volume.clone(), entry.protector.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use lifeboat_schema::{ProofEntry, SubjectId, Time};

    use super::*;

    const VOLUME: &str = "v";

    fn held(secret: u8, protector: Option<&str>) -> HeldSecret {
        HeldSecret {
            kind: SecretKind::RecoveryPassword,
            protector: protector.map(str::to_owned),
            secret: Digest::from_bytes([secret; 32]),
            entries: Vec::new(),
        }
    }

    fn proof(metadata: u8, protector: &str, secret: u8, outcome: ProofOutcome) -> ProofEntry {
        ProofEntry {
            subject: SubjectId::random([0; 10]),
            volume: VOLUME.to_owned(),
            metadata: Digest::from_bytes([metadata; 32]),
            captured: Time::from_unix_seconds(1),
            protector: protector.to_owned(),
            kind: SecretKind::RecoveryPassword,
            secret: Digest::from_bytes([secret; 32]),
            outcome,
            proved: Time::from_unix_seconds(1),
        }
    }

    fn proofs(entries: impl IntoIterator<Item = ProofEntry>) -> Proofs {
        let mut proofs = Proofs::default();
        entries.into_iter().for_each(|entry| proofs.take(entry));
        proofs
    }

    fn wanted(generation: usize, secret: usize, protector: &str) -> Wanted {
        Wanted { generation, secret, protector: protector.to_owned() }
    }

    fn plan(secrets: &[HeldSecret], generations: &[Generation], proofs: &Proofs, again: bool) -> VolumePlan {
        Keyring::new(secrets).plan(VOLUME, generations, proofs, &homes(proofs), again)
    }

    #[test]
    fn only_what_no_proof_speaks_of_is_wanted() {
        let secrets = [held(1, Some("p")), held(2, Some("p")), held(3, Some("of another volume"))];
        let generations = [Generation::made_up(9, true, &["p"])];
        let both = plan(&secrets, &generations, &Proofs::default(), false);
        assert_eq!(both.wanted, [wanted(0, 0, "p"), wanted(0, 1, "p")]);
        let proved = proofs([proof(9, "p", 1, ProofOutcome::Data)]);
        let one = plan(&secrets, &generations, &proved, false);
        assert_eq!((one.wanted, one.known.len()), (vec![wanted(0, 1, "p")], 1));
        // A refusal is an answer too.
        let settled = proofs([proof(9, "p", 1, ProofOutcome::Data), proof(9, "p", 2, ProofOutcome::Refused)]);
        assert!(plan(&secrets, &generations, &settled, false).is_empty());
        assert_eq!(plan(&secrets, &generations, &settled, true).wanted.len(), 2);
    }

    #[test]
    fn a_secret_that_the_newest_generation_has_lost_is_tried_through_an_older_one() {
        let secrets = [held(1, Some("old"))];
        let generations = [
            Generation::made_up(3, true, &["new"]),
            Generation::made_up(2, false, &[]),
            Generation::made_up(1, false, &["old"]),
        ];
        let first = plan(&secrets, &generations, &Proofs::default(), false);
        assert_eq!(first.wanted, [wanted(0, 0, "old"), wanted(2, 0, "old")]);
        // Once the older is proved, it is read again for the newest alone.
        let proved = proofs([proof(1, "old", 1, ProofOutcome::Data)]);
        let second = plan(&secrets, &generations, &proved, false);
        assert_eq!(second.wanted, [wanted(0, 0, "old")]);
        assert_eq!(second.generations(), BTreeSet::from([0, 2]));
        assert_eq!(second.secrets(), BTreeSet::from([0]));
    }

    #[test]
    fn a_password_without_an_id_is_looked_for_until_it_is_found() {
        let secrets = [held(1, Some("p")), held(2, None)];
        let generations = [Generation::made_up(2, true, &["p"]), Generation::made_up(1, false, &["p"])];
        let first = plan(&secrets, &generations, &Proofs::default(), false);
        assert_eq!(first.guesses, [(0, 1)], "the newest generation alone");
        // What opens the volume goes with it: one stretch settles the guess.
        let proved = proofs([proof(2, "p", 1, ProofOutcome::Data), proof(1, "p", 1, ProofOutcome::Data)]);
        let second = plan(&secrets, &generations, &proved, false);
        assert!(second.wanted.is_empty());
        assert_eq!(second.secrets(), BTreeSet::from([0, 1]));
        // Refused here, it is not tried here again; found, it belongs to its BitLocker protector.
        let refused = proofs([proof(2, "p", 1, ProofOutcome::Data), proof(2, "p", 2, ProofOutcome::Refused)]);
        assert!(plan(&secrets[1..], &generations, &refused, false).is_empty());
        let found = proofs([proof(1, "p", 2, ProofOutcome::Data)]);
        let third = plan(&secrets[1..], &generations, &found, false);
        assert_eq!((third.wanted, third.guesses), (vec![wanted(0, 0, "p")], vec![]));
    }

    #[test]
    fn the_oldest_of_very_many_generations_wait() {
        let generations: Vec<Generation> =
            (0..70).rev().map(|number| Generation::made_up(number, number == 69, &["p"])).collect();
        let plan = plan(&[held(1, Some("p"))], &generations, &Proofs::default(), false);
        assert_eq!((plan.wanted.len(), plan.left), (MAX_GENERATIONS, 6));
    }
}
