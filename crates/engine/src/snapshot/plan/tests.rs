use std::collections::BTreeSet;
use std::path::PathBuf;

use lifeboat_schema::{
    ArtefactKind, Class, Content, Layout, OwnerTerms, PolicyRef, PolicyTerms, RecipientSetId, Role,
    SubjectId, Time, VmRecord,
};
use lifeboat_vault::seal::NewIdentity;

use super::*;
use crate::source::{CaptureSink, DiscoveryProblem, FileStat, FoundFile, remember};

/// Full size of bundles; those below are far from it.
const BUNDLE_BYTES: u64 = 4 << 20;

/// The plan of a run that looks at everything.
fn made(
    discoveries: Discoveries,
    sources: &[Arc<dyn HostSource>],
    held: Vec<HeldVm>,
    intact: &HashMap<Digest, ObjectEntry>,
    policy: &Policy,
    vault: &VaultId,
    bundle_bytes: u64,
) -> Plan {
    make(discoveries, sources, held, intact, &Rules { policy, vault, bundle_bytes, only: None })
}

fn vault() -> VaultId {
    VaultId::of(b"vault")
}

fn policy(owners: &[(&str, Vec<VmSelector>)]) -> Policy {
    let recipients: BTreeMap<Role, Vec<String>> =
        Role::ALL.iter().map(|role| (*role, vec![NewIdentity::generate().recipient()])).collect();
    let owners = owners
        .iter()
        .map(|(id, vms)| OwnerTerms {
            id: id.parse().unwrap(),
            vms: vms.clone(),
            recipients: recipients.clone(),
        })
        .collect();
    let place = PolicyRef { seq: 1, id: Digest::of(b"policy") };
    Policy::new(place, PolicyTerms { owners, writers: vec![] }).unwrap()
}

fn everything() -> Policy {
    policy(&[("o-one", vec![VmSelector::All])])
}

fn found(id: &str, place: &str, size: u64) -> FoundVm {
    let stat = FileStat { size, modified_ns: 1, changed_ns: 1, file_id: 1 };
    let file = FoundFile {
        path: format!("Virtual Machines/{id}.vmcx"),
        location: PathBuf::from(place),
        kind: ArtefactKind::Configuration,
        stat,
    };
    FoundVm { vm_id: id.to_owned(), place: place.to_owned(), layout: Layout::Live, files: vec![file] }
}

fn name(what: &str) -> Digest {
    Digest::of(what.as_bytes())
}

/// A VM as the catalog holds it after `found` was captured into these bundles.
fn held(found: &FoundVm, bundles: &[&str]) -> HeldVm {
    HeldVm {
        key: found.vm_id.clone(),
        subject: SubjectId::random([0; 10]),
        vm_id: found.vm_id.clone(),
        name: format!("VM {}", found.vm_id),
        source: "vms".to_owned(),
        owner: "o-one".parse().unwrap(),
        owner_guardian: None,
        fingerprint: remember(found, b""),
        captured: Time::from_unix_seconds(5),
        carried_since: None,
        body: name("body"),
        bundles: bundles.iter().map(|bundle| name(bundle)).collect(),
    }
}

fn intact<'a>(held: impl IntoIterator<Item = &'a HeldVm>) -> HashMap<Digest, ObjectEntry> {
    let names = held.into_iter().flat_map(|vm| vm.bundles.iter().chain([&vm.body]).copied());
    names
        .map(|name| {
            let entry = ObjectEntry {
                name,
                content: Content::Bundle,
                class: Class::Machine,
                owner: "o-one".parse().unwrap(),
                size: 1,
                header: 1,
                payload: name,
                recipients: "0".repeat(32).parse::<RecipientSetId>().unwrap(),
            };
            (name, entry)
        })
        .collect()
}

/// A source that watches what is told, and finds it unchanged unless it begins with `!`.
struct Source;

impl HostSource for Source {
    fn name(&self) -> String {
        "vms".to_owned()
    }

