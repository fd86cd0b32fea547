//! The recovery step by step, for a person at a terminal.
//!
//! One question at a time; before anything is done it says what, and how to say the same with flags. It keeps nothing
//! of its own: leaving costs nothing, and a decryption that was begun goes on from its partial output.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lifeboat_fve::{Credential, ProtectionType};
use lifeboat_recover::OpenedDisk;
use lifeboat_schema::Exit;

use super::keys::{self, Keys, ask, yes};
use super::{Recover, Work, act, show, write_card};
use crate::error::CliError;
use crate::kit::KitArguments;
use crate::{output, shell};

pub(super) fn run(work: &Work<'_>, arguments: &Recover) -> Result<Exit, CliError> {
    output::note("Nothing here writes to the disks. Leave at any question with Ctrl-D or Ctrl-C.");
    output::note("");
    show::plan(&work.planned(&[]));
    output::findings(&work.findings());
    work.refuse_without_bitlocker()?;
    let mut walk = Walk { work, typed: arguments.clone() };
    let Some(index) = walk.choose()? else { return Ok(walk.leave()) };
    let Some(opened) = walk.open(index)? else { return walk.hand_over(index) };
    output::note("");
    show::proved(&work.locked[index], &opened[index], work.disks);
    loop {
        output::note("");
        output::note("What do you need?");
        output::note("  1  the whole disk decrypted, as a VHDX to boot the VM from");
        output::note("  2  the volume decrypted, as a file (raw or .vhdx)");
        output::note("  3  single files from it");
        output::note("  4  its other recovery secrets, in a file");
        output::note("  5  to boot with this key: the steps");
        output::note("  6  to boot once without being asked: an overlay in which BitLocker is suspended");
        output::note("  7  nothing more");
        let Some(answer) = ask("1 to 7:") else { return Ok(walk.leave()) };
        let step = match answer.as_str() {
            "1" => walk.whole_disk(index)?,
            "2" => walk.volume()?,
            "3" => walk.files()?,
            "4" => walk.read_back()?,
            "5" => Some(Recover { verify_only: true, ..walk.typed.clone() }),
            "6" => walk.overlay()?,
            "7" => return Ok(walk.leave()),
            _ => continue,
        };
        let Some(step) = step else { continue };
        output::note(format!("The same without questions: {}", command(&step, &work.context.kit)));
        match act::act(work, &step, &[index], &opened) {
            Ok(exit) if step.suspend_overlay.is_some() => return Ok(exit),
            Ok(exit) if step.to.is_some() && step.extract.is_none() => return Ok(exit),
            Ok(_) => {}
            // Other answers may do.
            Err(error) if error.exit == Exit::Usage => {
                output::note(output::plain(&format!("That cannot be done: {error}")))
            }
            Err(error) => return Err(error),
        }
    }
}

struct Walk<'w, 'd> {
    work: &'w Work<'d>,
    /// What the answers so far would be as flags.
    typed: Recover,
}

impl Walk<'_, '_> {
    /// Says how to take it up again.
    fn leave(&self) -> Exit {
        output::note("");
        output::note(format!(
            "Left; nothing is lost. To take it up again: {}",
            command(&self.typed, &self.work.context.kit)
        ));
        Exit::Done
    }

    /// Which volume; none when the person leaves.
    fn choose(&mut self) -> Result<Option<usize>, CliError> {
        let chosen = self.work.choose(&self.typed)?;
        if let [one] = chosen.as_slice() {
            return Ok(Some(*one));
        }
        let names = self.work.names();
        loop {
            output::note("");
            let Some(answer) = ask(&format!("Which volume? ({})", names.join(", "))) else {
                return Ok(None);
            };
            if let Some(index) = names.iter().position(|name| *name == *answer) {
                self.typed.volume = Some(answer.to_string());
                return Ok(Some(index));
            }
        }
    }

