//! What a vault adds to a recovery: which VM a disk belongs to, and metadata captured from it.
//!
//! A recovery needs no vault, so nothing here ends one: what cannot be had is a finding.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use lifeboat_disk::ImageFile;
use lifeboat_disk_head::{DiskHead, PieceName};
use lifeboat_engine::inventory::{Found, Inventory, matches};
use lifeboat_fve::{BootSector, Metadata};
use lifeboat_prove::read_head;
use lifeboat_recover::{
    CapturedMetadata, HeldVolume, LockedVolume, SameBy, SourceDisk, VolumePlace, held_volumes,
};
use lifeboat_schema::{Digest, Finding, RecoverPlan, Role, Severity, WayKind, WayStanding};
use lifeboat_vault::seal::Identities;
use lifeboat_vault::vault::Vault;
use zeroize::Zeroizing;

use crate::commands::Context;
use crate::error::CliError;
use crate::kit::{Kit, KitArguments};
use crate::output;

/// Captured generations of metadata that are read for one volume, the newest first: each may cost a stretch per key.
const MAX_GENERATIONS: usize = 64;
/// VMs that are named where a disk may be of several.
const MAX_NAMED_VMS: usize = 5;

/// What the vault holds of the disks at hand.
#[derive(Default)]
pub(super) struct FromVault {
    /// Captured metadata by volume, the newest first.
    captured: BTreeMap<VolumePlace, CapturedMetadata>,
    /// Volumes whose VM the vault holds with its vTPM state: the VM's name, and whether the identity at hand restores it.
    with_vtpm: BTreeMap<VolumePlace, (String, bool)>,
    findings: Vec<Finding>,
}