    fn discover(&self) -> Result<Discovery, SourceError> {
        Ok(Discovery::default())
    }

    fn still_holds(&self, _: &FoundVm, watched: &[u8]) -> bool {
        !watched.starts_with(b"!")
    }

    fn capture(&self, vm: &FoundVm, _: &mut dyn CaptureSink) -> Result<VmRecord, SourceError> {
        Err(SourceError::Contradiction { place: vm.place.clone(), what: "a plan reads nothing".to_owned() })
    }
}

fn sources() -> Vec<Arc<dyn HostSource>> {
    vec![Arc::new(Source), Arc::new(Source)]
}

fn discovered(vms: Vec<FoundVm>) -> Discoveries {
    vec![("vms".to_owned(), Ok(Discovery { vms, problems: vec![] }))]
}

fn keys<'a>(vms: impl IntoIterator<Item = &'a HeldVm>) -> Vec<&'a str> {
    vms.into_iter().map(|vm| vm.key.as_str()).collect()
}

fn to_capture(plan: &Plan) -> Vec<(&str, bool)> {
    plan.changed.iter().map(|vm| (vm.key.as_str(), vm.held.is_some())).collect()
}

#[test]
fn what_stands_what_is_captured_and_what_is_carried() {
    let (same, grown, new, gone, lost) = (
        found("a", "/a", 1),
        found("b", "/b", 1),
        found("c", "/c", 1),
        found("d", "/d", 1),
        found("e", "/e", 1),
    );
    let all = vec![held(&same, &["x"]), held(&grown, &["x"]), held(&gone, &["y"]), held(&lost, &["missing"])];
    let there = intact(&all[..3]);
    let now = vec![same, found("b", "/b", 2), new];
    let plan = made(discovered(now), &sources(), all, &there, &everything(), &vault(), BUNDLE_BYTES);
    assert_eq!(plan.found, 3);
    assert_eq!(keys(&plan.standing), ["a"]);
    assert_eq!(to_capture(&plan), [("b", true), ("c", false)]);
    assert_eq!(keys(&plan.vanished), ["d"]);
    assert_eq!(plan.gone, ["e"], "what is neither found nor whole in the store is in no further record");
    assert_eq!(plan.dropped, ["VM e (e)"], "and that is told");
    assert!(plan.failed.is_empty() && plan.carried.is_empty());
}

#[test]
fn an_object_that_is_missing_has_its_vms_captured_anew() {
    let (one, two) = (found("a", "/a", 1), found("b", "/b", 1));
    let all = vec![held(&one, &["x", "y"]), held(&two, &["y"])];
    let mut there = intact(&all);
    there.remove(&name("x"));
    let plan = made(
        discovered(vec![one.clone(), two.clone()]),
        &sources(),
        all.clone(),
        &there,
        &everything(),
        &vault(),
        BUNDLE_BYTES,
    );
    assert_eq!((keys(&plan.standing), to_capture(&plan)), (vec!["b"], vec![("a", true)]));
    let mut there = intact(&all);
    there.remove(&name("body"));
    let plan =
        made(discovered(vec![one, two]), &sources(), all, &there, &everything(), &vault(), BUNDLE_BYTES);
    assert_eq!((keys(&plan.standing), to_capture(&plan)), (vec![], vec![("a", true), ("b", true)]));
}

#[test]
fn a_source_that_fails_carries_its_vms_and_no_other_source_s() {
    let (one, two) = (found("a", "/a", 1), found("b", "/b", 1));
    let mut all = vec![held(&one, &["x"]), held(&two, &["x"])];
    all[1].source = "cluster".to_owned();
    let there = intact(&all);
    let failure = SourceError::Contradiction { place: "/b".into(), what: "is not mounted".into() };
    let problem = DiscoveryProblem {
        place: "/a/odd".into(),
        error: SourceError::Contradiction { place: "/a/odd".into(), what: "is odd".into() },
    };
    let discoveries: Discoveries = vec![
        ("vms".to_owned(), Ok(Discovery { vms: vec![], problems: vec![problem] })),
        ("cluster".to_owned(), Err(failure)),
    ];
    let plan = made(discoveries, &sources(), all, &there, &everything(), &vault(), BUNDLE_BYTES);
    assert_eq!(keys(&plan.vanished), ["a"]);
    let carried: Vec<_> =
        plan.carried.iter().map(|(note, vm)| (vm.key.as_str(), note.why, note.since)).collect();
    assert_eq!(carried, [("b", CarriedWhy::Failed, Time::from_unix_seconds(5))]);
    let failed: Vec<&str> = plan.failed.iter().map(|failed| failed.place.as_str()).collect();
    assert_eq!(failed, ["/a/odd", "cluster"]);
}

