//! Companions on the way back: what the vault holds beside VMs, whom each serves, and its bytes.
//!
//! A companion is few and small files, so they are written one after the other; each is compared with the digest that the
//! signed chain states before it gets its name, and nothing is overwritten.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use lifeboat_schema::{ArtefactEntry, CompanionSummary, DigestBuilder, PlannedFile, VmName};
use lifeboat_vault::seal::Identities;
use lifeboat_vault::vault::Vault;

use crate::guardians::vm_name;
use crate::inventory::{FoundCompanion, VmStates, bundle_of};
use crate::restore::{RestoreError, checked_path};

/// Of several captures of one companion the newest; the order stays.
pub fn newest_of_each(found: Vec<FoundCompanion>) -> Vec<FoundCompanion> {
    let key = |one: &FoundCompanion| (one.record.writer.clone(), one.entry.companion.id.clone());
    let mut newest: HashMap<_, (lifeboat_schema::Time, u64)> = HashMap::new();
    for one in &found {
        let this = (one.entry.captured, one.record.seq);
        let best = newest.entry(key(one)).or_insert(this);
        *best = (*best).max(this);
    }
    found
        .into_iter()
        .filter(|one| newest.get(&key(one)) == Some(&(one.entry.captured, one.record.seq)))
        .collect()
}

/// VMs that a companion serves, as far as its certificates and the configuration tell.
pub fn serves(companion: &FoundCompanion, vms: &[VmStates]) -> Vec<VmName> {
    let machines = vms.iter().map(|state| &state.newest.entry.vm);
    machines.filter(|vm| companion.entry.companion.serves(vm)).map(vm_name).collect()
}

/// What lists show of a companion.
pub fn summary(found: &FoundCompanion, vms: &[VmStates]) -> CompanionSummary {
    let files = found.entry.artefacts.iter().map(|artefact| PlannedFile {
        path: artefact.path.clone(),
        kind: artefact.kind,
        class: artefact.class,
        size: artefact.size,
        digest: artefact.digest,
    });
    CompanionSummary {
        companion: found.entry.companion.clone(),
        host: found.host.to_string(),
        writer: found.record.writer.clone(),
        captured: found.entry.captured,
        carried: found.carried,
        serves: serves(found, vms),
        files: files.collect(),
    }
}

/// Writes the files of a companion below `folder`, which exists; gives their paths.
///
/// # Errors
/// [`RestoreError`]: nothing is overwritten, no byte is kept that is not what was captured, and of a file that fails
/// nothing is left. Files before it stay.
pub async fn write(
    vault: &Vault,
    found: &FoundCompanion,
    identities: &Identities,
    folder: &Path,
) -> Result<Vec<PathBuf>, RestoreError> {
    let mut targets = Vec::new();
    for artefact in &found.entry.artefacts {
        let path = folder.join(checked_path(&artefact.path)?);
        if path.symlink_metadata().is_ok() {
            return Err(RestoreError::Exists { path });
        }
        targets.push((artefact, path));
    }
    let mut written = Vec::new();
    for (artefact, path) in targets {
        write_one(vault, found, artefact, identities, &path).await?;
        written.push(path);
    }
    Ok(written)
}

async fn write_one(
    vault: &Vault,
    found: &FoundCompanion,
    artefact: &ArtefactEntry,
    identities: &Identities,
    path: &Path,
) -> Result<(), RestoreError> {
    let failed = |source| RestoreError::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    // Readable by its owner alone, and gone if it does not get its name.
    let mut file = tempfile::Builder::new().prefix(".lifeboat-").tempfile_in(folder).map_err(failed)?;
    let mut whole = DigestBuilder::default();
    for part in &artefact.parts {
        let object = found.record.objects.iter().find(|object| object.name == part.object);
        let object = bundle_of(&found.record, artefact, part, object)?;
        let bytes = vault.read_member(&found.record.writer, object, part, identities).await?;
        whole.update(&bytes);
        file.write_all(&bytes).map_err(failed)?;
    }
    if whole.finish() != artefact.digest {
        return Err(RestoreError::WrongDigest { path: artefact.path.clone(), expected: artefact.digest });
    }
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(RestoreError::Exists { path: path.to_owned() })
        }
        Err(error) => Err(failed(error.error)),
    }
}
