use lifeboat_schema::{Cut, ObjectEntry, PolicyTerms, Record};

use super::*;
use crate::policy::tests::{
    chain as policy_chain, host, key, object, place as policy_at, policy_record, record, sign, terms, vault,
    writer as writer_terms,
};

fn file(signed: &SignedRecord) -> LedgerFile {
    LedgerFile { name: signed.name.to_string(), bytes: Ok(signed.bytes.clone()) }
}

fn files<'a>(all: impl IntoIterator<Item = &'a SignedRecord>) -> Vec<LedgerFile> {
    all.into_iter().map(file).collect()
}

/// A policy chain of one, and that many records of the host under it.
fn host_with(count: u64) -> (PolicyChain, Vec<SignedRecord>) {
    let policies = policy_chain(&[terms()]);
    let mut all: Vec<SignedRecord> = Vec::new();
    for seq in 1..=count {
        let prev = all.last().map(|before| before.name.id);
        all.push(sign(record(seq, prev, policy_at(&policies, 1)), 3));
    }
    (policies, all)
}

fn verified(files: Vec<LedgerFile>, policies: &PolicyChain) -> Ledger {
    verify(&host(), files, &vault(), policies)
}

fn standings(ledger: &Ledger) -> Vec<(u64, Standing)> {
    ledger.records.iter().map(|record| (record.signed.name.seq, record.standing)).collect()
}

fn codes(ledger: &Ledger) -> Vec<&str> {
    ledger.findings.iter().map(|finding| finding.code.as_str()).collect()
}

/// Another record in the place of `one`.
fn twin(one: &SignedRecord) -> SignedRecord {
    let mut record = one.record.clone();
    record.finished = lifeboat_schema::Time::from_unix_seconds(1_800_000_000);
    sign(record, 3)
}

use Standing::{AfterGap, Forked, Good, NotAllowed};

#[test]
fn a_whole_chain_stands_in_whatever_order_it_is_listed() {
    let (policies, all) = host_with(5);
    let ledger = verified(files(all.iter().rev()), &policies);
    assert_eq!(standings(&ledger), [1, 2, 3, 4, 5].map(|seq| (seq, Good)));
    assert_eq!(ledger.findings, []);
    assert_eq!(ledger.newest().unwrap().signed.name, all[4].name);
    assert!(!ledger.is_forked());
    assert!(verified(vec![], &policies).newest().is_none());
}

