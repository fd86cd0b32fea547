use lifeboat_schema::{AuditState, ProtectorInfo, ProtectorKind};

use super::*;

const VOLUME: &str = "11111111-0000-0000-0000-000000000001";
const FORMER: &str = "11111111-0000-0000-0000-000000000002";
const NOW: u8 = 10;
const THEN: u8 = 9;

fn digest(number: u8) -> Digest {
    Digest::from_bytes([number; 32])
}

fn at(day: i64) -> Time {
    Time::from_unix_seconds(1_767_225_600 + day * 86_400)
}

/// A volume with these BitLocker protectors: a letter for the kind, then the id. `P` recovery password, `E` external key,
/// `T` TPM, `W` password, `C` clear key, `D` certificate.
fn volume(protectors: &str) -> VolumeFacts {
    let kind = |letter| match letter {
        'P' => ProtectorKind::RecoveryPassword,
        'E' => ProtectorKind::ExternalKey,
        'T' => ProtectorKind::Tpm,
        'W' => ProtectorKind::Password,
        'C' => ProtectorKind::ClearKey,
        'D' => ProtectorKind::PublicKey,
        other => panic!("{other}"),
    };
    let protectors: Vec<ProtectorInfo> = protectors
        .split_whitespace()
        .map(|word| ProtectorInfo {
            id: word.to_lowercase(),
            kind: kind(word.chars().next().unwrap()),
            modified: at(0),
        })
        .collect();
    VolumeFacts {
        number: 3,
        slot: Some("disk/partition".to_owned()),
        encryption: EncryptionKind::Bitlocker,
        volume_id: Some(VOLUME.to_owned()),
        exposed: protectors.iter().any(|one| one.kind == ProtectorKind::ClearKey),
        protectors,
        metadata: Some(digest(NOW)),
    }
}

/// An escrowed secret for a BitLocker protector; its digest is the number.
fn secret(protector: Option<&str>, kind: SecretKind, number: u8) -> SecretFacts {
    SecretFacts {
        kind,
        protector: protector.map(str::to_owned),
        secret: digest(number),
        imported: at(1),
        source: "AD DS".to_owned(),
    }
}

fn password(protector: &str, number: u8) -> SecretFacts {
    secret(Some(protector), SecretKind::RecoveryPassword, number)
}

fn proof(metadata: u8, protector: &str, number: u8, outcome: ProofOutcome) -> ProofFacts {
    ProofFacts {
        volume_id: VOLUME.to_owned(),
        metadata: digest(metadata),
        protector: protector.to_owned(),
        secret: digest(number),
        outcome,
        proved: at(2),
    }
}

fn generation(volume_id: &str, metadata: u8, protectors: &[&str]) -> Generation {
    Generation {
        volume_id: volume_id.to_owned(),
        metadata: digest(metadata),
        slot: Some("disk/partition".to_owned()),
        captured: at(i64::from(metadata)),
        protectors: protectors.iter().map(|one| (*one).to_owned()).collect(),
    }
}

#[derive(Default, Clone)]
struct World {
    secrets: Vec<SecretFacts>,
    proofs: Vec<ProofFacts>,
    generations: Vec<Generation>,
}

impl World {
    fn judge(&self, volume: &VolumeFacts) -> VolumeVerdict {
        let facts = Facts {
            secrets: self.secrets.clone(),
            proofs: self.proofs.clone(),
            generations: self.generations.clone(),
            ..Facts::default()
        };
        judge(volume, &Known::new(&facts))
    }
}

fn world(secrets: Vec<SecretFacts>, proofs: Vec<ProofFacts>) -> World {
    let generations = vec![generation(VOLUME, NOW, &["p1"]), generation(VOLUME, THEN, &["p0"])];
    World { secrets, proofs, generations }
}

