use std::collections::BTreeMap;

use lifeboat_schema::{
    Class, Content, ObjectEntry, OwnerId, RECORD_VERSION, RecipientSetId, Record, Time, VmSelector,
};

use super::*;
use crate::key::SigningKey;
use crate::seal::NewIdentity;

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&[n; 32])
}

pub(crate) fn vault() -> VaultId {
    VaultId::of(b"vault")
}

pub(crate) fn host() -> WriterId {
    "h-one".parse().unwrap()
}

pub(crate) fn owner_id() -> OwnerId {
    "o-one".parse().unwrap()
}

/// An owner whose recipients are new ones.
fn owner(id: &OwnerId) -> OwnerTerms {
    OwnerTerms {
        id: id.clone(),
        vms: vec![VmSelector::All],
        recipients: Role::ALL.iter().map(|role| (*role, vec![NewIdentity::generate().recipient()])).collect(),
    }
}

pub(crate) fn writer(id: &WriterId, key: &SigningKey, kinds: &[Kind], cut: Option<Cut>) -> WriterTerms {
    WriterTerms {
        id: id.clone(),
        key: key.verifying_key().to_openssh(),
        kinds: kinds.to_vec(),
        max_silence_seconds: None,
        cut,
    }
}

/// Terms with one owner, and the host whose key is number 3 as a writer of snapshots.
pub(crate) fn terms() -> PolicyTerms {
    PolicyTerms {
        owners: vec![owner(&owner_id())],
        writers: vec![writer(&host(), &key(3), &[Kind::Snapshot], None)],
    }
}

/// A record of the host without objects.
pub(crate) fn record(seq: u64, prev: Option<Digest>, policy: PolicyRef) -> Record {
    Record {
        v: RECORD_VERSION,
        critical: vec![],
        vault: vault(),
        writer: host(),
        seq,
        prev,
        kind: Kind::Snapshot,
        policy: Some(policy),
        seen: vec![],
        started: Time::from_unix_seconds(1_700_000_000),
        finished: Time::from_unix_seconds(1_700_000_001),
        objects: vec![],
        subjects: BTreeMap::new(),
        terms: None,
    }
}

pub(crate) fn sign(record: Record, by: u8) -> SignedRecord {
    SignedRecord::sign(record, &key(by)).unwrap()
}

/// The record of a policy that follows `before`.
pub(crate) fn policy_record(before: Option<&SignedRecord>, terms: PolicyTerms) -> SignedRecord {
    let place = before.map(|b| PolicyRef { seq: b.name.seq, id: b.name.id });
    let any = PolicyRef { seq: 1, id: Digest::of(b"") };
    sign(
        Record {
            writer: WriterId::admin(),
            seq: place.map_or(1, |place| place.seq + 1),
            prev: place.map(|place| place.id),
            kind: Kind::Policy,
            policy: place,
            terms: Some(terms),
            ..record(1, None, any)
        },
        1,
    )
}

/// An object that `terms` would have sealed to its first owner.
pub(crate) fn object(terms: &PolicyTerms, what: &str) -> ObjectEntry {
    ObjectEntry {
        name: Digest::of(what.as_bytes()),
        content: Content::Bundle,
        class: Class::Machine,
        owner: terms.owners[0].id.clone(),
        size: 1000,
        header: 200,
        payload: Digest::of(b"payload"),
        recipients: terms.owners[0].recipient_set(Class::Machine),
    }
}

/// A chain of these terms, each under the one before.
pub(crate) fn chain(all: &[PolicyTerms]) -> PolicyChain {
    let mut chain = PolicyChain::default();
    let mut before: Option<SignedRecord> = None;
    for terms in all {
        let signed = policy_record(before.as_ref(), terms.clone());
        chain.push(&signed).unwrap();
        before = Some(signed);
    }
    chain
}

/// The policy of that number, from 1.
pub(crate) fn place(chain: &PolicyChain, number: usize) -> PolicyRef {
    chain.iter().nth(number - 1).unwrap().place
}

fn changed(terms: &PolicyTerms, change: impl FnOnce(&mut PolicyTerms)) -> PolicyTerms {
    let mut terms = terms.clone();
    change(&mut terms);
    terms
}

fn cut(seq: u64) -> Cut {
    Cut { seq, id: Some(Digest::of(b"the last")) }
}