#[test]
fn two_copies_of_one_vm_are_two_subjects_and_one_place_found_twice_is_told() {
    let (one, copy) = (found("a", "/one", 1), found("a", "/two", 1));
    let plan = made(
        discovered(vec![one.clone(), copy.clone(), copy]),
        &sources(),
        vec![],
        &HashMap::new(),
        &everything(),
        &vault(),
        BUNDLE_BYTES,
    );
    assert_eq!(to_capture(&plan), [("a", false), ("a@/two", false)]);
    assert_eq!(plan.failed.len(), 1);
    assert_eq!(plan.failed[0].place, "/two");
}

#[test]
fn a_vm_that_comes_back_or_changes_its_source_is_freshened() {
    let one = found("a", "/a", 1);
    let mut vm = held(&one, &["x"]);
    vm.carried_since = Some(Time::from_unix_seconds(3));
    let there = intact([&vm]);
    let plan = made(
        discovered(vec![one.clone()]),
        &sources(),
        vec![vm.clone()],
        &there,
        &everything(),
        &vault(),
        BUNDLE_BYTES,
    );
    assert_eq!((keys(&plan.standing), keys(&plan.freshened)), (vec!["a"], vec!["a"]));
    assert_eq!(plan.freshened[0].carried_since, None);
    (vm.carried_since, vm.source) = (None, "another".to_owned());
    let plan =
        made(discovered(vec![one]), &sources(), vec![vm], &there, &everything(), &vault(), BUNDLE_BYTES);
    assert_eq!(plan.freshened[0].source, "vms");
}

#[test]
fn the_first_owner_that_selects_a_vm_has_it() {
    let guardian = name("guardian");
    let policy = policy(&[
        ("o-guardian", vec![VmSelector::OwnerGuardian(guardian)]),
        (
            "o-names",
            vec![
                VmSelector::Name(VmSelector::name_digest(&vault(), "Payroll")),
                VmSelector::Name(VmSelector::name_digest(&vault(), "dc")),
            ],
        ),
        ("o-late", vec![VmSelector::Name(VmSelector::name_digest(&vault(), "dc"))]),
    ]);
    let cases = [
        ("web", Some(guardian), Some("o-guardian")),
        ("payroll", Some(guardian), Some("o-guardian")),
        ("PAYROLL", None, Some("o-names")),
        ("dc", Some(name("another")), Some("o-names")),
        ("web", None, None),
        ("payroll2", None, None),
    ];
    for (vm, guardian, expected) in cases {
        let owner = owner_of(&policy, &vault(), vm, guardian);
        assert_eq!(owner.as_ref().map(OwnerId::as_str), expected, "{vm}");
    }
    // A digest holds for one vault.
    assert_eq!(owner_of(&policy, &VaultId::of(b"another"), "dc", None), None);
}

#[test]
fn an_unchanged_vm_whose_owner_is_another_now_is_captured_anew() {
    let one = found("a", "/a", 1);
    let vm = held(&one, &["x"]);
    let there = intact([&vm]);
    let named = VmSelector::Name(VmSelector::name_digest(&vault(), &vm.name));
    let policy = policy(&[("o-two", vec![named]), ("o-one", vec![VmSelector::All])]);
    let plan = made(discovered(vec![one]), &sources(), vec![vm], &there, &policy, &vault(), BUNDLE_BYTES);
    assert_eq!(to_capture(&plan), [("a", true)]);
}