#[test]
fn every_state_has_its_rule() {
    use AuditState::*;
    use ProofOutcome::{Data, Key, Refused, Unusable};
    let bek = |id: &str, number| secret(Some(id), SecretKind::RecoveryKey, number);
    let loose = |number| secret(None, SecretKind::RecoveryPassword, number);
    let table: Vec<(&str, World, AuditState, &str)> = vec![
        ("T P1", world(vec![], vec![]), Missing, "nothing is escrowed"),
        ("T P1", world(vec![password("p1", 1)], vec![]), Escrowed, "escrowed, not tried"),
        ("T P1", world(vec![password("P9", 1)], vec![]), Missing, "of no protector of it"),
        ("T P1", world(vec![password("p1", 1)], vec![proof(NOW, "p1", 1, Data)]), ProvenData, "to the data"),
        ("T P1", world(vec![password("p1", 1)], vec![proof(NOW, "p1", 1, Key)]), ProvenKey, "to the key"),
        (
            "T P1",
            world(vec![], vec![proof(NOW, "p1", 1, Data)]),
            Missing,
            "proved by a secret that nobody keeps",
        ),
        (
            "T P1",
            world(vec![loose(1)], vec![proof(NOW, "p1", 1, Data)]),
            ProvenData,
            "its source named no protector",
        ),
        ("T P1", world(vec![loose(1)], vec![]), Missing, "nothing says that it is of this volume"),
        (
            "T P1",
            world(vec![password("p1", 1)], vec![proof(THEN, "p1", 1, Data)]),
            Escrowed,
            "proved only against older metadata",
        ),
        (
            "T P1",
            world(vec![password("p1", 1)], vec![proof(NOW, "p1", 1, Refused)]),
            Mismatched,
            "tried and refused",
        ),
        (
            "T P1",
            world(vec![password("p1", 1)], vec![proof(NOW, "p1", 1, Unusable)]),
            Escrowed,
            "could not be tried",
        ),
        (
            "T P1",
            world(vec![password("p1", 1), password("p1", 2)], vec![proof(NOW, "p1", 1, Refused)]),
            Escrowed,
            "two, and one not tried",
        ),
        (
            "T P1",
            world(
                vec![password("p1", 1), password("p1", 2)],
                vec![proof(NOW, "p1", 1, Refused), proof(NOW, "p1", 2, Data)],
            ),
            ProvenData,
            "two, and one is right",
        ),
        (
            "T P1 P2",
            world(vec![password("p2", 1)], vec![proof(NOW, "p2", 1, Key)]),
            ProvenKey,
            "one of its two passwords",
        ),
        ("T P1", world(vec![bek("p1", 1)], vec![]), Missing, "a .BEK is no password"),
        (
            "T P1",
            world(vec![secret(Some("p1"), SecretKind::KeyPackage, 1)], vec![]),
            Missing,
            "a key package opens nothing alone",
        ),
        (
            "T P1",
            world(vec![secret(Some("p1"), SecretKind::KeyPackage, 1)], vec![proof(NOW, "p1", 1, Data)]),
            Missing,
            "nor with a proof of what is not kept",
        ),
        (
            "T P1",
            world(vec![password("p0", 1)], vec![proof(THEN, "p0", 1, Data)]),
            StaleButOpens,
            "an older password that opens older metadata",
        ),
        (
            "T P1",
            world(vec![password("p0", 1)], vec![proof(THEN, "p0", 1, Key)]),
            StaleButOpens,
            "to the key alone",
        ),
        ("T P1", world(vec![password("p0", 1)], vec![]), StaleUseless, "an older password, never tried"),
        (
            "T P1",
            world(vec![password("p0", 1)], vec![proof(THEN, "p0", 1, Refused)]),
            StaleUseless,
            "an older password that is wrong",
        ),
        (
            "T P1",
            world(
                vec![password("p1", 2), password("p0", 1)],
                vec![proof(NOW, "p1", 2, Refused), proof(THEN, "p0", 1, Data)],
            ),
            StaleButOpens,
            "today's is wrong, the old one opens",
        ),
        (
            "T P1",
            World {
                generations: vec![generation(FORMER, THEN, &["p0"])],
                ..world(vec![password("p0", 1)], vec![])
            },
            StaleUseless,
            "of the time before it was encrypted anew",
        ),
        (
            "T P1",
            world(vec![password("p0", 1)], vec![proof(NOW, "p0", 1, Data)]),
            StaleButOpens,
            "an older password, tried on the newest metadata through older ones",
        ),
        (
            "T P1",
            world(vec![password("p0", 1)], vec![proof(THEN, "p0", 1, Data), proof(NOW, "p0", 1, Refused)]),
            StaleUseless,
            "an older password that opened then, and no longer does",
        ),
        (
            "T P1",
            world(vec![password("p0", 1)], vec![proof(THEN, "p0", 1, Data), proof(NOW, "p0", 1, Unusable)]),
            StaleButOpens,
            "an older password that opened then, and cannot be tried now",
        ),
        ("T", world(vec![], vec![]), NoRecoveryProtector, "the TPM alone"),
        (
            "T",
            world(vec![password("p0", 1)], vec![]),
            NoRecoveryProtector,
            "the TPM alone, and an old password",
        ),
        (
            "T",
            world(vec![password("p0", 1)], vec![proof(THEN, "p0", 1, Data)]),
            StaleButOpens,
            "the TPM alone, and an old password that opens",
        ),
        ("W", world(vec![], vec![]), NoRecoveryProtector, "a password that people type"),
        ("D", world(vec![], vec![]), NoRecoveryProtector, "a certificate"),
        ("", world(vec![], vec![]), NoRecoveryProtector, "nothing at all"),
        ("E1", world(vec![], vec![]), AutoUnlockOnly, "an external key"),
        ("W E1", world(vec![], vec![]), AutoUnlockOnly, "an external key and a password"),
        ("E1", world(vec![bek("e1", 1)], vec![]), Escrowed, "its .BEK is kept"),
        ("E1", world(vec![bek("e1", 1)], vec![proof(NOW, "e1", 1, Data)]), ProvenData, "its .BEK is proved"),
        ("E1", world(vec![bek("e1", 1)], vec![proof(NOW, "e1", 1, Refused)]), Mismatched, "another .BEK"),
        ("T E1", world(vec![], vec![]), Missing, "a machine's .BEK that nobody keeps"),
        ("E1 P1", world(vec![], vec![]), Missing, "a data volume with a password that nobody keeps"),
        ("E1 P1", world(vec![password("p1", 1)], vec![]), Escrowed, "... that somebody keeps"),
    ];
    for (protectors, world, state, what) in &table {
        let verdict = world.judge(&volume(protectors));
        assert_eq!((verdict.state, verdict.otherwise), (*state, None), "{what}: {}", verdict.why);
        assert_eq!(
            verdict.proved.is_some(),
            matches!(state, ProvenData | ProvenKey | StaleButOpens),
            "{what}"
        );
        // A clear key stands before all of it, and hides none of it.
        let exposed = world.judge(&volume(&format!("{protectors} C")));
        assert_eq!((exposed.state, exposed.otherwise), (Exposed, Some(*state)), "{what}, exposed");
        assert!(exposed.why.contains(&verdict.why) || protectors.is_empty(), "{}", exposed.why);
    }
    let met: std::collections::BTreeSet<AuditState> = table.iter().map(|row| row.2).collect();
    let others = [Exposed, OtherEncryption, Unreadable];
    assert_eq!(met.len() + others.len(), AuditState::ALL.len());
}

