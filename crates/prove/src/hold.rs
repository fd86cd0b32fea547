//! Secrets held against the captured generations of one volume: values in, outcomes out.
//!
//! What opens a generation once settles every other recovery password of it by read-back, and its volume master key
//! opens most other generations too, so that a volume costs one stretch, not one for each secret and generation.
//!
//! Deliberately does not believe metadata that the volume master key proves altered: there every secret is tried itself.

use std::collections::HashMap;

use lifeboat_fve::{
    AttemptFailure, Credential, ExternalKey, Guid, Key256, KeyPackage, ProtectionType, ReadBack,
    ReadBackSecret, RecoveryPassword, Vmk, VolumeKey,
};
use lifeboat_schema::{Digest, ProofOutcome, SecretKind};

use crate::sectors::Captured;

/// Stretches that recovery passwords without an id may cost on one generation that nothing else opens.
pub const MAX_GUESSES: u64 = 64;

/// An escrowed secret, ready to be tried.
pub struct HeldKey {
    /// What it is.
    pub kind: SecretKind,
    /// The digest that names it.
    pub secret: Digest,
    /// The BitLocker protector that it is said to open.
    pub protector: Option<Guid>,
    form: Form,
}

enum Form {
    Credential(Credential),
    Package(KeyPackage),
}

impl HeldKey {
    /// Reads an escrowed secret; nothing for what opens no volume by itself, or is not what it is said to be.
    #[must_use]
    pub fn parse(kind: SecretKind, protector: Option<Guid>, bytes: &[u8]) -> Option<Self> {
        let (form, protector) = match kind {
            SecretKind::RecoveryPassword => {
                let password = RecoveryPassword::parse(std::str::from_utf8(bytes).ok()?).ok()?;
                (Form::Credential(Credential::RecoveryPassword(password)), protector)
            }
            SecretKind::RecoveryKey => {
                let key = ExternalKey::parse(bytes).ok()?;
                let id = key.id;
                (Form::Credential(Credential::ExternalKey(key)), protector.or(Some(id)))
            }
            SecretKind::KeyPackage => (Form::Package(KeyPackage::parse(bytes).ok()?), protector),
            _ => return None,
        };
        Some(Self { kind, secret: Digest::of(bytes), protector, form })
    }

    /// Returns the external key, where it is one.
    #[must_use]
    pub fn external_key(&self) -> Option<&ExternalKey> {
        match &self.form {
            Form::Credential(Credential::ExternalKey(key)) => Some(key),
            _ => None,
        }
    }

    fn credential(&self) -> Option<&Credential> {
        match &self.form {
            Form::Credential(credential) => Some(credential),
            Form::Package(_) => None,
        }
    }

    fn password(&self) -> Option<&RecoveryPassword> {
        match &self.form {
            Form::Credential(Credential::RecoveryPassword(password)) => Some(password),
            _ => None,
        }
    }
}

/// One secret on one BitLocker protector of one generation, by their places in the lists given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// The generation.
    pub generation: usize,
    /// The secret.
    pub key: usize,
    /// The BitLocker protector. One that the generation does not have means: through an older generation that has it.
    pub protector: Guid,
}

/// What came of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The pair.
    pub pair: Pair,
    /// What came of it.
    pub outcome: ProofOutcome,
}

/// What is to be found out about one volume.
#[derive(Debug, Default)]
pub struct Question {
    /// Pairs to settle.
    pub pairs: Vec<Pair>,
    /// Recovery passwords without an id, each with the generation to look for it in.
    pub guesses: Vec<(usize, usize)>,
    /// What earlier proofs say.
    pub known: HashMap<Pair, ProofOutcome>,
}

/// What was found out about one volume.
#[derive(Debug, Default)]
pub struct Answer {
    /// Pairs in the order in which they were settled.
    pub outcomes: Vec<Outcome>,
    /// Stretches that it cost.
    pub stretches: u64,
    /// Recovery passwords without an id that were left out, because [`MAX_GUESSES`] were tried before them.
    pub left_out: u64,
}

/// An opened generation.
struct Open {
    vmk: Vmk,
    key: Option<VolumeKey>,
    level: ProofOutcome,
    /// What its protectors keep; empty where the metadata was altered.
    read_back: Vec<ReadBack>,
}

