//! What a backup wants to know of a VM, out of the tree of its VMCX or VMRS.
//!
//! Key names are those of FORMAT.md sections 9 and 10. Every field is optional, because a VMRS has few of them and because
//! Hyper-V may leave any out. A value of another kind than expected is not an error: it is listed with its path.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::container::Container;
use crate::error::ReadError;
use crate::guid::Guid;
use crate::read_at::ReadAt;
use crate::security::SecurityState;
use crate::tree::{KeyKind, Node, Tree, Value};

/// Largest string that the view loads from a file object, in bytes. Notes of a VM are the longest text a person writes.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Class of an IDE controller.
const IDE_CLASS: &str = "83f8638b-8dca-4152-9eda-2ca8b33039b4";
/// Class of a SCSI controller.
const SCSI_CLASS: &str = "d422512d-2bf2-4752-809d-7b82b5fcb1b4";
/// Class of a floppy controller.
const FLOPPY_CLASS: &str = "8f0d2762-0b00-4e04-af4f-19010527cb93";
/// Class of a synthetic network adapter.
const NETWORK_CLASS: &str = "2fc216b0-d2e2-4967-9b6d-b8a5c9ca2778";
/// Class of a vTPM (third party, unverified).
const VTPM_CLASS: &str = "736e6aa9-a3f8-49c0-9550-a963214d259a";
/// Node of the guest runtime state device.
const GUEST_STATE: &str = "/configuration/_917bd8cb-3bb6-4124-9383-b7d21ac07f79_";
/// Node of the firmware or BIOS device.
const FIRMWARE: &str = "/configuration/_ac6b8dc1-3257-4a70-b1b2-a9c9215659ad_";

/// Generation of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Generation {
    /// Generation 1, with a BIOS; subtype 0.
    One,
    /// Generation 2, with UEFI; subtype 1 (third party).
    Two,
    /// Another subtype.
    Other(i64),
}

impl Generation {
    fn of_subtype(subtype: i64) -> Self {
        match subtype {
            0 => Generation::One,
            1 => Generation::Two,
            other => Generation::Other(other),
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Generation::One => f.write_str("1"),
            Generation::Two => f.write_str("2"),
            Generation::Other(subtype) => write!(f, "subtype {subtype}"),
        }
    }
}

/// Configuration version of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigurationVersion {
    /// The part before the point.
    pub major: u8,
    /// The part behind the point.
    pub minor: u8,
}

impl ConfigurationVersion {
    /// Takes `(major << 8) | minor` apart.
    pub fn from_raw(raw: i64) -> Option<Self> {
        let [major, minor] = u16::try_from(raw).ok()?.to_be_bytes();
        Some(ConfigurationVersion { major, minor })
    }
}

impl fmt::Display for ConfigurationVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A Windows time: units of 100 nanoseconds since the year 1601, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime(pub u64);

impl FileTime {
    /// Answers whole seconds since the year 1970, negative before.
    pub fn unix_seconds(self) -> i64 {
        const UNITS_PER_SECOND: u64 = 10_000_000;
        const SECONDS_1601_TO_1970: i64 = 11_644_473_600;
        // At most 2^64 / 10^7, far from overflow.
        (self.0 / UNITS_PER_SECOND) as i64 - SECONDS_1601_TO_1970
    }
}

/// Kind of a controller that has drives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControllerKind {
    /// IDE, generation 1 only.
    Ide,
    /// SCSI.
    Scsi,
    /// Floppy, generation 1 only.
    Floppy,
    /// Another class, or none when the manifest does not list the controller.
    Other(Option<Guid>),
}

impl fmt::Display for ControllerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControllerKind::Ide => f.write_str("IDE"),
            ControllerKind::Scsi => f.write_str("SCSI"),
            ControllerKind::Floppy => f.write_str("floppy"),
            ControllerKind::Other(Some(class)) => write!(f, "class {class}"),
            ControllerKind::Other(None) => f.write_str("unknown"),
        }
    }
}

/// Type of a drive, as the configuration spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveType(pub String);

