use lifeboat_schema::{Layout, PolicyRef, RECORD_VERSION, VaultId, VmRecord};

use super::*;

fn at(seconds: i64) -> Time {
    Time::from_unix_seconds(1_700_000_000 + seconds)
}

fn vm(name: &str, place: &str) -> VmRecord {
    VmRecord::unexplored(format!("id-of-{}", name.to_lowercase()), name, Layout::Live, place)
}

/// The VM `name` in record `seq` of `host`, which was finished and captured at these seconds.
fn found(
    name: &str,
    host: &str,
    seq: u64,
    finished: i64,
    captured: i64,
    carried: Option<CarriedWhy>,
) -> Found {
    let record = Record {
        v: RECORD_VERSION,
        critical: vec![],
        vault: VaultId::of(b"vault"),
        writer: format!("h-{host}").parse().unwrap(),
        seq,
        prev: None,
        kind: Kind::Snapshot,
        policy: Some(PolicyRef { seq: 1, id: Digest::of(b"policy") }),
        seen: vec![],
        started: at(finished - 1),
        finished: at(finished),
        objects: vec![],
        subjects: BTreeMap::new(),
        terms: None,
    };
    let subject = SubjectId::random([1; 10]);
    let vm = vm(name, &format!("captured at {captured}"));
    let entry = VmEntry { subject, captured: at(captured), vm, artefacts: vec![] };
    Found {
        record_id: Digest::of(format!("{host} {seq}").as_bytes()),
        record: Arc::new(record),
        host: host.into(),
        entry: Arc::new(entry),
        carried,
    }
}

#[test]
fn a_vm_that_migrates_thirty_times_is_one_vm_and_its_carried_copy_never_wins() {
    let hosts = ["one", "two"];
    // What each host's newest record says of the VM.
    let mut newest: [Option<Found>; 2] = [None, None];
    let mut all = Vec::new();
    for step in 0..30u64 {
        let (here, there) = ((step % 2) as usize, ((step + 1) % 2) as usize);
        let now = i64::try_from(step).unwrap() * 100;
        newest[here] = Some(found("Alpha", hosts[here], step + 1, now + 10, now, None));
        if let Some(left) = newest[there].take() {
            // Its run ends after that of the host that has the VM, and only carries it forward.
            let captured = left.entry.captured.unix_seconds() - at(0).unix_seconds();
            newest[there] =
                Some(found("Alpha", hosts[there], step + 1, now + 20, captured, Some(CarriedWhy::Vanished)));
        }
        let told: Vec<Found> = newest.iter().flatten().cloned().collect();
        all.extend(told.iter().cloned());
        for order in [told.clone(), told.into_iter().rev().collect(), all.clone()] {
            let states = by_vm(order);
            let [state] = states.as_slice() else { panic!("{} VMs at step {step}", states.len()) };
            assert_eq!(&*state.newest.host, hosts[here], "step {step}");
            assert!(state.newest.carried.is_none(), "step {step}");
            assert_eq!(state.newest.entry.captured, at(now));
            let others: Vec<String> = if step == 0 { vec![] } else { vec![hosts[there].to_owned()] };
            assert_eq!(state.other_hosts, others, "step {step}");
            let carried =
                state.carried.as_ref().map(|carried| (carried.host.to_string(), carried.record.seq));
            assert_eq!(carried, others.first().map(|host| (host.clone(), step + 1)), "step {step}");
        }
        let chosen = choose(all.clone(), None).unwrap();
        assert!(chosen.carried.is_none() && &*chosen.host == hosts[here], "step {step}");
    }
}

#[test]
fn when_every_host_only_carries_it_the_newest_capture_is_shown_as_carried() {
    let states = by_vm(vec![
        found("Alpha", "one", 9, 900, 100, Some(CarriedWhy::Vanished)),
        found("Alpha", "two", 3, 500, 200, Some(CarriedWhy::Failed)),
    ]);
    assert_eq!(states.len(), 1);
    assert_eq!((&*states[0].newest.host, states[0].newest.carried), ("two", Some(CarriedWhy::Failed)));
}

#[test]
fn vms_are_sorted_by_name_and_told_apart_by_id() {
    let mut twin = found("beta", "one", 1, 10, 5, None);
    let mut entry = (*twin.entry).clone();
    entry.vm.vm_id = "id-of-another".to_owned();
    twin.entry = Arc::new(entry);
    let all = vec![found("Beta", "one", 1, 10, 5, None), found("alpha", "one", 1, 10, 5, None), twin];
    let names: Vec<(String, String)> = by_vm(all)
        .into_iter()
        .map(|state| (state.newest.entry.vm.name.clone(), state.newest.entry.vm.vm_id.clone()))
        .collect();
    let expected = [("alpha", "id-of-alpha"), ("beta", "id-of-another"), ("Beta", "id-of-beta")]
        .map(|(a, b)| (a.into(), b.into()));
    assert_eq!(names, expected);
}

#[test]
fn the_newest_capture_up_to_a_time_is_chosen_from_the_record_that_made_it() {
    // Captured in records 1 and 3; records 2 and 4 found it unchanged, and 5 carries it.
    let all = vec![
        found("Alpha", "one", 1, 110, 100, None),
        found("Alpha", "one", 2, 210, 100, None),
        found("Alpha", "one", 3, 310, 300, None),
        found("Alpha", "one", 4, 410, 300, None),
        found("Alpha", "one", 5, 510, 300, Some(CarriedWhy::Vanished)),
    ];
    let chosen = |at: Option<Time>| choose(all.clone(), at).map(|vm| (vm.record.seq, vm.carried));
    assert_eq!(chosen(None), Some((3, None)));
    assert_eq!(chosen(Some(at(300))), Some((3, None)));
    assert_eq!(chosen(Some(at(299))), Some((1, None)));
    assert_eq!(chosen(Some(at(100))), Some((1, None)));
    assert_eq!(chosen(Some(at(99))), None);
}

#[test]
fn of_two_captures_in_one_second_the_later_run_s_is_chosen() {
    let (older, mut newer) =
        (found("Alpha", "one", 1, 100, 100, None), found("Alpha", "one", 2, 100, 100, None));
    let mut entry = (*newer.entry).clone();
    entry.vm.place = "changed since".to_owned();
    newer.entry = Arc::new(entry);
    let stands = Found { carried: None, ..found("Alpha", "one", 3, 101, 100, None) };
    let stands = Found { entry: Arc::clone(&newer.entry), ..stands };
    for all in [vec![older.clone(), newer.clone(), stands.clone()], vec![stands, newer, older]] {
        assert_eq!(choose(all.clone(), None).unwrap().record.seq, 2);
        assert_eq!(by_vm(all).remove(0).newest.entry.vm.place, "changed since");
    }
}

#[test]
fn names_and_ids_are_matched_without_case_and_braces() {
    let mut vm = (*found("Alpha", "one", 1, 1, 1, None).entry).clone();
    vm.vm.vm_id = "0f3c11aa-0000-4000-8000-000000000001".to_owned();
    for wanted in
        ["alpha", "ALPHA", "0F3C11AA-0000-4000-8000-000000000001", "{0f3c11aa-0000-4000-8000-000000000001}"]
    {
        assert!(matches(&vm, wanted), "{wanted}");
    }
    for other in ["alph", "alpha ", "", "{}", "0f3c11aa"] {
        assert!(!matches(&vm, other), "{other}");
    }
}
