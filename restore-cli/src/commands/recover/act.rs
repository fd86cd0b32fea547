//! What is done with opened volumes.

use std::path::Path;

use indicatif::ProgressBar;
use lifeboat_disk::ImageFile;
use lifeboat_fve::{FileTime, Guid, Key256};
use lifeboat_recover::{
    DecryptOptions, DecryptReport, ExtractOptions, ExtractReport, KeyProof, NextSteps, NtfsBrowser, Observer,
    Opened, OpenedDisk, Outcome, OutputKind, PlainDisk, PlainSource, PlainVolume, SuspendOptions, decrypt_to,
    next_steps, read_back_text, suspend_to,
};
use lifeboat_schema::{
    Exit, ExtractedFiles, Finding, ReadBackFile, RecoverReport, Severity, SuspendedOverlay, Time,
    VolumeEntry, WrittenOutput,
};
use zeroize::Zeroizing;

use super::interrupt::Stoppable;
use super::{Recover, Work, show};
use crate::commands::{now, random, write_private};
use crate::error::CliError;
use crate::output;

/// Does what was asked for with the chosen volumes.
pub(super) fn act(
    work: &Work<'_>,
    arguments: &Recover,
    chosen: &[usize],
    opened: &[OpenedDisk],
) -> Result<Exit, CliError> {
    let chosen = &if arguments.whole_disk { of_one_disk(work, chosen)? } else { chosen.to_vec() };
    let mut report = RecoverReport {
        volumes: chosen.iter().map(|&index| show::volume(&work.locked[index], &opened[index])).collect(),
        written: None,
        overlay: None,
        read_back: None,
        entries: None,
        extracted: None,
        next_steps: Vec::new(),
        powershell: None,
        findings: work.findings(),
    };
    if !work.context.json {
        for &index in chosen {
            if arguments.list.is_none() {
                show::proved(&work.locked[index], &opened[index], work.disks);
            }
        }
    }
    let locked: Vec<usize> = chosen.iter().copied().filter(|&index| opened[index].result.is_err()).collect();
    if locked.len() == chosen.len() {
        return Err(nothing_opened(work, &locked, opened));
    }
    for &index in &locked {
        report.findings.push(Finding::new(
            Severity::Warning,
            "still-locked",
            format!(
                "volume {} of {}",
                work.locked[index].place.number,
                work.locked[index].source.path.display()
            ),
            match arguments.whole_disk {
                true => format!("it stays encrypted in the output. {}", report_failure(&opened[index])),
                false => report_failure(&opened[index]),
            },
            "give a key of this volume; --plan tells every way, and --card FILE writes down what to ask whom",
        ));
    }
    for &index in chosen {
        if let Ok(one) = &opened[index].result {
            proof_findings(work, index, one, &mut report.findings);
        }
    }

    if arguments.list.is_some() || arguments.extract.is_some() {
        let index = one_of(work, chosen, opened)?;
        browse(work, arguments, index, opened, &mut report)?;
    } else if let Some(output) = &arguments.to {
        decrypt(work, arguments, chosen, opened, output, &mut report)?;
    } else if let Some(output) = &arguments.suspend_overlay {
        suspend(work, chosen, opened, output, &mut report)?;
    } else if (arguments.verify_only || arguments.has_no_action())
        && let Ok(index) = one_of(work, chosen, opened)
        && let Ok(one) = &opened[index].result
    {
        let metadata = work.locked[index].metadata_of(one);
        tell(next_steps(&Outcome::KeyProved, metadata, one.protector), &mut report);
    }
    // Last: an interrupted decryption is finished by the same command, which would find the file there.
    if let Some(path) = &arguments.read_back {
        report.read_back = Some(read_back(work, chosen, opened, path)?);
    }
    if work.context.json {
        output::json(&report);
    } else {
        show::report(&report);
    }
    output::findings(&report.findings);
    Ok(Exit::of(&report.findings))
}

fn tell(next: NextSteps, report: &mut RecoverReport) {
    report.next_steps = next.steps;
    report.powershell = next.powershell;
}

fn report_failure(opened: &OpenedDisk) -> String {
    opened.result.as_ref().err().map(ToString::to_string).unwrap_or_default()
}

