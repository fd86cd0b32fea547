//! A fabric on disk: written, opened again and compared with its answer sheet.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifeboat_schema::{Digest, DigestBuilder, Layout};
use lifeboat_vhdx::{ReadAt as _, SparseImage};

use super::answers::{ANSWERS_FILE, ANSWERS_VERSION, Answers, FileAnswer, GuardianAnswer, VmAnswer};
use super::cast::{Cast, Player};
use super::error::{FabricError, at};
use super::options::FabricOptions;
use super::vm::{self, Age, BuiltVm, Content};
use super::{EXPORT_FOLDER, LIVE_FOLDER};

/// A fabric on disk with its answer sheet.
pub struct Fabric {
    pub(crate) dir: PathBuf,
    pub(crate) answers: Answers,
    pub(crate) cast: Arc<Cast>,
}

/// A file that is not as the answer sheet says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing(String),
    /// Its bytes are others.
    Changed(String),
    /// The answer sheet does not know it.
    Unknown(String),
}

impl Fabric {
    /// Writes a new fabric into a folder that is empty or does not exist.
    ///
    /// # Errors
    /// When an option does not go, the folder has something in it, or a file cannot be written.
    pub fn generate(dir: impl Into<PathBuf>, options: &FabricOptions) -> Result<Self, FabricError> {
        let dir = dir.into();
        options.check()?;
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        if fs::read_dir(&dir).map_err(at(&dir))?.next().is_some() {
            return Err(FabricError::NotEmpty { path: dir });
        }
        let cast = Cast::of(options.guardian_seed)?;
        let hosts: Vec<String> = (1..=options.hosts).map(|number| format!("host-{number}")).collect();
        for host in &hosts {
            fs::create_dir(dir.join(host)).map_err(at(&dir.join(host)))?;
        }
        let numbers: Vec<u32> = (0..options.vms).collect();
        let vms = parallel(&numbers, |&number| {
            let host = &hosts[number as usize % hosts.len()];
            let built = vm::build(options, &cast, number, Age { host, revision: 0, rolls: 0 })?;
            write_vm(&dir, built, None)
        })?;
        let answers = Answers {
            version: ANSWERS_VERSION,
            options: options.clone(),
            rounds: 0,
            next_number: options.vms,
            hosts,
            guardians: Player::ALL.map(|player| guardian(&cast, player)).to_vec(),
            vms,
            deleted: Vec::new(),
        };
        let fabric = Self { dir, answers, cast };
        fabric.save()?;
        Ok(fabric)
    }

    /// Opens a fabric that was written before.
    ///
    /// # Errors
    /// When the answer sheet cannot be read, or has another version.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, FabricError> {
        let dir = dir.into();
        let path = dir.join(ANSWERS_FILE);
        let answers: Answers = serde_json::from_slice(&fs::read(&path).map_err(at(&path))?)?;
        if answers.version != ANSWERS_VERSION {
            return Err(FabricError::Version { found: answers.version, known: ANSWERS_VERSION });
        }
        let cast = Cast::of(answers.options.guardian_seed)?;
        Ok(Self { dir, answers, cast })
    }

    /// Answers what there is.
    pub fn answers(&self) -> &Answers {
        &self.answers
    }

    /// Answers the keys of owners and guardians.
    pub fn cast(&self) -> &Cast {
        &self.cast
    }

    /// Answers the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Answers the folder of a host; everything below it is the host's.
    pub fn host_dir(&self, host: &str) -> PathBuf {
        self.dir.join(host)
    }

    /// Answers the folders of a host that have VMs in them.
    pub fn roots(&self, host: &str) -> Vec<PathBuf> {
        let used = |layout: Layout| self.answers.on_host(host).any(|vm| vm.layout == layout);
        [(LIVE_FOLDER, Layout::Live), (EXPORT_FOLDER, Layout::Export)]
            .into_iter()
            .filter(|(_, layout)| used(*layout))
            .map(|(folder, _)| self.host_dir(host).join(folder))
            .collect()
    }

    /// Answers where a file lies.
    pub fn path_of(&self, file: &FileAnswer) -> PathBuf {
        self.dir.join(&file.place)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, file: &FileAnswer) -> Result<Vec<u8>, FabricError> {
        let path = self.path_of(file);
        fs::read(&path).map_err(at(&path))
    }

    /// Compares all files with the answer sheet.
    ///
    /// # Errors
    /// When a file or folder cannot be read.
    pub fn compare(&self) -> Result<Vec<Difference>, FabricError> {
        let expected = self.answers.vms.iter().flat_map(|vm| &vm.files);
        let expected: Vec<_> = expected.map(|file| (file.place.clone(), file)).collect();
        let mut differences = compare(&self.dir, &expected, true)?;
        differences.retain(|one| *one != Difference::Unknown(ANSWERS_FILE.to_owned()));
        Ok(differences)
    }

    pub(crate) fn save(&self) -> Result<(), FabricError> {
        let path = self.dir.join(ANSWERS_FILE);
        let mut file = BufWriter::new(File::create(&path).map_err(at(&path))?);
        serde_json::to_writer_pretty(&mut file, &self.answers)?;
        file.write_all(b"\n").and_then(|()| file.flush()).map_err(at(&path))
    }
}