/// So many unchanged VMs, each in a bundle of its own; the last shares its bundle with ten more. With what
/// the store has of them: bundles grow with their numbers.
fn scattered(bundles: usize) -> (Vec<FoundVm>, Vec<HeldVm>, HashMap<Digest, ObjectEntry>) {
    let mut all = Vec::new();
    for number in 0..bundles + 10 {
        let vm = found(&format!("vm-{number:03}"), "/v", 1);
        let held = held(&vm, &[&bundle(number.min(bundles - 1))]);
        all.push((vm, held));
    }
    let (found, held): (Vec<FoundVm>, Vec<HeldVm>) = all.into_iter().unzip();
    let mut there = intact(&held);
    for number in 0..bundles {
        there.get_mut(&name(&bundle(number))).expect("it is there").size = 1000 + number as u64;
    }
    (found, held, there)
}

fn bundle(number: usize) -> String {
    format!("bundle-{number:03}")
}

fn planned(
    now: Vec<FoundVm>,
    all: Vec<HeldVm>,
    there: &HashMap<Digest, ObjectEntry>,
    bundle_bytes: u64,
) -> Plan {
    made(discovered(now), &sources(), all, there, &everything(), &vault(), bundle_bytes)
}

#[test]
fn what_cannot_be_read_hides_vms_and_the_rest_is_gone() {
    let unreadable = |place: &str| DiscoveryProblem {
        place: place.to_owned(),
        error: SourceError::Unreadable { place: place.to_owned(), source: std::io::Error::other("no") },
    };
    let vms = ["below", "around", "beside", "nowhere"].map(|id| found(id, "", 1));
    let mut all: Vec<HeldVm> = vms.iter().map(|vm| held(vm, &["x"])).collect();
    all.push(HeldVm { source: "cluster".to_owned(), ..held(&found("other", "", 1), &["x"]) });
    let there = intact(&all);
    let problems = vec![unreadable("/lost"), unreadable("/v/home/Virtual Machines")];
    let discoveries: Discoveries = vec![
        ("vms".to_owned(), Ok(Discovery { vms: vec![], problems })),
        ("cluster".to_owned(), Ok(Discovery::default())),
    ];
    let mut plan = made(discoveries, &sources(), all, &there, &everything(), &vault(), BUNDLE_BYTES);
    assert_eq!(plan.vanished.len(), 5);
    plan.carry_hidden(|vm| match vm.key.as_str() {
        "below" => Some("/lost/a/home".to_owned()),
        "around" => Some("/v/home".to_owned()),
        "beside" => Some("/lostandfound/home".to_owned()),
        "other" => Some("/lost/b".to_owned()),
        _ => None,
    });
    let carried: Vec<_> = plan
        .carried
        .iter()
        .map(|(note, vm)| (vm.key.as_str(), note.why, note.error.clone().unwrap_or_default()))
        .collect();
    assert_eq!(carried.len(), 2);
    for ((key, why, error), wanted) in carried.into_iter().zip(["around", "below"]) {
        assert_eq!((key, why), (wanted, CarriedWhy::Failed));
        assert!(error.contains("cannot be read: no"), "{error}");
    }
    assert_eq!(keys(&plan.vanished), ["beside", "nowhere", "other"]);
}

#[test]
fn vms_that_need_a_closer_look_have_bundles_to_empty_too() {
    let (now, all, there) = scattered(BUNDLES_PER_100_VMS + 1);
    let all: Vec<HeldVm> = now
        .iter()
        .zip(all)
        .map(|(found, held)| HeldVm { fingerprint: remember(found, b"!changed"), ..held })
        .collect();
    let plan = planned(now, all, &there, BUNDLE_BYTES);
    assert!(plan.standing.is_empty());
    let emptied = plan.changed.iter().filter(|vm| !vm.is_refreshable).count();
    assert_eq!(emptied, BUNDLES_PER_100_VMS + 1 - BUNDLES_PER_100_VMS / 2);
}

