//! The typed view over trees of our own.

use lifeboat_vmcx::{
    BlobKind, Container, ControllerKind, Generation, Guid, KeyKind, Repository, SecurityState, TreeBuilder,
    Value, VmConfiguration, VmcxWriter, find_blob,
};

const SCSI: &str = "d422512d-2bf2-4752-809d-7b82b5fcb1b4";

fn view(tree: &TreeBuilder) -> VmConfiguration {
    let bytes = VmcxWriter::new().encode(tree).expect("no mistake");
    VmConfiguration::read(&Container::open(&bytes[..]).expect("a whole file")).expect("a slice")
}

#[test]
fn an_empty_tree_has_an_empty_view() {
    assert_eq!(view(&TreeBuilder::new()), VmConfiguration::default());
}

#[test]
fn disks_of_listed_controllers() {
    let mut tree = TreeBuilder::new();
    let controllers = [
        ("7d6f884f-489b-48eb-991e-e04ea1219d12", SCSI),
        ("11111111-2222-3333-4444-555555555555", "00000000-1111-2222-3333-444444444444"),
    ];
    for (number, (instance, class)) in controllers.iter().enumerate() {
        let vdev = format!("/configuration/manifest/vdev{number:03}");
        tree.put(&format!("{vdev}/device"), class.to_uppercase());
        tree.put(&format!("{vdev}/instance"), format!("{{{}}}", instance.to_uppercase()));
        for drive in [0, 12] {
            let node = format!("/configuration/_{instance}_/controller{number}/drive{drive}");
            tree.put(&format!("{node}/type"), "VHD");
            tree.put(&format!("{node}/pathname"), format!(r"D:\{number}-{drive}.vhdx"));
        }
    }
    // Names that only look like drives.
    let first = controllers[0].0;
    tree.put(&format!("/configuration/_{first}_/controllerX/drive0/type"), "VHD");
    tree.put(&format!("/configuration/_{first}_/controller/drive0/type"), "VHD");
    tree.put(&format!("/configuration/_{first}_/controller0/drive99999999999/type"), "VHD");
    tree.put("/configuration/_not-an-instance_/controller0/drive0/type", "VHD");
    let view = view(&tree);
    assert_eq!(view.unexpected, []);
    let other = Guid::parse(controllers[1].1);
    let found: Vec<_> = view
        .hard_disks()
        .map(|disk| (disk.controller.clone(), disk.controller_number, disk.drive_number))
        .collect();
    assert_eq!(
        found,
        [
            (ControllerKind::Scsi, 0, 0),
            (ControllerKind::Scsi, 0, 12),
            (ControllerKind::Other(other.clone()), 1, 0),
            (ControllerKind::Other(other), 1, 12),
        ]
    );
    assert_eq!(view.disks[1].path.as_deref(), Some(r"D:\0-12.vhdx"));
    assert_eq!(view.disks[1].instance.as_str(), first);
}

#[test]
fn missing_settings_stay_distinguishable() {
    let view = view(
        &TreeBuilder::new()
            .set("/configuration/security/settings/tpm_enabled", true)
            .set("/configuration/security/settings/ksd_enabled", false),
    );
    assert_eq!(view.security.tpm_enabled, Some(true));
    assert_eq!(view.security.ksd_enabled, Some(false));
    assert_eq!(view.security.shielding_requested, None);
    assert!(!view.security.is_empty());
}

