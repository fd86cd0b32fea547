use lifeboat_schema::{OwnerId, Pairing, VtpmAnswer};

use super::*;
use crate::facts::{Carried, VmFacts};

fn at(hour: i64) -> Time {
    Time::from_unix_seconds(1_767_225_600 + hour * 3600)
}

/// Hosts by the hours at which their newest run began and ended.
fn hosts(runs: &[(i64, i64)]) -> Vec<HostFacts> {
    let host = |(number, (began, ended)): (usize, &(i64, i64))| HostFacts {
        writer: format!("h-{number}").parse().unwrap(),
        name: format!("host-{number}"),
        last_run: (at(*began), at(*ended)),
        is_active: true,
    };
    runs.iter().enumerate().map(host).collect()
}

fn state(host: usize, captured: i64, carried: Option<(CarriedWhy, i64)>) -> StateFacts {
    StateFacts {
        host,
        owner: OwnerId::random([1; 10]),
        captured: at(captured),
        carried: carried.map(|(why, since)| Carried { why, since: at(since), error: None }),
        vm: VmFacts {
            vm_id: "vm".to_owned(),
            name: "vm".to_owned(),
            vtpm: VtpmAnswer::Held,
            not_understood: Vec::new(),
            pairing: Pairing::CapturedTogether,
            has_key_protector: true,
            addressed_to: None,
            last_known_good: None,
            disks: Vec::new(),
        },
    }
}

/// What is said of states, at hour 100: host and hour of the capture, presence, hour at which it was seen, the others.
#[track_caller]
fn check(
    runs: &[(i64, i64)],
    states: Vec<StateFacts>,
    counts: (usize, i64),
    presence: Presence,
    seen: i64,
    others: &[(usize, OtherWhat)],
) {
    let facts = Facts { hosts: hosts(runs), states, ..Facts::default() };
    let age = MaximumAge::default();
    let mut truths = truths(&facts, &age, at(30));
    assert_eq!(truths.len(), 1);
    let truth = truths.remove(0);
    assert_eq!((truth.state.host, truth.state.captured), (counts.0, at(counts.1)));
    assert_eq!((truth.presence, truth.seen), (presence, at(seen)));
    let found: Vec<_> = truth.others.iter().map(|(one, what)| (one.host, *what)).collect();
    assert_eq!(found, others);
}

const GONE: CarriedWhy = CarriedWhy::Vanished;

#[test]
fn one_host_alone() {
    check(&[(20, 21)], vec![state(0, 20, None)], (0, 20), Presence::Present, 20, &[]);
    // Unchanged for long, and looked at lately.
    check(&[(20, 21)], vec![state(0, 2, None)], (0, 2), Presence::Present, 20, &[]);
    let carried = |why| vec![state(0, 2, Some((why, 19)))];
    check(&[(20, 21)], carried(GONE), (0, 2), Presence::Vanished(at(19)), 2, &[]);
    check(&[(20, 21)], carried(CarriedWhy::Failed), (0, 2), Presence::Failed, 2, &[]);
}

#[test]
fn a_vm_that_moved_is_one_vm_and_did_not_vanish() {
    use OtherWhat::LeftBehind;
    let left = state(0, 2, Some((GONE, 20)));
    check(
        &[(20, 21), (20, 21)],
        vec![left.clone(), state(1, 20, None)],
        (1, 20),
        Presence::Present,
        20,
        &[(0, LeftBehind)],
    );
    // The host that it left has not run since.
    check(
        &[(10, 11), (20, 21)],
        vec![state(0, 2, None), state(1, 20, None)],
        (1, 20),
        Presence::Present,
        20,
        &[(0, LeftBehind)],
    );
    // It went back before the first host ran again: that one may have it.
    let back = state(1, 15, Some((GONE, 20)));
    check(
        &[(19, 19), (20, 21)],
        vec![left.clone(), back.clone()],
        (1, 15),
        Presence::Gone(at(20)),
        15,
        &[(0, LeftBehind)],
    );
    // ... and it does, unchanged since a capture older than the other host's.
    let states = vec![state(0, 2, None), back.clone()];
    check(&[(22, 23), (20, 21)], states, (0, 2), Presence::Present, 22, &[(1, LeftBehind)]);
    // ... and it does not.
    check(
        &[(22, 23), (20, 21)],
        vec![left.clone(), back.clone()],
        (1, 15),
        Presence::Vanished(at(20)),
        15,
        &[(0, LeftBehind)],
    );
    // A third host, which never had it, may have got it.
    check(
        &[(22, 23), (20, 21), (12, 13)],
        vec![left.clone(), back.clone()],
        (1, 15),
        Presence::Gone(at(20)),
        15,
        &[(0, LeftBehind)],
    );
    // A host that is silent for long may not.
    check(
        &[(22, 23), (20, 21), (-90, -90)],
        vec![left, back],
        (1, 15),
        Presence::Vanished(at(20)),
        15,
        &[(0, LeftBehind)],
    );
}

#[test]
fn what_two_hosts_have_at_one_time_is_a_replica() {
    check(
        &[(22, 23), (20, 21)],
        vec![state(0, 15, None), state(1, 20, None)],
        (1, 20),
        Presence::Present,
        20,
        &[(0, OtherWhat::Replica)],
    );
}

#[test]
fn a_carried_copy_never_counts_before_a_capture_of_the_same_time() {
    let states = vec![state(0, 20, Some((GONE, 21))), state(1, 20, None)];
    check(&[(22, 23), (20, 21)], states, (1, 20), Presence::Present, 20, &[(0, OtherWhat::LeftBehind)]);
}
