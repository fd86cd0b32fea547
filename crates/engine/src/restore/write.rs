//! Writing restored files: bundle by bundle, on all cores, each VM complete or not there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use lifeboat_schema::{Digest, DigestBuilder, ObjectEntry, PartEntry, RestoredVm, WriterId};
use lifeboat_vault::fetch::{self, member};
use lifeboat_vault::seal::{Identities, Opener};
use lifeboat_vault::vault::{Vault, VaultError, object_path};
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::names::{checked_path, folded, folder_names, names_beside};
use super::runbook::{Runbook, Script};
use super::{Circumstances, RestoreError, plan};
use crate::inventory::{Found, bundle_of};

/// Is told how far a restore has come.
pub trait RestoreObserver: Send + Sync {
    /// How many bytes of files will be written.
    fn planned(&self, vms: u64, bytes: u64);
    /// That many more bytes were written and compared.
    fn written(&self, bytes: u64);
}

/// An observer that looks away.
pub struct Unobserved;

impl RestoreObserver for Unobserved {
    fn planned(&self, _: u64, _: u64) {}
    fn written(&self, _: u64) {}
}

/// How to restore.
pub struct RestoreOptions {
    /// Folder that VM folders are put into.
    pub to: PathBuf,
    /// Threads that decrypt and write.
    pub threads: usize,
    /// What script and runbook are written for.
    pub given: Circumstances,
}

/// What a restore did.
#[derive(Debug)]
pub struct Restored {
    /// VMs that are back.
    pub vms: Vec<RestoredVm>,
    /// What kept others away; at least one VM is back.
    pub failures: Vec<RestoreFailure>,
}

/// Why some VMs were not restored while others were.
#[derive(Debug)]
pub struct RestoreFailure {
    /// Names and ids of these VMs.
    pub vms: Vec<(String, String)>,
    /// What is wrong with what the vault has of them.
    pub error: RestoreError,
}

/// A file to be written.
struct Target {
    /// The VM it belongs to, by position among the chosen.
    vm: usize,
    temporary: PathBuf,
    path: String,
    size: u64,
    digest: Digest,
    parts: usize,
    /// Parts that are still to be written.
    missing: AtomicUsize,
    /// The folder that it lies in, by position in [`Work::folders`].
    folder: usize,
}

/// All that the writing threads share.
struct Work {
    targets: Vec<Target>,
    /// Folders in scratch, made when the first file comes.
    folders: Vec<(PathBuf, AtomicBool)>,
    /// Openers of finished jobs: their buffers serve again.
    openers: Mutex<Vec<Opener>>,
    /// What is wrong with some VMs while others may come back, with their positions among the chosen.
    failures: Mutex<Vec<(BTreeSet<usize>, RestoreError)>>,
    /// Set when nobody waits for more: whoever writes gives up at the next piece.
    stopped: AtomicBool,
}

/// The folder that everything is written into. It goes with its last owner, so that a thread that still writes
/// when the restore was given up makes nothing that stays.
struct Scratch {
    /// None once it was removed.
    folder: Option<TempDir>,
    path: PathBuf,
    /// The folder around it, if this restore made it.
    made: Option<PathBuf>,
}

impl Scratch {
    fn create(to: &Path) -> Result<Self, RestoreError> {
        let made = (!to.is_dir()).then(|| to.to_owned());
        // From here on what was made is removed if anything fails.
        let mut scratch = Self { folder: None, path: to.to_owned(), made };
        create_folder(to)?;
        let folder = tempfile::Builder::new()
            .prefix(".lifeboat-restore-")
            .tempdir_in(to)
            .map_err(|source| RestoreError::Write { path: to.to_owned(), source })?;
        scratch.path = folder.path().to_owned();
        scratch.folder = Some(folder);
        Ok(scratch)
    }