impl DriveType {
    /// A virtual hard disk.
    pub const VHD: &'static str = "VHD";
    /// An optical disk image.
    pub const ISO: &'static str = "ISO";
    /// A floppy image.
    pub const VFD: &'static str = "VFD";
    /// Nothing.
    pub const NONE: &'static str = "NONE";
}

/// A drive of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disk {
    /// Kind of the controller.
    pub controller: ControllerKind,
    /// Instance of the controller.
    pub instance: Guid,
    /// Number in `controllerN`.
    pub controller_number: u32,
    /// Number in `driveN`.
    pub drive_number: u32,
    /// Type of the drive.
    pub drive_type: Option<DriveType>,
    /// Path of its file on the host; `None` when there is no medium.
    pub path: Option<String>,
}

impl Disk {
    /// Tells whether this is a virtual hard disk with a file.
    pub fn is_hard_disk(&self) -> bool {
        self.path.is_some()
            && self.drive_type.as_ref().is_some_and(|kind| kind.0.eq_ignore_ascii_case(DriveType::VHD))
    }
}

/// A device that the manifest lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Class of the device.
    pub class: Guid,
    /// Instance, which names its node below `/configuration`.
    pub instance: Guid,
    /// Name.
    pub name: Option<String>,
}

/// A synthetic network adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkAdapter {
    /// Instance.
    pub instance: Guid,
    /// Name in the management tools.
    pub name: Option<String>,
    /// MAC address as the configuration spells it.
    pub mac_address: Option<String>,
    /// Whether the address is fixed.
    pub mac_is_static: Option<bool>,
    /// Name of the virtual switch; `None` when there is none.
    pub switch_name: Option<String>,
}

/// A value of another kind, size or form than expected.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnexpectedValue {
    /// Path of the value.
    pub path: String,
    /// What was expected.
    pub wanted: &'static str,
    /// Kind that was found.
    pub found: KeyKind,
}

/// What a VMCX, VMRS or the configuration of a checkpoint says about a VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VmConfiguration {
    /// `properties/global_id`: the VM id; whether a checkpoint has its own here is unverified.
    pub vm_id: Option<Guid>,
    /// `settings/global/logical_id`: equal to the VM id in the known file.
    pub logical_id: Option<Guid>,
    /// `properties/name`.
    pub name: Option<String>,
    /// `properties/notes`.
    pub notes: Option<String>,
    /// `properties/subtype`.
    pub generation: Option<Generation>,
    /// `properties/version`.
    pub version: Option<ConfigurationVersion>,
    /// `properties/creation_time`.
    pub creation_time: Option<FileTime>,
    /// `properties/type_id`, such as `Virtual Machines`.
    pub type_id: Option<String>,
    /// Devices of the manifest, in its order.
    pub devices: Vec<Device>,
    /// Drives of all controllers, those without medium included, in the order of the file.
    pub disks: Vec<Disk>,
    /// Network adapters of the manifest.
    pub network_adapters: Vec<NetworkAdapter>,
    /// Path of the guest state file on the host (`.vmgs`).
    pub guest_state_path: Option<String>,
    /// Whether Secure Boot is on; a generation 1 VM has the key too.
    pub secure_boot_enabled: Option<bool>,
    /// Template of Secure Boot; all zero for none.
    pub secure_boot_template_id: Option<Guid>,
    /// Security settings, VM key protector and vTPM state.
    pub security: SecurityState,
    /// Values that are not what they should be.
    pub unexpected: Vec<UnexpectedValue>,
}

