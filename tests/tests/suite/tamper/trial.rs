//! Tamperings, and what must come of each.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lifeboat_schema::{Exit, Finding, Role, Severity, Time};
use lifeboat_tests::stage::{Silent, restore_all_of};
use lifeboat_vault::seal::Identities;
use lifeboat_vault::vault::{Vault, VaultError};

use super::specimen::{Specimen, StoreCopy, ledger_of};

/// Of so many flips one gets the whole check with all identities, not only the part that looks at its place.
const WHOLE_SHARE: usize = 64;

/// One change of the store.
#[derive(Clone)]
pub(super) enum Edit {
    Flip { path: String, at: usize },
    Put { path: String, bytes: Bytes },
    Remove { path: String },
}

impl Edit {
    fn path(&self) -> &str {
        match self {
            Edit::Flip { path, .. } | Edit::Put { path, .. } | Edit::Remove { path } => path,
        }
    }
}

/// What a check must name.
#[derive(Clone)]
pub(super) enum Names {
    /// Exactly this object, record or file.
    Path(String),
    /// This folder of a ledger, or something in it.
    Ledger(String),
}

impl Names {
    fn are_in(&self, text: &str) -> bool {
        match self {
            Names::Path(path) => text.contains(path.as_str()),
            Names::Ledger(ledger) => text.contains(ledger.as_str()),
        }
    }
}

pub(super) struct Tampering {
    kind: String,
    edits: Vec<Edit>,
    names: Names,
}

impl Tampering {
    pub(super) fn new(kind: impl Into<String>, edits: Vec<Edit>, names: Names) -> Self {
        Self { kind: kind.into(), edits, names }
    }
}

/// How one kind of tampering went.
#[derive(Default)]
struct Counts {
    tried: u64,
    named: u64,
    whole: u64,
    restores: u64,
    newest: u64,
    older: u64,
    partly: u64,
    refused: u64,
    unnamed: Vec<String>,
}

/// How all went, by kind.
#[derive(Default)]
pub(super) struct Report(BTreeMap<String, Counts>);

impl Report {
    pub(super) fn tried(&self, kind: &str) -> u64 {
        self.0.get(kind).map_or(0, |counts| counts.tried)
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().map(|counts| counts.tried).sum()
    }

    pub(super) fn assert_all_named(&self) {
        for (kind, counts) in &self.0 {
            assert!(
                counts.unnamed.is_empty(),
                "{kind}: {} of {} were not named, such as {}",
                counts.tried - counts.named,
                counts.tried,
                counts.unnamed[0]
            );
            assert_eq!(counts.named, counts.tried, "{kind}");
            assert_eq!(
                counts.newest + counts.older + counts.partly + counts.refused,
                counts.restores,
                "{kind}"
            );
        }
    }

    fn add(&mut self, other: Report) {
        for (kind, more) in other.0 {
            let counts = self.0.entry(kind).or_default();
            counts.tried += more.tried;
            counts.named += more.named;
            counts.whole += more.whole;
            counts.restores += more.restores;
            counts.newest += more.newest;
            counts.older += more.older;
            counts.partly += more.partly;
            counts.refused += more.refused;
            counts.unnamed.extend(more.unnamed.into_iter().take(3));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<44} {:>7} {:>7} {:>7} | {:>8} {:>7} {:>7} {:>7} {:>7}",
            "tampering", "tried", "named", "whole", "restores", "newest", "older*", "partly", "refused"
        )?;
        for (kind, c) in &self.0 {
            writeln!(
                f,
                "{kind:<44} {:>7} {:>7} {:>7} | {:>8} {:>7} {:>7} {:>7} {:>7}",
                c.tried, c.named, c.whole, c.restores, c.newest, c.older, c.partly, c.refused
            )?;
        }
        f.write_str("* an older capture of a VM, or fewer VMs, byte for byte and with damage reported")
    }
}

/// Tries every tampering on a copy of the specimen; restores after each `restore_every`-th one.
pub(super) fn try_all(specimen: &Specimen, tamperings: Vec<Tampering>, restore_every: usize) -> Report {
    let next = AtomicUsize::new(0);
    let report = Mutex::new(Report::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime");
                let mut own = Report::default();
                let trial = runtime.block_on(Trial::new(specimen));
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(tampering) = tamperings.get(index) else { break };
                    let restores = index.is_multiple_of(restore_every);
                    let narrow = restore_every > 1;
                    let whole = !narrow || index.is_multiple_of(WHOLE_SHARE);
                    let counts = own.0.entry(tampering.kind.clone()).or_default();
                    runtime.block_on(trial.try_one(tampering, whole, narrow, restores, counts));
                }
                report.lock().expect("no thread panicked").add(own);
            });
        }
    });
    report.into_inner().expect("no thread panicked")
}

/// One thread's copy of the store.
struct Trial<'a> {
    specimen: &'a Specimen,
    copy: StoreCopy,
    identities: Arc<Identities>,
    scratch: PathBuf,
}

impl<'a> Trial<'a> {
    async fn new(specimen: &'a Specimen) -> Self {
        Self {
            specimen,
            copy: specimen.copy().await,
            identities: Arc::new(specimen.stage.identity(Role::Restore)),
            scratch: specimen.stage.new_folder(),
        }
    }