    /// Removes it and what is in it.
    fn close(mut self) -> std::io::Result<()> {
        self.folder.take().map_or(Ok(()), TempDir::close)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.folder.take());
        if let Some(made) = &self.made {
            // Only goes if nothing is in it.
            let _ = fs::remove_dir(made);
        }
    }
}

/// Stops the threads when the restore ends, also when it is dropped.
struct StopOnDrop<'a>(&'a Work);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Relaxed);
    }
}

/// What a thread holds while it writes. The fields go in this order.
struct Held {
    work: Arc<Work>,
    _scratch: Arc<Scratch>,
    /// Whoever waits for all threads learns from it that this one has ended.
    _running: mpsc::Sender<()>,
}

/// One part and where its bytes go.
struct Piece {
    part: PartEntry,
    target: usize,
    at: u64,
}

/// All pieces of one bundle.
struct Job {
    writer: WriterId,
    entry: ObjectEntry,
    pieces: Vec<Piece>,
}

/// Bundles to be read, by writer and name.
type Jobs = BTreeMap<(WriterId, Digest), Job>;

/// A bundle is fetched whole when its pieces are at least this share of it; else each piece by range.
const WHOLE_FETCH_SHARE: u64 = 4;
/// Up to here what was restored is made durable before it gets its names. More is left to the system, as by a copy: waiting for a
/// disk would cost as much again as the restore, and what a power failure takes is restored once more.
const MAX_SYNCED_BYTES: u64 = 256 << 20;

/// Writes the chosen snapshots below `options.to`, one folder for each VM.
///
/// Where what the vault has of one VM is damaged, the others come back all the same. Dropping the future ends it: threads stop at their next piece, and the last one removes what was written.
///
/// # Errors
/// [`RestoreError`], also if no VM comes back; nothing is left then, or [`RestoreError::Left`] says what.
pub async fn restore(
    vault: &Vault,
    chosen: &[(Found, String)],
    identities: &Arc<Identities>,
    options: &RestoreOptions,
    observer: &dyn RestoreObserver,
) -> Result<Restored, RestoreError> {
    let folders = folder_names(
        chosen.iter().map(|(found, _)| (found.entry.vm.name.as_str(), found.entry.vm.vm_id.as_str())),
    );
    for folder in folders.iter().chain(&names_beside(&folders)) {
        let path = options.to.join(folder);
        if path.symlink_metadata().is_ok() {
            return Err(RestoreError::Exists { path });
        }
    }
    let scratch = Arc::new(Scratch::create(&options.to)?);
    let path = scratch.path.clone();
    let result = write_all(vault, chosen, &folders, identities, options, &scratch, observer).await;
    // No thread has it any more.
    let closed = Arc::into_inner(scratch).map_or(Ok(()), Scratch::close);
    let cause = match result {
        // All is in its place; if the empty folder stays, that is no reason to say that it failed.
        Ok(restored) => return Ok(restored),
        Err(RestoreError::Write { path: at, source }) if at.starts_with(&path) => {
            RestoreError::Write { path: options.to.clone(), source }
        }
        Err(error) => error,
    };
    match closed {
        Ok(()) => Err(cause),
        Err(source) => Err(RestoreError::Left { cause: Box::new(cause), path, source }),
    }
}

