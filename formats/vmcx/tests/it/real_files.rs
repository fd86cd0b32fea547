//! Files of Hyper-V and of another writer, when they are at hand.

use crate::support::{every_damage, patch_log_header, test_data};
use lifeboat_vmcx::layout::{FIRST_OBJECT_TABLE_OFFSET, RawLogEntry};
use lifeboat_vmcx::{
    BlobKind, ConfigurationVersion, Container, ControllerKind, FileTime, Generation, Node, Remark,
    Repository, Value, VmConfiguration, VmcxWriter, Wholeness, find_blob,
};
use serde_json::{Map, Value as Json, json};
use std::time::Instant;
use zerocopy::FromBytes;

const LIMIT_BYTES: usize = 1 << 20;

/// The tree in the form of the other reader's dump, which keeps the last of several siblings of one name.
fn as_json(node: Node<'_>) -> Json {
    match node.value() {
        Value::Node => Json::Object(
            node.children().map(|child| (child.name().to_owned(), as_json(child))).collect::<Map<_, _>>(),
        ),
        Value::Int(number) => json!(number),
        Value::UInt(number) => json!(number),
        Value::String(text) => json!(text),
        Value::Bool(truth) => json!(truth),
        Value::Array(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "__bytes_len": bytes.len(), "hex": hex })
        }
        other => panic!("the dump has no form for {other:?}"),
    }
}

/// The dump shows arrays at some places as plain hex.
fn same(ours: &Json, theirs: &Json, path: &str) {
    match (ours, theirs) {
        (Json::Object(ours), Json::Object(theirs)) if !ours.contains_key("__bytes_len") => {
            let names =
                |map: &Map<String, Json>| map.keys().cloned().collect::<std::collections::BTreeSet<_>>();
            assert_eq!(names(ours), names(theirs), "{path}");
            for (name, value) in ours {
                same(value, &theirs[name], &format!("{path}/{name}"));
            }
        }
        (Json::Object(ours), Json::String(hex)) => assert_eq!(ours["hex"], json!(hex), "{path}"),
        _ => assert_eq!(ours, theirs, "{path}"),
    }
}

#[test]
fn trees_equal_the_dumps_of_another_reader() {
    for name in ["dissect-test.vmcx", "dissect-test.vmrs"] {
        let (Some(bytes), Some(dump)) = (test_data(name), test_data(&format!("{name}.dissect.json"))) else {
            return;
        };
        let container = Container::open(&bytes[..]).expect("a whole file");
        let dump: Json = serde_json::from_slice(&dump).expect("JSON");
        same(&as_json(container.tree().root()), &dump, "");
    }
}

#[test]
fn real_files_are_whole() {
    for name in [
        "dissect-test.vmcx",
        "dissect-test.vmrs",
        "synth-openvmm-shielded.vmcx",
        "synth-openvmm-shielded.vmrs",
    ] {
        let Some(bytes) = test_data(name) else { return };
        let report = Container::inspect(&bytes[..]).expect("a slice").report;
        assert_eq!(report.wholeness, Wholeness::Whole, "{name}: {:?}", report.corruptions);
        let odd = report.remarks.iter().find(|remark| !matches!(remark, Remark::SameName { .. }));
        assert_eq!(odd, None, "{name}");
    }
}

#[test]
fn real_siblings_may_share_a_name() {
    let Some(bytes) = test_data("dissect-test.vmrs") else { return };
    let container = Container::open(&bytes[..]).expect("a whole file");
    let metrics = container.tree().get("/configuration/global_settings/metrics").expect("metrics");
    assert_eq!(metrics.children().map(|child| child.name()).collect::<Vec<_>>(), ["devicetype"; 3]);
    let guids: Vec<_> = metrics.children().filter_map(|child| child.child("guid")?.as_str()).collect();
    assert_eq!(guids.len(), 3);
    assert_eq!(metrics.get("devicetype/guid").and_then(|guid| guid.as_str()), Some(guids[0]));
    assert_eq!(guids[2], "83F8638B-8DCA-4152-9EDA-2CA8B33039B4");
}

