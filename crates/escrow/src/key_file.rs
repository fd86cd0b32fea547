//! Files that are themselves the secret: `.BEK`, `.KPG`, `.ebek`, `.pdk`.
//!
//! The first two parse and are known by their content. The last two are opaque, and known by the end of their name alone.

use lifeboat_fve::{ExternalKey, FileTime, KeyPackage, ProtectionType, SecretBytes};
use lifeboat_schema::{EscrowSource, Time};

use crate::detect::Input;
use crate::error::Trouble;
use crate::found::{FoundSecret, Hints, Import, Place};
use crate::secret::Secret;
use crate::shapes;

/// Largest `.BEK` file that is looked at; they have 156 or 180 bytes.
const MAX_BEK_BYTES: usize = 4096;
/// Largest key package: twice what the directory's schema allows.
const MAX_KPG_BYTES: usize = 200 << 10;
/// Largest opaque file: one member of a bundle. Shielding data with all its ingredients has some hundred KiB.
const MAX_OPAQUE_BYTES: usize = 4 << 20;

/// Imports a key file; nothing where it is none.
pub(crate) fn import(input: &Input<'_>) -> Option<Import> {
    let bytes = input.bytes;
    let ending =
        input.file_name().rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default();
    let mut import = Import::new(EscrowSource::KeyFile);
    match ending.as_str() {
        "ebek" | "pdk" => {
            if bytes.len() > MAX_OPAQUE_BYTES {
                let what = Trouble::TooLarge { have: bytes.len() as u64, most: MAX_OPAQUE_BYTES as u64 };
                import.problem(Place::Whole, what);
                return Some(import);
            }
            let content = SecretBytes::new(bytes.to_vec());
            let secret =
                if ending == "pdk" { Secret::ShieldingData(content) } else { Secret::EncryptedKey(content) };
            import.found.push(found(secret, None, input.modified));
        }
        _ if bytes.len() <= MAX_BEK_BYTES && (ending == "bek" || ExternalKey::parse(bytes).is_ok()) => {
            recovery_key(input, &mut import);
        }
        _ if bytes.len() <= MAX_KPG_BYTES && (ending == "kpg" || KeyPackage::parse(bytes).is_ok()) => {
            key_package(input, &mut import);
        }
        _ => return None,
    }
    Some(import)
}

fn found(secret: Secret, protector: Option<lifeboat_fve::Guid>, time: Option<Time>) -> FoundSecret {
    FoundSecret {
        protector,
        secret,
        place: Place::Whole,
        time,
        is_time_of_file: false,
        hints: Hints::default(),
    }
}

fn recovery_key(input: &Input<'_>, import: &mut Import) {
    let key = match ExternalKey::parse(input.bytes) {
        Ok(key) => key,
        Err(error) => return import.problem(Place::Whole, Trouble::RecoveryKey(error)),
    };
    other_name(input, key.id, import);
    let secret = Secret::RecoveryKey(SecretBytes::new(input.bytes.to_vec()));
    let time = Some(key.saved).filter(|time| *time > FileTime(0)).or(Some(key.created));
    let time =
        time.filter(|time| *time > FileTime(0)).map(|time| Time::from_unix_seconds(time.unix_seconds()));
    let hints = Hints { volume: key.volume_id, ..Hints::default() };
    import.found.push(FoundSecret { hints, ..found(secret, Some(key.id), time) });
}

fn key_package(input: &Input<'_>, import: &mut Import) {
    let named = shapes::only_id(input.file_name());
    let mut hints = Hints::default();
    let mut inside = None;
    match KeyPackage::parse(input.bytes) {
        Ok(package) => {
            hints.volume = Some(package.volume_id);
            let mut ids =
                package.protectors().iter().filter(|one| one.protection == ProtectionType::RECOVERY_PASSWORD);
            inside = ids.next().map(|one| one.id).filter(|_| ids.next().is_none());
        }
        // Kept all the same: no sample of its layout was ever seen.
        Err(corruption) => import.problem(Place::Whole, Trouble::KeyPackage(corruption)),
    }
    if let Some(inside) = inside {
        other_name(input, inside, import);
    }
    let secret = Secret::KeyPackage(SecretBytes::new(input.bytes.to_vec()));
    import.found.push(FoundSecret { hints, ..found(secret, inside.or(named), input.modified) });
}

/// Says when the file's name has another id than its content.
fn other_name(input: &Input<'_>, inside: lifeboat_fve::Guid, import: &mut Import) {
    if let Some(named) = shapes::only_id(input.file_name()).filter(|named| *named != inside) {
        let what = Trouble::OtherName { name: named.to_string(), inside: inside.to_string() };
        import.problem(Place::Whole, what);
    }
}