/// The captured generations of one volume, the newest first, and the secrets that may open them.
pub(crate) struct Bench<'a> {
    generations: &'a [Captured],
    keys: &'a [&'a HeldKey],
    open: Vec<Option<Open>>,
    answer: Answer,
}

/// Holds secrets against the generations of one volume, the newest first.
#[must_use]
pub fn hold(generations: &[Captured], keys: &[&HeldKey], question: &Question) -> Answer {
    let mut bench = Bench::new(generations, keys);
    let is_direct = |pair: &&Pair| generations[pair.generation].metadata.protector(pair.protector).is_some();
    for generation in 0..generations.len() {
        let mut mine: Vec<Pair> = question
            .pairs
            .iter()
            .filter(is_direct)
            .filter(|one| one.generation == generation)
            .copied()
            .collect();
        let guesses: Vec<usize> =
            question.guesses.iter().filter(|(at, _)| *at == generation).map(|(_, key)| *key).collect();
        if mine.is_empty() && guesses.is_empty() {
            continue;
        }
        bench.open_freely(generation);
        // What costs nothing first, then what opened another generation.
        mine.sort_by_key(|pair| {
            let is_proved =
                |(known, outcome): (&Pair, &ProofOutcome)| known.key == pair.key && outcome.level().is_some();
            (bench.cost(pair.key), !question.known.iter().any(is_proved))
        });
        for pair in mine {
            bench.settle(pair);
        }
        bench.guess(generation, &guesses, &question.known);
    }
    for pair in question.pairs.iter().filter(|pair| !is_direct(pair)) {
        bench.settle_through_older(*pair, &question.known);
    }
    bench.answer
}