/// Asks the vault of the kit, if there is a kit. `vm` limits it to one VM.
pub(super) fn ask(context: &Context, disks: &[SourceDisk<ImageFile>], vm: Option<&str>) -> FromVault {
    if !is_given(&context.kit) {
        return FromVault::default();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = match runtime {
        Ok(runtime) => runtime.block_on(look(context, disks, vm)),
        Err(error) => Err(CliError::new(lifeboat_schema::Exit::Failed, error.to_string())),
    };
    asked.unwrap_or_else(|error| FromVault {
        findings: vec![Finding::new(
            Severity::Warning,
            "vault-not-used",
            context.kit.kit.display().to_string(),
            format!("the vault was not asked: {error}"),
            "the recovery goes on without it; leave --kit and LIFEBOAT_KIT out if none is meant",
        )],
        ..FromVault::default()
    })
}

/// Whether a kit was named, or lies in the folder that is used when none is.
fn is_given(kit: &KitArguments) -> bool {
    kit.kit != Path::new(".") || !kit.identity.is_empty() || kit.kit.join("vault.toml").exists()
}

async fn look(
    context: &Context,
    disks: &[SourceDisk<ImageFile>],
    vm: Option<&str>,
) -> Result<FromVault, CliError> {
    let kit = Kit::open(&context.kit).await?;
    let identity = kit.one_identity(&context.kit, &[Role::Restore, Role::Escrow, Role::Audit])?;
    let can_restore = identity.opens.iter().any(|(_, role)| *role == Role::Restore);
    let mut inventory = Inventory::new(&kit.vault, &kit.ledgers, &identity.identities);
    let mut found = inventory.all().await?;
    found.retain(|one| vm.is_none_or(|wanted| matches(&one.entry, wanted)));
    found.sort_by_key(|one| std::cmp::Reverse((one.entry.captured, one.record.finished)));
    let mut from = FromVault { findings: inventory.findings, ..FromVault::default() };
    from.findings.extend(kit.ledgers.findings().cloned());
    let records: Vec<_> = found.iter().map(|one| &one.entry.vm).collect();
    let held = held_volumes(disks, &records);
    from.tell(&found, &held, disks, can_restore);
    from.read(&kit.vault, &identity.identities, &found, &held).await;
    kit.remember();
    Ok(from)
}

impl FromVault {
    /// Returns the captured metadata of a volume, with what the command line gave before it.
    pub(super) fn captured(&self, place: VolumePlace, given: &CapturedMetadata) -> Option<CapturedMetadata> {
        let mut captured = CapturedMetadata { head: given.head.clone(), regions: given.regions.clone() };
        if let Some(held) = self.captured.get(&place) {
            captured.regions.extend(held.regions.iter().cloned());
            if captured.head.is_empty() {
                captured.head.clone_from(&held.head);
            }
        }
        (!captured.regions.is_empty()).then_some(captured)
    }

    /// Tells whether the vault holds metadata of a volume.
    pub(super) fn holds(&self, place: VolumePlace) -> bool {
        self.captured.contains_key(&place)
    }

    /// Returns all captured generations.
    pub(super) fn generations(&self) -> impl Iterator<Item = Metadata> + '_ {
        self.captured.values().flat_map(CapturedMetadata::generations)
    }

    /// Returns what someone should know, with the volumes that stand on captured metadata.
    pub(super) fn findings(&self, locked: &[LockedVolume<'_, ImageFile>]) -> Vec<Finding> {
        let replaced = locked.iter().filter(|one| one.uses_capture && self.holds(one.place)).map(|one| {
            Finding::new(
                Severity::Note,
                "metadata-from-vault",
                format!("volume {} of {}", one.place.number, one.source.path.display()),
                "its own metadata copies are destroyed; those that the vault captured take their place",
                "nothing: a key counts only when it opens a known sector of this disk",
            )
        });
        self.findings.iter().cloned().chain(replaced).collect()
    }

    /// Says in a plan what the vault opens.
    pub(super) fn amend(&self, plan: &mut RecoverPlan) {
        for (index, disk) in plan.disks.iter_mut().enumerate() {
            for volume in &mut disk.volumes {
                let place = VolumePlace { disk: index, number: volume.volume.number };
                for way in &mut volume.ways {
                    match (way.way, self.with_vtpm.get(&place), self.captured.get(&place)) {
                        (WayKind::RestoreWithVtpm, Some((name, can_restore)), _)
                            if way.standing != WayStanding::Closed =>
                        {
                            way.standing =
                                if *can_restore { WayStanding::Open } else { WayStanding::NeedsSecret };
                            let needs = if *can_restore { "" } else { ", with the restore identity" };
                            way.why = format!(
                                "the vault holds the vTPM state of {name}: `lifeboat restore`{needs} brings the VM back, which opens this disk by itself if it fits"
                            );
                        }
                        (WayKind::CapturedMetadata, _, Some(captured))
                            if way.standing != WayStanding::Open =>
                        {
                            way.standing = WayStanding::NeedsSecret;
                            way.why = format!(
                                "the vault holds {} captured metadata regions; every key that is given is tried with them",
                                captured.regions.len()
                            );
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    /// Notes which VMs the disks belong to, and what else is held of them.
    fn tell(
        &mut self,
        found: &[Found],
        held: &[HeldVolume],
        disks: &[SourceDisk<ImageFile>],
        can_restore: bool,
    ) {
        let mut by_place: BTreeMap<VolumePlace, Vec<&HeldVolume>> = BTreeMap::new();
        for one in held {
            let of_place = by_place.entry(one.place).or_default();
            let vm = |other: &HeldVolume| &found[other.vm].entry.vm.vm_id;
            // The newest capture of a VM stands first.
            if !of_place.iter().any(|other| vm(other) == vm(one)) {
                of_place.push(one);
            }
        }
        for (place, vms) in by_place {
            let at = format!("volume {} of {}", place.number, disks[place.disk].path.display());
            let [one] = vms.as_slice() else {
                let names: Vec<String> = vms
                    .iter()
                    .take(MAX_NAMED_VMS)
                    .map(|one| output::plain(&found[one.vm].entry.vm.name))
                    .collect();
                self.findings.push(Finding::new(
                    Severity::Note,
                    "vms-in-vault",
                    at,
                    format!(
                        "found by {} it may be of any of {} VMs: {}{}",
                        vms[0].same_by.name(),
                        vms.len(),
                        names.join(", "),
                        if vms.len() > names.len() { ", ..." } else { "" }
                    ),
                    "if you know which, name it with --vm; every key is tried with the newest states of all of them",
                ));
                continue;
            };
            let vm = &found[one.vm].entry.vm;
            let name = output::plain(&vm.name);
            let of_vm = || found.iter().filter(|other| other.entry.vm.vm_id == vm.vm_id);
            let captures: BTreeSet<_> = of_vm().map(|other| other.entry.captured).collect();
            let newest = &found[one.vm];
            let mut what = format!(
                "found by {} as {name} ({}): the vault holds {} captured states, the newest of {} on {}",
                one.same_by.name(),
                vm.vm_id,
                captures.len(),
                newest.entry.captured,
                output::plain(&newest.host)
            );
            let advice = match of_vm().find(|other| other.entry.vm.vtpm.is_some()) {
                Some(state) => {
                    what.push_str(&format!("; its vTPM state of {} is among them", state.entry.captured));
                    if one.same_by != SameBy::Place {
                        self.with_vtpm.insert(place, (name, can_restore));
                    }
                    "restoring the VM with its vTPM (`lifeboat restore`) is the better way where the disk is whole: then it opens by itself"
                }
                None => {
                    "no vTPM state is held: a recovery secret must do (`lifeboat escrow list` tells which the vault has)"
                }
            };
            what.push_str("; its recovery secrets are not asked here: `lifeboat escrow list` and `escrow reveal` have them");
            self.findings.push(Finding::new(Severity::Note, "vm-in-vault", at, what, advice));
        }
    }

    /// Reads the captured metadata, the newest first.
    async fn read(&mut self, vault: &Vault, identities: &Identities, found: &[Found], held: &[HeldVolume]) {
        let mut seen: BTreeSet<(VolumePlace, Digest)> = BTreeSet::new();
        let mut unread = None;
        for one in held {
            let Some(head) = &found[one.vm].entry.vm.disks[one.disk].head else { continue };
            let volume = &head.volumes[one.volume];
            // Of one state of the metadata once is enough.
            if volume.fve_metadata.is_some_and(|digest| !seen.insert((one.place, digest))) {
                continue;
            }
            if self.captured.get(&one.place).is_some_and(|held| held.regions.len() >= MAX_GENERATIONS) {
                continue;
            }
            match read_head(vault, identities, &found[one.vm], head).await {
                // What escrow alone may read is whole, where the other is blanked.
                Ok(heads) => {
                    let pieces = heads.into_iter().rev().flat_map(|head| head.pieces).collect();
                    self.take(one.place, &DiskHead { pieces }, volume.offset_bytes);
                }
                Err(error) => unread = Some(error),
            }
        }
        if let Some(error) = unread {
            self.findings.push(Finding::new(
                Severity::Warning,
                "captured-metadata-unread",
                "the vault",
                format!("captured metadata could not be read: {error}"),
                "the restore or the escrow identity reads it; name it with --identity",
            ));
        }
    }

    /// Keeps the metadata regions of a volume that are whole and not kept yet.
    fn take(&mut self, place: VolumePlace, head: &DiskHead, volume: u64) {
        let captured = self.captured.entry(place).or_default();
        for (_, region) in head.fve_metadata(volume) {
            if Metadata::parse(region).is_ok()
                && !captured.regions.iter().any(|kept| kept.as_slice() == region)
            {
                captured.regions.push(Zeroizing::new(region.to_vec()));
            }
        }
        let first_sectors = head.piece(&PieceName::VolumeHead { volume }).unwrap_or_default();
        if captured.head.is_empty() && BootSector::parse(first_sectors).is_ok() {
            captured.head = first_sectors.to_vec();
        }
        if captured.regions.is_empty() {
            self.captured.remove(&place);
        }
    }
}