#[test]
fn each_kind_of_damage_has_its_standing_and_its_finding() {
    let (policies, all) = host_with(5);
    let fork = twin(&all[2]);
    // Its twin's successor: what a ledger looks like when the twin's other half was taken away.
    let successor = {
        let mut record = all[3].record.clone();
        record.prev = Some(fork.name.id);
        sign(record, 3)
    };
    let unread = |one: &SignedRecord| LedgerFile { name: one.name.to_string(), bytes: Err("gone".into()) };
    let but = |left_out: &[usize]| -> Vec<LedgerFile> {
        let stay = (0..5).filter(|at| !left_out.contains(at));
        stay.map(|at| file(&all[at])).collect()
    };
    let with = |mut files: Vec<LedgerFile>, more: LedgerFile| {
        files.push(more);
        files
    };
    let damaged = {
        let mut bytes = all[1].bytes.to_vec();
        bytes[10] ^= 1;
        LedgerFile { name: all[1].name.to_string(), bytes: Ok(bytes.into()) }
    };
    let renamed = LedgerFile {
        name: RecordName { seq: 6, id: all[4].name.id }.to_string(),
        bytes: Ok(all[4].bytes.clone()),
    };
    let stranger = file(&sign(record(6, Some(all[4].name.id), policy_at(&policies, 1)), 8));
    let elsewhere = {
        let mut record = record(6, Some(all[4].name.id), policy_at(&policies, 1));
        record.writer = "h-two".parse().unwrap();
        file(&sign(record, 3))
    };
    let readme = LedgerFile { name: "readme.txt".into(), bytes: Ok(Bytes::from_static(b"hello")) };
    type Case<'a> = (&'a str, Vec<LedgerFile>, Vec<(u64, Standing)>, Vec<&'a str>);
    let whole = || [1, 2, 3, 4, 5].map(|seq| (seq, Good)).to_vec();
    let cases: Vec<Case<'_>> = vec![
        (
            "the first is missing",
            but(&[0]),
            vec![(2, AfterGap), (3, AfterGap), (4, AfterGap), (5, AfterGap)],
            vec!["ledger-gap"],
        ),
        (
            "one is missing",
            but(&[2]),
            vec![(1, Good), (2, Good), (4, AfterGap), (5, AfterGap)],
            vec!["ledger-gap"],
        ),
        (
            "two places are missing",
            but(&[1, 3]),
            vec![(1, Good), (3, AfterGap), (5, AfterGap)],
            vec!["ledger-gap", "ledger-gap"],
        ),
        (
            "the newest is missing, which only a memory shows",
            but(&[4]),
            vec![(1, Good), (2, Good), (3, Good), (4, Good)],
            vec![],
        ),
        (
            "one is damaged",
            with(but(&[1]), damaged),
            vec![(1, Good), (3, AfterGap), (4, AfterGap), (5, AfterGap)],
            vec!["record-damaged", "ledger-gap"],
        ),
        (
            "one cannot be read",
            with(but(&[1]), unread(&all[1])),
            vec![(1, Good), (3, AfterGap), (4, AfterGap), (5, AfterGap)],
            vec!["record-unreadable", "ledger-gap"],
        ),
        ("one under another name", with(but(&[]), renamed), whole(), vec!["record-damaged"]),
        ("one of an unknown key", with(but(&[]), stranger), whole(), vec!["record-damaged"]),
        ("one of another ledger", with(but(&[]), elsewhere), whole(), vec!["record-damaged"]),
        ("a file that is no record", with(but(&[]), readme), whole(), vec!["foreign-file"]),
        (
            "two of one place",
            with(but(&[]), file(&fork)),
            vec![(1, Good), (2, Good), (3, Forked), (3, Forked), (4, Forked), (5, Forked)],
            vec!["fork"],
        ),
        (
            "one replaced by its twin",
            with(but(&[2]), file(&fork)),
            vec![(1, Good), (2, Good), (3, Good), (4, AfterGap), (5, AfterGap)],
            vec!["chain-broken"],
        ),
        (
            "a gap, and one replaced after it",
            with(but(&[0, 2]), file(&fork)),
            vec![(2, AfterGap), (3, AfterGap), (4, AfterGap), (5, AfterGap)],
            vec!["ledger-gap", "chain-broken"],
        ),
        (
            "a branch of two",
            with(with(but(&[]), file(&fork)), file(&successor)),
            vec![(1, Good), (2, Good), (3, Forked), (3, Forked), (4, Forked), (4, Forked), (5, Forked)],
            vec!["fork", "fork"],
        ),
    ];
    for (what, files, expected, findings) in cases {
        let ledger = verified(files, &policies);
        assert_eq!(standings(&ledger), expected, "{what}");
        assert_eq!(codes(&ledger), findings, "{what}");
        assert!(ledger.findings.iter().all(|f| f.severity == Severity::Damage), "{what}");
        assert_eq!(ledger.is_forked(), findings.contains(&"fork"), "{what}");
        let newest = expected.iter().rev().find(|(_, standing)| standing.counts()).map(|(seq, _)| *seq);
        assert_eq!(ledger.newest().map(|r| r.signed.name.seq), newest, "{what}");
    }
}

#[test]
fn a_newer_record_is_told_from_a_damaged_one() {
    let (policies, all) = host_with(1);
    for change in [(|r: &mut Record| r.v = 2) as fn(&mut Record), |r| r.critical = vec!["merkle".into()]] {
        let mut newer = record(2, Some(all[0].name.id), policy_at(&policies, 1));
        change(&mut newer);
        let ledger = verified(files([&all[0], &sign(newer, 3)]), &policies);
        assert_eq!((standings(&ledger), codes(&ledger)), (vec![(1, Good)], vec!["record-newer"]));
    }
}

