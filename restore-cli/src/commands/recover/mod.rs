//! `lifeboat recover`.

mod act;
mod interrupt;
pub(super) mod keys;
mod show;
mod vault;
mod walk;

use std::path::PathBuf;

use lifeboat_disk::{Encryption, ImageFile, PlainContent};
use lifeboat_fve as fve;
use lifeboat_recover::{
    CapturedMetadata, HandoverCard, LockedVolume, OpenedDisk, SourceDisk, VolumePlace, open_together,
    partial_path, plan,
};
use lifeboat_schema::{Exit, Finding, RecoverPlan, Severity};

use self::keys::{KeyArguments, Keys};
use self::vault::FromVault;
use super::Context;
use super::disk::Parents;
use crate::error::CliError;
use crate::output;

/// Opens BitLocker volumes when only the disks survive. Needs no vault and runs on any system; the disks are never
/// written to.
///
/// With --kit it asks the vault too: which VM a disk belongs to, what else is held of it, and for BitLocker metadata that was
/// captured from it, which takes the place of destroyed copies and lets keys of another time open the disk.
///
/// On a terminal, and with nothing else asked for, it goes through the recovery step by step. Give all disks of a VM
/// at once: what opens one may open the others.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Recover {
    /// VHDX, AVHDX, VHD, raw disk or raw volume.
    #[arg(value_name = "DISK")]
    disks: Vec<PathBuf>,
    /// Volume to work on, as `disk inspect` numbers it; with several disks DISK:VOLUME, such as 2:1.
    #[arg(long, value_name = "N")]
    volume: Option<String>,
    /// Only say which ways into each volume are open, and why better ones are closed.
    #[arg(long, conflicts_with_all = ["volume", "verify_only", "to", "list", "extract", "read_back"])]
    plan: bool,
    /// Only prove the keys: on the volume master key, and on a sector of the disk.
    #[arg(long, conflicts_with_all = ["to", "list", "extract", "read_back", "card"])]
    verify_only: bool,
    /// Write the decrypted volume to this file (raw, or a dynamic VHDX when it ends in .vhdx); with --extract the
    /// folder for the files.
    #[arg(long, value_name = "OUT")]
    to: Option<PathBuf>,
    /// With --to: write the whole disk, partition table and all, with every volume decrypted that the keys open. Such a
    /// VHDX boots. With several disks --volume says which one.
    #[arg(long, requires = "to")]
    whole_disk: bool,
    /// With --to: leave what no file of a dynamic disk holds empty, instead of decrypting zeros to noise.
    #[arg(long, requires = "to")]
    skip_unallocated: bool,
    /// With --to: begin even if there may be too little room.
    #[arg(long, requires = "to")]
    no_space_check: bool,
    /// Write an overlay in which BitLocker is suspended, so that the VM boots once without asking: a differencing VHDX
    /// over a VHDX (.vhdx or .avhdx), of other images a copy. Open to anyone until protection is resumed. Not yet booted by
    /// Windows.
    #[arg(long, value_name = "OUT", conflicts_with_all = ["plan", "verify_only", "to", "list", "extract", "card"])]
    suspend_overlay: Option<PathBuf>,
    /// List a folder of the decrypted NTFS, without writing an image.
    #[arg(long, value_name = "PATH", num_args = 0..=1, conflicts_with_all = ["to", "extract", "card"])]
    list: Option<Option<String>>,
    /// Write a file or folder of the decrypted NTFS to the folder of --to.
    #[arg(long, value_name = "PATH", requires = "to", conflicts_with_all = ["whole_disk", "skip_unallocated", "no_space_check"])]
    extract: Option<String>,
    /// Write all recovery passwords and external keys of the volume to this new file, after all else is done.
    #[arg(long, value_name = "FILE")]
    read_back: Option<PathBuf>,
    /// Write a handover card to this new file, for whoever can look a secret up: text, or a page when it ends in .html.
    /// With keys: of the volumes that they do not open.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["to", "extract", "read_back"])]
    card: Option<PathBuf>,
    /// Search volumes whose first sector is destroyed for BitLocker's metadata. Reads up to the whole volume.
    #[arg(long)]
    search_metadata: bool,
    /// With a vault: use only what it holds of this VM, given by name or id.
    #[arg(long, value_name = "VM")]
    vm: Option<String>,
    #[command(flatten)]
    keys: KeyArguments,
    #[command(flatten)]
    parents: Parents,
}

