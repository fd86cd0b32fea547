//! The tree of a VMCX.
//!
//! Keys and device ids are those of hyperv-formats, section 3.1 (seen in a real file) and 3.2 (third party, unverified). What a
//! checkpoint has in `global_id` and how its VM lists it is unverified too.

use lifeboat_vhdx::Guid;
use lifeboat_vmcx::{TreeBuilder, Value};

use super::identity::{VmIdentity, upper};
use super::options::VmKind;

const SCSI_CLASS: &str = "d422512d-2bf2-4752-809d-7b82b5fcb1b4";
const IDE_CLASS: &str = "83f8638b-8dca-4152-9eda-2ca8b33039b4";
const NETWORK_CLASS: &str = "2fc216b0-d2e2-4967-9b6d-b8a5c9ca2778";
const GUEST_STATE: &str = "917bd8cb-3bb6-4124-9383-b7d21ac07f79";
const FIRMWARE: &str = "ac6b8dc1-3257-4a70-b1b2-a9c9215659ad";
const VTPM_CLASS: &str = "736e6aa9-a3f8-49c0-9550-a963214d259a";
/// Secure Boot template "Microsoft Windows".
pub(crate) const WINDOWS_TEMPLATE: &str = "1734c6e8-3154-4dda-ba5f-a874cc483422";
const NO_GUID: &str = "00000000-0000-0000-0000-000000000000";

/// Devices that have their class as instance and nothing of interest: class and name.
const DEVICES: [(&str, &str); 12] = [
    ("d41a1872-3740-41ce-a1ee-4522ab82f991", "Microsoft VmBus"),
    ("e3c82929-edb4-475e-85a4-29aaa2a30c2d", "Microsoft Dynamic Memory Controller"),
    ("f3cf6965-e8d3-44a9-9b7d-a04245ea7525", "Microsoft Synthetic Video"),
    ("58f75a6d-d949-4320-99e1-a2a2576d581c", "Microsoft Synthetic Mouse"),
    ("197f74e3-b84b-46de-8ae6-82f1cd181cdc", "Microsoft Synthetic Keyboard"),
    ("9ed5fd4b-40c3-4de3-8597-98ecd17035da", "Microsoft Synthetic Rdp Device"),
    ("84eaae65-2f2e-45f5-9bb5-0e857dc8eb47", "Microsoft Heartbeat Component"),
    ("2a34b1c2-fd73-4043-8a5b-dd2159bc743f", "Microsoft Key-Value Pair Exchange Component"),
    ("9f8233ac-be49-4c79-8ee3-e7e1985b2077", "Microsoft Shutdown Component"),
    ("2497f4de-e9fa-4204-80e4-4b75c46419c0", "Microsoft Time Synchronization Component"),
    ("5ced1297-4598-4915-a5fc-ad21bb4d02a4", "Microsoft VSS Component"),
    ("6c09bb55-d683-4da0-8931-c9bf705f6480", "Microsoft Guest Interface Component"),
];

/// What of a configuration differs between the VM and its checkpoint, and between revisions.
pub(crate) struct ConfigurationState<'a> {
    /// The VM's id or the checkpoint's.
    pub(crate) id: Guid,
    pub(crate) name: &'a str,
    pub(crate) is_checkpoint: bool,
    /// Paths of the disks on the host, in the order of the identity.
    pub(crate) disk_paths: &'a [String],
    pub(crate) guest_state_path: &'a str,
    pub(crate) notes: &'a str,
    pub(crate) revision: u32,
    /// Stands for what no reader knows.
    pub(crate) random: Vec<u8>,
}

/// Makes the tree, without VM key protector and vTPM state.
pub(crate) fn tree(vm: &VmIdentity, state: ConfigurationState<'_>) -> TreeBuilder {
    let mut tree = TreeBuilder::new();
    put_properties(&mut tree, vm, &state);
    put_settings(&mut tree, vm);
    put_global_settings(&mut tree, vm, &state);
    put_security(&mut tree, vm.plan.kind);
    put_devices(&mut tree, vm, &state);
    if !state.random.is_empty() {
        tree.put("/configuration/global_settings/synthetic/random", state.random);
    }
    tree
}