    /// Opens the volume with what the person has; none when there is nothing.
    fn open(&mut self, index: usize) -> Result<Option<Vec<OpenedDisk>>, CliError> {
        let work = self.work;
        let locked = &work.locked[index];
        let metadata = locked.fve().metadata();
        let has = |kind: ProtectionType| metadata.protectors().iter().any(|one| one.protection == kind);
        let mut keys = keys::read(&self.typed.keys, &work.locked, &work.generations)?;
        if (locked.is_decrypted() || !keys.credentials.is_empty())
            && let Some(opened) = self.try_keys(index, &keys)
        {
            return Ok(Some(opened));
        }
        output::note("");
        if has(ProtectionType::CLEAR_KEY)
            && !self.typed.keys.clear_key
            && yes("Protection is suspended: the volume's key lies open on the disk. Use it?")
        {
            self.typed.keys.clear_key = true;
            keys.credentials.push(Credential::ClearKey);
            if let Some(opened) = self.try_keys(index, &keys) {
                return Ok(Some(opened));
            }
        }
        show::wanted(locked);
        if has(ProtectionType::RECOVERY_PASSWORD) {
            while let Some(password) = keys::ask_recovery_password(&work.locked, &work.generations) {
                keys.credentials.push(Credential::RecoveryPassword(password));
                if let Some(opened) = self.try_keys(index, &keys) {
                    self.typed.keys.recovery_password_file = vec![PathBuf::from("FILE")];
                    return Ok(Some(opened));
                }
                keys.credentials.pop();
            }
        }
        if has(ProtectionType::EXTERNAL_KEY) {
            while let Some(path) =
                ask("Path of the .BEK file (empty: none at hand):").filter(|path| !path.is_empty())
            {
                let path = PathBuf::from(path.as_str());
                match keys::read_bek(&path) {
                    Ok(key) => keys.credentials.push(Credential::ExternalKey(key)),
                    Err(error) => {
                        output::note(output::plain(&error.to_string()));
                        continue;
                    }
                }
                if let Some(opened) = self.try_keys(index, &keys) {
                    self.typed.keys.bek = vec![path];
                    return Ok(Some(opened));
                }
                keys.credentials.pop();
            }
        }
        if has(ProtectionType::PASSWORD) {
            while let Some(password) = keys::ask_password() {
                keys.credentials.push(Credential::Password(password));
                if let Some(opened) = self.try_keys(index, &keys) {
                    self.typed.keys.password_file = vec![PathBuf::from("FILE")];
                    return Ok(Some(opened));
                }
                keys.credentials.pop();
            }
        }
        Ok(None)
    }

    fn try_keys(&self, index: usize, keys: &Keys) -> Option<Vec<OpenedDisk>> {
        output::note("Trying...");
        let opened = self.work.open(keys);
        match &opened[index].result {
            Ok(_) => Some(opened),
            Err(failure) => {
                output::note(output::plain(&failure.to_string()));
                None
            }
        }
    }

    /// Nothing opens it: writes the card for whoever has a secret.
    fn hand_over(&self, index: usize) -> Result<Exit, CliError> {
        output::note("");
        output::note(
            "Nothing at hand opens it. A handover card tells whoever can look a secret up what to look for.",
        );
        if let Some(path) = ask("File for the card, such as card.html or card.txt (empty: none):")
            && !path.is_empty()
        {
            let path = PathBuf::from(path.as_str());
            write_card(&path, &[&self.work.locked[index]])?;
            output::note(format!("Wrote {}.", output::path(&path)));
        }
        self.leave();
        Ok(Exit::NoAccess)
    }

    fn whole_disk(&mut self, index: usize) -> Result<Option<Recover>, CliError> {
        let Some(path) = new_path("Name of the new VHDX:", Some("vhdx")) else { return Ok(None) };
        let source = self.work.locked[index].source;
        let mut step = Recover { to: Some(path), whole_disk: true, ..self.typed.clone() };
        step.skip_unallocated = source.disk.is_sparse()
            && yes(
                "The disk has blocks that were never written. Leave them empty (smaller; decrypting them gives noise)?",
            );
        let size = output::bytes(lifeboat_disk::ReadAt::size_bytes(&source.disk));
        Ok(confirmed(
            step,
            &format!("a new disk of {size} is written, decrypted: keep it as you keep its data"),
        ))
    }