impl Recover {
    /// Whether nothing is asked for but the disks.
    fn has_no_action(&self) -> bool {
        !self.plan
            && !self.verify_only
            && self.to.is_none()
            && self.list.is_none()
            && self.suspend_overlay.is_none()
            && self.read_back.is_none()
            && self.card.is_none()
    }

    /// Refuses a file that is there before hours of work end with it.
    fn refuse_names_that_are_taken(&self) -> Result<(), CliError> {
        for path in [&self.card, &self.read_back].into_iter().flatten() {
            if path.symlink_metadata().is_ok() {
                return Err(super::is_there(path));
            }
            let is_output =
                self.to.iter().chain(&self.suspend_overlay).any(|to| path == to || *path == partial_path(to));
            if is_output {
                return Err(CliError::usage(format!(
                    "{} is the name of the output itself; name another file",
                    path.display()
                )));
            }
        }
        Ok(())
    }

    /// What was typed, as it is meant: `--list DISK` without other disks lists the root of DISK.
    fn meant(&self) -> Result<Self, CliError> {
        let mut meant = self.clone();
        if let Some(Some(path)) = &self.list
            && self.disks.is_empty()
        {
            meant.disks.push(PathBuf::from(path));
            meant.list = Some(None);
        }
        if meant.disks.is_empty() {
            return Err(CliError::usage(
                "name the disk, or all disks of the VM; `lifeboat recover --help` tells the rest",
            ));
        }
        Ok(meant)
    }
}

/// Everything that is known before an action.
struct Work<'d> {
    context: &'d Context,
    disks: &'d [SourceDisk<ImageFile>],
    locked: Vec<LockedVolume<'d, ImageFile>>,
    generations: Vec<fve::Metadata>,
    /// BitLocker volumes whose metadata cannot be used: disk, number, why.
    unusable: Vec<(usize, u32, fve::Error)>,
    from_vault: FromVault,
}

pub(crate) fn run(context: &Context, arguments: &Recover) -> Result<Exit, CliError> {
    interrupt::watch();
    let arguments = &arguments.meant()?;
    arguments.keys.check()?;
    arguments.refuse_names_that_are_taken()?;
    let mut disks = Vec::new();
    for path in &arguments.disks {
        disks.push(SourceDisk::open(path, &arguments.parents.search())?);
    }
    let captured = keys::read_captured(&arguments.keys.captured)?;
    let from_vault = vault::ask(context, &disks, arguments.vm.as_deref());
    let work = Work::new(context, &disks, &captured, from_vault, arguments.search_metadata);
    if arguments.has_no_action() && keys::can_ask() && !context.json {
        return walk::run(&work, arguments);
    }
    let keys = keys::read(&arguments.keys, &work.locked, &work.generations)?;
    let is_plan = arguments.plan || (arguments.has_no_action() && !arguments.keys.is_given());
    if is_plan || arguments.card.is_some() {
        return work.plan(arguments, &keys);
    }
    work.refuse_without_bitlocker()?;
    let chosen = work.choose(arguments)?;
    let keys = work.with_prompt(keys, &chosen)?;
    let opened = work.open(&keys);
    act::act(&work, arguments, &chosen, &opened)
}