fn put_properties(tree: &mut TreeBuilder, vm: &VmIdentity, state: &ConfigurationState<'_>) {
    const DAY: u64 = 864_000_000_000;
    let (major, minor) = vm.version;
    let at = |days: u32| (vm.created + u64::from(days) * DAY) as i64;
    let powered_on = if state.revision == 0 { 0 } else { at(state.revision) };
    let type_id = if state.is_checkpoint { "Snapshots" } else { "Virtual Machines" };
    let properties: [(&str, Value); 11] = [
        ("creation_time", vm.created.to_le_bytes().to_vec().into()),
        ("global_id", upper(state.id).into()),
        ("highly_available", true.into()),
        ("last_powered_off_time", 0.into()),
        ("last_powered_on_time", powered_on.into()),
        ("last_state_change_time", at(state.revision).into()),
        ("name", state.name.into()),
        ("notes", state.notes.into()),
        ("subtype", i64::from(vm.plan.kind != VmKind::GenerationOne).into()),
        ("type_id", type_id.into()),
        ("version", (i64::from(major) << 8 | i64::from(minor)).into()),
    ];
    for (name, value) in properties {
        tree.put(&format!("/configuration/properties/{name}"), value);
    }
}

fn put_settings(tree: &mut TreeBuilder, vm: &VmIdentity) {
    let settings: [(&str, Value); 17] = [
        ("global/logical_id", vm.upper_id().into()),
        ("memory/bank/backing_type", 0.into()),
        ("memory/bank/dynamic_memory_enabled", false.into()),
        ("memory/bank/limit", 1_048_576.into()),
        ("memory/bank/priority", 5000.into()),
        ("memory/bank/reservation", 512.into()),
        ("memory/bank/size", vm.memory_mib.into()),
        ("memory/bank/target_memory_buffer", 20.into()),
        ("memory/vnuma/max_size_per_node", 1790.into()),
        ("processors/count", vm.processors.into()),
        ("processors/cpu_group_guid", NO_GUID.into()),
        ("processors/limit", 100_000.into()),
        ("processors/nested_virtualization/enabled", false.into()),
        ("processors/weight", 100.into()),
        ("topology/high_mmio_gap_mb", 512.into()),
        ("topology/low_mmio_gap_mb", 128.into()),
        ("vnuma/enabled", true.into()),
    ];
    for (name, value) in settings {
        tree.put(&format!("/configuration/settings/{name}"), value);
    }
}

fn put_global_settings(tree: &mut TreeBuilder, vm: &VmIdentity, state: &ConfigurationState<'_>) {
    let checkpoint = vm.checkpoint.as_ref().filter(|_| !state.is_checkpoint);
    let mut settings: Vec<(&str, Value)> = vec![
        ("critical_error/action", 1.into()),
        ("critical_error/timeout", 1800.into()),
        ("devices/cpu_architecture", 1.into()),
        ("devices/generation_id", vm.controller.to_bytes().to_vec().into()),
        ("disk_merge_pending", false.into()),
        ("owner/sid", "S-1-5-21-1004336348-1177238915-682003330-512".into()),
        ("power/host_shutdown/action", 1.into()),
        ("power/host_startup/action", 1.into()),
        ("snapshots/enable_automatic", false.into()),
        ("snapshots/list/size", i64::from(checkpoint.is_some()).into()),
        ("snapshots/user_type", 3.into()),
        ("unexpected_termination/action", 1.into()),
        ("vhd_path_acled", true.into()),
    ];
    if let Some(checkpoint) = checkpoint {
        settings.push(("snapshots/list/node0/guid", upper(checkpoint.id).into()));
    }
    for (name, value) in settings {
        tree.put(&format!("/configuration/global_settings/{name}"), value);
    }
}

fn put_security(tree: &mut TreeBuilder, kind: VmKind) {
    if !kind.has_vtpm() {
        // A missing setting means false, and a VM that never had a vTPM has no such key.
        return;
    }
    let settings = [
        ("tpm_enabled", true),
        ("ksd_enabled", false),
        ("shielding_requested", kind == VmKind::Shielded),
        ("encrypt_state_migration", kind != VmKind::LocalMode),
        ("vbs_opt_out", false),
    ];
    for (name, value) in settings {
        tree.put(&format!("/configuration/security/settings/{name}"), value);
    }
}