#[test]
fn terms_that_no_reader_could_follow_are_refused() {
    let good = terms();
    let place = PolicyRef { seq: 1, id: Digest::of(b"p") };
    assert!(Policy::new(place, good.clone()).is_ok());
    let twice = good.owners[0].clone();
    let again = good.writers[0].clone();
    type Case = (&'static str, PolicyTerms, fn(&PolicyProblem) -> bool);
    let cases: Vec<Case> = vec![
        ("no owner", changed(&good, |t| t.owners.clear()), |p| matches!(p, PolicyProblem::NoOwner)),
        ("an owner twice", changed(&good, |t| t.owners.push(twice)), |p| {
            matches!(p, PolicyProblem::Twice(_))
        }),
        ("a writer twice", changed(&good, |t| t.writers.push(again)), |p| {
            matches!(p, PolicyProblem::Twice(_))
        }),
        (
            "a role without recipients",
            changed(&good, |t| drop(t.owners[0].recipients.insert(Role::Escrow, vec![]))),
            |p| matches!(p, PolicyProblem::NoRecipient { role: Role::Escrow, .. }),
        ),
        ("a role left out", changed(&good, |t| drop(t.owners[0].recipients.remove(&Role::Audit))), |p| {
            matches!(p, PolicyProblem::NoRecipient { role: Role::Audit, .. })
        }),
        (
            "a recipient that is none",
            changed(&good, |t| drop(t.owners[0].recipients.insert(Role::Audit, vec!["age1x".into()]))),
            |p| matches!(p, PolicyProblem::Recipient { .. }),
        ),
        ("a key that is none", changed(&good, |t| t.writers[0].key = "ssh-rsa AAAA".into()), |p| {
            matches!(p, PolicyProblem::Key { .. })
        }),
        ("the admin as a writer", changed(&good, |t| t.writers[0].id = WriterId::admin()), |p| {
            matches!(p, PolicyProblem::AdminWriter(_))
        }),
        ("a writer of policies", changed(&good, |t| t.writers[0].kinds.push(Kind::Policy)), |p| {
            matches!(p, PolicyProblem::AdminWriter(_))
        }),
        ("a cut without id", changed(&good, |t| t.writers[0].cut = Some(Cut { seq: 3, id: None })), |p| {
            matches!(p, PolicyProblem::BadCut(_))
        }),
        (
            "a cut before everything with an id",
            changed(&good, |t| t.writers[0].cut = Some(Cut { seq: 0, id: Some(Digest::of(b"")) })),
            |p| matches!(p, PolicyProblem::BadCut(_)),
        ),
    ];
    for (what, terms, expected) in cases {
        let problem = Policy::new(place, terms).expect_err(what);
        assert!(expected(&problem), "{what}: {problem}");
    }
}

#[test]
fn a_policy_follows_the_one_before_it_and_narrows_only_with_a_cut() {
    let first = terms();
    type Case = (&'static str, PolicyTerms, Option<fn(&PolicyProblem) -> bool>);
    let missing: fn(&PolicyProblem) -> bool = |p| matches!(p, PolicyProblem::CutMissing(_));
    let rotated = changed(&first, |t| t.writers[0].key = key(4).verifying_key().to_openssh());
    let retired = changed(&first, |t| t.writers[0].kinds.clear());
    let cases: Vec<Case> = vec![
        ("the same terms", first.clone(), None),
        ("a kind more", changed(&first, |t| t.writers[0].kinds.push(Kind::Escrow)), None),
        (
            "another writer",
            changed(&first, |t| t.writers.push(writer(&"h-2".parse().unwrap(), &key(9), &[], None))),
            None,
        ),
        ("other recipients", changed(&first, |t| t.owners[0] = owner(&owner_id())), None),
        ("another owner only", changed(&first, |t| t.owners[0] = owner(&"o-two".parse().unwrap())), None),
        (
            "a writer left out",
            changed(&first, |t| t.writers.clear()),
            Some(|p| matches!(p, PolicyProblem::WriterDropped(_))),
        ),
        ("another key, no cut", rotated.clone(), Some(missing)),
        ("another key with a cut", changed(&rotated, |t| t.writers[0].cut = Some(cut(7))), None),
        ("retired, no cut", retired.clone(), Some(missing)),
        (
            "retired before its first record",
            changed(&retired, |t| t.writers[0].cut = Some(Cut { seq: 0, id: None })),
            None,
        ),
    ];
    for (what, second, refused) in cases {
        let one = policy_record(None, first.clone());
        let mut policies = PolicyChain::default();
        policies.push(&one).unwrap();
        let pushed = policies.push(&policy_record(Some(&one), second));
        match refused {
            None => {
                pushed.unwrap_or_else(|problem| panic!("{what}: {problem}"));
                assert_eq!(policies.iter().count(), 2, "{what}");
            }
            Some(expected) => {
                let problem = pushed.expect_err(what);
                assert!(expected(&problem), "{what}: {problem}");
                assert_eq!(policies.iter().count(), 1, "{what}: the chain is as before");
            }
        }
    }
    // A cut that an older policy made does not do for another narrowing.
    let rotated = changed(&rotated, |t| t.writers[0].cut = Some(cut(7)));
    let again = changed(&rotated, |t| t.writers[0].key = key(5).verifying_key().to_openssh());
    let (one, mut policies) = (policy_record(None, first), PolicyChain::default());
    let two = policy_record(Some(&one), rotated);
    policies.push(&one).unwrap();
    policies.push(&two).unwrap();
    assert_eq!(policies.push(&policy_record(Some(&two), again)), Err(PolicyProblem::CutMissing(host())));
}

#[test]
fn a_policy_names_its_predecessor_as_its_policy() {
    let (first, other) = (policy_record(None, terms()), policy_record(None, terms()));
    let mut policies = PolicyChain::default();
    let orphan = policy_record(Some(&first), terms());
    assert_eq!(policies.push(&orphan), Err(PolicyProblem::NotSuccessor));
    policies.push(&first).unwrap();
    for signed in [&first, &other, &policy_record(Some(&other), terms())] {
        assert_eq!(policies.push(signed), Err(PolicyProblem::NotSuccessor));
    }
}

#[test]
fn a_record_counts_under_the_policy_that_it_names_and_no_other() {
    let first = terms();
    let last = cut(4);
    let second = changed(&first, |t| {
        t.writers[0] = writer(&host(), &key(4), &[Kind::Snapshot, Kind::Proof], Some(last));
    });
    let policies = chain(&[first, second.clone(), changed(&second, |t| t.writers[0].kinds.reverse())]);
    let (one, two, three) = (place(&policies, 1), place(&policies, 2), place(&policies, 3));
    let nowhere = PolicyRef { seq: 2, id: Digest::of(b"another") };
    let of_kind = |kind, policy| Record { kind, ..record(2, Some(Digest::of(b"")), policy) };
    let at = |seq, policy| record(seq, Some(Digest::of(b"")), policy);
    type Case = (&'static str, Record, u8, Option<PolicyRef>, Result<(), PolicyProblem>);
    let cases: Vec<Case> = vec![
        ("under the first", at(2, one), 3, None, Ok(())),
        ("before the cut, under the first", at(3, one), 3, Some(one), Ok(())),
        ("with the new key under the second", at(5, two), 4, Some(one), Ok(())),
        ("with the new key, and below the cut", at(2, two), 4, None, Ok(())),
        ("a cut that is only repeated cuts nothing more", at(9, two), 4, Some(two), Ok(())),
        ("of a new kind under the second", of_kind(Kind::Proof, two), 4, None, Ok(())),
        ("no such policy", at(2, nowhere), 3, None, Err(PolicyProblem::UnknownPolicy)),
        ("an older policy than before", at(3, one), 3, Some(two), Err(PolicyProblem::OlderPolicy)),
        (
            "a kind not allowed yet",
            of_kind(Kind::Proof, one),
            3,
            None,
            Err(PolicyProblem::KindNotAllowed(Kind::Proof)),
        ),
        ("the old key under the new policy", at(5, three), 3, None, Err(PolicyProblem::OtherKey)),
        ("the new key under the old policy", at(2, one), 4, None, Err(PolicyProblem::OtherKey)),
        ("the old key beyond the cut", at(5, one), 3, Some(one), Err(PolicyProblem::BeyondCut(4))),
        ("another record at the cut", at(4, one), 3, Some(one), Err(PolicyProblem::NotTheCut(4))),
        (
            "another writer",
            Record { writer: "h-two".parse().unwrap(), ..at(2, one) },
            3,
            None,
            Err(PolicyProblem::UnknownWriter),
        ),
    ];
    for (what, record, by, before, expected) in cases {
        assert_eq!(policies.judge(&sign(record, by), before), expected, "{what}");
    }
    assert_eq!(policies.keys_of(&host()), [key(3).verifying_key(), key(4).verifying_key()]);
}

#[test]
fn a_cut_holds_though_a_later_policy_no_longer_repeats_it() {
    let first = terms();
    let retired = changed(&first, |t| t.writers[0] = writer(&host(), &key(3), &[], Some(cut(4))));
    let back = changed(&first, |t| t.writers[0].cut = None);
    let policies = chain(&[first, retired, back]);
    let judged = policies.judge(&sign(record(5, Some(Digest::of(b"")), place(&policies, 1)), 3), None);
    assert_eq!(judged, Err(PolicyProblem::BeyondCut(4)));
    let judged = policies.judge(&sign(record(5, Some(Digest::of(b"")), place(&policies, 3)), 3), None);
    assert_eq!(judged, Ok(()));
}

#[test]
fn objects_are_held_to_the_recipients_of_their_owner_and_class() {
    let terms = terms();
    let policies = chain(std::slice::from_ref(&terms));
    let with = |objects: Vec<ObjectEntry>| {
        let record = Record { objects, ..record(1, None, place(&policies, 1)) };
        policies.judge(&sign(record, 3), None)
    };
    let good = object(&terms, "a");
    assert_eq!(with(vec![good.clone(), object(&terms, "b")]), Ok(()));
    let other_class = ObjectEntry { class: Class::Secret, ..good.clone() };
    assert_eq!(with(vec![other_class]), Err(PolicyProblem::OtherRecipients(good.name)));
    let stranger = RecipientSetId::of(&owner_id(), Class::Machine, &[NewIdentity::generate().recipient()]);
    let resealed = ObjectEntry { recipients: stranger, ..good.clone() };
    assert_eq!(with(vec![resealed]), Err(PolicyProblem::OtherRecipients(good.name)));
    let foreign = ObjectEntry { owner: "o-two".parse().unwrap(), ..good.clone() };
    assert_eq!(with(vec![foreign]), Err(PolicyProblem::UnknownOwner("o-two".into())));
    assert_eq!(with(vec![good.clone(), good.clone()]), Err(PolicyProblem::ObjectTwice(good.name)));
}

#[test]
fn a_vault_head_is_refused_for_each_rule_that_it_breaks() {
    let keys: Vec<String> = [1, 2].map(|n| key(n).verifying_key().to_openssh()).to_vec();
    let head = |format: &str, v: u32, admins: &[String]| {
        let head = VaultHead {
            format: format.to_owned(),
            v,
            admins: admins.to_vec(),
            created: Time::from_unix_seconds(0),
            nonce: "00".repeat(16),
        };
        serde_json::to_vec(&head).unwrap()
    };
    let good = head(VAULT_FORMAT, 1, &keys);
    let (_, found) = parse_head(&good, &VaultId::of(&good)).unwrap();
    assert_eq!(found, [key(1).verifying_key(), key(2).verifying_key()]);
    let refusal = |bytes: &[u8]| parse_head(bytes, &VaultId::of(bytes)).unwrap_err();
    assert!(matches!(parse_head(&good, &vault()).unwrap_err(), BadHead::OtherVault { .. }));
    assert!(matches!(refusal(&head("borg", 1, &keys)), BadHead::OtherFormat(f) if f == "borg"));
    assert!(matches!(refusal(&head(VAULT_FORMAT, 2, &keys)), BadHead::NewerVersion(2)));
    assert!(matches!(refusal(&head(VAULT_FORMAT, 1, &keys[..1])), BadHead::TooFewAdmins(1)));
    let same = [keys[0].clone(), format!("{} a comment", keys[0])];
    assert!(matches!(refusal(&head(VAULT_FORMAT, 1, &same)), BadHead::TooFewAdmins(1)));
    assert!(matches!(refusal(&head(VAULT_FORMAT, 1, &["x".into(), "y".into()])), BadHead::Key(_)));
    let text = String::from_utf8(good).unwrap();
    for bad in [
        text.replace("\"v\":1", "\"v\":1,\"v\":1"),
        text.replace("\"v\":1", "\"v\":1,\"more\":1"),
        text[1..].to_owned(),
        format!("{text}x"),
    ] {
        assert!(matches!(refusal(bad.as_bytes()), BadHead::Json(_)), "{bad}");
    }
}
