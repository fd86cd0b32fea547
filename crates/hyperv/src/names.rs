//! What names of files and folders say: the layout of Hyper-V's folders, case-insensitive as its file systems are.

use lifeboat_schema::ArtefactKind;
use lifeboat_vmcx::Guid;

/// Folder of configurations, below the folder of one or many VMs.
pub(crate) const MACHINES: &str = "Virtual Machines";
/// Folder of checkpoints, beside [`MACHINES`].
pub(crate) const SNAPSHOTS: &str = "Snapshots";
/// Folder of virtual disks, beside [`MACHINES`].
pub(crate) const DISKS: &str = "Virtual Hard Disks";

/// Folders that hold no VM: of Windows and of file systems, and caches of Hyper-V (common experience, not documented),
/// whose entries are named like configurations.
const FOREIGN_FOLDERS: [&str; 6] = [
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
    "Virtual Machines Cache",
    "Snapshots Cache",
    "Resource Types",
];

/// Files of a VM whose content is not captured: virtual disks and what tracks their changes, optical media, smart paging.
///
/// Virtual disks are other tools' to back up; of those that a configuration names the head is read.
const PAYLOAD_EXTENSIONS: [&str; 10] =
    ["vhdx", "avhdx", "vhd", "avhd", "vhds", "vhdpmem", "rct", "mrt", "iso", "slp"];

/// What a folder is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FolderRole {
    /// [`MACHINES`].
    Machines,
    /// [`SNAPSHOTS`].
    Snapshots,
    /// [`DISKS`].
    Disks,
    /// Nothing in it can be a VM's.
    Foreign,
    /// Any other folder, which may lead to VMs.
    Plain,
}

impl FolderRole {
    /// Tells a folder's role by its name.
    pub(crate) fn of(name: &str) -> Self {
        let is = |role: &str| name.eq_ignore_ascii_case(role);
        if is(MACHINES) {
            Self::Machines
        } else if is(SNAPSHOTS) {
            Self::Snapshots
        } else if is(DISKS) {
            Self::Disks
        } else if FOREIGN_FOLDERS.into_iter().any(is) {
            Self::Foreign
        } else {
            Self::Plain
        }
    }
}

/// Extension of a file name without the point; empty when there is none.
pub(crate) fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// Tells whether the content of a file is not captured.
pub(crate) fn is_payload(name: &str) -> bool {
    let extension = extension(name);
    PAYLOAD_EXTENSIONS.into_iter().any(|payload| extension.eq_ignore_ascii_case(payload))
}

/// Tells whether a file has an extension that only VMs' own files have.
pub(crate) fn looks_like_a_vm_file(name: &str) -> bool {
    ["vmcx", "vmrs", "vmgs"].into_iter().any(|own| extension(name).eq_ignore_ascii_case(own))
}

/// The GUID that a name begins with, if what follows cannot be more of it.
pub(crate) fn leading_guid(name: &str) -> Option<Guid> {
    const GUID_CHARACTERS: usize = 36;
    let rest = name.get(GUID_CHARACTERS..)?;
    if rest.starts_with(|next: char| next.is_ascii_hexdigit() || next == '-') {
        return None;
    }
    Guid::parse(&name[..GUID_CHARACTERS])
}

/// What a file in one of the two folders is.
///
/// Only `<GUID>.<extension>` directly in the folder is what its extension says; a second copy, or one deeper, is
/// [`ArtefactKind::Other`].
pub(crate) fn kind(role: FolderRole, name: &str, depth: usize) -> ArtefactKind {
    const GUID_AND_POINT: usize = 37;
    let of_checkpoint = role == FolderRole::Snapshots;
    let plain = depth == 0 && leading_guid(name).is_some() && name.as_bytes().get(36) == Some(&b'.');
    let extension = if plain { &name[GUID_AND_POINT..] } else { "" };
    let is = |other: &str| extension.eq_ignore_ascii_case(other);
    match of_checkpoint {
        false if is("vmcx") => ArtefactKind::Configuration,
        false if is("vmrs") => ArtefactKind::RuntimeState,
        false if is("vmgs") => ArtefactKind::GuestState,
        true if is("vmcx") => ArtefactKind::CheckpointConfiguration,
        true if is("vmrs") => ArtefactKind::CheckpointRuntimeState,
        true if is("vmgs") => ArtefactKind::CheckpointGuestState,
        _ => ArtefactKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "282874FC-59D6-4F30-BC04-5FDD909C82E0";

    #[test]
    fn kinds_follow_name_folder_and_depth() {
        let check = |role, name: &str, depth, wanted| assert_eq!(kind(role, name, depth), wanted, "{name}");
        let (machines, snapshots) = (FolderRole::Machines, FolderRole::Snapshots);
        check(machines, &format!("{ID}.vmcx"), 0, ArtefactKind::Configuration);
        check(machines, &format!("{}.VMRS", ID.to_lowercase()), 0, ArtefactKind::RuntimeState);
        check(machines, &format!("{ID}.vmgs"), 0, ArtefactKind::GuestState);
        check(snapshots, &format!("{ID}.VmCx"), 0, ArtefactKind::CheckpointConfiguration);
        check(snapshots, &format!("{ID}.vmrs"), 0, ArtefactKind::CheckpointRuntimeState);
        check(snapshots, &format!("{ID}.vmgs"), 0, ArtefactKind::CheckpointGuestState);
        check(machines, &format!("{ID}.vmcx"), 1, ArtefactKind::Other);
        check(machines, &format!("{ID}.vmcx.bak"), 0, ArtefactKind::Other);
        check(machines, &format!("{ID}-vmcx"), 0, ArtefactKind::Other);
        check(machines, "notes.vmcx", 0, ArtefactKind::Other);
    }

    #[test]
    fn a_guid_leads_a_name_only_as_a_whole() {
        let id = Guid::parse(ID);
        for name in [ID.to_owned(), format!("{ID}.vmcx"), format!("{ID}_old"), format!("{ID} (2).bin")] {
            assert_eq!(leading_guid(&name), id, "{name}");
        }
        for name in
            [format!("{ID}0.vmcx"), format!("{ID}-1"), format!("x{ID}"), ID[1..].to_owned(), String::new()]
        {
            assert_eq!(leading_guid(&name), None, "{name}");
        }
        // A character of several bytes across the border.
        assert_eq!(leading_guid(&format!("{}é.vmcx", &ID[..35])), None);
    }

    #[test]
    fn folders_are_told_in_any_case() {
        for (name, role) in [
            ("virtual machines", FolderRole::Machines),
            ("SNAPSHOTS", FolderRole::Snapshots),
            ("Virtual Hard Disks", FolderRole::Disks),
            ("$Recycle.Bin", FolderRole::Foreign),
            ("web01", FolderRole::Plain),
        ] {
            assert_eq!(FolderRole::of(name), role, "{name}");
        }
    }

    #[test]
    fn disks_and_paging_are_payload() {
        for name in ["a.vhdx", "a_1.AVHDX", "a.vhdx.rct", "x.slp"] {
            assert!(is_payload(name), "{name}");
        }
        for name in ["a.vmgs", "a.bin", "vhdx", ".vsv"] {
            assert!(!is_payload(name), "{name}");
        }
    }
}
