//! The verdict on one volume: is there a secret that opens it, and who says so?
//!
//! Looks at the newest captured metadata first, then at older generations of the same volume, which a key of their time still
//! opens as long as the volume was not encrypted anew: then it would have another volume id. A proof counts only for a secret
//! that the vault holds.

use std::collections::{HashMap, HashSet};

use lifeboat_schema::{AuditState, Digest, EncryptionKind, ProofOutcome, ProtectorKind, SecretKind, Time};

use crate::facts::{Facts, Generation, ProofFacts, SecretFacts, VolumeFacts, is_recovery};

/// What is known of all secrets, by what a volume asks for.
pub(crate) struct Known<'f> {
    by_protector: HashMap<&'f str, Vec<&'f SecretFacts>>,
    held: HashSet<Digest>,
    proofs: HashMap<(&'f str, Digest), Vec<&'f ProofFacts>>,
    by_volume: HashMap<&'f str, Vec<&'f Generation>>,
    by_slot: HashMap<&'f str, Vec<&'f Generation>>,
}

/// What is said of a volume.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct VolumeVerdict {
    pub(crate) state: AuditState,
    pub(crate) otherwise: Option<AuditState>,
    pub(crate) proved: Option<Time>,
    pub(crate) why: String,
}

impl VolumeVerdict {
    fn new(state: AuditState, why: impl Into<String>) -> Self {
        Self { state, otherwise: None, proved: None, why: why.into() }
    }
}

/// Opens a volume by itself; the others need something beside them.
fn opens_alone(kind: SecretKind) -> bool {
    matches!(kind, SecretKind::RecoveryPassword | SecretKind::RecoveryKey)
}

/// Whether a secret of this kind is what a BitLocker protector of that kind asks for.
fn fits(secret: SecretKind, protector: ProtectorKind) -> bool {
    matches!(
        (secret, protector),
        (SecretKind::RecoveryPassword, ProtectorKind::RecoveryPassword)
            | (SecretKind::RecoveryKey, ProtectorKind::ExternalKey)
    )
}

impl<'f> Known<'f> {
    pub(crate) fn new(facts: &'f Facts) -> Self {
        let mut known = Self {
            by_protector: HashMap::new(),
            held: HashSet::new(),
            proofs: HashMap::new(),
            by_volume: HashMap::new(),
            by_slot: HashMap::new(),
        };
        for secret in facts.secrets.iter().filter(|one| opens_alone(one.kind)) {
            known.held.insert(secret.secret);
            if let Some(protector) = &secret.protector {
                known.by_protector.entry(protector).or_default().push(secret);
            }
        }
        for proof in &facts.proofs {
            let of_metadata = known.proofs.entry((&proof.volume_id, proof.metadata)).or_default();
            // Of several tries of one secret on one BitLocker protector the last one counts.
            let same = |one: &&&ProofFacts| (one.secret, &one.protector) == (proof.secret, &proof.protector);
            match of_metadata.iter().position(|one| same(&one)) {
                Some(at) if of_metadata[at].proved <= proof.proved => of_metadata[at] = proof,
                Some(_) => {}
                None => of_metadata.push(proof),
            }
        }
        for generation in &facts.generations {
            known.by_volume.entry(&generation.volume_id).or_default().push(generation);
            if let Some(slot) = &generation.slot {
                known.by_slot.entry(slot).or_default().push(generation);
            }
        }
        known
    }

    /// The best proof of a held secret against metadata, on a BitLocker protector that `is_one` takes.
    fn best_proof(
        &self,
        volume_id: &str,
        metadata: Digest,
        is_one: impl Fn(&ProofFacts) -> bool,
    ) -> Option<&'f ProofFacts> {
        let proofs = self.proofs.get(&(volume_id, metadata)).into_iter().flatten();
        let held = proofs.filter(|one| self.held.contains(&one.secret) && is_one(one));
        let proved = held.filter(|one| one.outcome.level().is_some());
        proved.copied().max_by_key(|one| (one.outcome == ProofOutcome::Data, one.proved))
    }

    fn outcome(&self, volume: &VolumeFacts, protector: &str, secret: Digest) -> Option<ProofOutcome> {
        let of_metadata = self.proofs.get(&(volume.volume_id.as_deref()?, volume.metadata?))?;
        let of_secret = of_metadata.iter().find(|one| one.secret == secret && one.protector == protector);
        of_secret.map(|one| one.outcome)
    }
}