    fn volume(&mut self) -> Result<Option<Recover>, CliError> {
        let Some(path) = new_path("Name of the new file (.vhdx makes a VHDX):", None) else {
            return Ok(None);
        };
        let step = Recover { to: Some(path), ..self.typed.clone() };
        Ok(confirmed(step, "the volume is written, decrypted: keep it as you keep its data"))
    }

    fn overlay(&mut self) -> Result<Option<Recover>, CliError> {
        let Some(path) = new_path("Name of the new file (.avhdx over a VHDX):", None) else {
            return Ok(None);
        };
        let step = Recover { suspend_overlay: Some(path), ..self.typed.clone() };
        Ok(confirmed(step, "an overlay is written that opens the disk to anyone until protection is resumed"))
    }

    fn files(&mut self) -> Result<Option<Recover>, CliError> {
        let Some(path) =
            ask("File or folder on the volume (empty: list the root; end in / to list a folder):")
        else {
            return Ok(None);
        };
        if path.is_empty() || path.ends_with(['/', '\\']) {
            let list = Some((!path.is_empty()).then(|| path.to_string()));
            return Ok(Some(Recover { list, ..self.typed.clone() }));
        }
        let Some(to) = ask("Folder to put it into:").filter(|to| !to.is_empty()) else { return Ok(None) };
        let to = Some(PathBuf::from(to.as_str()));
        Ok(Some(Recover { extract: Some(path.to_string()), to, ..self.typed.clone() }))
    }

    fn read_back(&mut self) -> Result<Option<Recover>, CliError> {
        let Some(path) = new_path("Name of the new file:", None) else { return Ok(None) };
        let step = Recover { read_back: Some(path), ..self.typed.clone() };
        Ok(confirmed(
            step,
            "all recovery secrets of the volume are written to it: whoever has the file opens the disk",
        ))
    }
}

/// Asks for a file that is not there yet.
fn new_path(question: &str, extension: Option<&str>) -> Option<PathBuf> {
    loop {
        let answer = ask(question).filter(|answer| !answer.is_empty())?;
        let path = PathBuf::from(answer.as_str());
        let fits = extension
            .is_none_or(|wanted| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(wanted)));
        if !fits {
            output::note(format!("It should end in .{}", extension.unwrap_or_default()));
        } else if path.symlink_metadata().is_ok() {
            output::note("It is there already, and nothing is overwritten.");
        } else {
            return Some(path);
        }
    }
}

/// Says what is about to be done, and asks.
fn confirmed(step: Recover, what: &str) -> Option<Recover> {
    output::note(format!("About to be done: {what}."));
    yes("Do it?").then_some(step)
}

/// The command that does the same.
fn command(arguments: &Recover, kit: &KitArguments) -> String {
    let mut words: Vec<OsString> = vec!["lifeboat".into(), "recover".into()];
    // A name that begins with a dash would be taken for a flag.
    words.extend(arguments.disks.iter().map(|path| match path.as_os_str().as_encoded_bytes() {
        [b'-', ..] => Path::new(".").join(path).into(),
        _ => path.into(),
    }));
    let mut flag = |name: &str, value: Option<OsString>| {
        if let Some(value) = value {
            words.extend([name.into(), value]);
        }
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(OsString::from);
    flag("--volume", arguments.volume.as_ref().map(OsString::from));
    flag("--vm", arguments.vm.as_ref().map(OsString::from));
    flag("--extract", arguments.extract.as_ref().map(OsString::from));
    flag("--to", path(&arguments.to));
    flag("--suspend-overlay", path(&arguments.suspend_overlay));
    flag("--read-back", path(&arguments.read_back));
    if let Some(path) = &arguments.list {
        words.push("--list".into());
        words.extend(path.as_ref().map(OsString::from));
    }
    for (name, is_set) in [
        ("--verify-only", arguments.verify_only),
        ("--whole-disk", arguments.whole_disk),
        ("--skip-unallocated", arguments.skip_unallocated),
        ("--search-metadata", arguments.search_metadata),
    ] {
        words.extend(is_set.then(|| name.into()));
    }
    words.extend(kit.flags());
    words.extend(arguments.keys.flags());
    words.extend(arguments.parents.flags());
    shell::command(words.iter().map(OsString::as_os_str))
}