#[test]
fn view_of_a_real_configuration() {
    let Some(bytes) = test_data("dissect-test.vmcx") else { return };
    let container = Container::open(&bytes[..]).expect("a whole file");
    let view = VmConfiguration::read(&container).expect("a slice");
    assert_eq!(view.unexpected, []);
    assert_eq!(view.vm_id.as_ref().map(|id| id.as_str()), Some("282874fc-59d6-4f30-bc04-5fdd909c82e0"));
    assert_eq!(view.logical_id, view.vm_id);
    assert_eq!(view.name.as_deref(), Some("Other Location"));
    assert_eq!(view.notes.as_deref(), Some(""));
    assert_eq!(view.generation, Some(Generation::One));
    assert_eq!(view.version, Some(ConfigurationVersion { major: 9, minor: 0 }));
    assert_eq!(view.type_id.as_deref(), Some("Virtual Machines"));
    assert_eq!(view.creation_time, Some(FileTime(0x01d7_979e_6645_6ea7)));
    assert_eq!(view.creation_time.map(|time| time.unix_seconds() / 86400), Some(18_861));
    // 18,861 days are 2021-08-22.
    assert_eq!(view.devices.len(), 37);
    assert!(!view.has_vtpm_device());
    let drives: Vec<_> = view
        .disks
        .iter()
        .map(|disk| {
            let kind = disk.drive_type.as_ref().map_or("", |kind| &kind.0);
            (
                disk.controller.to_string(),
                disk.controller_number,
                disk.drive_number,
                kind,
                disk.path.is_some(),
            )
        })
        .collect();
    let ide = || "IDE".to_owned();
    assert_eq!(
        drives,
        [
            (ide(), 0, 0, "VHD", true),
            (ide(), 0, 1, "NONE", false),
            (ide(), 1, 0, "ISO", false),
            (ide(), 1, 1, "NONE", false),
            ("floppy".to_owned(), 0, 0, "VFD", false),
        ]
    );
    let paths: Vec<_> = view.hard_disks().filter_map(|disk| disk.path.as_deref()).collect();
    assert_eq!(paths, [r"C:\Users\Public\Documents\Hyper-V\Virtual Hard Disks\Other Location.vhdx"]);
    assert_eq!(
        view.guest_state_path.as_deref(),
        Some(r"C:\Hyper-V\EasyToFind\Virtual Machines\282874FC-59D6-4F30-BC04-5FDD909C82E0.vmgs")
    );
    assert_eq!(view.secure_boot_enabled, Some(false));
    assert!(view.secure_boot_template_id.is_some_and(|template| template.is_nil()));
    assert_eq!(view.network_adapters.len(), 1);
    assert_eq!(view.network_adapters[0].name.as_deref(), Some("Network Adapter"));
    assert_eq!(view.network_adapters[0].mac_address.as_deref(), Some("00-00-00-00-00-00"));
    assert_eq!(view.network_adapters[0].mac_is_static, Some(false));
    assert_eq!(view.network_adapters[0].switch_name, None);
    assert!(view.security.is_empty());
}

#[test]
fn view_of_a_real_runtime_state() {
    let Some(bytes) = test_data("dissect-test.vmrs") else { return };
    let container = Container::open(&bytes[..]).expect("a whole file");
    let mut view = VmConfiguration::read(&container).expect("a slice");
    assert_eq!(view.version.take(), Some(ConfigurationVersion { major: 9, minor: 0 }));
    assert_eq!(view, VmConfiguration::default());
}

