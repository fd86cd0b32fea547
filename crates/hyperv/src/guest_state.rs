//! Guest states (VMGS): whether a copy is whole, and what of it goes into a `VmRecord`.
//!
//! Called by `proof.rs` for the verdict and by `describe.rs` for the facts. A torn guest state is treated like a torn runtime
//! state. The rules of its first format were never checked against a file of Hyper-V, so damage that only they speak of is
//! accepted once it is certain to lie like that on disk; it is kept byte-exact, with a remark.
//!
//! Deliberately reads no content and holds no key.

use lifeboat_schema::{GuestStateEntry, GuestStateFormat, GuestStateItem, GuestStateVerdict};
use lifeboat_vmcx::ReadAt;
use lifeboat_vmgs::{
    Contents, Corruption, Document, Format, GuestState, Inspection, Report, Store, UnlockError, Verdict,
};

use crate::proof::{Damage, Proved};

/// Most items that are listed: as many as a store has room for.
const MAX_ITEMS: usize = 64;
/// Longest id of a device that is listed, in characters; a GUID in braces has 38.
const MAX_DEVICE_CHARACTERS: usize = 64;

/// What is known of a guest state, without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GuestStateFacts {
    verdict: GuestStateVerdict,
    format: Option<GuestStateFormat>,
    has_vtpm_state: bool,
    contents: Vec<GuestStateItem>,
}

impl GuestStateFacts {
    /// Tells whether what it holds is not known, or not all of it.
    pub(crate) fn is_dark(&self) -> bool {
        matches!(self.verdict, GuestStateVerdict::NotUnderstood | GuestStateVerdict::Damaged)
    }

    /// Makes the entry of a guest state whose artefact has this path.
    pub(crate) fn entry(&self, file: &str) -> GuestStateEntry {
        GuestStateEntry {
            file: file.to_owned(),
            verdict: self.verdict,
            format: self.format,
            vtpm: self.has_vtpm_state,
            contents: self.contents.clone(),
        }
    }
}

/// The port of one format over that of the other.
struct Port<R>(R);

impl<R: ReadAt> lifeboat_vmgs::ReadAt for Port<R> {
    type Error = R::Error;

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), R::Error> {
        self.0.read_exact_at(offset, buf)
    }

    fn len(&self) -> u64 {
        self.0.len()
    }
}

/// Judges a guest state.
///
/// # Errors
/// When the port fails. That the copy is not whole is the inner result.
pub(crate) fn prove<R: ReadAt>(port: R) -> Result<Result<Proved<R>, Damage>, R::Error> {
    let inspection = GuestState::inspect(Port(port))?;
    let report = &inspection.report;
    if report.verdict == Verdict::Torn {
        return Ok(Err(damage(report)));
    }
    let (verdict, remark) = match report.verdict {
        Verdict::Encrypted => (GuestStateVerdict::Encrypted, None),
        Verdict::Empty => (GuestStateVerdict::Empty, None),
        Verdict::Unsupported(why) => (GuestStateVerdict::NotUnderstood, Some(why.to_string())),
        Verdict::Unknown => {
            (GuestStateVerdict::NotUnderstood, Some("it carries no signature of a guest state".to_owned()))
        }
        Verdict::Whole | Verdict::Torn => (GuestStateVerdict::Whole, None),
    };
    let mut remarks: Vec<String> = remark
        .map(|why| format!("is not understood: {why}; it is kept byte-exact, and nothing in it is proved"))
        .into_iter()
        .collect();
    remarks.extend(report.remarks.iter().map(|remark| format!("is odd: {remark}")));
    if opens_without_key(&inspection)? {
        remarks.push(
            "is encrypted in name only: its metadata key is zeros, so that whoever has the file can read it"
                .to_owned(),
        );
    }
    let guest_state = Some(facts(verdict, &inspection));
    Ok(Ok(Proved { container: None, guest_state, remarks }))
}

/// Reads a guest state whose tolerable damage is accepted.
///
/// # Errors
/// When the port fails.
pub(crate) fn accept<R: ReadAt>(port: R, damage: &Damage) -> Result<Proved<R>, R::Error> {
    let inspection = GuestState::inspect(Port(port))?;
    let remarks = vec![format!("lies damaged on disk, and is kept as it is: {}", damage.what)];
    let guest_state = Some(facts(GuestStateVerdict::Damaged, &inspection));
    Ok(Proved { container: None, guest_state, remarks })
}

