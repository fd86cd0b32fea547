//! The audit against the answer sheet: every volume in its state, every VM with what is true of it, and one truth across hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use lifeboat_audit::{AuditPolicy, Catalog, Fabric, Facts, Only, audit, html, read, vms_csv, volumes_csv};
use lifeboat_engine::admin::add_writer;
use lifeboat_schema::{
    AuditCode, AuditLevel, AuditReport, AuditState, AuditedVm, CanStart, Kind, NamedAs, OtherWhat, Pairing,
    ProofEntry, Retire, Role, SecretKind, StolenKey, SubjectId, VtpmAnswer, WriterId, WriterTerms,
};
use lifeboat_tests::stage::{Stage, tiny_fabric};
use lifeboat_tests::statements::{NewSecret, escrow, prove, secret_digest};
use lifeboat_tests::testfabric::{
    AgeOptions, Answers, Coverage, DiskFiles, FabricOptions, Lack, Mix, VmAnswer, VmKind, VmPlan, VolumeMix,
};
use lifeboat_vault::key::SigningKey;
use lifeboat_vault::store::Store;
use lifeboat_vault::vault::{Ledgers, Memory};
use lifeboat_vault::writer::Writer;

use crate::told;

/// Lets a writer of one kind in.
async fn writer(stage: &Stage, number: u8, kind: Kind, name: &str) -> Writer {
    let key = SigningKey::from_seed(&[200 + number; 32]);
    let id = WriterId::random("w", [200 + number; 10]);
    let terms = WriterTerms {
        id: id.clone(),
        key: key.verifying_key().to_openssh(),
        kinds: vec![kind],
        max_silence_seconds: None,
        cut: None,
    };
    add_writer(&stage.vault, &stage.admins[0], terms, name, stage.now()).await.expect("a new policy");
    Writer { id, key }
}

async fn ledgers(stage: &Stage) -> Ledgers {
    stage.vault.ledgers(&Memory::default()).await.expect("ledgers")
}

async fn facts(stage: &Stage, ledgers: &Ledgers, catalog: &mut Catalog) -> Facts {
    let identity = stage.identity(Role::Audit);
    let facts = read(&stage.vault, ledgers, &identity, catalog, true).await.expect("facts");
    assert_eq!(facts.findings, []);
    assert!(facts.had_bodies && facts.opened_something);
    facts
}

fn fresh(stage: &Stage) -> Catalog {
    Catalog::in_memory(&stage.vault.id, "reader").expect("a catalog")
}

fn judged(stage: &Stage, facts: &Facts) -> AuditReport {
    // Two fabrics, as somebody gives their metadata.
    let guardian = |name: &str| facts.guardians.values().find(|one| one.name == name).map(Fabric::of);
    let fabrics: Vec<Fabric> = ["Primary Fabric", "DR Fabric"].into_iter().filter_map(guardian).collect();
    let policy = AuditPolicy::default();
    // Later than everything, and not too late for anything.
    audit(&stage.vault.id, facts, &fabrics, &policy, &Only::default(), stage.now())
}

/// Plants secrets and proofs in the vault.
async fn plant(stage: &Stage, coverage: &Coverage) {
    let importer = writer(stage, 1, Kind::Escrow, "importer").await;
    let operator = writer(stage, 2, Kind::Proof, "operator").await;
    let secrets = coverage
        .secrets
        .iter()
        .map(|one| NewSecret { protector: one.protector.clone(), password: one.password.clone() });
    let secrets: Vec<NewSecret> = secrets.collect();
    let (first, rest) = secrets.split_at(secrets.len() / 2);
    escrow(&stage.vault, &importer, first, stage.now()).await;
    escrow(&stage.vault, &importer, rest, stage.now()).await;
    let proofs = coverage.proofs.iter().map(|one| ProofEntry {
        subject: SubjectId::random([1; 10]),
        volume: one.volume_id.clone(),
        metadata: one.metadata,
        captured: stage.now(),
        protector: one.protector.clone(),
        kind: SecretKind::RecoveryPassword,
        secret: secret_digest(&one.password),
        outcome: one.outcome,
        proved: stage.now(),
    });
    prove(&stage.vault, &operator, proofs.collect(), stage.now()).await;
}