/// Key rotation and retirement: a thief of the old key cannot write beyond the cut.
#[test]
fn a_cut_parts_the_records_of_the_old_key_from_those_of_the_new_one() {
    let first = terms();
    let mut all: Vec<SignedRecord> = Vec::new();
    // The place of the first policy does not depend on those that follow.
    let one = policy_record(None, first.clone());
    let place = PolicyRef { seq: 1, id: one.name.id };
    for seq in 1..=3 {
        let prev = all.last().map(|before| before.name.id);
        all.push(sign(record(seq, prev, place), 3));
    }
    let rotated = |cut: &SignedRecord| PolicyTerms {
        writers: vec![writer_terms(
            &host(),
            &key(4),
            &[Kind::Snapshot],
            Some(Cut { seq: cut.name.seq, id: Some(cut.name.id) }),
        )],
        ..first.clone()
    };
    let mut policies = PolicyChain::default();
    policies.push(&one).unwrap();
    policies.push(&policy_record(Some(&one), rotated(&all[1]))).unwrap();
    let new = policy_at(&policies, 2);

    // The third record was the thief's: the cut is before it. The host goes on from its own last one.
    let ledger = verified(files(&all), &policies);
    assert_eq!(standings(&ledger), [(1, Good), (2, Good), (3, NotAllowed)]);
    assert_eq!(codes(&ledger), ["record-not-allowed"]);
    assert_eq!(ledger.newest().unwrap().signed.name.seq, 2);

    let next = sign(record(3, Some(all[1].name.id), new), 4);
    let ledger = verified(files([&all[0], &all[1], &next]), &policies);
    assert_eq!((standings(&ledger), codes(&ledger)), (vec![(1, Good), (2, Good), (3, Good)], vec![]));

    // A successor with the old key names the old policy, or the new one: neither counts.
    for policy in [place, new] {
        let late = sign(record(4, Some(next.name.id), policy), 3);
        let ledger = verified(files([&all[0], &all[1], &next, &late]), &policies);
        assert_eq!(standings(&ledger).last(), Some(&(4, NotAllowed)));
        assert_eq!(codes(&ledger), ["record-not-allowed"]);
        assert_eq!(ledger.newest().unwrap().signed.name, next.name);
    }

    // The record at the cut is exactly that one.
    let other = twin(&all[1]);
    let ledger = verified(files([&all[0], &other]), &policies);
    assert_eq!(standings(&ledger), [(1, Good), (2, NotAllowed)]);
}

#[test]
fn a_ledger_never_goes_back_to_an_older_policy() {
    let first = terms();
    let policies = policy_chain(&[first.clone(), first]);
    let (old, new) = (policy_at(&policies, 1), policy_at(&policies, 2));
    let one = sign(record(1, None, new), 3);
    let two = sign(record(2, Some(one.name.id), old), 3);
    let three = sign(record(3, Some(two.name.id), new), 3);
    let ledger = verified(files([&one, &two, &three]), &policies);
    assert_eq!(standings(&ledger), [(1, Good), (2, NotAllowed), (3, Good)]);
    assert_eq!(codes(&ledger), ["record-not-allowed"]);
    assert!(ledger.findings[0].what.contains("older policy"), "{}", ledger.findings[0].what);
}

#[test]
fn an_object_is_taken_up_again_only_from_the_direct_predecessor() {
    let terms = terms();
    let policies = policy_chain(std::slice::from_ref(&terms));
    let object = |what: &str| object(&terms, what);
    let ledger_of = |objects: &[Vec<ObjectEntry>], left_out: Option<usize>| {
        let mut all: Vec<SignedRecord> = Vec::new();
        for (objects, seq) in objects.iter().zip(1..) {
            let prev = all.last().map(|before| before.name.id);
            let record = Record { objects: objects.clone(), ..record(seq, prev, policy_at(&policies, 1)) };
            all.push(sign(record, 3));
        }
        let files = all.iter().enumerate().filter(|(at, _)| Some(*at) != left_out).map(|(_, one)| file(one));
        verified(files.collect(), &policies)
    };
    let (a, b, c) = (object("a"), object("b"), object("c"));
    let kept = ledger_of(&[vec![a.clone()], vec![a.clone(), b.clone()], vec![a.clone(), c.clone()]], None);
    assert_eq!(codes(&kept), Vec::<&str>::new());
    let taken_up =
        ledger_of(&[vec![a.clone(), b.clone()], vec![c.clone()], vec![a.clone(), b.clone()]], None);
    assert_eq!(codes(&taken_up), ["stale-reuse"]);
    let finding = &taken_up.findings[0];
    assert_eq!(finding.severity, Severity::Warning, "it stands, with a doubt that is named");
    assert!(finding.what.contains("2 objects"), "{}", finding.what);
    assert_eq!(taken_up.newest().unwrap().standing, Good);
    // What a missing record named is not known, so nothing is said of the one after it.
    let gap = ledger_of(&[vec![a.clone()], vec![a.clone()], vec![a.clone()]], Some(1));
    assert_eq!(codes(&gap), ["ledger-gap"]);
}

