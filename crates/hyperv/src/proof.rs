//! Whether a copy of a file is whole, as far as its format can say.
//!
//! Configurations and runtime states are containers with checksums and a replay log; guest states have headers with
//! checksums (see `guest_state.rs`). Every other file is whole if its attributes did not change while it was read. Of virtual
//! disks only the heads are read (`disk_head.rs`).

use lifeboat_schema::ArtefactKind;
use lifeboat_vmcx::{Container, Corruption, ReadAt, Remark, Report, Wholeness};

use crate::guest_state::{self, GuestStateFacts};

/// A file that its format does not contradict.
#[derive(Debug)]
pub(crate) struct Proved<R> {
    /// The container; `None` for a file of another format.
    pub(crate) container: Option<Container<R>>,
    /// What is known of a guest state.
    pub(crate) guest_state: Option<GuestStateFacts>,
    /// What a person should know, without the file's name.
    pub(crate) remarks: Vec<String>,
}

/// Why a copy is not whole.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Which rule is broken, or which first.
    pub(crate) what: String,
    /// Whether the file can be trusted all the same if it really is so on disk: a crash in the middle of writing a header
    /// leaves it in this state, and Hyper-V opens it.
    pub(crate) is_tolerable: bool,
}

/// Judges a file of a kind, through positioned reads.
///
/// # Errors
/// When the port fails. That the copy is not whole is the inner result.
pub(crate) fn prove<R: ReadAt>(kind: ArtefactKind, port: R) -> Result<Result<Proved<R>, Damage>, R::Error> {
    match kind {
        ArtefactKind::Configuration
        | ArtefactKind::RuntimeState
        | ArtefactKind::CheckpointConfiguration
        | ArtefactKind::CheckpointRuntimeState => {
            let inspection = Container::inspect(port)?;
            Ok(judge(&inspection.report).map(|remarks| Proved {
                container: inspection.container,
                guest_state: None,
                remarks,
            }))
        }
        ArtefactKind::GuestState | ArtefactKind::CheckpointGuestState => guest_state::prove(port),
        // Opaque: nothing in them is understood here.
        _ => Ok(Ok(Proved { container: None, guest_state: None, remarks: Vec::new() })),
    }
}

/// Turns a report on a container into remarks or damage.
pub(crate) fn judge(report: &Report) -> Result<Vec<String>, Damage> {
    let mut remarks = Vec::new();
    match report.wholeness {
        Wholeness::Whole => {}
        Wholeness::Dirty { pending_entries } => remarks.push(format!(
            "was not closed properly: {pending_entries} entries of its replay log are pending, all valid; Hyper-V applies \
             them when it opens the file"
        )),
        Wholeness::Unsupported { format_version } => remarks.push(format!(
            "has container format {}.{}, which is not understood; it is kept byte-exact, and nothing in it is proved",
            format_version >> 8,
            format_version & 0xff
        )),
        Wholeness::Torn => return Err(damage(report)),
    }
    for remark in &report.remarks {
        if let Remark::AppliedLogCut { index } = remark {
            remarks.push(format!(
                "ends before the data of its applied log entry {index}; it is whole without, and may have been cut there"
            ));
        }
    }
    Ok(remarks)
}

fn damage(report: &Report) -> Damage {
    // The first corruption that matters says more than the first that was met.
    let first = report.corruptions.iter().find(|corruption| !corruption.is_tolerable());
    let first = first.or(report.corruptions.first());
    let more = (report.corruptions.len() as u64 + report.dropped).saturating_sub(1);
    let what = match first {
        Some(first) if more > 0 => format!("{first} (and {more} more)"),
        Some(first) => first.to_string(),
        None => "it is no whole container".to_owned(),
    };
    Damage { what, is_tolerable: report.corruptions.iter().all(Corruption::is_tolerable) }
}

/// Reads a file whose tolerable damage is accepted.
///
/// # Errors
/// When the port fails.
pub(crate) fn accept<R: ReadAt>(kind: ArtefactKind, port: R, damage: &Damage) -> Result<Proved<R>, R::Error> {
    if matches!(kind, ArtefactKind::GuestState | ArtefactKind::CheckpointGuestState) {
        return guest_state::accept(port, damage);
    }
    let inspection = Container::inspect(port)?;
    let remarks =
        vec![format!("lies damaged on disk, in a way that Hyper-V mends when it opens it: {}", damage.what)];
    Ok(Proved { container: inspection.container, guest_state: None, remarks })
}
