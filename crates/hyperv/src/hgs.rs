//! The guardian metadata of a Host Guardian Service: a `HostSource` with one companion, asked for in every run.
//!
//! The service has no attributes to look at, so finding is fetching, some 10 KiB. What was last captured is known from the bytes that
//! the catalog keeps for the source: the thumbprints of the primary pair, then a digest of everything else. Another pair than
//! before is a finding, which stands until the configuration names the new signing certificate.
//!
//! Deliberately believes no address: what metadata over http are worth is written at `lifeboat_hgs`.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lifeboat_engine::source::{
    COMPANION_PREFIX, CaptureSink, Discovery, FileStat, FoundFile, FoundVm, HostSource, SourceError,
    VmIdentity,
};
use lifeboat_hgs::{FetchOptions, Fetched, fetch_blocking};
use lifeboat_schema::{
    ArtefactKind, CompanionKind, CompanionRecord, Digest, Finding, Layout, Severity, VmRecord,
};

use crate::capture_sink::write;
use crate::companions::describe::describe;

/// Name of the file that is kept.
const FILE: &str = "metadata.xml";
/// Thumbprints of signing and encryption certificate.
const PAIR_BYTES: usize = 64;

/// A source of the metadata of one HGS.
#[derive(Debug)]
pub struct HgsSource {
    name: String,
    url: String,
    signing_certificate: Option<Digest>,
    owner_guardian: Option<Digest>,
    state: Mutex<State>,
}

/// What a run has learnt so far.
#[derive(Debug, Default)]
struct State {
    fetched: Option<Fetched>,
    /// The pair of the last capture, if it was another one.
    pair_before: Option<[u8; PAIR_BYTES]>,
}

impl HgsSource {
    /// A source that asks `url`, whose primary signing certificate must have the given thumbprint if there is one.
    pub fn new(
        name: String,
        url: String,
        signing_certificate: Option<Digest>,
        owner_guardian: Option<Digest>,
    ) -> Self {
        Self { name, url, signing_certificate, owner_guardian, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, what: impl ToString) -> SourceError {
        SourceError::Contradiction { place: self.name.clone(), what: what.to_string() }
    }

    /// The pair, and a digest of the document and of what the configuration says.
    fn watched(&self, fetched: &Fetched) -> Vec<u8> {
        let mut all = pair(fetched).to_vec();
        let document = Digest::of(&fetched.bytes);
        let text = format!("{document} {:?} {:?}", self.signing_certificate, self.owner_guardian);
        all.extend_from_slice(Digest::of(text.as_bytes()).as_bytes());
        all
    }

    fn blank_record(&self, id: &str) -> CompanionRecord {
        let kind = CompanionKind::GuardianMetadata;
        CompanionRecord::new(id.to_owned(), kind, FILE.to_owned(), self.url.clone())
    }
}

fn pair(fetched: &Fetched) -> [u8; PAIR_BYTES] {
    let mut both = [0; PAIR_BYTES];
    let (signing, encryption) = both.split_at_mut(PAIR_BYTES / 2);
    signing.copy_from_slice(&fetched.metadata.signing_certificate().sha256().0);
    encryption.copy_from_slice(&fetched.metadata.encryption_certificate().sha256().0);
    both
}

impl HostSource for HgsSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn discover(&self) -> Result<Discovery, SourceError> {
        let options =
            FetchOptions { signing_certificate: self.signing_certificate, ..FetchOptions::default() };
        let fetched = fetch_blocking(&self.url, &options).map_err(|error| self.refused(error))?;
        *self.state() = State { fetched: Some(fetched), pair_before: None };
        let file = FoundFile {
            path: FILE.to_owned(),
            location: PathBuf::from(&self.url),
            kind: ArtefactKind::Companion,
            // The same always, so that what was watched comes back whatever was fetched.
            stat: FileStat { size: 0, modified_ns: 0, changed_ns: 0, file_id: 0 },
        };
        let found = FoundVm {
            vm_id: format!("{COMPANION_PREFIX}{}/{FILE}", self.name),
            place: self.url.clone(),
            layout: Layout::Export,
            files: vec![file],
        };
        Ok(Discovery { vms: vec![found], problems: Vec::new() })
    }

    fn still_holds(&self, _: &FoundVm, watched: &[u8]) -> bool {
        let mut state = self.state();
        let Some(fetched) = &state.fetched else { return false };
        let (holds, now) = (self.watched(fetched) == watched, pair(fetched));
        state.pair_before = watched.first_chunk().copied().filter(|before| *before != now);
        holds
    }

    fn capture(&self, vm: &FoundVm, _: &mut dyn CaptureSink) -> Result<VmRecord, SourceError> {
        let what = "this source finds guardian metadata, and no VM".to_owned();
        Err(SourceError::Contradiction { place: vm.place.clone(), what })
    }

    fn capture_companion(
        &self,
        found: &FoundVm,
        sink: &mut dyn CaptureSink,
    ) -> Result<CompanionRecord, SourceError> {
        let state = self.state();
        let Some(fetched) = &state.fetched else {
            return Err(self.refused("it was found without its metadata"));
        };
        let mut described = describe(self.blank_record(&found.vm_id), &fetched.bytes, Path::new(FILE), None);
        let record = &mut described.record;
        // Who named the new certificate has looked at it.
        if self.signing_certificate.is_none() {
            record.findings.extend(state.pair_before.map(|before| changed(&self.url, &before, fetched)));
            record.remarks.push(
                "nothing but its address says whose it is: agent.toml names no signing certificate for it"
                    .to_owned(),
            );
        }
        sink.begin_vm(&VmIdentity {
            vm_id: &record.id,
            name: &record.name,
            owner_guardian: self.owner_guardian,
        })?;
        write(sink, FILE, ArtefactKind::Companion, described.class, &fetched.bytes)?;
        sink.watch(self.watched(fetched));
        Ok(described.record)
    }
}

/// The finding that an HGS shows another pair than before.
fn changed(url: &str, before: &[u8; PAIR_BYTES], fetched: &Fetched) -> Finding {
    let names = ["signing", "encryption"];
    let (before, now) = (before.chunks(PAIR_BYTES / 2), pair(fetched));
    let changes: Vec<String> = names
        .iter()
        .zip(before.zip(now.chunks(PAIR_BYTES / 2)))
        .filter(|(_, (before, now))| before != now)
        .map(|(name, (before, now))| format!("{name} certificate {} instead of {}", hex(now), hex(before)))
        .collect();
    Finding::new(
        Severity::Warning,
        "guardian-changed",
        url,
        format!("this HGS shows another primary pair than before: {}", changes.join(", ")),
        "compare with Get-HgsKeyProtectionCertificate on the HGS. If it is right: have the owners grant the new guardian access before the old pair is retired, and put the signing certificate's thumbprint into agent.toml (signing_certificate), which ends this finding. If not: somebody answers in place of the HGS",
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