/// Judges a volume.
pub(crate) fn judge(volume: &VolumeFacts, known: &Known<'_>) -> VolumeVerdict {
    use AuditState::{Exposed, OtherEncryption, Unreadable};
    match volume.encryption {
        EncryptionKind::Luks => return VolumeVerdict::new(OtherEncryption, "it is encrypted by LUKS"),
        EncryptionKind::Unknown | EncryptionKind::None => {
            return VolumeVerdict::new(
                OtherEncryption,
                "nothing that is known begins there: it may be encrypted by something else, or hold data without a file system",
            );
        }
        EncryptionKind::Bitlocker => {}
    }
    let Some(volume_id) = &volume.volume_id else {
        let earlier = volume.slot.as_ref().and_then(|slot| known.by_slot.get(slot.as_str()));
        let opens = earlier
            .into_iter()
            .flatten()
            .find(|one| known.best_proof(&one.volume_id, one.metadata, |_| true).is_some());
        let mut why = "no copy of its BitLocker metadata can be used".to_owned();
        if let Some(opens) = opens {
            why += &format!(
                "; an escrowed secret opens the metadata that were captured of it at {}, which may take their place",
                opens.captured
            );
        }
        return VolumeVerdict::new(Unreadable, why);
    };
    let verdict = secrets(volume, volume_id, known);
    if volume.exposed {
        let why = format!(
            "a clear key stands on the disk: anyone who has the file can read it. Without it: {}",
            verdict.why
        );
        return VolumeVerdict { state: Exposed, otherwise: Some(verdict.state), why, ..verdict };
    }
    verdict
}

/// Judges a volume by the secrets that there are.
fn secrets(volume: &VolumeFacts, volume_id: &str, known: &Known<'_>) -> VolumeVerdict {
    use AuditState::{
        AutoUnlockOnly, Escrowed, Mismatched, Missing, NoRecoveryProtector, ProvenData, ProvenKey,
        StaleButOpens, StaleUseless,
    };
    let has_protector = |id: &str| volume.protectors.iter().any(|one| one.id == id);
    if let Some(metadata) = volume.metadata
        && let Some(proof) = known.best_proof(volume_id, metadata, |one| has_protector(&one.protector))
    {
        let (state, what) = match proof.outcome {
            ProofOutcome::Data => (ProvenData, "turns captured data of it into something known"),
            _ => (ProvenKey, "opens its volume master key; no captured data could show more"),
        };
        let why = format!("the secret of its BitLocker protector {} {what}", proof.protector);
        return VolumeVerdict { state, otherwise: None, proved: Some(proof.proved), why };
    }

    // Secrets of today's BitLocker protectors.
    let recovery: Vec<_> = volume.protectors.iter().filter(|one| is_recovery(one.kind)).collect();
    let mut refused = Vec::new();
    let mut unusable = None;
    let mut untried = None;
    for protector in &recovery {
        let of_protector = known.by_protector.get(protector.id.as_str()).into_iter().flatten();
        for secret in of_protector.filter(|one| fits(one.kind, protector.kind)) {
            match known.outcome(volume, &protector.id, secret.secret) {
                Some(ProofOutcome::Refused) => refused.push(protector.id.as_str()),
                Some(ProofOutcome::Unusable) => unusable = Some((protector, secret)),
                _ => untried = Some((protector, secret)),
            }
        }
    }
    // Secrets of BitLocker protectors that it had once: what do they do to it through metadata of that time?
    let of_newest = volume.metadata.and_then(|metadata| known.proofs.get(&(volume_id, metadata)));
    let through = || of_newest.into_iter().flatten().filter(|one| !has_protector(&one.protector));
    let is_given_up =
        |secret: Digest| through().any(|one| one.secret == secret && one.outcome == ProofOutcome::Refused);
    let still_opens = volume
        .metadata
        .and_then(|metadata| known.best_proof(volume_id, metadata, |one| !has_protector(&one.protector)));
    // What opened an earlier generation.
    let generations = || known.by_volume.get(volume_id).into_iter().flatten();
    let earlier = generations().filter(|one| Some(one.metadata) != volume.metadata);
    let earlier = earlier.filter_map(|one| {
        Some((one, known.best_proof(volume_id, one.metadata, |proof| !is_given_up(proof.secret))?))
    });
    let earlier = earlier.max_by_key(|(one, _)| one.captured);
    if let Some((protector, secret)) = untried.or(unusable) {
        let mut why = format!(
            "the secret of its BitLocker protector {} is escrowed (from {}, {})",
            protector.id, secret.source, secret.imported
        );
        why += match (&earlier, untried) {
            (Some((one, _)), _) if one.protectors.contains(&protector.id) => {
                ", and proved only against metadata of an earlier time"
            }
            (_, Some(_)) => ", and not tried on its newest metadata",
            (_, None) => "; to try it, its metadata could not be used",
        };
        return VolumeVerdict::new(Escrowed, why);
    }
    if let Some(proof) = still_opens {
        let why = format!(
            "no secret of its BitLocker protectors of today is proved; that of {}, which it no longer has, still opens it through metadata of that time",
            proof.protector
        );
        return VolumeVerdict { state: StaleButOpens, otherwise: None, proved: Some(proof.proved), why };
    }
    if let Some((one, proof)) = earlier {
        let why = format!(
            "no secret of its BitLocker protectors of today is proved; an escrowed one opens the metadata that were captured at {}, which open the disk as long as it is not encrypted anew",
            one.captured
        );
        return VolumeVerdict { state: StaleButOpens, otherwise: None, proved: Some(proof.proved), why };
    }
    if let Some(protector) = refused.first() {
        let why = format!(
            "what is escrowed for its BitLocker protector {protector} was tried, and does not open it"
        );
        return VolumeVerdict::new(Mismatched, why);
    }
    if recovery.is_empty() {
        let others = volume.protectors.iter().filter(|one| one.kind != ProtectorKind::ClearKey);
        let kinds: Vec<&str> = others.map(|one| kind_name(one.kind)).collect();
        let kinds = if kinds.is_empty() { "nothing that is known".to_owned() } else { kinds.join(", ") };
        return VolumeVerdict::new(NoRecoveryProtector, format!("only {kinds} opens it"));
    }
    let is_tpm = |kind| {
        matches!(
            kind,
            ProtectorKind::Tpm
                | ProtectorKind::TpmPin
                | ProtectorKind::TpmStartupKey
                | ProtectorKind::TpmPinStartupKey
        )
    };
    if recovery.iter().all(|one| one.kind == ProtectorKind::ExternalKey)
        && !volume.protectors.iter().any(|one| is_tpm(one.kind))
    {
        return VolumeVerdict::new(
            AutoUnlockOnly,
            "only an external key opens it, which is not escrowed: auto-unlock keeps it on the VM's other volume, or a startup key has it",
        );
    }
    // Secrets of BitLocker protectors that it had once, or that its place had before it was encrypted anew.
    let place = volume.slot.as_ref().and_then(|slot| known.by_slot.get(slot.as_str())).into_iter().flatten();
    let before = generations().chain(place).filter(|one| Some(one.metadata) != volume.metadata);
    let stale = before.into_iter().find_map(|one| {
        let id = one
            .protectors
            .iter()
            .find(|id| !has_protector(id) && known.by_protector.contains_key(id.as_str()))?;
        Some((*one, id))
    });
    if let Some((one, id)) = stale {
        let given_up = through().any(|proof| proof.protector == *id && is_given_up(proof.secret));
        let since = if given_up {
            "which it no longer has, and was seen not to open it any more"
        } else if one.volume_id == volume_id {
            "which it no longer has, and nothing proves that it opens the metadata of that time"
        } else {
            "of the time before it was encrypted anew"
        };
        return VolumeVerdict::new(
            StaleUseless,
            format!("what is escrowed is for the BitLocker protector {id}, {since}"),
        );
    }
    let ids: Vec<&str> = recovery.iter().map(|one| one.id.as_str()).collect();
    VolumeVerdict::new(
        Missing,
        format!("no secret is escrowed for its BitLocker protectors {}", ids.join(", ")),
    )
}