impl VmConfiguration {
    /// Reads the view of a container.
    ///
    /// # Errors
    /// Only when the port fails; everything else is listed in [`VmConfiguration::unexpected`].
    pub fn read<R: ReadAt>(container: &Container<R>) -> Result<Self, R::Error> {
        let tree = container.tree();
        let configuration = tree.get("/configuration");
        let instances = configuration.into_iter().flat_map(|node| node.children());
        let instances = instances.filter_map(|node| Some((instance_of(node.name())?, node)));
        let mut at = Lookup { container, tree, nodes: instances.collect(), unexpected: Vec::new() };
        let devices = at.devices()?;
        let mut view = VmConfiguration {
            vm_id: at.guid("/configuration/properties/global_id")?,
            logical_id: at.guid("/configuration/settings/global/logical_id")?,
            name: at.text("/configuration/properties/name")?,
            notes: at.text("/configuration/properties/notes")?,
            generation: at.int("/configuration/properties/subtype").map(Generation::of_subtype),
            version: at.version("/configuration/properties/version"),
            creation_time: at.file_time("/configuration/properties/creation_time"),
            type_id: at.text("/configuration/properties/type_id")?,
            disks: at.disks(&devices)?,
            network_adapters: at.network_adapters(&devices)?,
            guest_state_path: at
                .text_below(at.tree.get(GUEST_STATE), "StateFilePath")?
                .filter(|path| !path.is_empty()),
            secure_boot_enabled: at.bool_below(at.tree.get(FIRMWARE), "secure_boot_enabled"),
            secure_boot_template_id: at.guid_below(at.tree.get(FIRMWARE), "secure_boot_template_id")?,
            devices,
            ..VmConfiguration::default()
        };
        view.security = SecurityState::collect(at.tree, &mut at.unexpected);
        view.unexpected = at.unexpected;
        Ok(view)
    }

    /// Walks the virtual hard disks that have a file.
    pub fn hard_disks(&self) -> impl Iterator<Item = &Disk> {
        self.disks.iter().filter(|disk| disk.is_hard_disk())
    }

    /// Tells whether the manifest lists a vTPM.
    pub fn has_vtpm_device(&self) -> bool {
        self.devices.iter().any(|device| device.class.as_str() == VTPM_CLASS)
    }
}

/// Lookups that note what is not as expected.
struct Lookup<'a, R> {
    container: &'a Container<R>,
    tree: &'a Tree,
    /// Nodes below `/configuration` that are named after a device instance.
    nodes: BTreeMap<Guid, Node<'a>>,
    unexpected: Vec<UnexpectedValue>,
}

impl<'a, R: ReadAt> Lookup<'a, R> {
    fn note(&mut self, node: Node<'_>, wanted: &'static str) {
        self.unexpected.push(UnexpectedValue { path: node.path(), wanted, found: node.value().kind() });
    }

    fn int(&mut self, path: &str) -> Option<i64> {
        let node = self.tree.get(path)?;
        let number = node.as_int();
        if number.is_none() {
            self.note(node, "Int");
        }
        number
    }

    fn version(&mut self, path: &str) -> Option<ConfigurationVersion> {
        let raw = self.int(path)?;
        let version = ConfigurationVersion::from_raw(raw);
        if let (None, Some(node)) = (version, self.tree.get(path)) {
            self.note(node, "a version of 16 bits");
        }
        version
    }

    fn file_time(&mut self, path: &str) -> Option<FileTime> {
        let node = self.tree.get(path)?;
        let time = node.as_bytes().and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        if time.is_none() {
            self.note(node, "Array of 8 bytes");
        }
        time.map(|bytes| FileTime(u64::from_le_bytes(bytes)))
    }

    fn text(&mut self, path: &str) -> Result<Option<String>, R::Error> {
        match self.tree.get(path) {
            Some(node) => self.text_of(node),
            None => Ok(None),
        }
    }

    fn guid(&mut self, path: &str) -> Result<Option<Guid>, R::Error> {
        match self.tree.get(path) {
            Some(node) => self.guid_of(node),
            None => Ok(None),
        }
    }

    fn text_of(&mut self, node: Node<'_>) -> Result<Option<String>, R::Error> {
        match self.container.load_value(node, MAX_TEXT_BYTES) {
            Ok(Value::String(text)) => return Ok(Some(text)),
            Ok(Value::RawString(units)) => {
                self.note(node, "well-formed UTF-16");
                return Ok(Some(String::from_utf16_lossy(&units)));
            }
            Ok(_) => self.note(node, "String"),
            Err(ReadError::Read(error)) => return Err(error),
            Err(_) => self.note(node, "String of at most 1 MiB"),
        }
        Ok(None)
    }

    fn guid_of(&mut self, node: Node<'_>) -> Result<Option<Guid>, R::Error> {
        let Some(text) = self.text_of(node)? else { return Ok(None) };
        let guid = Guid::parse(&text);
        if guid.is_none() {
            self.note(node, "GUID");
        }
        Ok(guid)
    }