/// A fabric in every state at once, and the audit of it.
async fn every_state(vms: u32) {
    let began = Instant::now();
    let options = FabricOptions {
        hosts: 4,
        disks: DiskFiles::Sparse,
        volumes: VolumeMix::Every,
        ..tiny_fabric(vms, 2026)
    };
    let store = Store::open("memory://", &Default::default(), &|_| None).expect("a store in memory");
    let mut stage = Stage::set(store, "memory://", &options).await;
    for name in stage.fabric.answers().hosts.clone() {
        stage.enroll(&name).await.expect("a host is let in");
    }
    for host in 0..4 {
        assert_eq!(stage.run(host).await.expect("a first run").failed, []);
    }
    let early = ledgers(&stage).await;
    let folder = stage.new_folder();
    let path = folder.join("audit.sqlite");
    let mut kept = Catalog::open(&path, &stage.vault.id, "reader").expect("a catalog");
    let first = judged(&stage, &facts(&stage, &early, &mut kept).await);
    let before: Answers = stage.fabric.answers().clone();
    let aging = AgeOptions {
        round: 1,
        change_percent: 45.0,
        roll: vms / 20,
        move_between_hosts: vms / 20,
        delete: vms / 50 + 1,
        add: vms / 50 + 1,
        tear: 3,
    };
    let aged = stage.fabric.age(&aging).expect("a lively round");
    // Twice: that a VM is gone for good is known when every host ran after it was missed.
    for host in [0, 1, 2, 3, 0, 1, 2, 3] {
        stage.run(host).await.expect("a later run");
    }
    let now = stage.fabric.answers().clone();
    let coverage = Coverage::plan(&before, &now);
    plant(&stage, &coverage).await;
    let prepared = began.elapsed();

    let late = ledgers(&stage).await;
    let all = facts(&stage, &late, &mut kept).await;
    let report = judged(&stage, &all);
    compare_volumes(&report, &now, &coverage);
    for vm in &now.vms {
        let moved = aged.moved.iter().any(|one| one.vm_id == vm.vm_id);
        let is_torn = aged.torn.iter().any(|one| one.vm_id == vm.vm_id);
        compare_vm(found(&report, &vm.vm_id), vm, moved, is_torn);
    }
    for vm_id in &aged.deleted {
        let vm = found(&report, vm_id);
        assert_eq!(vm.findings[0].code, AuditCode::Vanished, "{vm:?}");
    }
    assert_eq!(report.vms.len(), now.vms.len() + aged.deleted.len());
    assert!(report.totals.counted > 0);
    assert!(report.totals.volumes * 10 >= u64::from(vms) * 16, "8 volumes for 5 VMs");
    told(&format!(
        "audit: {} VMs, {} volumes, states {:?}; prepared in {prepared:.1?}, all in {:.1?}",
        report.vms.len(),
        report.totals.volumes,
        report.totals.states,
        began.elapsed()
    ));

    // What a catalog has makes no difference: none, one of before, one of now, one of a time that is no more.
    let without_time = |mut report: AuditReport| {
        report.made = first.made;
        report.vms.iter_mut().for_each(|vm| vm.vtpm_age_seconds = None);
        report
    };
    let cold = judged(&stage, &facts(&stage, &late, &mut fresh(&stage)).await);
    let warm = judged(&stage, &facts(&stage, &late, &mut kept).await);
    assert_eq!(without_time(cold.clone()), without_time(report.clone()));
    assert_eq!(without_time(warm), without_time(report.clone()));
    let rolled_back = judged(&stage, &facts(&stage, &early, &mut kept).await);
    assert_eq!(without_time(rolled_back), without_time(first.clone()));
    drop(kept);
    let mut again = Catalog::open(&path, &stage.vault.id, "reader").expect("the same catalog");
    let again = judged(&stage, &facts(&stage, &late, &mut again).await);
    assert_eq!(without_time(again), without_time(report.clone()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&path).expect("the catalog").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert!(Catalog::open(&path, &stage.vault.id, "another").is_err(), "a catalog is one reader's");

    stolen_key(&stage, &all, &now);
    no_secret(&report, &now, &coverage, &std::fs::read(&path).expect("the catalog"));
}

fn found<'a>(report: &'a AuditReport, vm_id: &str) -> &'a AuditedVm {
    let all: Vec<&AuditedVm> = report.vms.iter().filter(|vm| vm.vm_id == vm_id).collect();
    assert_eq!(all.len(), 1, "{vm_id} stands there once");
    all[0]
}