impl VmAnswer {
    /// Compares a folder in the Export-VM layout, such as a restore makes, with the files of this VM that are no disks.
    ///
    /// Files that the folder has beside them, such as scripts, are no difference.
    ///
    /// # Errors
    /// When a file or folder cannot be read.
    pub fn compare_export(&self, folder: &Path) -> Result<Vec<Difference>, FabricError> {
        let is_disk = |file: &&FileAnswer| self.disk_files.iter().any(|disk| disk.path == file.path);
        let expected: Vec<_> =
            self.files.iter().filter(|file| !is_disk(file)).map(|file| (file.path.clone(), file)).collect();
        compare(folder, &expected, false)
    }
}

/// Compares the files below a folder with what is expected at which place.
fn compare(
    folder: &Path,
    expected: &[(String, &FileAnswer)],
    unknown_counts: bool,
) -> Result<Vec<Difference>, FabricError> {
    let found = parallel(expected, |(place, file)| {
        let path = folder.join(place);
        match File::open(&path) {
            Ok(mut opened) => {
                let mut digest = Hashed(DigestBuilder::default());
                io::copy(&mut opened, &mut digest).map_err(at(&path))?;
                Ok((digest.0.finish() != file.digest).then(|| Difference::Changed(place.clone())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Some(Difference::Missing(place.clone())))
            }
            Err(error) => Err(at(&path)(error)),
        }
    })?;
    let mut differences: Vec<Difference> = found.into_iter().flatten().collect();
    if unknown_counts {
        let known: std::collections::BTreeSet<PathBuf> =
            expected.iter().map(|(place, _)| folder.join(place)).collect();
        let mut open = vec![folder.to_owned()];
        while let Some(folder_here) = open.pop() {
            for entry in fs::read_dir(&folder_here).map_err(at(&folder_here))? {
                let path = entry.map_err(at(&folder_here))?.path();
                if path.is_dir() {
                    open.push(path);
                } else if !known.contains(&path) {
                    let place = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().into_owned();
                    differences.push(Difference::Unknown(place));
                }
            }
        }
    }
    Ok(differences)
}

/// Hashes what is written to it.
struct Hashed(DigestBuilder);

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the files of a VM, of which `before` are there, where they differ.
pub(crate) fn write_vm(
    dir: &Path,
    built: BuiltVm,
    before: Option<&VmAnswer>,
) -> Result<VmAnswer, FabricError> {
    let there: Vec<(&str, Digest)> = before
        .map(|vm| vm.files.iter().map(|file| (file.place.as_str(), file.digest)).collect())
        .unwrap_or_default();
    for (file, content) in built.answer.files.iter().zip(built.contents) {
        if there.contains(&(file.place.as_str(), file.digest)) {
            continue;
        }
        let path = dir.join(&file.place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        match content {
            Content::Bytes(bytes) => fs::write(&path, bytes),
            Content::Sparse(image) => write_sparse(&path, &image),
        }
        .map_err(at(&path))?;
    }
    Ok(built.answer)
}

fn write_sparse(path: &Path, image: &SparseImage) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_len(image.size_bytes())?;
    for (offset, bytes) in image.extents() {
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&bytes)?;
    }
    Ok(())
}

fn guardian(cast: &Cast, player: Player) -> GuardianAnswer {
    let keys = cast.keys(player);
    let (signing, encryption) = (keys.signing_certificate(), keys.encryption_certificate());
    GuardianAnswer {
        player,
        name: player.guardian_name().0.to_owned(),
        signing_sha256: vm::signing_sha256(cast, player),
        signing_sha1: signing.sha1().to_string(),
        encryption_sha256: Digest::from_bytes(encryption.sha256().0),
        encryption_sha1: encryption.sha1().to_string(),
    }
}

/// Does `work` for each item on all cores; answers in the order of the items.
pub(crate) fn parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, FabricError> + Sync,
) -> Result<Vec<R>, FabricError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(usize, R)>, FabricError> {
        let mut done = Vec::new();
        while let Some((index, item)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            items.get(index).map(|item| (index, item))
        } {
            done.push((index, work(item)?));
        }
        Ok(done)
    };
    let parts = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Result<Vec<_>, FabricError>>()
    })?;
    let mut done: Vec<(usize, R)> = parts.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
