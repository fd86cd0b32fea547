//! What is done with opened volumes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use lifeboat_disk::ImageFile;
use lifeboat_recover::{
    DecryptOptions, ExtractOptions, ExtractReport, KeyProof, NextSteps, NtfsBrowser, Observer, Opened,
    OpenedDisk, Outcome, OutputKind, PlainDisk, PlainSource, PlainVolume, decrypt_to, next_steps,
    read_back_text,
};
use lifeboat_schema::{
    Exit, ExtractedFiles, Finding, ReadBackFile, RecoverReport, Severity, Time, VolumeEntry, WrittenOutput,
};
use zeroize::Zeroizing;

use super::{Recover, Work, show, write_card};
use crate::commands::{random, write_private};
use crate::error::CliError;
use crate::output;

/// Does what was asked for with the chosen volumes.
pub(super) fn act(
    work: &Work<'_>,
    arguments: &Recover,
    chosen: &[usize],
    opened: &[OpenedDisk],
) -> Result<Exit, CliError> {
    let mut report = RecoverReport {
        volumes: chosen.iter().map(|&index| show::volume(&work.locked[index], &opened[index])).collect(),
        written: None,
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
    if let Some(path) = &arguments.card {
        let volumes: Vec<_> = locked.iter().map(|&index| &work.locked[index]).collect();
        write_card(path, &volumes)?;
    }
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
            report_failure(&opened[index]),
            "give a key of this volume; --plan tells every way, and --card FILE writes down what to ask whom",
        ));
    }
    for &index in chosen {
        if let Ok(one) = &opened[index].result {
            proof_findings(work, index, one, &mut report.findings);
        }
    }

    if let Some(path) = &arguments.read_back {
        report.read_back = Some(read_back(work, chosen, opened, path)?);
    }
    if arguments.list.is_some() || arguments.extract.is_some() {
        let index = one_of(work, chosen, opened)?;
        browse(work, arguments, index, opened, &mut report)?;
    } else if let Some(output) = &arguments.to {
        decrypt(work, arguments, chosen, opened, output, &mut report)?;
    } else if (arguments.verify_only || arguments.has_no_action())
        && let Ok(index) = one_of(work, chosen, opened)
        && let Ok(one) = &opened[index].result
    {
        let metadata = work.locked[index].fve().metadata();
        tell(next_steps(&Outcome::KeyProved, metadata, one.protector), &mut report);
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
        let cancel = cancel_on_interrupt();
        let bar = Bar(output::progress("Extracting"));
        let options = ExtractOptions { to: to.clone(), random_id: random()? };
        let extracted = browser.extract(path, &options, cancel, &bar);
        bar.0.finish_and_clear();
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
    let (index, outcome, source): (usize, Outcome, Box<dyn PlainSource + '_>);
    if arguments.whole_disk {
        let open: Vec<usize> = chosen.iter().copied().filter(|&index| opened[index].result.is_ok()).collect();
        let Some(&first) = open.first() else {
            return Err(CliError::new(Exit::NoAccess, "nothing opened"));
        };
        let disk = work.locked[first].place.disk;
        if open.iter().any(|&index| work.locked[index].place.disk != disk) {
            return Err(CliError::usage(format!(
                "--whole-disk writes one disk; name a volume of it with --volume: {}",
                work.names().join(", ")
            )));
        }
        let mut volumes = Vec::new();
        for &index in &open {
            volumes.push(plain(work, index, &opened[index])?);
        }
        index = first;
        source = Box::new(PlainDisk::new(&work.disks[disk], volumes));
        outcome = match kind {
            OutputKind::Vhdx => Outcome::DiskAsVhdx(path.clone()),
            OutputKind::Raw => Outcome::DiskAsRaw(path.clone()),
        };
    } else {
        index = one_of(work, chosen, opened)?;
        source = Box::new(plain(work, index, &opened[index])?);
        outcome = match kind {
            OutputKind::Vhdx => Outcome::VolumeAsVhdx(path.clone()),
            OutputKind::Raw => Outcome::VolumeAsRaw(path.clone()),
        };
    }
    let options = DecryptOptions {
        output: output.to_owned(),
        kind,
        skip_unallocated: arguments.skip_unallocated,
        check_space: !arguments.no_space_check,
        random_ids: random()?,
    };
    let cancel = cancel_on_interrupt();
    let bar = Bar(output::progress("Decrypting"));
    let written = decrypt_to(source.as_ref(), &options, cancel, &bar);
    bar.0.finish_and_clear();
    let written = written?;
    if !written.is_whole() {
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
        report.findings.push(Finding::new(
            Severity::Warning,
            "not-whole",
            &path,
            what.join("; "),
            "look for a whole copy of the disk; what is there was decrypted",
        ));
    }
    report.written = Some(WrittenOutput {
        path,
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
    let protector = opened[index].result.as_ref().ok().and_then(|one| one.protector);
    tell(next_steps(&outcome, work.locked[index].fve().metadata(), protector), report);
    Ok(())
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

/// Returns a flag that the first interrupt sets; the second ends the process where it stands.
fn cancel_on_interrupt() -> &'static AtomicBool {
    static CANCEL: AtomicBool = AtomicBool::new(false);
    static WATCHED: std::sync::Once = std::sync::Once::new();
    WATCHED.call_once(|| {
        std::thread::spawn(|| {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    if CANCEL.swap(true, Ordering::Relaxed) {
                        std::process::exit(Exit::Interrupted.code().into());
                    }
                }
            });
        });
    });
    &CANCEL
}