    fn text_below(&mut self, node: Option<Node<'_>>, name: &str) -> Result<Option<String>, R::Error> {
        match node.and_then(|node| node.child(name)) {
            Some(node) => self.text_of(node),
            None => Ok(None),
        }
    }

    fn guid_below(&mut self, node: Option<Node<'_>>, name: &str) -> Result<Option<Guid>, R::Error> {
        match node.and_then(|node| node.child(name)) {
            Some(node) => self.guid_of(node),
            None => Ok(None),
        }
    }

    fn bool_below(&mut self, node: Option<Node<'_>>, name: &str) -> Option<bool> {
        let node = node.and_then(|node| node.child(name))?;
        let truth = node.as_bool();
        if truth.is_none() {
            self.note(node, "Bool");
        }
        truth
    }

    fn devices(&mut self) -> Result<Vec<Device>, R::Error> {
        let mut devices = Vec::new();
        let Some(manifest) = self.tree.get("/configuration/manifest") else { return Ok(devices) };
        for vdev in manifest.children().filter(|child| child.name().starts_with("vdev")) {
            let class = self.guid_below(Some(vdev), "device")?;
            let instance = self.guid_below(Some(vdev), "instance")?;
            let name = self.text_below(Some(vdev), "name")?;
            if let (Some(class), Some(instance)) = (class, instance) {
                devices.push(Device { class, instance, name });
            }
        }
        Ok(devices)
    }

    fn disks(&mut self, devices: &[Device]) -> Result<Vec<Disk>, R::Error> {
        let classes: BTreeMap<&Guid, &Guid> =
            devices.iter().map(|device| (&device.instance, &device.class)).collect();
        let mut disks = Vec::new();
        let Some(configuration) = self.tree.get("/configuration") else { return Ok(disks) };
        for device in configuration.children() {
            let Some(instance) = instance_of(device.name()) else { continue };
            let kind = controller_kind(&instance, classes.get(&instance).copied());
            for controller in device.children() {
                let Some(controller_number) = numbered(controller.name(), "controller") else { continue };
                for drive in controller.children() {
                    let Some(drive_number) = numbered(drive.name(), "drive") else { continue };
                    disks.push(Disk {
                        controller: kind.clone(),
                        instance: instance.clone(),
                        controller_number,
                        drive_number,
                        drive_type: self.text_below(Some(drive), "type")?.map(DriveType),
                        path: self.text_below(Some(drive), "pathname")?.filter(|path| !path.is_empty()),
                    });
                }
            }
        }
        Ok(disks)
    }

    fn network_adapters(&mut self, devices: &[Device]) -> Result<Vec<NetworkAdapter>, R::Error> {
        let mut adapters = Vec::new();
        for device in devices.iter().filter(|device| device.class.as_str() == NETWORK_CLASS) {
            let node = self.nodes.get(&device.instance).copied();
            adapters.push(NetworkAdapter {
                instance: device.instance.clone(),
                name: self.text_below(node, "FriendlyName")?,
                mac_address: self.text_below(node, "MacAddress")?,
                mac_is_static: self.bool_below(node, "MacAddressIsStatic"),
                switch_name: self.text_below(node, "SwitchName")?.filter(|name| !name.is_empty()),
            });
        }
        Ok(adapters)
    }
}

/// Takes the instance out of `_<guid>_`.
fn instance_of(name: &str) -> Option<Guid> {
    Guid::parse(name.strip_prefix('_')?.strip_suffix('_')?)
}

/// Takes the number out of a name such as `drive0`.
fn numbered(name: &str, prefix: &str) -> Option<u32> {
    let digits = name.strip_prefix(prefix)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn controller_kind(instance: &Guid, class: Option<&Guid>) -> ControllerKind {
    // Devices of which there is one at most have their class as instance.
    match class.unwrap_or(instance).as_str() {
        IDE_CLASS => ControllerKind::Ide,
        SCSI_CLASS => ControllerKind::Scsi,
        FLOPPY_CLASS => ControllerKind::Floppy,
        _ => ControllerKind::Other(class.cloned()),
    }
}
