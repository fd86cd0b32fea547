use std::sync::Arc;

use lifeboat_schema::{Digest, Pairing};

use super::super::facts::GivenDisk;
use super::super::fixture::{head, shielded};
use super::*;

fn with(heads: &[DiskHeadEntry]) -> Circumstances {
    let disk = |head: &DiskHeadEntry| GivenDisk { path: "d".to_owned(), head: Ok(Box::new(head.clone())) };
    Circumstances { disks: heads.iter().map(disk).collect(), ..Circumstances::default() }
}

/// Captures at 1000, 2000, 3000: the generation changes at 2000, the TPM protector at 3000.
fn history() -> Vec<Found> {
    vec![
        shielded(1_000, head("a", "one", "tpm-1", 900)),
        shielded(2_000, head("a", "two", "tpm-1", 1_900)),
        shielded(3_000, head("a", "three", "tpm-2", 2_900)),
    ]
}

fn chosen(found: &[Found], given: &Circumstances) -> (i64, Rule) {
    let (found, rule) = choose_for(found, given).unwrap();
    (found.entry.captured.unix_seconds(), rule)
}

#[test]
fn the_disk_decides() {
    let all = history();
    let check = |head, captured, rule| assert_eq!(chosen(&all, &with(&[head])), (captured, rule));
    check(head("a", "one", "tpm-1", 900), 1_000, Rule::SameMetadata);
    check(head("a", "three", "tpm-2", 2_900), 3_000, Rule::SameMetadata);
    // Its very metadata was never captured.
    check(head("a", "between", "tpm-1", 1_600), 2_000, Rule::NearestWithSameTpm);
    check(head("a", "between", "tpm-1", 1_000), 1_000, Rule::NearestWithSameTpm);
    check(head("a", "newer", "tpm-2", 9_000), 3_000, Rule::NearestWithSameTpm);
    check(head("a", "newer", "tpm-9", 9_000), 3_000, Rule::NewestWithDisk);
    check(head("b", "stranger", "tpm-1", 1_000), 3_000, Rule::Newest);
}

#[test]
fn equal_metadata_in_several_captures_takes_the_newest_of_them() {
    let mut all = history();
    all.push(shielded(2_500, head("a", "two", "tpm-1", 1_900)));
    assert_eq!(chosen(&all, &with(&[head("a", "two", "tpm-1", 1_900)])), (2_500, Rule::SameMetadata));
    // A second disk of the VM that fits worse is what counts.
    assert_eq!(vms_of_disks(&all, &with(&[head("a", "x", "y", 0)])), ["0a1b"]);
    assert!(vms_of_disks(&all, &with(&[head("b", "x", "y", 0)])).is_empty());
}

#[test]
fn without_disks_it_is_the_newest_against_which_nothing_is_known() {
    let mut all = history();
    assert_eq!(chosen(&all, &with(&[])), (3_000, Rule::Newest));
    let tear = |found: &mut Found| Arc::make_mut(&mut found.entry).vm.pairing = Pairing::Torn;
    tear(&mut all[2]);
    assert_eq!(chosen(&all, &with(&[])), (2_000, Rule::NewestWithoutObstacle));
    tear(&mut all[0]);
    tear(&mut all[1]);
    assert_eq!(chosen(&all, &with(&[])), (3_000, Rule::NewestOfAll));
    assert!(choose_for(&[], &with(&[])).is_none());
}

#[test]
fn of_one_capture_the_record_that_made_it_is_taken() {
    let made = shielded(1_000, head("a", "one", "tpm-1", 900));
    let mut repeated = made.clone();
    let record = Arc::make_mut(&mut repeated.record);
    (record.seq, record.finished) = (7_000, Time::from_unix_seconds(7_000));
    repeated.record_id = Digest::of(b"another");
    let (found, _) = choose_for(&[repeated, made.clone()], &with(&[])).unwrap();
    assert_eq!(found.record.seq, made.record.seq);
}