fn kind_name(kind: ProtectorKind) -> &'static str {
    match kind {
        ProtectorKind::RecoveryPassword => "a recovery password",
        ProtectorKind::Password => "a password",
        ProtectorKind::Tpm => "the TPM",
        ProtectorKind::TpmPin => "the TPM with a PIN",
        ProtectorKind::TpmStartupKey => "the TPM with a startup key",
        ProtectorKind::TpmPinStartupKey => "the TPM with PIN and startup key",
        ProtectorKind::ExternalKey => "an external key",
        ProtectorKind::ClearKey => "the clear key",
        ProtectorKind::PublicKey => "a certificate (smart card or recovery agent)",
        ProtectorKind::Unknown => "something unknown",
    }
}

/// What to do about a volume in a state; empty where there is nothing to do.
pub(crate) fn next(state: AuditState) -> &'static str {
    match state {
        AuditState::Missing => {
            "import its secret from wherever it is kept (AD DS, Entra ID, files, paper) with `lifeboat escrow import`; or read it in the guest while the VM runs: manage-bde -protectors -get C:"
        }
        AuditState::NoRecoveryProtector => {
            "add one in the guest while the VM runs: manage-bde -protectors -add C: -RecoveryPassword; then import what it prints"
        }
        AuditState::AutoUnlockOnly => {
            "add a recovery password to this volume too, in the guest: manage-bde -protectors -add D: -RecoveryPassword; then import what it prints"
        }
        AuditState::Mismatched => {
            "somebody filed another secret under this id: read the right one in the guest (manage-bde -protectors -get C:) and import it; `lifeboat escrow list --vm` tells where the wrong one came from"
        }
        AuditState::StaleUseless => {
            "import the secret of its BitLocker protectors of today; `lifeboat escrow prove` tells whether the old one still opens captured metadata"
        }
        AuditState::Unreadable => {
            "make it readable for the agent: `lifeboat vms --json` says what stands in the way; keep its recovery passwords until then"
        }
        AuditState::Exposed => {
            "resume protection in the guest: manage-bde -protectors -enable C:; whoever copied the disk meanwhile can read that copy for ever"
        }
        AuditState::StaleButOpens => {
            "import the secret of its BitLocker protectors of today; until then `lifeboat recover --captured` takes the old one"
        }
        AuditState::Escrowed => "prove it: `lifeboat escrow prove`",
        AuditState::OtherEncryption => "Lifeboat keeps no key of it: see that somebody does",
        AuditState::ProvenKey | AuditState::ProvenData => "",
    }
}

#[cfg(test)]
mod tests;