#[test]
fn shielded_files_of_another_writer() {
    let (Some(vmcx), Some(vmrs)) =
        (test_data("synth-openvmm-shielded.vmcx"), test_data("synth-openvmm-shielded.vmrs"))
    else {
        return;
    };
    let vmcx = Container::open(&vmcx[..]).expect("a whole file");
    let vmrs = Container::open(&vmrs[..]).expect("a whole file");
    let configuration = VmConfiguration::read(&vmcx).expect("a slice");
    assert_eq!(configuration.unexpected, []);
    assert_eq!(configuration.generation, Some(Generation::Two));
    assert_eq!(configuration.version.map(|version| version.to_string()).as_deref(), Some("10.0"));
    // Strings of this writer end with a NUL.
    assert_eq!(configuration.name.as_deref(), Some("synthetic-shielded"));
    assert_eq!(configuration.secure_boot_enabled, Some(true));
    let security = &configuration.security;
    assert_eq!(security.tpm_enabled, Some(true));
    assert_eq!(security.shielding_requested, Some(true));
    assert_eq!(security.encrypt_state_migration, Some(true));
    assert_eq!(security.data_protection_requested, Some(true));
    assert_eq!(security.ksd_enabled, Some(false));
    assert_eq!(security.vbs_opt_out, Some(false));
    assert_eq!(security.blobs, []);
    // Its manifest is missing, so that the controller's class is not known.
    let disk = configuration.hard_disks().next().expect("a disk");
    assert_eq!(disk.controller, ControllerKind::Other(None));
    assert_eq!(disk.path.as_deref(), Some(r"C:\VMs\s\Virtual Hard Disks\os.vhdx"));

    let state = VmConfiguration::read(&vmrs).expect("a slice");
    assert_eq!(state.version, configuration.version);
    assert_eq!(state.security.tpm_enabled, None);
    let files = [(Repository::Vmcx, security), (Repository::Vmrs, &state.security)];
    let pattern = |factor: usize, size: usize| (0..size).map(|at| (factor * at) as u8).collect::<Vec<_>>();
    for (kind, expected) in [
        (BlobKind::KeyProtector, pattern(7, 5000)),
        (BlobKind::LastKnownGoodKeyProtector, pattern(7, 5000)),
        (BlobKind::VtpmNvram, pattern(13, 40_000)),
        (BlobKind::VtpmNvramHash, vec![0; 32]),
        (BlobKind::SecurityPolicy, vec![1, 2, 3, 4]),
    ] {
        let found = find_blob(kind, &files);
        assert_eq!(found.len(), 1, "{kind:?}");
        assert_eq!(found[0].repository, Repository::Vmrs);
        assert_eq!(found[0].blob.path, kind.path());
        assert_eq!(found[0].blob.size_bytes(), expected.len() as u64);
        assert!(found[0].blob.read(&vmrs, LIMIT_BYTES).expect("readable") == expected, "{kind:?}");
        assert!(found[0].blob.read(&vmrs, expected.len() - 1).is_err(), "{kind:?}");
    }
    assert!(find_blob(BlobKind::EncryptedPolicy, &files).is_empty());
    assert_eq!(state.security.unknown_keys, []);
}

#[test]
fn real_files_survive_a_rewrite() {
    for name in [
        "dissect-test.vmcx",
        "dissect-test.vmrs",
        "synth-openvmm-shielded.vmcx",
        "synth-openvmm-shielded.vmrs",
    ] {
        let Some(bytes) = test_data(name) else { return };
        let original =
            Container::open(&bytes[..]).expect("a whole file").to_builder(LIMIT_BYTES).expect("readable");
        let rewritten = VmcxWriter::new().encode(&original).expect("a tree that exists");
        let again = Container::open(&rewritten[..]).expect("our own file");
        assert!(again.to_builder(LIMIT_BYTES).expect("readable") == original, "{name}");
    }
}

/// Makes the last commit of a real file pending again: entries that still equal their destination are moved to the front of
/// the log, and their destinations are zeroed.
fn make_dirty(original: &[u8], log: usize, still_equal: &[usize]) -> Vec<u8> {
    let mut dirty = original.to_vec();
    for (to, &from) in still_equal.iter().enumerate() {
        let entry = original[log + 34 + 28 * from..][..28].to_vec();
        let raw = RawLogEntry::read_from_bytes(&entry).expect("28 bytes");
        let (offset, size) = (raw.file_offset.get() as usize, raw.size.get() as usize);
        let data = &original[log + raw.data_offset.get() as usize..][..size];
        assert!(original[offset..offset + size] == *data, "entry {from} is superseded");
        dirty[offset..offset + size].fill(0);
        dirty[log + 34 + 28 * to..][..28].copy_from_slice(&entry);
    }
    patch_log_header(&mut dirty, log, |header| header.current_entries = (still_equal.len() as u32).into());
    dirty
}