fn nothing_opened(work: &Work<'_>, locked: &[usize], opened: &[OpenedDisk]) -> CliError {
    let failures: Vec<String> = locked
        .iter()
        .map(|&index| {
            format!(
                "volume {} of {}: {}",
                work.locked[index].place.number,
                work.locked[index].source.path.display(),
                report_failure(&opened[index])
            )
        })
        .collect();
    let only_hardware = locked
        .iter()
        .all(|&index| matches!(opened[index].result, Err(lifeboat_recover::OpenFailure::CannotRead(_))));
    CliError::new(
        if only_hardware { Exit::Failed } else { Exit::NoAccess },
        format!(
            "nothing opened. {}. See that the id under which the secret was kept is one of these; --plan tells every way, and --card FILE writes down what to ask whom",
            failures.join("; ")
        ),
    )
}

/// What is to be said about how far a key is proved.
fn proof_findings(work: &Work<'_>, index: usize, opened: &Opened, findings: &mut Vec<Finding>) {
    let locked = &work.locked[index];
    let place = format!("volume {} of {}", locked.place.number, locked.source.path.display());
    if let Some(error) = &opened.cannot_read {
        findings.push(Finding::new(
            Severity::Damage,
            "cannot-be-read",
            &place,
            format!("the key is right, but the volume cannot be decrypted: {error}"),
            "keep the disk; its recovery secrets can be read back, and Windows itself may still open it",
        ));
    } else if opened.proof == KeyProof::Key {
        findings.push(Finding::new(
            Severity::Warning,
            "not-proved-on-data",
            &place,
            "the key opens the volume master key, but no sector of the disk was recognised with it",
            "look at what comes out before you rely on it: --list, or the first sectors",
        ));
    }
    if opened.authentication.is_some_and(|one| one.is_refuted()) {
        findings.push(Finding::new(
            Severity::Damage,
            "metadata-altered",
            &place,
            opened.authentication.map(|one| one.to_string()).unwrap_or_default(),
            "someone or something changed the metadata after BitLocker wrote it; compare what comes out with a backup",
        ));
    }
    let fve = locked.fve();
    if fve.good_copies() < fve.copies().len() {
        findings.push(Finding::new(
            Severity::Note,
            "metadata-damaged",
            &place,
            format!(
                "{} of {} metadata copies are whole; one is enough",
                fve.good_copies(),
                fve.copies().len()
            ),
            "nothing to do for this recovery",
        ));
    }
    let metadata = fve.metadata();
    if metadata.current_state == lifeboat_fve::ConversionState::SWITCHING_DIRTY
        && metadata.state_size_bytes > 0
    {
        findings.push(Finding::new(
            Severity::Warning,
            "under-conversion",
            &place,
            format!(
                "{} bytes from byte {} were being converted; they lie in a log that is not replayed and read as zeros",
                metadata.state_size_bytes, metadata.state_offset
            ),
            "on Windows BitLocker itself finishes the conversion: attach a copy of the disk there if these bytes matter",
        ));
    }
}

/// All volumes of the one disk that the chosen volumes lie on.
fn of_one_disk(work: &Work<'_>, chosen: &[usize]) -> Result<Vec<usize>, CliError> {
    let disk = |index: usize| work.locked[index].place.disk;
    let Some(&first) = chosen.first() else { return Ok(Vec::new()) };
    if chosen.iter().any(|&index| disk(index) != disk(first)) {
        return Err(CliError::usage(format!(
            "--whole-disk writes one disk; name a volume of it with --volume: {}",
            work.names().join(", ")
        )));
    }
    Ok((0..work.locked.len()).filter(|&index| disk(index) == disk(first)).collect())
}

/// The one volume that an action is about.
fn one_of(work: &Work<'_>, chosen: &[usize], opened: &[OpenedDisk]) -> Result<usize, CliError> {
    let open: Vec<usize> = chosen.iter().copied().filter(|&index| opened[index].result.is_ok()).collect();
    match (open.as_slice(), chosen) {
        ([one], [_]) => Ok(*one),
        ([one], _) if work.locked.len() == 1 => Ok(*one),
        _ => Err(CliError::usage(format!(
            "there are {} BitLocker volumes; name one with --volume: {}",
            work.locked.len(),
            work.names().join(", ")
        ))),
    }
}

fn read_back(
    work: &Work<'_>,
    chosen: &[usize],
    opened: &[OpenedDisk],
    path: &Path,
) -> Result<ReadBackFile, CliError> {
    let (mut texts, mut passwords, mut keys) = (Vec::new(), 0, 0);
    for &index in chosen {
        if let Ok(one) = &opened[index].result {
            let (text, more_passwords, more_keys) = read_back_text(&work.locked[index], one);
            texts.push(text);
            passwords += more_passwords;
            keys += more_keys;
        }
    }
    let mut all = Zeroizing::new(Vec::with_capacity(texts.iter().map(|text| text.len()).sum()));
    for text in &texts {
        all.extend_from_slice(text.as_bytes());
    }
    write_private(path, &all)?;
    Ok(ReadBackFile { path: path.display().to_string(), recovery_passwords: passwords, external_keys: keys })
}