    async fn try_one(
        &self,
        tampering: &Tampering,
        whole: bool,
        narrow: bool,
        restores: bool,
        counts: &mut Counts,
    ) {
        for edit in &tampering.edits {
            self.apply(edit).await;
        }
        counts.tried += 1;
        let mut named = Ok(());
        if whole {
            counts.whole += 1;
            named = self.is_named(tampering, true).await;
        }
        if narrow {
            named = named.and(self.is_named(tampering, false).await);
        }
        match named {
            Ok(()) => counts.named += 1,
            Err(what) => counts.unnamed.push(what),
        }
        if restores {
            counts.restores += 1;
            self.restore(tampering, counts).await;
        }
        for edit in &tampering.edits {
            self.undo(edit.path()).await;
        }
    }

    async fn apply(&self, edit: &Edit) {
        match edit {
            Edit::Flip { path, at } => {
                let mut bytes = self.specimen.files[path].to_vec();
                bytes[*at] ^= 1 << (at % 8);
                self.copy.put(path, bytes.into()).await;
            }
            Edit::Put { path, bytes } => self.copy.put(path, bytes.clone()).await,
            Edit::Remove { path } => self.copy.remove(path).await,
        }
    }

    async fn undo(&self, path: &str) {
        match self.specimen.files.get(path) {
            Some(bytes) => self.copy.put(path, bytes.clone()).await,
            None => self.copy.remove(path).await,
        }
    }

    /// What `lifeboat check --read-data` finds, with this vault pinned and its ledgers remembered.
    async fn check(&self) -> Result<Vec<Finding>, VaultError> {
        let specimen = self.specimen;
        let vault = Vault::open(self.copy.vault.store.clone(), &specimen.stage.vault.id).await?;
        let ledgers = vault.ledgers(&specimen.memory).await?;
        Ok(vault.check(&ledgers, specimen.check_options(true), &Silent).await?.findings)
    }

    /// The part of that check, without keys, that looks at a path: the rest could only find more.
    async fn check_one(&self, path: &str) -> Result<Vec<Finding>, VaultError> {
        let specimen = self.specimen;
        let vault = Vault::open(self.copy.vault.store.clone(), &specimen.stage.vault.id).await?;
        Ok(match ledger_of(path).as_deref().map(|ledger| ledger.trim_start_matches("ledger/")) {
            Some("admin") => vault.policies(None).await?.0.findings,
            Some(writer) => {
                let writer = writer.parse().expect("a writer's ledger");
                vault.ledger(&writer, &specimen.ledgers.policies).await?.findings
            }
            None => vault.check(&specimen.ledgers, specimen.check_options(false), &Silent).await?.findings,
        })
    }

    async fn is_named(&self, tampering: &Tampering, whole: bool) -> Result<(), String> {
        let edits: Vec<&str> = tampering.edits.iter().map(Edit::path).collect();
        let found = if whole { self.check().await } else { self.check_one(edits[0]).await };
        match found {
            Ok(findings) => {
                let damage = |f: &&Finding| f.severity == Severity::Damage;
                let named = |f: &Finding| tampering.names.are_in(&format!("{} {}", f.place, f.what));
                if findings.iter().filter(damage).any(named) {
                    return Ok(());
                }
                Err(format!("{edits:?}: {findings:?}"))
            }
            Err(error) if error.exit() == Exit::Damage && tampering.names.are_in(&error.to_string()) => {
                Ok(())
            }
            Err(error) => Err(format!("{edits:?}: exit {}: {error}", error.exit().code())),
        }
    }

    /// What `lifeboat restore --all` does: an error, or genuine captures; and not a word less than damage when
    /// they are not the newest, or not all.
    async fn restore(&self, tampering: &Tampering, counts: &mut Counts) {
        let specimen = self.specimen;
        let to = self.scratch.join("restored");
        let restored = async {
            let vault = Vault::open(self.copy.vault.store.clone(), &specimen.stage.vault.id).await?;
            let ledgers = vault.ledgers(&specimen.memory).await?;
            restore_all_of(&vault, &ledgers, &self.identities, &to).await
        };
        match restored.await {
            Ok(restored) => {
                for vm in &restored.vms {
                    specimen.assert_genuine(&vm.vm_id, vm.captured, Path::new(&vm.folder));
                }
                let vms: Vec<(String, Time)> =
                    restored.vms.iter().map(|vm| (vm.vm_id.clone(), vm.captured)).collect();
                if !restored.failures.is_empty() {
                    let folders = std::fs::read_dir(&to).expect("a folder").flatten();
                    let folders = folders.filter(|entry| entry.path().is_dir()).count();
                    assert_eq!(
                        folders,
                        vms.len(),
                        "{}: what did not come back leaves nothing",
                        tampering.kind
                    );
                    counts.partly += 1;
                } else if vms == specimen.newest {
                    counts.newest += 1;
                } else {
                    let edits: Vec<&str> = tampering.edits.iter().map(Edit::path).collect();
                    let damage = restored.findings.iter().any(|f| f.severity == Severity::Damage);
                    assert!(damage, "{}: {edits:?}: something older came back in silence", tampering.kind);
                    counts.older += 1;
                }
            }
            Err(_) => {
                let left = std::fs::read_dir(&to).map(|entries| entries.count()).unwrap_or_default();
                assert_eq!(left, 0, "{}: a failed restore leaves nothing", tampering.kind);
                counts.refused += 1;
            }
        }
        if to.exists() {
            std::fs::remove_dir_all(&to).expect("the restored files go");
        }
    }
}