async fn write_all(
    vault: &Vault,
    chosen: &[(Found, String)],
    folders: &[String],
    identities: &Arc<Identities>,
    options: &RestoreOptions,
    scratch: &Arc<Scratch>,
    observer: &dyn RestoreObserver,
) -> Result<Restored, RestoreError> {
    let (work, jobs) = prepare(chosen, folders, &scratch.path)?;
    let bytes = work.targets.iter().map(|target| target.size).sum();
    observer.planned(chosen.len() as u64, bytes);

    let work = Arc::new(work);
    for empty in work.targets.iter().filter(|target| target.parts == 0) {
        let made = work.make_folder(empty).and_then(|()| create_file(&empty.temporary));
        made.map(drop).or_else(|error| work.fail([empty.vm].into(), error))?;
    }
    let threads = options.threads.max(1);
    let reads = jobs.into_values().map(|job| fetch_job(vault, job, Arc::clone(identities), &work));
    let fetched = futures::stream::iter(reads).buffer_unordered(vault.store.concurrency().clamp(1, threads));
    write_fetched(fetched, &work, scratch, identities, threads, observer).await?;
    let failures = std::mem::take(&mut *work.failures.lock().unwrap_or_else(PoisonError::into_inner));
    let failed: BTreeSet<usize> = failures.iter().flat_map(|(vms, _)| vms).copied().collect();
    let name = |vm: &usize| {
        let vm = &chosen[*vm].0.entry.vm;
        (vm.name.clone(), vm.vm_id.clone())
    };
    let mut failures = failures
        .into_iter()
        .map(|(vms, error)| RestoreFailure { vms: vms.iter().map(name).collect(), error })
        .collect::<Vec<_>>();
    if failed.len() == chosen.len() && !failures.is_empty() {
        return Err(failures.swap_remove(0).error);
    }
    let whole = (0..chosen.len()).filter(|vm| !failed.contains(vm));
    let beside = names_beside(folders);
    let (chosen, folders): (Vec<_>, Vec<_>) = whole.map(|vm| (&chosen[vm], folders[vm].as_str())).unzip();
    let vms = finish(&chosen, &folders, &beside, options, &scratch.path)?;
    Ok(Restored { vms, failures })
}

/// Writes what comes, on that many threads. None of them runs any more when it ends, however it ends.
async fn write_fetched(
    fetched: impl Stream<Item = Result<Option<Fetched>, RestoreError>>,
    work: &Arc<Work>,
    scratch: &Arc<Scratch>,
    identities: &Arc<Identities>,
    threads: usize,
    observer: &dyn RestoreObserver,
) -> Result<(), RestoreError> {
    let stop = StopOnDrop(work);
    let (running, mut ended) = mpsc::channel::<()>(1);
    let result = {
        let done = fetched
            .try_filter_map(|fetched| futures::future::ready(Ok(fetched)))
            .map_ok(|fetched| {
                let identities = Arc::clone(identities);
                let held =
                    Held { work: Arc::clone(work), _scratch: Arc::clone(scratch), _running: running.clone() };
                async move {
                    tokio::task::spawn_blocking(move || {
                        let held = held;
                        write_job(fetched, &identities, &held.work)
                    })
                    .await
                    .map_err(|error| RestoreError::Fault(error.to_string()))?
                }
            })
            .try_buffer_unordered(threads);
        done.try_for_each(|written| {
            observer.written(written);
            futures::future::ready(Ok(()))
        })
        .await
    };
    // After an error others may still write; what is fetched is given up.
    drop(stop);
    drop(running);
    while ended.recv().await.is_some() {}
    result
}

/// Sorts every part under the bundle that it lies in.
fn prepare(
    chosen: &[(Found, String)],
    folders: &[String],
    scratch: &Path,
) -> Result<(Work, Jobs), RestoreError> {
    let mut work = Work {
        targets: Vec::new(),
        folders: Vec::new(),
        openers: Mutex::default(),
        failures: Mutex::default(),
        stopped: AtomicBool::new(false),
    };
    let mut jobs = Jobs::new();
    let mut records: HashMap<(&WriterId, Digest), HashMap<Digest, &ObjectEntry>> = HashMap::new();
    for (vm, ((found, _), folder)) in chosen.iter().zip(folders).enumerate() {
        let objects = records
            .entry((&found.record.writer, found.record_id))
            .or_insert_with(|| found.record.objects.iter().map(|object| (object.name, object)).collect());
        let (targets, folders) = (work.targets.len(), work.folders.len());
        let mut of_vm = Vec::new();
        if let Err(error) = prepare_vm(found, vm, &scratch.join(folder), objects, &mut work, &mut of_vm) {
            // Nothing of it is written.
            work.targets.truncate(targets);
            work.folders.truncate(folders);
            work.fail([vm].into(), error)?;
            continue;
        }
        for (entry, piece) in of_vm {
            let job = jobs.entry((found.record.writer.clone(), entry.name)).or_insert_with(|| Job {
                writer: found.record.writer.clone(),
                entry: entry.clone(),
                pieces: Vec::new(),
            });
            job.pieces.push(piece);
        }
    }
    for job in jobs.values_mut() {
        job.pieces.sort_by_key(|piece| (piece.part.offset, piece.target));
    }
    Ok((work, jobs))
}