impl<'a> Bench<'a> {
    /// Begins with everything closed.
    pub(crate) fn new(generations: &'a [Captured], keys: &'a [&'a HeldKey]) -> Self {
        let open = generations.iter().map(|_| None).collect();
        Self { generations, keys, open, answer: Answer::default() }
    }

    /// Opens each generation that anything opens, and answers what the opened ones keep. Stretches at most
    /// [`MAX_GUESSES`] times for one that nothing opens.
    pub(crate) fn read_back(mut self) -> (Vec<(usize, Vec<ReadBack>)>, u64) {
        for generation in 0..self.generations.len() {
            self.open_freely(generation);
            let metadata = &self.generations[generation].metadata;
            let mut pairs: Vec<Pair> = Vec::new();
            for (key, held) in self.keys.iter().enumerate() {
                let Some(credential) = held.credential() else { continue };
                let ids = metadata.attempts(credential, held.protector).unwrap_or_default();
                let named = |id: &Guid| held.protector.is_none_or(|said| said == *id);
                let ids = ids.iter().map(|attempt| attempt.protector()).filter(named);
                pairs.extend(ids.map(|protector| Pair { generation, key, protector }));
            }
            pairs.sort_by_key(|pair| (self.cost(pair.key), self.keys[pair.key].protector.is_none()));
            for pair in pairs.into_iter().take(MAX_GUESSES as usize) {
                if self.open[generation].is_some() {
                    break;
                }
                self.attempt(pair);
            }
        }
        // What opened later may open what did not before.
        (0..self.generations.len()).for_each(|generation| self.open_freely(generation));
        let stretches = self.answer.stretches;
        let opened = self.open.into_iter().enumerate();
        (opened.filter_map(|(index, open)| Some((index, open?.read_back))).collect(), stretches)
    }

    /// Tries what costs no stretch: a clear key, and the volume master keys of other generations.
    fn open_freely(&mut self, generation: usize) {
        if self.open[generation].is_some() {
            return;
        }
        let metadata = &self.generations[generation].metadata;
        let clear = if metadata.has_clear_key() { metadata.unlock(&Credential::ClearKey).ok() } else { None };
        let fits = |vmk: &Vmk| metadata.volume_key(vmk).is_ok() || metadata.authenticate(vmk).is_proof();
        let shared = || self.open.iter().flatten().map(|open| &open.vmk).find(|vmk| fits(vmk)).map(again);
        if let Some(vmk) = clear.map(|unlocked| unlocked.vmk).or_else(shared) {
            self.note_open(generation, vmk);
        }
    }

    fn note_open(&mut self, generation: usize, vmk: Vmk) {
        let captured = &self.generations[generation];
        let key = captured.metadata.volume_key(&vmk).ok();
        let is_data = key.as_ref().is_some_and(|key| captured.is_opened_by(key));
        let is_altered = captured.metadata.authenticate(&vmk).is_refuted();
        let read_back = if is_altered { Vec::new() } else { captured.metadata.read_back(&vmk) };
        let level = if is_data { ProofOutcome::Data } else { ProofOutcome::Key };
        self.open[generation] = Some(Open { vmk, key, level, read_back });
    }

    /// Orders keys by what a try costs.
    fn cost(&self, key: usize) -> u8 {
        match self.keys[key].credential() {
            Some(Credential::RecoveryPassword(_)) => 1,
            Some(_) => 0,
            // A package needs its recovery password, so it comes last.
            None => 2,
        }
    }

    fn settle(&mut self, pair: Pair) -> Option<ProofOutcome> {
        let outcome = match (&self.keys[pair.key].form, self.by_read_back(pair)) {
            (Form::Package(_), _) => self.open_package(pair)?,
            (_, Some(outcome)) => outcome,
            _ => self.attempt(pair),
        };
        self.answer.outcomes.push(Outcome { pair, outcome });
        Some(outcome)
    }

    /// Compares a recovery password with the one that its BitLocker protector keeps.
    fn by_read_back(&self, pair: Pair) -> Option<ProofOutcome> {
        let password = self.keys[pair.key].password()?;
        let open = self.open[pair.generation].as_ref()?;
        let kept = kept_password(open, pair.protector)?;
        Some(if kept.same_as(password) { open.level } else { ProofOutcome::Refused })
    }

    /// Tries a key on its BitLocker protector; what opens it opens the generation.
    fn attempt(&mut self, pair: Pair) -> ProofOutcome {
        let metadata = &self.generations[pair.generation].metadata;
        let Some(credential) = self.keys[pair.key].credential() else { return ProofOutcome::Unusable };
        let attempts = metadata.attempts(credential, Some(pair.protector)).unwrap_or_default();
        // A BitLocker protector of another kind: it cannot be the secret of that.
        let Some(attempt) = attempts.iter().find(|attempt| attempt.protector() == pair.protector) else {
            return ProofOutcome::Refused;
        };
        let result = attempt.run();
        let is_tried = !matches!(
            &result,
            Err(report) if matches!(report.failure, AttemptFailure::UnsupportedKdf { .. } | AttemptFailure::Incomplete { .. })
        );
        if is_tried && self.keys[pair.key].password().is_some() {
            self.answer.stretches += 1;
        }
        match result {
            Ok(unlocked) => {
                if self.open[pair.generation].is_none() {
                    self.note_open(pair.generation, unlocked.vmk);
                }
                self.open[pair.generation].as_ref().map_or(ProofOutcome::Key, |open| open.level)
            }
            Err(report) if report.failure == AttemptFailure::WrongKey => ProofOutcome::Refused,
            Err(_) => ProofOutcome::Unusable,
        }
    }

    /// Opens a key package with its recovery password; nothing where that is not at hand.
    fn open_package(&mut self, pair: Pair) -> Option<ProofOutcome> {
        let Form::Package(package) = &self.keys[pair.key].form else { return None };
        let open = self.open[pair.generation].as_ref();
        let kept = open.and_then(|open| kept_password(open, pair.protector));
        let held = self.keys.iter().filter(|key| key.protector == Some(pair.protector));
        let password = kept.or_else(|| held.filter_map(|key| key.password()).next())?;
        let password = RecoveryPassword::from_recovery_key(&password.recovery_key());
        let result = package.unlock(&Credential::RecoveryPassword(password));
        self.answer.stretches += 1;
        let Ok((unlocked, key)) = result else { return Some(ProofOutcome::Refused) };
        let captured = &self.generations[pair.generation];
        Some(if captured.is_opened_by(&key) {
            ProofOutcome::Data
        } else if captured.metadata.volume_key(&unlocked.vmk).is_ok() {
            ProofOutcome::Key
        } else {
            ProofOutcome::Refused
        })
    }

    /// Looks for recovery passwords without an id.
    fn guess(&mut self, generation: usize, guesses: &[usize], known: &HashMap<Pair, ProofOutcome>) {
        if guesses.is_empty() {
            return;
        }
        let metadata = &self.generations[generation].metadata;
        let is_recovery = |protection: ProtectionType| protection == ProtectionType::RECOVERY_PASSWORD;
        let protectors: Vec<Guid> = metadata
            .protectors()
            .iter()
            .filter(|one| is_recovery(one.protection))
            .map(|one| one.id)
            .collect();
        // One stretch with what is proved saves one for each password and BitLocker protector.
        let opens = |(pair, outcome): (&Pair, &ProofOutcome)| {
            (pair.generation == generation && outcome.level().is_some()).then_some(*pair)
        };
        let openers: Vec<Pair> = known.iter().filter_map(opens).collect();
        for opener in openers {
            if self.open[generation].is_none() && metadata.protector(opener.protector).is_some() {
                self.attempt(opener);
            }
        }
        let before = self.answer.stretches;
        for &key in guesses {
            if self.answer.stretches - before >= MAX_GUESSES && self.open[generation].is_none() {
                self.answer.left_out += 1;
                continue;
            }
            let mut outcomes = Vec::new();
            for &protector in &protectors {
                let pair = Pair { generation, key, protector };
                let outcome = self.by_read_back(pair).unwrap_or_else(|| self.attempt(pair));
                outcomes.push(Outcome { pair, outcome });
                if outcome.level().is_some() {
                    // Where it belongs says where it does not.
                    outcomes.retain(|one| one.outcome.level().is_some());
                    break;
                }
            }
            self.answer.outcomes.append(&mut outcomes);
        }
    }

    /// Tries a secret whose BitLocker protector this generation no longer has: does the volume key that it leads to in
    /// an older generation still open this one?
    fn settle_through_older(&mut self, pair: Pair, known: &HashMap<Pair, ProofOutcome>) {
        let mut best = None;
        for generation in 0..self.generations.len() {
            let older = Pair { generation, ..pair };
            if generation == pair.generation
                || self.generations[generation].metadata.protector(pair.protector).is_none()
            {
                continue;
            }
            let settled = self.answer.outcomes.iter().find(|one| one.pair == older).map(|one| one.outcome);
            self.open_freely(generation);
            let of_older = match settled.or_else(|| known.get(&older).copied()) {
                Some(outcome) => outcome,
                None => match self.settle(older) {
                    Some(outcome) => outcome,
                    None => continue,
                },
            };
            if of_older.level().is_some() && self.open[generation].is_none() {
                self.attempt(older);
            }
            let outcome = match (&self.open[generation], of_older.level()) {
                (Some(open), Some(_)) => self.shifted(pair.generation, open),
                _ => of_older,
            };
            let better = best.is_none_or(|best| rank(outcome) < rank(best));
            if better && outcome != ProofOutcome::Unusable || best.is_none() {
                best = Some(outcome);
            }
        }
        if let Some(outcome) = best {
            self.answer.outcomes.push(Outcome { pair, outcome });
        }
    }

    /// What an opened older generation says of this one.
    fn shifted(&self, generation: usize, older: &Open) -> ProofOutcome {
        let captured = &self.generations[generation];
        let Some(key) = &older.key else { return ProofOutcome::Unusable };
        if captured.is_opened_by(key) {
            return ProofOutcome::Data;
        }
        if captured.metadata.volume_key(&older.vmk).is_ok() {
            return ProofOutcome::Key;
        }
        match self.open[generation].as_ref().and_then(|open| open.key.as_ref()) {
            Some(own) if own.expose() == key.expose() => ProofOutcome::Key,
            Some(_) => ProofOutcome::Refused,
            None if captured.has_witness() => ProofOutcome::Refused,
            None => ProofOutcome::Unusable,
        }
    }
}

/// Orders outcomes, the best first.
fn rank(outcome: ProofOutcome) -> u8 {
    match outcome {
        ProofOutcome::Data => 0,
        ProofOutcome::Key => 1,
        ProofOutcome::Refused => 2,
        _ => 3,
    }
}

fn kept_password(open: &Open, protector: Guid) -> Option<&RecoveryPassword> {
    open.read_back.iter().find(|entry| entry.protector.id == protector).and_then(|entry| {
        match &entry.outcome {
            Ok(ReadBackSecret::RecoveryPassword(kept)) => Some(kept),
            _ => None,
        }
    })
}

fn again(vmk: &Vmk) -> Vmk {
    Vmk::new(Key256::new(*vmk.key().expose()))
}

#[cfg(test)]
mod tests;
