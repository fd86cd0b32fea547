//! What a VM keeps all its life: id, name, versions, devices, owner.

use lifeboat_schema::Layout;
use lifeboat_vhdx::Guid;

use super::cast::{Player, Wrapped};
use super::options::{FabricLayout, FabricOptions, VmPlan, VmTrait, VolumeMix};
use super::stream::Stream;

/// Names that fabrics give their VMs; one is not ASCII, one has a space.
const ROLES: [&str; 10] =
    ["web", "app", "sql", "dc", "file", "build", "mail", "proxy", "büro", "terminal server"];

/// Configuration versions, and how often each is met among eight VMs.
const VERSIONS: [(u8, u8); 8] = [(9, 0), (9, 0), (10, 0), (10, 0), (10, 0), (11, 0), (12, 0), (12, 0)];

/// One virtual disk.
pub(crate) struct DiskIdentity {
    /// Name of the file without folder.
    pub(crate) file_name: String,
    pub(crate) virtual_size_bytes: u64,
}

/// One checkpoint.
pub(crate) struct CheckpointIdentity {
    pub(crate) id: Guid,
    pub(crate) name: String,
}

/// What a VM keeps all its life.
pub(crate) struct VmIdentity {
    pub(crate) number: u32,
    pub(crate) vm_id: Guid,
    pub(crate) name: String,
    pub(crate) plan: VmPlan,
    pub(crate) version: (u8, u8),
    pub(crate) layout: Layout,
    pub(crate) wrapped: Wrapped,
    pub(crate) processors: i64,
    pub(crate) memory_mib: i64,
    /// Windows time.
    pub(crate) created: u64,
    pub(crate) controller: Guid,
    pub(crate) network_adapter: Guid,
    pub(crate) mac_address: String,
    pub(crate) disks: Vec<DiskIdentity>,
    pub(crate) checkpoint: Option<CheckpointIdentity>,
}

impl VmIdentity {
    /// Invents the VM of a number.
    pub(crate) fn of(options: &FabricOptions, number: u32) -> Self {
        let plan = options.mix.plan(options.seed, number);
        let mut stream = Stream::new(options.seed, "identity", &[number.into()]);
        let name = format!("{}-{number:03}", stream.pick(&ROLES));
        let vm_id = stream.guid();
        // Versions 9.0 to 12.0 of both kinds of host.
        let version = *stream.pick(&VERSIONS);
        let coin = stream.below(2);
        let layout = match options.layout {
            FabricLayout::Live => Layout::Live,
            FabricLayout::Export => Layout::Export,
            FabricLayout::Mixed if coin == 0 => Layout::Live,
            FabricLayout::Mixed => Layout::Export,
        };
        let owner = *stream.pick(&[Player::OwnerA, Player::OwnerA, Player::OwnerB]);
        let recovery = stream.below(4) > 0;
        let wrapped = match plan.kind {
            super::VmKind::LocalMode => Wrapped { owner: Player::LocalMode, primary: false, recovery: false },
            _ => Wrapped { owner, primary: true, recovery },
        };
        let mut disks =
            vec![DiskIdentity { file_name: format!("{name}.vhdx"), virtual_size_bytes: 64 << 30 }];
        let coin = stream.below(4);
        if coin == 0 || (options.volumes == VolumeMix::Every && coin < 3) {
            let file_name = format!("{name}-data.vhdx");
            disks.push(DiskIdentity { file_name, virtual_size_bytes: 256 << 30 });
        }
        let mac: [u8; 3] = stream.array();
        let checkpoint = plan
            .traits
            .contains(&VmTrait::Checkpoint)
            .then(|| CheckpointIdentity { id: stream.guid(), name: format!("{name} - before update") });
        // 2026-01-01 and some minutes, in units of 100 ns since 1601.
        const YEAR_2026: u64 = 134_116_992_000_000_000;
        const MINUTE: u64 = 600_000_000;
        Self {
            number,
            vm_id,
            plan,
            version,
            layout,
            wrapped,
            processors: *stream.pick(&[1, 2, 2, 4, 8]),
            memory_mib: *stream.pick(&[2048, 4096, 4096, 8192, 16384]),
            created: YEAR_2026 + stream.below(200_000) * MINUTE,
            controller: stream.guid(),
            network_adapter: stream.guid(),
            mac_address: format!("00-15-5D-{:02X}-{:02X}-{:02X}", mac[0], mac[1], mac[2]),
            disks,
            checkpoint,
            name,
        }
    }

    pub(crate) fn has(&self, special: VmTrait) -> bool {
        self.plan.traits.contains(&special)
    }

    /// The id as Hyper-V writes it into files and names of files.
    pub(crate) fn upper_id(&self) -> String {
        upper(self.vm_id)
    }

    /// The folder of this VM, as its host knows it.
    pub(crate) fn windows_folder(&self) -> String {
        match self.layout {
            Layout::Live => r"C:\ClusterStorage\Volume1\Hyper-V".to_owned(),
            Layout::Export => format!(r"C:\ClusterStorage\Volume1\{}", self.name),
        }
    }

    /// Name of the file that the VM writes to now: with a checkpoint a differencing disk.
    pub(crate) fn current_disk_file(&self, disk: &DiskIdentity) -> String {
        match &self.checkpoint {
            Some(checkpoint) => {
                format!("{}_{}.avhdx", disk.file_name.trim_end_matches(".vhdx"), upper(checkpoint.id))
            }
            None => disk.file_name.clone(),
        }
    }
}

/// Writes a GUID in upper case.
pub(crate) fn upper(id: Guid) -> String {
    id.to_string().to_ascii_uppercase()
}