/// Adds the files of one VM to the work, and says in which objects their pieces are.
fn prepare_vm<'a>(
    found: &'a Found,
    vm: usize,
    root: &Path,
    objects: &HashMap<Digest, &'a ObjectEntry>,
    work: &mut Work,
    pieces: &mut Vec<(&'a ObjectEntry, Piece)>,
) -> Result<(), RestoreError> {
    let mut tree = Tree::default();
    let mut made: HashMap<PathBuf, usize> = HashMap::new();
    for artefact in found.entry.artefacts.iter().filter(|artefact| artefact.kind.is_vm_file()) {
        let temporary = root.join(checked_path(&artefact.path)?);
        tree.add(&artefact.path)?;
        let parent = temporary.parent().unwrap_or(root).to_owned();
        let folder = *made.entry(parent).or_insert_with_key(|parent| {
            work.folders.push((parent.clone(), AtomicBool::new(false)));
            work.folders.len() - 1
        });
        let mut at = 0u64;
        for part in &artefact.parts {
            let entry = bundle_of(&found.record, artefact, part, objects.get(&part.object).copied())?;
            pieces.push((entry, Piece { part: part.clone(), target: work.targets.len(), at }));
            at = at.saturating_add(part.size);
        }
        // No piece will bring the digest of an empty file.
        let empty = artefact.parts.is_empty();
        if at != artefact.size || (empty && artefact.digest != Digest::of(b"")) {
            return Err(RestoreError::WrongDigest { path: artefact.path.clone(), expected: artefact.digest });
        }
        work.targets.push(Target {
            vm,
            temporary,
            path: artefact.path.clone(),
            size: artefact.size,
            digest: artefact.digest,
            parts: artefact.parts.len(),
            missing: AtomicUsize::new(artefact.parts.len()),
            folder,
        });
    }
    if made.is_empty() {
        create_folder(root)?;
    }
    Ok(())
}

/// The files of a VM and the folders that they lie in, as a file system that folds letters sees them.
#[derive(Default)]
struct Tree {
    files: HashSet<String>,
    folders: HashSet<String>,
}

impl Tree {
    /// Takes a file, unless one of its names is already something else.
    fn add(&mut self, path: &str) -> Result<(), RestoreError> {
        let bad = |why| Err(RestoreError::BadPath { path: path.to_owned(), why });
        let folded = folded(path);
        if self.folders.contains(&folded) {
            return bad("is also the folder of another file");
        }
        for (at, _) in folded.match_indices('/') {
            let folder = &folded[..at];
            if self.files.contains(folder) {
                return bad("lies in what is also a file");
            }
            if !self.folders.contains(folder) {
                self.folders.insert(folder.to_owned());
            }
        }
        if !self.files.insert(folded) {
            return bad("it names twice");
        }
        Ok(())
    }
}

impl Work {
    /// An error once nobody waits for more; nobody sees it either.
    fn go_on(&self) -> Result<(), RestoreError> {
        match self.stopped.load(Ordering::Relaxed) {
            true => Err(RestoreError::Fault("it was given up".to_owned())),
            false => Ok(()),
        }
    }