#[test]
fn what_was_seen_and_is_gone_is_a_rollback() {
    let (policies, all) = host_with(4);
    let tip = |one: &SignedRecord| Tip { writer: host(), seq: one.name.seq, id: one.name.id };
    let compared = |count: usize, tip: &Tip| {
        let mut ledger = verified(files(&all[..count]), &policies);
        ledger.compare_with(tip);
        ledger
    };
    for (count, seen) in [(4, 4), (4, 1), (2, 2)] {
        let ledger = compared(count, &tip(&all[seen - 1]));
        assert_eq!(codes(&ledger), Vec::<&str>::new(), "{seen} was seen, and {count} are there");
    }
    for (count, seen) in [(3, 4), (0, 1), (1, 4)] {
        let ledger = compared(count, &tip(&all[seen - 1]));
        assert_eq!(codes(&ledger), ["rollback"], "{seen} was seen, and {count} are there");
        assert_eq!(ledger.findings[0].severity, Severity::Damage);
        assert_eq!(ledger.findings[0].place, format!("ledger/{}/{}", host(), all[seen - 1].name));
        assert!(ledger.findings[0].what.contains(&format!("ends at {count}")), "{}", ledger.findings[0].what);
    }
    // Another record in its place does not stand for it.
    assert_eq!(codes(&compared(4, &tip(&twin(&all[3])))), ["rollback"]);
}

mod admin {
    use super::*;

    fn keys() -> [VerifyingKey; 2] {
        [key(1).verifying_key(), key(2).verifying_key()]
    }

    fn policies(count: usize) -> Vec<SignedRecord> {
        let terms = terms();
        let mut all: Vec<SignedRecord> = Vec::new();
        for _ in 0..count {
            all.push(policy_record(all.last(), terms.clone()));
        }
        all
    }

    fn verified<'a>(all: impl IntoIterator<Item = &'a SignedRecord>) -> (Ledger, PolicyChain) {
        verify_admin(files(all), &vault(), &keys())
    }

    /// A record of the admin ledger of another kind, after `before`.
    fn after(before: &SignedRecord, kind: Kind) -> SignedRecord {
        let record = Record {
            kind,
            seq: before.name.seq + 1,
            prev: Some(before.name.id),
            policy: Some(PolicyRef { seq: before.name.seq, id: before.name.id }),
            terms: None,
            ..before.record.clone()
        };
        sign(record, 2)
    }

    #[test]
    fn policies_of_either_key_make_one_chain() {
        let all = policies(3);
        let (ledger, chain) = verified(&all);
        assert_eq!((standings(&ledger), codes(&ledger)), (vec![(1, Good), (2, Good), (3, Good)], vec![]));
        assert_eq!(chain.iter().count(), 3);
        let forget = after(&all[2], Kind::Forget);
        let (ledger, chain) = verified(all.iter().chain([&forget]));
        assert_eq!(codes(&ledger), Vec::<&str>::new());
        assert_eq!((ledger.newest().unwrap().signed.name.seq, chain.newest().unwrap().place.seq), (4, 3));
    }

    #[test]
    fn nothing_counts_from_the_first_fault_on() {
        let all = policies(4);
        let fork = {
            let mut record = all[2].record.clone();
            record.finished = lifeboat_schema::Time::from_unix_seconds(1_800_000_000);
            sign(record, 2)
        };
        let (ledger, chain) = verified(all.iter().chain([&fork]));
        assert_eq!(standings(&ledger), [(1, Good), (2, Good), (3, Forked), (3, Forked), (4, Forked)]);
        assert_eq!((chain.iter().count(), codes(&ledger)), (2, vec!["fork"]));

        let snapshot = after(&all[1], Kind::Snapshot);
        let later = {
            let mut record = all[2].record.clone();
            (record.seq, record.prev) = (4, Some(snapshot.name.id));
            sign(record, 1)
        };
        let (ledger, chain) = verified([&all[0], &all[1], &snapshot, &later]);
        assert_eq!(standings(&ledger), [(1, Good), (2, Good), (3, NotAllowed), (4, NotAllowed)]);
        assert_eq!(chain.iter().count(), 2);
        assert_eq!(ledger.newest().unwrap().signed.name, all[1].name);

        let (ledger, chain) = verified([&all[0], &all[2], &all[3]]);
        assert_eq!(standings(&ledger), [(1, Good), (3, NotAllowed), (4, NotAllowed)]);
        assert_eq!(chain.newest().unwrap().place.seq, 1);
        assert_eq!(codes(&ledger)[0], "ledger-gap");

        let (ledger, chain) = verified([&all[1]]);
        assert!(chain.newest().is_none() && ledger.newest().is_none());
    }

    #[test]
    fn a_policy_of_a_writer_s_key_is_none() {
        let all = policies(1);
        let mut record = policy_record(Some(&all[0]), terms()).record;
        record.started = lifeboat_schema::Time::from_unix_seconds(5);
        let forged = sign(record, 3);
        let (ledger, chain) = verified([&all[0], &forged]);
        assert_eq!((standings(&ledger), codes(&ledger)), (vec![(1, Good)], vec!["record-damaged"]));
        assert_eq!(chain.iter().count(), 1);
    }
}