#[test]
fn replay_brings_real_files_back() {
    for (name, log, entries) in
        [("dissect-test.vmcx", 0xa000, &[0, 2, 5, 6, 7, 8][..]), ("dissect-test.vmrs", 0x8000, &[0, 1, 2])]
    {
        let Some(original) = test_data(name) else { return };
        let expected = Container::open(&original[..]).expect("a whole file");
        for count in 1..=entries.len() {
            let dirty = make_dirty(&original, log, &entries[..count]);
            let inspection = Container::inspect(&dirty[..]).expect("a slice");
            let pending_entries = count as u32;
            assert_eq!(inspection.report.wholeness, Wholeness::Dirty { pending_entries }, "{name}");
            let container = inspection.container.expect("readable");
            assert!(container.tree() == expected.tree(), "{name} with {count} entries");
            // Byte by byte, but for the log, whose header says how much is pending.
            let first = FIRST_OBJECT_TABLE_OFFSET as usize;
            let mut replayed = vec![0; original.len() - first];
            container.read_at(first as u64, &mut replayed).expect("inside the file");
            let log_area = log - first..log - first + 0x1000;
            for (at, (ours, theirs)) in replayed.iter().zip(&original[first..]).enumerate() {
                assert!(ours == theirs || log_area.contains(&at), "{name}: byte {}", at + first);
            }
        }
        // Without replay the zeroed tables would be noticed.
        let mut unreplayed = make_dirty(&original, log, entries);
        patch_log_header(&mut unreplayed, log, |header| header.current_entries = 0.into());
        assert!(Container::open(&unreplayed[..]).is_err(), "{name}");
    }
}

#[test]
fn applied_entries_are_not_replayed() {
    let Some(original) = test_data("dissect-test.vmcx") else { return };
    // Entry 3 holds an older key table 8; applying it would change the tree or break it.
    let mut wrong = original.clone();
    patch_log_header(&mut wrong, 0xa000, |header| header.current_entries = 4.into());
    let expected = Container::open(&original[..]).expect("a whole file");
    let replayed = Container::open(&wrong[..]);
    assert!(replayed.is_err() || replayed.is_ok_and(|container| container.tree() != expected.tree()));
}

#[test]
fn every_flip_of_a_real_file_is_refused_or_harmless() {
    for name in ["dissect-test.vmcx", "dissect-test.vmrs"] {
        let Some(original) = test_data(name) else { return };
        let all_bits = every_damage(name, &original, original.len(), |which, copy| {
            copy[which] ^= 0xff;
            copy.len()
        });
        // Key entries without slack make up most of the tables.
        assert!(all_bits.refused.len() > 10_000, "{name}");
        // Where that matters, one bit at a time matters too.
        let one_bit = every_damage(name, &original, all_bits.refused.len(), |which, copy| {
            copy[all_bits.refused[which]] ^= 1 << (which % 8);
            copy.len()
        });
        println!(
            "{name}: all bits of a byte: {} refused, {} harmless; one bit: {} refused, {} harmless",
            all_bits.refused.len(),
            all_bits.harmless,
            one_bit.refused.len(),
            one_bit.harmless
        );
    }
}

#[test]
fn every_truncation_of_a_real_file_is_refused_or_harmless() {
    for (name, must_refuse) in [("dissect-test.vmcx", 0x14000), ("dissect-test.vmrs", 0x8022)] {
        let Some(original) = test_data(name) else { return };
        let outcomes = every_damage(name, &original, original.len(), |which, _| which);
        // The log of the VMRS lies at its end and has nothing pending.
        assert_eq!(outcomes.refused.len(), must_refuse, "{name}");
    }
}

#[test]
fn a_cut_log_is_remarked() {
    let Some(original) = test_data("dissect-test.vmrs") else { return };
    let report = Container::inspect(&original[..original.len() - 1]).expect("a slice").report;
    assert!(report.remarks.contains(&Remark::AppliedLogCut { index: 2 }), "{:?}", report.remarks);
}

#[test]
fn a_configuration_is_read_quickly() {
    let Some(bytes) = test_data("dissect-test.vmcx") else { return };
    let mut samples: Vec<_> = (0..200)
        .map(|_| {
            let start = Instant::now();
            let container = Container::open(&bytes[..]).expect("a whole file");
            let parsed = start.elapsed();
            let view = VmConfiguration::read(&container).expect("a slice");
            assert!(view.vm_id.is_some());
            let viewed = start.elapsed();
            let tree = container.to_builder(LIMIT_BYTES).expect("readable");
            let start = Instant::now();
            VmcxWriter::new().encode(&tree).expect("a tree that exists");
            (viewed, parsed, start.elapsed())
        })
        .collect();
    samples.sort_unstable();
    let (viewed, parsed, written) = samples[samples.len() / 2];
    println!(
        "median of one 80 KiB VMCX: parsed {parsed:?}, parsed and viewed {viewed:?}, written {written:?}"
    );
    // The target is 0.3 ms in release; this is for a debug build on a busy machine.
    assert!(viewed.as_millis() < 50);
}