    /// Notes that something is wrong with these VMs, or gives the error back if it is not theirs alone.
    fn fail(&self, vms: BTreeSet<usize>, error: RestoreError) -> Result<(), RestoreError> {
        if !error.is_of_some_vms() {
            return Err(error);
        }
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).push((vms, error));
        Ok(())
    }

    /// The VMs that a bundle has pieces of.
    fn vms_of(&self, job: &Job) -> BTreeSet<usize> {
        job.pieces.iter().map(|piece| self.targets[piece.target].vm).collect()
    }

    /// Makes the folder that a file lies in, once.
    fn make_folder(&self, target: &Target) -> Result<(), RestoreError> {
        self.go_on()?;
        let (path, made) = &self.folders[target.folder];
        if !made.load(Ordering::Relaxed) {
            // Two threads may both make it, which is no error.
            create_folder(path)?;
            made.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes one piece, whose digest was compared, at its place; after the last of several the file is compared.
    fn write_piece(&self, piece: &Piece, content: &[u8]) -> Result<(), RestoreError> {
        let target = &self.targets[piece.target];
        self.make_folder(target)?;
        write_piece(target, piece, content)?;
        // Release and acquire: whoever writes the last part sees what the others wrote.
        if target.missing.fetch_sub(1, Ordering::AcqRel) == 1 && target.parts > 1 {
            self.compare_joined(target)?;
        }
        Ok(())
    }

    /// Reads a file of several parts once more: each part was compared, their order was not.
    fn compare_joined(&self, target: &Target) -> Result<(), RestoreError> {
        let failed = |source| RestoreError::Write { path: target.temporary.clone(), source };
        let mut file = File::open(&target.temporary).map_err(failed)?;
        let mut whole = DigestBuilder::default();
        let mut buffer = vec![0u8; 1 << 20];
        loop {
            self.go_on()?;
            let read = std::io::Read::read(&mut file, &mut buffer).map_err(failed)?;
            if read == 0 {
                break;
            }
            whole.update(&buffer[..read]);
        }
        if whole.finish() != target.digest {
            return Err(RestoreError::WrongDigest { path: target.path.clone(), expected: target.digest });
        }
        Ok(())
    }
}

enum Fetched {
    Whole(Job, bytes::Bytes),
    /// Pieces one by one; what could not be had is a failure of its VM.
    Pieces(Job, Vec<Option<Vec<u8>>>),
}

/// Fetches what a job needs; nothing if it cannot be had, which is noted as a failure of its VMs.
async fn fetch_job(
    vault: &Vault,
    job: Job,
    identities: Arc<Identities>,
    work: &Work,
) -> Result<Option<Fetched>, RestoreError> {
    let wanted: u64 = job.pieces.iter().map(|piece| piece.part.length).fold(0, u64::saturating_add);
    if wanted.saturating_mul(WHOLE_FETCH_SHARE) >= job.entry.size {
        return match vault.read_unnamed(&job.writer, &job.entry).await {
            Ok(bytes) => Ok(Some(Fetched::Whole(job, bytes))),
            Err(error) => work.fail(work.vms_of(&job), error.into()).map(|()| None),
        };
    }
    let mut contents = Vec::with_capacity(job.pieces.len());
    for piece in &job.pieces {
        match vault.read_member(&job.writer, &job.entry, &piece.part, &identities).await {
            Ok(content) => contents.push(Some(content)),
            Err(error) => {
                work.fail([work.targets[piece.target].vm].into(), error.into())?;
                contents.push(None);
            }
        }
    }
    Ok(Some(Fetched::Pieces(job, contents)))
}

/// Compares a whole object with its name, opens what was fetched and writes its pieces; gives the bytes written.
fn write_job(fetched: Fetched, identities: &Identities, work: &Work) -> Result<u64, RestoreError> {
    let mut written = 0;
    let mut put = |piece: &Piece, content: Result<&[u8], RestoreError>| {
        work.go_on()?;
        let put = content.and_then(|content| {
            written += content.len() as u64;
            work.write_piece(piece, content)
        });
        put.or_else(|error| work.fail([work.targets[piece.target].vm].into(), error))
    };
    match fetched {
        Fetched::Whole(job, bytes) => {
            work.go_on()?;
            let opened = fetch::compare_name(&job.writer, &job.entry, &bytes)
                .and_then(|()| fetch::open_bytes(&job.writer, &job.entry, bytes, identities));
            let plaintext = match opened {
                Ok(plaintext) => plaintext,
                Err(error) => return work.fail(work.vms_of(&job), error.into()).map(|()| 0),
            };
            let spare = work.openers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut opener = match spare {
                Some(opener) => opener,
                None => Opener::new().map_err(VaultError::from)?,
            };
            for piece in &job.pieces {
                put(piece, read_piece(&job, piece, &plaintext, &mut opener))?;
            }
            work.openers.lock().unwrap_or_else(PoisonError::into_inner).push(opener);
        }
        Fetched::Pieces(job, contents) => {
            for (piece, content) in job.pieces.iter().zip(&contents) {
                if let Some(content) = content {
                    put(piece, Ok(content))?;
                }
            }
        }
    }
    Ok(written)
}

/// The bytes of a piece, out of the plaintext of its bundle.
fn read_piece<'o>(
    job: &Job,
    piece: &Piece,
    plaintext: &[u8],
    opener: &'o mut Opener,
) -> Result<&'o [u8], RestoreError> {
    let damaged = |what: String| VaultError::Damaged {
        place: object_path(&job.writer, &job.entry.name).to_string(),
        what,
    };
    let start = usize::try_from(piece.part.offset).ok();
    let end = piece.part.offset.checked_add(piece.part.length).and_then(|end| usize::try_from(end).ok());
    let frame = start.zip(end).and_then(|(start, end)| plaintext.get(start..end)).ok_or_else(|| {
        damaged(format!("a member at offset {} would lie outside of it", piece.part.offset))
    })?;
    Ok(opener.read_member(frame, &member(&piece.part)).map_err(|error| damaged(error.to_string()))?)
}