/// A plain volume, whose key was proved.
fn plain<'v, 'd>(
    work: &'v Work<'d>,
    index: usize,
    opened: &OpenedDisk,
) -> Result<PlainVolume<'v, 'd, ImageFile>, CliError> {
    let locked = &work.locked[index];
    match &opened.result {
        Ok(one) => PlainVolume::new(locked, one)
            .map_err(|error| CliError::new(Exit::Damage, format!("volume {}: {error}", locked.place.number))),
        Err(failure) => Err(CliError::new(Exit::NoAccess, failure.to_string())),
    }
}

fn browse(
    work: &Work<'_>,
    arguments: &Recover,
    index: usize,
    opened: &[OpenedDisk],
    report: &mut RecoverReport,
) -> Result<(), CliError> {
    let plain = plain(work, index, &opened[index])?;
    let mut browser = NtfsBrowser::open(&plain)?;
    if let Some(path) = &arguments.list {
        let entries = browser.list(path.as_deref().unwrap_or("/"))?;
        report.entries = Some(
            entries
                .into_iter()
                .map(|entry| VolumeEntry {
                    name: entry.name,
                    kind: entry.kind.name().to_owned(),
                    size_bytes: entry.size_bytes,
                    modified: Time::from_unix_seconds(entry.modified_unix_seconds),
                })
                .collect(),
        );
    }
    if let (Some(path), Some(to)) = (&arguments.extract, &arguments.to) {
        let options = ExtractOptions { to: to.clone(), random_id: random()? };
        let stoppable = Stoppable::begin();
        let bar = Bar(output::progress("Extracting"));
        let extracted = browser.extract(path, &options, stoppable.flag(), &bar);
        bar.0.finish_and_clear();
        drop(stoppable);
        let ExtractReport { files, bytes, left_out_count, left_out } = extracted?;
        if left_out_count > 0 {
            report.findings.push(Finding::new(
                Severity::Warning,
                "files-left-out",
                path,
                format!("{left_out_count} files were left out"),
                "decrypt the volume with --to and copy them from there",
            ));
        }
        report.extracted = Some(ExtractedFiles { to: to.display().to_string(), files, bytes, left_out });
    }
    Ok(())
}