#[test]
fn security_keys_of_any_file_are_found() {
    let vmcx = TreeBuilder::new()
        .set("/configuration/security/keys/key_protector", vec![0, 0, 0, 4])
        .set("/configuration/security/future/thing", 1)
        .set("/configuration/security/vtpm/vtpm_engine_nvram", "not an array");
    let vmrs = TreeBuilder::new().set("/configuration/security/keys/key_protector", vec![9; 5000]);
    let read = |tree| {
        let bytes = VmcxWriter::new().encode(&tree).expect("no mistake");
        SecurityState::of(Container::open(&bytes[..]).expect("a whole file").tree())
    };
    let (vmcx, vmrs) = (read(vmcx), read(vmrs));
    let found = find_blob(BlobKind::KeyProtector, &[(Repository::Vmcx, &vmcx), (Repository::Vmrs, &vmrs)]);
    let found: Vec<_> = found.iter().map(|found| (found.repository, found.blob.size_bytes())).collect();
    assert_eq!(found, [(Repository::Vmcx, 4), (Repository::Vmrs, 5000)]);
    let unknown: Vec<_> = vmcx.unknown_keys.iter().map(|key| (key.path.as_str(), key.kind)).collect();
    assert_eq!(
        unknown,
        [
            ("/configuration/security/future/thing", KeyKind::INT),
            ("/configuration/security/vtpm/vtpm_engine_nvram", KeyKind::STRING),
        ]
    );
    // Neither form shows bytes.
    assert!(!format!("{vmcx:?} {vmrs:?}").contains("9, 9"));
    assert!(format!("{vmcx:?}").contains("Inline(4 bytes)"));
}

#[test]
fn a_key_that_occurs_twice_is_found_twice() {
    let mut tree = TreeBuilder::new();
    tree.put("/configuration/security/keys/key_protector", vec![1; 16]);
    let keys = tree.put("/configuration/security/keys", Value::Node);
    tree.append(keys, "key_protector", vec![2; 16]);
    let view = view(&tree);
    assert_eq!(find_blob(BlobKind::KeyProtector, &[(Repository::Vmcx, &view.security)]).len(), 2);
    assert_eq!(view.security.blob(BlobKind::KeyProtector), view.security.blobs.first());
}

#[test]
fn values_of_the_wrong_kind_are_listed() {
    let view = view(
        &TreeBuilder::new()
            .set("/configuration/properties/name", 1)
            .set("/configuration/properties/global_id", "no GUID")
            .set("/configuration/properties/subtype", "1")
            .set("/configuration/properties/version", 0x1_0000)
            .set("/configuration/properties/creation_time", vec![1, 2, 3])
            .set("/configuration/security/settings/tpm_enabled", 1),
    );
    assert_eq!(
        (view.name, view.vm_id, view.generation, view.version, view.creation_time),
        (None, None, None, None, None)
    );
    let mut listed: Vec<_> =
        view.unexpected.iter().map(|value| (value.path.as_str(), value.wanted)).collect();
    listed.sort_unstable();
    assert_eq!(
        listed,
        [
            ("/configuration/properties/creation_time", "Array of 8 bytes"),
            ("/configuration/properties/global_id", "GUID"),
            ("/configuration/properties/name", "String"),
            ("/configuration/properties/subtype", "Int"),
            ("/configuration/properties/version", "a version of 16 bits"),
            ("/configuration/security/settings/tpm_enabled", "Bool"),
        ]
    );
}

#[test]
fn long_notes_and_numbers_without_sign_are_read() {
    let notes = "a line of notes\n".repeat(1000);
    let view = view(
        &TreeBuilder::new()
            .set("/configuration/properties/notes", notes.as_str())
            .set("/configuration/properties/subtype", Value::UInt(5))
            .set("/configuration/properties/name", Value::RawString(vec![0x41, 0xdc00])),
    );
    assert_eq!(view.notes, Some(notes));
    assert_eq!(view.generation, Some(Generation::Other(5)));
    assert_eq!(view.name.as_deref(), Some("A\u{fffd}"));
    assert_eq!(view.unexpected.len(), 1);
}

#[test]
fn guids_have_one_spelling() {
    let spelled = Guid::parse("{282874FC-59D6-4F30-BC04-5FDD909C82E0}").expect("a GUID");
    assert_eq!(spelled.as_str(), "282874fc-59d6-4f30-bc04-5fdd909c82e0");
    assert_eq!(Guid::parse("282874fc-59d6-4f30-bc04-5fdd909c82e0"), Some(spelled));
    for wrong in [
        "",
        "{}",
        "{282874FC-59D6-4F30-BC04-5FDD909C82E0",
        "282874FC-59D6-4F30-BC04-5FDD909C82E",
        "282874FC059D6-4F30-BC04-5FDD909C82E0",
        "282874FG-59D6-4F30-BC04-5FDD909C82E0",
    ] {
        assert_eq!(Guid::parse(wrong), None, "{wrong}");
    }
}