/// Writes one piece, whose digest was compared, at its place.
fn write_piece(target: &Target, piece: &Piece, content: &[u8]) -> Result<(), RestoreError> {
    let failed = |source| RestoreError::Write { path: target.temporary.clone(), source };
    if target.parts == 1 {
        if piece.part.digest != target.digest {
            return Err(RestoreError::WrongDigest { path: target.path.clone(), expected: target.digest });
        }
        return create_file(&target.temporary)?.write_all(content).map_err(failed);
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    private(&mut options);
    let file = options.open(&target.temporary).map_err(failed)?;
    write_at(&file, content, piece.at).map_err(failed)
}

#[cfg(unix)]
fn write_at(file: &File, content: &[u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, content, at)
}

#[cfg(windows)]
fn write_at(file: &File, mut content: &[u8], mut at: u64) -> std::io::Result<()> {
    while !content.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, content, at)?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        content = &content[written..];
        at += written as u64;
    }
    Ok(())
}

/// Writes script and runbook, gives everything its name, and tells what was restored.
fn finish(
    chosen: &[&(Found, String)],
    folders: &[&str],
    beside: &[String; 2],
    options: &RestoreOptions,
    scratch: &Path,
) -> Result<Vec<RestoredVm>, RestoreError> {
    let [script, runbook] = beside;
    let (script_path, runbook_path) = (scratch.join(script), scratch.join(runbook));
    let script_failed = |source| RestoreError::Write { path: script_path.clone(), source };
    let runbook_failed = |source| RestoreError::Write { path: runbook_path.clone(), source };
    let mut scripted = Script::begin(BufWriter::new(create_file(&script_path)?)).map_err(script_failed)?;
    let mut told = Runbook::begin(BufWriter::new(create_file(&runbook_path)?), script.clone(), chosen.len())
        .map_err(runbook_failed)?;
    let mut restored = Vec::with_capacity(chosen.len());
    for ((found, because), folder) in chosen.iter().zip(folders) {
        let plan = plan(found, because, &options.given);
        scripted.vm(&plan, folder).map_err(script_failed)?;
        told.vm(&plan, folder).map_err(runbook_failed)?;
        let files = || found.entry.artefacts.iter().filter(|artefact| artefact.kind.is_vm_file());
        restored.push(RestoredVm {
            vm_id: found.entry.vm.vm_id.clone(),
            name: found.entry.vm.name.clone(),
            captured: found.entry.captured,
            folder: options.to.join(folder).display().to_string(),
            script: options.to.join(script).display().to_string(),
            runbook: options.to.join(runbook).display().to_string(),
            files: files().count() as u64,
            bytes: files().map(|artefact| artefact.size).sum(),
        });
    }
    scripted.finish().map_err(script_failed)?;
    told.finish().map_err(runbook_failed)?;
    // All of it is complete; only now anything gets its name.
    let names: Vec<&str> = [script.as_str(), runbook].into_iter().chain(folders.iter().copied()).collect();
    if restored.iter().map(|vm| vm.bytes).sum::<u64>() <= MAX_SYNCED_BYTES {
        sync_before_names(scratch)?;
    }
    publish(&names, scratch, &options.to)?;
    sync_names(&options.to);
    Ok(restored)
}