/// What is to be said of where vTPM state lies.
pub(crate) fn remark_on_vtpm(
    is_tpm_enabled: bool,
    is_found_elsewhere: bool,
    guest_state: Option<&GuestStateEntry>,
) -> Option<String> {
    let nowhere_else = "its vTPM is on, and neither configuration nor runtime state holds vTPM state";
    Some(match guest_state {
        Some(state) if state.vtpm && is_found_elsewhere => format!(
            "{} holds vTPM state, too; that of the runtime state is taken for the one that counts",
            state.file
        ),
        Some(state) if state.vtpm => format!("its vTPM state lies in its guest state, {}", state.file),
        _ if is_found_elsewhere || !is_tpm_enabled => return None,
        Some(state) if state.verdict == GuestStateVerdict::NotUnderstood => {
            format!("{nowhere_else}; it may lie in the guest state, which is not understood")
        }
        Some(state) if state.verdict == GuestStateVerdict::Damaged => {
            format!("{nowhere_else}; it may lie in the guest state, which is damaged")
        }
        Some(_) => format!("{nowhere_else}, nor does the guest state"),
        None => format!("{nowhere_else}; it may lie in the guest state, and no file of one was found"),
    })
}

fn damage(report: &Report) -> Damage {
    let is_of_unproved_format = report.format == Some(Format::Document);
    let is_tolerable = |corruption: &Corruption| {
        corruption.is_tolerable() || (is_of_unproved_format && !corruption.is_of_file())
    };
    // The first corruption that matters says more than the first that was met.
    let first = report.corruptions.iter().find(|corruption| !corruption.is_tolerable());
    let what = match first.or(report.corruptions.first()) {
        Some(first) if report.corruptions.len() > 1 => {
            format!("{first} (and {} more)", report.corruptions.len() - 1)
        }
        Some(first) => first.to_string(),
        None => "it is no whole guest state".to_owned(),
    };
    Damage { what, is_tolerable: report.corruptions.iter().all(is_tolerable) }
}

/// Tells whether the encryption of a store keeps nobody out.
fn opens_without_key<R: ReadAt>(inspection: &Inspection<Port<R>>) -> Result<bool, R::Error> {
    match inspection.guest_state.as_ref().map(GuestState::unlock_without_key) {
        Some(Ok(_)) => Ok(true),
        Some(Err(UnlockError::Read(error))) => Err(error),
        Some(Err(_)) | None => Ok(false),
    }
}

fn facts<R: ReadAt>(verdict: GuestStateVerdict, inspection: &Inspection<Port<R>>) -> GuestStateFacts {
    let format = inspection.report.format.map(|format| match format {
        Format::Document => GuestStateFormat::Document,
        Format::Store => GuestStateFormat::Store,
    });
    let guest_state = inspection.guest_state.as_ref();
    GuestStateFacts {
        verdict,
        format,
        has_vtpm_state: guest_state.is_some_and(GuestState::has_vtpm_state),
        contents: match guest_state.map(GuestState::contents) {
            Some(Contents::Store(store)) => files(store),
            Some(Contents::Document(document)) => devices(document),
            None => Vec::new(),
        },
    }
}

fn files(store: &Store) -> Vec<GuestStateItem> {
    let files = store.files().iter().filter(|file| !file.id().is_table()).take(MAX_ITEMS);
    let item = |file: &lifeboat_vmgs::StoredFile| GuestStateItem {
        name: file.id().name().map_or_else(|| file.id().to_string(), str::to_owned),
        size: file.size_bytes(),
        encrypted: file.attributes().is_encrypted(),
    };
    files.map(item).collect()
}

fn devices(document: &Document) -> Vec<GuestStateItem> {
    let item = |device: &lifeboat_vmgs::DeviceState| GuestStateItem {
        name: device.device.chars().take(MAX_DEVICE_CHARACTERS).collect(),
        size: device.size_bytes as u64,
        encrypted: false,
    };
    document.devices().iter().take(MAX_ITEMS).map(item).collect()
}