fn put_devices(tree: &mut TreeBuilder, vm: &VmIdentity, state: &ConfigurationState<'_>) {
    let is_first = vm.plan.kind == VmKind::GenerationOne;
    let own = |id: &str| (id.to_owned(), id.to_owned());
    let mut listed: Vec<((String, String), &str)> =
        DEVICES.iter().map(|&(class, name)| (own(class), name)).collect();
    listed.push((own(FIRMWARE), if is_first { "Microsoft Virtual BIOS" } else { "Microsoft Virtual UEFI" }));
    listed.push((own(GUEST_STATE), "Microsoft Guest Runtime State"));
    if is_first {
        listed.push((own(IDE_CLASS), "Microsoft Emulated IDE Controller"));
    } else {
        listed.push(((SCSI_CLASS.into(), vm.controller.to_string()), "Synthetic SCSI Controller"));
    }
    if vm.plan.kind.has_vtpm() {
        listed.push((own(VTPM_CLASS), "Microsoft Virtual TPM Device"));
    }
    let adapter = vm.network_adapter.to_string();
    listed.push(((NETWORK_CLASS.into(), adapter.clone()), "Synthetic Ethernet Port"));
    tree.put("/configuration/manifest/version", 512);
    tree.put("/configuration/manifest/size", listed.len() as i64);
    for (((class, instance), name), number) in listed.into_iter().zip(1..) {
        let vdev = format!("/configuration/manifest/vdev{number:03}");
        tree.put(&format!("/configuration/_{instance}_/VDEVVersion"), 512);
        tree.put(&format!("{vdev}/device"), class);
        tree.put(&format!("{vdev}/instance"), instance);
        tree.put(&format!("{vdev}/name"), name);
        tree.put(&format!("{vdev}/flags"), 1);
    }

    let mut put = |instance: &str, name: &str, value: Value| {
        tree.put(&format!("/configuration/_{instance}_/{name}"), value);
    };
    let controller = if is_first { IDE_CLASS.to_owned() } else { vm.controller.to_string() };
    for (path, number) in state.disk_paths.iter().zip(0..) {
        let drive = format!("controller0/drive{number}");
        put(&controller, &format!("{drive}/type"), "VHD".into());
        put(&controller, &format!("{drive}/pathname"), path.as_str().into());
        put(&controller, &format!("{drive}/iops_limit"), 0.into());
        put(&controller, &format!("{drive}/qos_policy_id"), NO_GUID.into());
        put(&controller, &format!("{drive}/caching_mode"), 0.into());
    }
    // An empty optical drive.
    let optical = if is_first {
        "controller1/drive0".into()
    } else {
        format!("controller0/drive{}", state.disk_paths.len())
    };
    put(&controller, &format!("{optical}/type"), "ISO".into());
    put(&controller, &format!("{optical}/pathname"), "".into());

    let template = if is_first { NO_GUID } else { WINDOWS_TEMPLATE };
    put(FIRMWARE, "bios_guid", format!("{{{}}}", vm.network_adapter).into());
    put(
        FIRMWARE,
        "bios_serial_number",
        format!("7449-6769-1520-2562-7318-{:04}-01", vm.number % 10_000).into(),
    );
    put(FIRMWARE, "secure_boot_enabled", (!is_first).into());
    put(FIRMWARE, "secure_boot_template_id", template.into());
    put(FIRMWARE, "pause_after_boot_failure", false.into());
    put(GUEST_STATE, "StateFilePath", state.guest_state_path.into());
    put(GUEST_STATE, "UseTransient", false.into());
    put(GUEST_STATE, "FileIsPlatformManaged", true.into());
    put(&adapter, "FriendlyName", "Network Adapter".into());
    put(&adapter, "MacAddress", vm.mac_address.as_str().into());
    put(&adapter, "MacAddressIsStatic", false.into());
    put(&adapter, "SwitchName", "Tenant".into());
    put(&adapter, "IsConnected", true.into());
    put(&adapter, "ClusterMonitored", true.into());
}