fn decrypt(
    work: &Work<'_>,
    arguments: &Recover,
    chosen: &[usize],
    opened: &[OpenedDisk],
    output: &Path,
    report: &mut RecoverReport,
) -> Result<(), CliError> {
    let kind = OutputKind::of(output);
    let path = output.display().to_string();
    let (index, still_encrypted, source): (usize, usize, Box<dyn PlainSource + '_>);
    if arguments.whole_disk {
        let open: Vec<usize> = chosen.iter().copied().filter(|&index| opened[index].result.is_ok()).collect();
        let Some(&first) = open.first() else {
            return Err(CliError::new(Exit::NoAccess, "nothing opened"));
        };
        let disk = work.locked[first].place.disk;
        let unusable = work.unusable.iter().filter(|(of, ..)| *of == disk).count();
        still_encrypted = chosen.len() - open.len() + unusable;
        let mut volumes = Vec::new();
        for &index in &open {
            volumes.push(plain(work, index, &opened[index])?);
        }
        index = first;
        source = Box::new(PlainDisk::new(&work.disks[disk], volumes));
    } else {
        index = one_of(work, chosen, opened)?;
        still_encrypted = 0;
        source = Box::new(plain(work, index, &opened[index])?);
    }
    let options = DecryptOptions {
        output: output.to_owned(),
        kind,
        skip_unallocated: arguments.skip_unallocated,
        check_space: !arguments.no_space_check,
        random_ids: random()?,
    };
    let stoppable = Stoppable::begin();
    let bar = Bar(output::progress("Decrypting"));
    let written = decrypt_to(source.as_ref(), &options, stoppable.flag(), &bar);
    bar.0.finish_and_clear();
    drop(stoppable);
    let written = written?;
    if !written.is_whole() {
        report.findings.push(not_whole(&path, &written));
    }
    report.written = Some(WrittenOutput {
        path: path.clone(),
        form: match kind {
            OutputKind::Raw => "raw".to_owned(),
            OutputKind::Vhdx => "vhdx".to_owned(),
        },
        plain_bytes: written.plain_bytes,
        stated_bytes: written.stated_bytes,
        resumed_bytes: written.resumed_bytes,
        missing_bytes: written.missing_bytes,
        missing: written.missing.iter().map(|range| [range.start, range.end - range.start]).collect(),
    });
    if let Ok(one) = &opened[index].result {
        let outcome = match arguments.whole_disk {
            true => Outcome::Disk { path, kind, still_encrypted },
            false => Outcome::Volume { path, kind },
        };
        tell(next_steps(&outcome, work.locked[index].metadata_of(one), one.protector), report);
    }
    Ok(())
}

/// Writes an overlay in which BitLocker is suspended.
fn suspend(
    work: &Work<'_>,
    chosen: &[usize],
    opened: &[OpenedDisk],
    output: &Path,
    report: &mut RecoverReport,
) -> Result<(), CliError> {
    let index = one_of(work, chosen, opened)?;
    let locked = &work.locked[index];
    let Ok(one) = &opened[index].result else {
        return Err(CliError::new(Exit::NoAccess, "nothing opened"));
    };
    let options = SuspendOptions {
        output: output.to_owned(),
        clear_key: Key256::new(random()?),
        protector: random_guid()?,
        random_ids: random()?,
        now: FileTime::from_unix_seconds(now().unix_seconds()),
    };
    let stoppable = Stoppable::begin();
    let bar = Bar(output::progress("Copying"));
    let written = suspend_to(locked, one, &options, stoppable.flag(), &bar);
    bar.0.finish_and_clear();
    drop(stoppable);
    let written = written?;
    let path = output.display().to_string();
    report.findings.push(Finding::new(
        Severity::Warning,
        "open-to-anyone",
        &path,
        "BitLocker is suspended in it: whoever has it reads the disk, until protection is resumed in the guest",
        "boot the VM from it, seal it again as the steps say, and remove the file",
    ));
    if locked.source.disk.facts().replayed_log {
        report.findings.push(Finding::new(
            Severity::Warning,
            "parent-not-closed",
            output::path(&locked.source.path),
            "its log was replayed in memory here; Hyper-V replays it into the file when it opens the disk",
            "where Hyper-V refuses the overlay, attach the disk alone once, read-only, and write the overlay anew",
        ));
    }
    let missing_bytes = written.copied.as_ref().map_or(0, |copied| copied.missing_bytes);
    if let Some(copied) = written.copied.as_ref().filter(|copied| !copied.is_whole()) {
        report.findings.push(not_whole(&path, copied));
    }
    let parent = written.parent.map(|parent| parent.display().to_string());
    report.overlay = Some(SuspendedOverlay {
        path: path.clone(),
        parent: parent.clone(),
        protector: options.protector.to_string(),
        missing_bytes,
    });
    tell(next_steps(&Outcome::Suspended { path, parent }, locked.metadata_of(one), one.protector), report);
    Ok(())
}

/// A random (version 4) id.
fn random_guid() -> Result<Guid, CliError> {
    let mut id: [u8; 16] = random()?;
    id[7] = id[7] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    Ok(Guid(id))
}

/// What is missing in an output.
fn not_whole(path: &str, written: &DecryptReport) -> Finding {
    let behind = written.stated_bytes.saturating_sub(written.plain_bytes);
    let mut what = Vec::new();
    if behind > 0 {
        what.push(format!(
            "the image ends {behind} bytes early: the output has {} of {} bytes",
            written.plain_bytes, written.stated_bytes
        ));
    }
    if written.missing_bytes > 0 {
        what.push(format!(
            "{} bytes inside could not be read and are zeros ({}{})",
            written.missing_bytes,
            ranges(&written.missing),
            written.first_failure.as_deref().map(|why| format!("; {why}")).unwrap_or_default()
        ));
    }
    Finding::new(
        Severity::Warning,
        "not-whole",
        path,
        what.join("; "),
        "look for a whole copy of the disk; what is there was decrypted",
    )
}

/// The first ranges, for people.
fn ranges(missing: &[std::ops::Range<u64>]) -> String {
    const SHOWN: usize = 5;
    let mut shown: Vec<String> =
        missing.iter().take(SHOWN).map(|range| format!("{}..{}", range.start, range.end)).collect();
    if missing.len() > SHOWN {
        shown.push(format!("and {} more ranges", missing.len() - SHOWN));
    }
    shown.join(", ")
}

struct Bar(ProgressBar);

impl Observer for Bar {
    fn planned(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn advanced(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}