impl<'d> Work<'d> {
    fn new(
        context: &'d Context,
        disks: &'d [SourceDisk<ImageFile>],
        captured: &CapturedMetadata,
        from_vault: FromVault,
        search_metadata: bool,
    ) -> Self {
        let (mut locked, mut unusable) = (Vec::new(), Vec::new());
        for (index, source) in disks.iter().enumerate() {
            let captured = |number| from_vault.captured(VolumePlace { disk: index, number }, captured);
            for volume in source.layout.bitlocker_volumes() {
                match LockedVolume::open(source, index, volume, captured(volume.number).as_ref()) {
                    Ok(one) => locked.push(one),
                    Err(error) => unusable.push((index, volume.number, error)),
                }
            }
            let unknown = source.layout.volumes.iter().filter(|volume| {
                let is_blank = Encryption::None(PlainContent::Empty);
                volume.encryption == Encryption::Unknown || volume.encryption == is_blank
            });
            for volume in unknown {
                let place = VolumePlace { disk: index, number: volume.number };
                if from_vault.holds(place)
                    && let Ok(one) =
                        LockedVolume::open(source, index, volume, captured(volume.number).as_ref())
                {
                    locked.push(one);
                    continue;
                }
                if !search_metadata {
                    continue;
                }
                let bar = output::progress("Searching");
                bar.set_length(volume.size_bytes);
                let found = CapturedMetadata::search(source, volume, |bytes| bar.inc(bytes));
                bar.finish_and_clear();
                if let Ok(one) = LockedVolume::open(source, index, volume, Some(&found)) {
                    locked.push(one);
                }
            }
        }
        let generations = captured.generations().into_iter().chain(from_vault.generations()).collect();
        Self { context, disks, locked, generations, unusable, from_vault }
    }

    /// Tries keys on all volumes together.
    fn open(&self, keys: &Keys) -> Vec<OpenedDisk> {
        open_together(&self.locked, &keys.credentials, &keys.packages, &self.generations)
    }

    /// The ways, with what the keys at hand opened, and with what the vault holds.
    fn planned(&self, opened: &[OpenedDisk]) -> RecoverPlan {
        let mut plan = plan(self.disks, &self.locked, opened);
        self.from_vault.amend(&mut plan);
        plan
    }

    /// Shows the ways, with what the keys at hand open, and writes the card.
    fn plan(&self, arguments: &Recover, keys: &Keys) -> Result<Exit, CliError> {
        let opened = if keys.credentials.is_empty() { Vec::new() } else { self.open(keys) };
        let plan = self.planned(&opened);
        if self.context.json {
            output::json(&plan);
        } else {
            show::plan(&plan);
        }
        if let Some(path) = &arguments.card {
            let is_locked = |index: &usize| opened.get(*index).is_none_or(|one| one.result.is_err());
            let chosen = self.choose(arguments)?;
            let locked: Vec<&LockedVolume<'_, ImageFile>> =
                chosen.into_iter().filter(is_locked).map(|index| &self.locked[index]).collect();
            if locked.is_empty() {
                output::note("No card was written: there is no volume that it could ask for");
            } else {
                write_card(path, &locked)?;
                output::note(format!("Wrote {}: give it to whoever can look the ids up", output::path(path)));
            }
        }
        let findings = self.findings();
        output::findings(&findings);
        Ok(Exit::of(&findings))
    }

    /// What is wrong with the disks, whatever opens them.
    fn findings(&self) -> Vec<Finding> {
        let unusable = self
            .unusable
            .iter()
            .map(|(disk, number, error)| {
                Finding::new(
                    Severity::Damage,
                    "metadata-destroyed",
                    format!("volume {number} of {}", self.disks[*disk].path.display()),
                    error.to_string(),
                    "keep the disk; metadata captured earlier (--captured FILE) takes the place of the destroyed copies",
                )
            });
        self.from_vault.findings(&self.locked).into_iter().chain(unusable).collect()
    }

    fn refuse_without_bitlocker(&self) -> Result<(), CliError> {
        if !self.locked.is_empty() {
            return Ok(());
        }
        if let Some((_, _, error)) = self.unusable.first() {
            return Err(CliError::new(
                Exit::Damage,
                format!(
                    "{error}. Keep the disk; metadata captured earlier (--captured FILE) takes the place of the destroyed copies"
                ),
            ));
        }
        let mut found = Vec::new();
        for disk in self.disks {
            for volume in &disk.layout.volumes {
                let what = match volume.encryption {
                    Encryption::Luks { version } => format!("LUKS{version} (cryptsetup opens it)"),
                    Encryption::None(content) => format!("{}, not encrypted", content.name()),
                    _ => "nothing known".to_owned(),
                };
                found.push(format!("volume {} of {}: {what}", volume.number, disk.path.display()));
            }
        }
        Err(CliError::usage(format!(
            "there is no BitLocker volume here; found: {}. Where a first sector may be destroyed, --search-metadata looks deeper",
            found.join("; ")
        )))
    }

