//! A synthetic fabric: hosts with VMs in the real file formats, and the answer sheet of what each VM has and lacks.
//!
//! ```text
//! DIR > answers.json
//!     > host-1, host-2, ... > Hyper-V > Virtual Machines, Snapshots, Virtual Hard Disks      (live layout)
//!                           > Exports > <VM name> > Virtual Machines, ...                   (Export-VM layout)
//! ```
//!
//! [`Fabric::generate`] writes one out of a seed, byte for byte the same each time; [`Fabric::age`] lets it live on: VMs change,
//! are rolled, moved, deleted, added and torn. Configurations, runtime states, VM key protectors, certificates and disks come
//! and heads of BitLocker volumes from the writers of the format crates; guest states from a writer of its own.
//!
//! The fabric imitates forms, not machines: vTPM states, saved memory and guest states are random bytes, disks have no file
//! systems, and key names below `/configuration/security` are third-party knowledge that no real file confirmed. It never
//! protects anything: keys follow from the seed.

mod age;
mod answers;
mod cast;
mod configuration;
mod coverage;
mod disk;
mod error;
mod guest_state;
mod identity;
mod lone_volume;
mod options;
mod runtime_state;
mod stream;
#[cfg(test)]
mod tests;
mod vm;
mod volume;
mod write;

pub use age::{AgeOptions, AgeReport, MovedVm, TornFile};
pub use answers::{
    ANSWERS_FILE, ANSWERS_VERSION, Answers, DiskAnswer, FileAnswer, FileState, GuardianAnswer, Lack, Marker,
    Planted, ProtectorAnswer, Tear, VmAnswer, VolumeAnswer,
};
pub use cast::{Cast, Player, Wrapped};
pub use coverage::{Coverage, PlannedProof, PlannedSecret, PlannedVolume};
pub use error::FabricError;
pub use lone_volume::{LoneVolume, LoneVolumeOptions, VolumeCipher, write_lone_volume};
pub use options::{
    DiskFiles, FabricLayout, FabricOptions, Mix, Sizes, VMS_PER_MIX, VmKind, VmPlan, VmTrait, VolumeKind,
    VolumeMix,
};
pub use write::{Difference, Fabric};

/// Folder of a host for VMs in the live layout.
pub const LIVE_FOLDER: &str = "Hyper-V";
/// Folder of a host for exported VMs.
pub const EXPORT_FOLDER: &str = "Exports";