/// Puts what was written on stable storage, so that no name stands for bytes that a power failure takes. Once for all: a sync for
/// each file costs more than its writing.
#[cfg(target_os = "linux")]
fn sync_before_names(scratch: &Path) -> Result<(), RestoreError> {
    let failed = |source| RestoreError::Write { path: scratch.to_owned(), source };
    let folder = File::open(scratch).map_err(failed)?;
    rustix::fs::syncfs(&folder).map_err(|error| failed(error.into()))
}

/// Elsewhere there is no such call for a user; the system writes back in its own time.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "it can fail where it does something")]
fn sync_before_names(_: &Path) -> Result<(), RestoreError> {
    Ok(())
}

/// Puts the names themselves on stable storage, where a folder can be synced. Names that are lost are a restore that was not
/// made, so a file system that cannot do it is no reason to take everything back.
fn sync_names(to: &Path) {
    if cfg!(unix)
        && let Ok(folder) = File::open(to)
    {
        let _ = folder.sync_all();
    }
}

/// Moves what has these names from `scratch` into `to`: all of it, or none.
fn publish(names: &[&str], scratch: &Path, to: &Path) -> Result<(), RestoreError> {
    for (done, name) in names.iter().enumerate() {
        let place = to.join(name);
        let moved = match place.symlink_metadata() {
            Ok(_) => Err(RestoreError::Exists { path: place }),
            Err(_) => fs::rename(scratch.join(name), &place)
                .map_err(|source| RestoreError::Write { path: place, source }),
        };
        let Err(mut error) = moved else { continue };
        // Back to where it is removed.
        for name in names[..done].iter().rev() {
            let path = to.join(name);
            if let Err(source) = fs::rename(&path, scratch.join(name)) {
                error = RestoreError::Left { cause: Box::new(error), path, source };
            }
        }
        return Err(error);
    }
    Ok(())
}

fn create_folder(path: &Path) -> Result<(), RestoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| RestoreError::Write { path: path.to_owned(), source })
}

fn create_file(path: &Path) -> Result<File, RestoreError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    private(&mut options);
    options.open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::AlreadyExists => RestoreError::Exists { path: path.to_owned() },
        _ => RestoreError::Write { path: path.to_owned(), source },
    })
}

/// vTPM state is for its owner's eyes.
fn private(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

#[cfg(test)]
mod tests;