fn compare_volumes(report: &AuditReport, now: &Answers, coverage: &Coverage) {
    let mut wanted: BTreeMap<(&str, &str), (AuditState, Option<AuditState>)> = BTreeMap::new();
    for one in &coverage.volumes {
        wanted.insert((&one.vm_id, &one.disk), (one.state, one.otherwise));
    }
    let mut wrong = Vec::new();
    let mut met = BTreeSet::new();
    for vm in &now.vms {
        for volume in &found(report, &vm.vm_id).volumes {
            let wanted = wanted.remove(&(vm.vm_id.as_str(), volume.disk.as_str()));
            let state = (volume.state, volume.otherwise);
            met.insert(volume.state);
            if wanted != Some(state) {
                wrong.push(format!("{} {}: {state:?}, not {wanted:?}: {}", vm.name, volume.disk, volume.why));
            }
            let is_proven = matches!(volume.state, AuditState::ProvenData | AuditState::ProvenKey);
            assert_eq!(volume.level == AuditLevel::Good, is_proven);
            assert_eq!(volume.next.is_empty(), is_proven, "each has its next step");
            assert!(!volume.why.is_empty());
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(wanted.is_empty(), "no volume is forgotten: {wanted:?}");
    assert_eq!(met.len(), AuditState::ALL.len(), "every state comes up: {met:?}");
    let of_report: u64 = report.totals.states.values().sum();
    assert_eq!(of_report, report.totals.volumes);
}

fn compare_vm(vm: &AuditedVm, answer: &VmAnswer, moved: bool, is_torn: bool) {
    let what = format!("{vm:?}\n{answer:?}");
    assert_eq!((&vm.name, &vm.host), (&answer.name, &answer.host), "{what}");
    let held = answer.kind.has_vtpm();
    assert_eq!(vm.vtpm, if held { VtpmAnswer::Held } else { VtpmAnswer::None }, "{what}");
    assert_eq!(vm.vtpm_age_seconds.is_some(), held, "{what}");
    assert_eq!(vm.pairing, answer.pairing, "{what}");
    let has = |code| vm.findings.iter().any(|one| one.code == code);
    assert_eq!(has(AuditCode::KeyProtectorMissing), answer.lacks.contains(&Lack::KeyProtector), "{what}");
    assert_eq!(has(AuditCode::LocalKeyNotEscrowed), answer.lacks.contains(&Lack::Guardian), "{what}");
    assert_eq!(has(AuditCode::NotCapturedTogether), answer.pairing == Pairing::Mixed, "{what}");
    assert_eq!(has(AuditCode::CaptureFailed), is_torn, "{what}");
    for code in [
        AuditCode::Vanished,
        AuditCode::GoneFromHost,
        AuditCode::Replica,
        AuditCode::VtpmStateOld,
        AuditCode::VtpmStateNotSeen,
        AuditCode::VtpmStateNotKnown,
        AuditCode::Circular,
        AuditCode::KeyProtectorAltered,
        AuditCode::KeyProtectorNotUnderstood,
    ] {
        assert!(!has(code), "{code}: {what}");
    }
    assert!(has(AuditCode::NeverDrilled), "{what}");
    let left: Vec<OtherWhat> = vm.elsewhere.iter().map(|one| one.what).collect();
    assert_eq!(left, if moved { vec![OtherWhat::LeftBehind] } else { vec![] }, "{what}");
    let start = |fabric: &str| {
        vm.can_start_at.iter().find(|one| one.fabric == fabric).map(|one| one.answer).expect("a fabric")
    };
    let answers = match answer.wrapped {
        Some(wrapped) => {
            [wrapped.primary, wrapped.recovery].map(|yes| if yes { CanStart::Yes } else { CanStart::No })
        }
        None if held => [CanStart::Unknown; 2],
        None => [CanStart::NoneNeeded; 2],
    };
    assert_eq!([start("Primary Fabric"), start("DR Fabric")], answers, "{what}");
    assert_eq!(vm.owner_guardians.len(), usize::from(answer.owner.is_some()), "{what}");
    assert_eq!(vm.guardians.len(), answer.guardians.len(), "{what}");
}

/// The key of the primary fabric is stolen.
fn stolen_key(stage: &Stage, facts: &Facts, now: &Answers) {
    let guardian = now.guardians.iter().find(|one| one.name == "Primary Fabric").expect("it is there");
    let asked = |thumbprint: &str| {
        let only = Only { compromised: Some(thumbprint.to_owned()), ..Only::default() };
        let policy = AuditPolicy::default();
        let report = audit(&stage.vault.id, facts, &[], &policy, &only, stage.now());
        report.compromised.expect("it was asked for")
    };
    let spaced: String = guardian.encryption_sha1.chars().flat_map(|one| [one, ':']).collect();
    let report = asked(&spaced);
    assert_eq!(report, {
        let mut other = asked(&guardian.encryption_sha256.to_string());
        other.thumbprint.clone_from(&report.thumbprint);
        other
    });
    let guarded: BTreeSet<&str> = now
        .vms
        .iter()
        .filter(|vm| vm.wrapped.is_some_and(|wrapped| wrapped.primary))
        .map(|vm| vm.vm_id.as_str())
        .collect();
    let named: BTreeSet<&str> = report.vms.iter().map(|one| one.vm.vm_id.as_str()).collect();
    assert!(!guarded.is_empty() && named.is_superset(&guarded));
    assert!(named.iter().all(|id| guarded.contains(id) || now.deleted.iter().any(|vm| vm.vm_id == *id)));
    assert!(
        report.vms.iter().all(|one| (one.named_as, one.key) == (NamedAs::Guardian, StolenKey::Encryption))
    );
    let of_snapshots: BTreeSet<&str> = report.snapshots.iter().map(|one| one.vm.vm_id.as_str()).collect();
    assert_eq!(of_snapshots, named);
    // No state without the key exists: nothing can be retired, and all is under lock.
    assert!(
        report.snapshots.iter().all(|one| one.retire == Retire::AfterRekey && one.locked_until.is_some())
    );
    assert!(report.snapshots.len() > named.len(), "states of the past open too");
    assert_eq!(asked(&guardian.signing_sha1).vms[0].key, StolenKey::Signing);
    assert!(asked(&guardian.signing_sha1).snapshots.is_empty(), "a signing key opens nothing");
    let nobody = asked(&"00".repeat(20));
    assert!(nobody.vms.is_empty() && nobody.guardians.is_empty() && nobody.next[0].contains("nothing"));
}

/// Nothing that audit may not know stands in what it answers or keeps.
fn no_secret(report: &AuditReport, now: &Answers, coverage: &Coverage, catalog: &[u8]) {
    let json = serde_json::to_string(report).expect("a report");
    let texts = [json, html(report), vms_csv(report), volumes_csv(report)];
    let mut searched = 0;
    let mut absent = |secret: &[u8], what: &str| {
        searched += 1;
        for text in texts.iter().map(String::as_bytes).chain([catalog]) {
            assert!(memchr::memmem::find(text, secret).is_none(), "{what}");
        }
    };
    for marker in now.markers_hidden_from(Role::Audit) {
        absent(&marker.bytes, &format!("{:?}", marker.planted));
        let hex: String = marker.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        absent(hex.as_bytes(), &format!("{:?} in hexadecimal", marker.planted));
    }
    let passwords: BTreeSet<&str> = coverage.secrets.iter().map(|one| one.password.as_str()).collect();
    for password in passwords {
        absent(password.as_bytes(), "a recovery password");
        absent(&password.as_bytes()[..13], "the first blocks of a recovery password");
        absent(password.replace('-', "").as_bytes(), "a recovery password without dashes");
    }
    told(&format!("audit: report and catalog searched for {searched} secrets and markers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_volume_of_five_hundred_vms_is_in_the_state_of_the_answer_sheet() {
    every_state(500).await;
}

/// Two hosts, thirty migrations: each VM is one VM, where it is, and none ever vanished.
#[tokio::test(flavor = "multi_thread")]
async fn thirty_migrations_leave_one_truth_and_no_false_alarm() {
    let mix = Mix::Only(vec![VmPlan::new(VmKind::Shielded, [])]);
    let mut stage = Stage::in_memory(&FabricOptions { hosts: 2, mix, ..tiny_fabric(4, 30) }).await;
    let mut catalog = fresh(&stage);
    let (mut moves, mut waited) = (0, 0);
    let mut gone = 0;
    for round in 1..=30 {
        let change_percent = if round % 3 == 0 { 25.0 } else { 0.0 };
        let aging = AgeOptions { round, move_between_hosts: 1, change_percent, ..Default::default() };
        let report = stage.fabric.age(&aging).expect("a migration");
        moves += report.moved.len();
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for (step, host) in order.into_iter().enumerate() {
            stage.run(host).await.expect("a run");
            let ledgers = ledgers(&stage).await;
            let report = judged(&stage, &facts(&stage, &ledgers, &mut catalog).await);
            assert_eq!(report.vms.len(), 4, "each VM once");
            let codes = |code| report.totals.codes.get(AuditCode::word(code)).copied().unwrap_or_default();
            assert_eq!(codes(AuditCode::Vanished), 0, "round {round}, after host {host}");
            if step == 0 {
                // The other host has not run: the VM may be on its way.
                waited += 1;
                gone += codes(AuditCode::GoneFromHost);
                continue;
            }
            assert_eq!(codes(AuditCode::GoneFromHost), 0, "round {round}: both hosts have run");
            assert_eq!(codes(AuditCode::Replica), 0, "round {round}: both hosts have run");
            for answer in &stage.fabric.answers().vms {
                let vm = found(&report, &answer.vm_id);
                assert_eq!((&vm.host, vm.carried), (&answer.host, None), "round {round}: {vm:?}");
                assert_eq!(vm.pairing, Pairing::CapturedTogether);
            }
        }
    }
    assert_eq!((moves, waited), (30, 30));
    assert!(gone > 0, "a VM between two hosts is said to be so");
    // Deleted for good, and found so as soon as both have run.
    let aging = AgeOptions { round: 31, delete: 1, ..Default::default() };
    let deleted = stage.fabric.age(&aging).expect("a VM goes").deleted;
    for host in 0..2 {
        stage.run(host).await.expect("a run");
    }
    for host in 0..2 {
        stage.run(host).await.expect("one more run");
    }
    let report = judged(&stage, &facts(&stage, &ledgers(&stage).await, &mut catalog).await);
    assert_eq!(found(&report, &deleted[0]).findings[0].code, AuditCode::Vanished);
    assert_eq!(report.totals.codes.get(AuditCode::Vanished.word()), Some(&1));
}