#[test]
fn few_bundles_are_left_as_they_are() {
    let (now, all, there) = scattered(BUNDLES_PER_100_VMS);
    let count = all.len();
    let plan = planned(now, all, &there, BUNDLE_BYTES);
    assert_eq!((plan.standing.len(), plan.changed.len()), (count, 0));
}

#[test]
fn too_many_small_bundles_are_emptied_the_smallest_first() {
    let (now, all, there) = scattered(BUNDLES_PER_100_VMS + 1);
    let plan = planned(now, all, &there, BUNDLE_BYTES);
    let left: BTreeSet<Digest> = plan.standing.iter().flat_map(|vm| vm.bundles.clone()).collect();
    let largest = (0..BUNDLES_PER_100_VMS + 1).rev().take(BUNDLES_PER_100_VMS / 2);
    assert_eq!(left, largest.map(|number| name(&bundle(number))).collect());
    assert_eq!(plan.changed.len(), BUNDLES_PER_100_VMS + 1 - left.len());
    // They are captured with what is held of them, so that a failure carries them, and may lend no emptied bundle.
    assert!(plan.changed.iter().all(|vm| vm.held.is_some()));
    assert_eq!(plan.reusable.len(), plan.changed.len());
    for (_, victims) in &plan.reusable {
        assert!(victims.len() == plan.changed.len() && victims.iter().all(|victim| !left.contains(victim)));
    }
}

#[test]
fn bundles_that_are_many_because_they_are_full_stay() {
    let (now, all, there) = scattered(3 * BUNDLES_PER_100_VMS);
    let count = all.len();
    let plan = planned(now.clone(), all.clone(), &there, 1000);
    assert_eq!((plan.standing.len(), plan.changed.len()), (count, 0));
    // Half full: half of them would do.
    let plan = planned(now, all, &there, 4000);
    let left: BTreeSet<Digest> = plan.standing.iter().flat_map(|vm| vm.bundles.clone()).collect();
    assert!((30..=40).contains(&left.len()), "{}", left.len());
}

#[test]
fn a_bundle_that_a_vanished_vm_needs_is_not_emptied() {
    let (mut now, mut all, there) = scattered(BUNDLES_PER_100_VMS + 1);
    // It shares the bundle of the first VM.
    let away = found("away", "/v", 1);
    all.push(held(&away, &["bundle-000"]));
    now.retain(|vm| vm.vm_id != "away");
    let plan = planned(now, all, &there, BUNDLE_BYTES);
    assert_eq!(keys(&plan.vanished), ["away"]);
    assert!(keys(&plan.standing).contains(&"vm-000"), "reading it again would free nothing");
    assert!(plan.changed.len() > 5);
}

#[test]
fn what_is_watched_decides_whether_a_vm_stands() {
    let one = found("one", "a", 1);
    let there = intact([&held(&one, &["bundle"])]);
    for (watched, stands) in [(b"same".as_slice(), true), (b"!changed".as_slice(), false)] {
        let vm = HeldVm { fingerprint: remember(&one, watched), ..held(&one, &["bundle"]) };
        let plan = made(
            discovered(vec![one.clone()]),
            &sources(),
            vec![vm],
            &there,
            &everything(),
            &vault(),
            BUNDLE_BYTES,
        );
        assert_eq!(plan.standing.len(), usize::from(stands));
        assert_eq!(
            plan.changed.iter().map(|vm| vm.is_refreshable).collect::<Vec<_>>(),
            vec![true; usize::from(!stands)]
        );
    }
    // The VM's own files changed too: a closer look would not suffice.
    let vm = HeldVm { fingerprint: remember(&found("one", "a", 2), b"!changed"), ..held(&one, &["bundle"]) };
    let plan =
        made(discovered(vec![one]), &sources(), vec![vm], &there, &everything(), &vault(), BUNDLE_BYTES);
    assert!(plan.standing.is_empty() && !plan.changed[0].is_refreshable);
}