#[test]
fn what_is_no_bitlocker_or_cannot_be_read_says_so() {
    let other = |encryption| {
        World::default().judge(&VolumeFacts { encryption, volume_id: None, metadata: None, ..volume("") })
    };
    assert_eq!(other(EncryptionKind::Luks).state, AuditState::OtherEncryption);
    assert_eq!(other(EncryptionKind::Unknown).state, AuditState::OtherEncryption);
    let blind = VolumeFacts { volume_id: None, metadata: None, ..volume("") };
    let verdict = World::default().judge(&blind);
    assert_eq!(verdict.state, AuditState::Unreadable);
    assert!(!verdict.why.contains("earlier") && !verdict.why.contains("captured of it"));
    // An earlier capture of the same place still has metadata, and somebody keeps what opens them.
    let world = world(vec![password("p0", 1)], vec![proof(THEN, "p0", 1, ProofOutcome::Data)]);
    let verdict = world.judge(&blind);
    assert_eq!(verdict.state, AuditState::Unreadable);
    assert!(verdict.why.contains("may take their place"), "{}", verdict.why);
}

#[test]
fn of_several_tries_the_last_one_counts() {
    let mut later = proof(NOW, "p1", 1, ProofOutcome::Data);
    later.proved = at(5);
    let refused = proof(NOW, "p1", 1, ProofOutcome::Refused);
    for proofs in [vec![later.clone(), refused.clone()], vec![refused, later]] {
        let verdict = world(vec![password("p1", 1)], proofs).judge(&volume("T P1"));
        assert_eq!((verdict.state, verdict.proved), (AuditState::ProvenData, Some(at(5))));
    }
}

#[test]
fn every_state_but_the_proven_ones_has_a_next_step() {
    for state in AuditState::ALL {
        let is_proven = matches!(state, AuditState::ProvenData | AuditState::ProvenKey);
        assert_eq!(next(state).is_empty(), is_proven, "{state}");
    }
}