    /// The volumes that are meant: the one that was named, else all.
    fn choose(&self, arguments: &Recover) -> Result<Vec<usize>, CliError> {
        let Some(wanted) = &arguments.volume else { return Ok((0..self.locked.len()).collect()) };
        let bad = || {
            CliError::usage(format!(
                "--volume {wanted}: give the number of the volume, or DISK:VOLUME where there are several disks"
            ))
        };
        let (disk, number) = match wanted.split_once(':') {
            Some((disk, number)) => (Some(disk.parse::<usize>().map_err(|_| bad())?), number),
            None => (None, wanted.as_str()),
        };
        let number: u32 = number.parse().map_err(|_| bad())?;
        let mut chosen: Vec<usize> = (0..self.locked.len())
            .filter(|&index| {
                let place = self.locked[index].place;
                place.number == number && disk.is_none_or(|disk| place.disk + 1 == disk)
            })
            .collect();
        if chosen.len() > 1 {
            return Err(CliError::usage(format!(
                "several disks have a BitLocker volume {number}; give --volume DISK:VOLUME, such as 1:{number}"
            )));
        }
        chosen.pop().map(|one| vec![one]).ok_or_else(|| {
            let unusable = self
                .unusable
                .iter()
                .find(|(at, of, _)| *of == number && disk.is_none_or(|disk| at + 1 == disk));
            match unusable {
                Some((_, _, error)) => CliError::new(Exit::Damage, error.to_string()),
                None => CliError::usage(format!(
                    "--volume {wanted} is no BitLocker volume; there are: {}",
                    self.names().join(", ")
                )),
            }
        })
    }

    /// The volumes as --volume takes them.
    fn names(&self) -> Vec<String> {
        let is_one = self.disks.len() == 1;
        self.locked
            .iter()
            .map(|volume| match is_one {
                true => volume.place.number.to_string(),
                false => format!("{}:{}", volume.place.disk + 1, volume.place.number),
            })
            .collect()
    }

    /// Asks for a key where none was given and one is needed.
    fn with_prompt(&self, mut keys: Keys, chosen: &[usize]) -> Result<Keys, CliError> {
        let needs_key = |index: &usize| !self.locked[*index].is_decrypted();
        if !keys.credentials.is_empty() || !chosen.iter().any(needs_key) {
            return Ok(keys);
        }
        if keys::can_ask() && !self.context.json {
            for &index in chosen.iter().filter(|index| needs_key(index)) {
                show::wanted(&self.locked[index]);
            }
            if let Some(password) = keys::ask_recovery_password(&self.locked, &self.generations) {
                keys.credentials.push(fve::Credential::RecoveryPassword(password));
                return Ok(keys);
            }
        }
        let has_clear_key = chosen.iter().any(|&index| self.locked[index].fve().metadata().has_clear_key());
        let mut text = "no key was given. ".to_owned();
        if has_clear_key {
            text.push_str("Protection is suspended: --clear-key opens the volume. ");
        }
        let mut ids = Vec::new();
        for &index in chosen {
            for protector in self.locked[index].fve().metadata().summaries() {
                ids.push(format!("{} {}", protector.protection, protector.id));
            }
        }
        text.push_str(&format!(
            "The volume has: {}. Give --recovery-password-file, --password-file or --bek; --plan tells every way, and --card FILE writes down what to ask whom",
            if ids.is_empty() { "no BitLocker protector".to_owned() } else { ids.join(", ") }
        ));
        Err(CliError::new(Exit::NoAccess, text))
    }
}

/// Writes a handover card, as a page or as text.
fn write_card(path: &std::path::Path, volumes: &[&LockedVolume<'_, ImageFile>]) -> Result<(), CliError> {
    let card = HandoverCard::new(volumes);
    let is_page = path.extension().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("html") || extension.eq_ignore_ascii_case("htm")
    });
    let content = if is_page { card.html() } else { card.text() };
    super::write_private(path, content.as_bytes())
}
