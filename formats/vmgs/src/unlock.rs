//! Opening an encrypted store: datastore key > metadata key > keys of the files > content (FORMAT.md section 5).
//!
//! Every link is AES-256-GCM without additional data. Nothing is decrypted for anyone without a key, but a store whose
//! metadata key is blank has none worth the name: [`GuestState::unlock_without_key`] shows that.

use alloc::vec::Vec;

use aes_gcm::aead::generic_array::GenericArray;
use aes_gcm::{AeadInPlace, Aes256Gcm, KeyInit};
use zerocopy::FromBytes;
use zeroize::Zeroizing;

use crate::error::{ReadError, UnlockError};
use crate::file::{FileAttributes, FileId};
use crate::guest_state::GuestState;
use crate::layout::{KEY_BYTES, NONCE_BYTES, RawExtendedEntry, RawMetadataKey, TABLE_BYTES, TAG_BYTES};
use crate::read_at::ReadAt;
use crate::secret::{DatastoreKey, SecretBytes};

/// A key that lives shortly.
type Key = Zeroizing<[u8; KEY_BYTES]>;

/// Encrypted store whose file keys were opened.
pub struct Unlocked<'a, R> {
    guest_state: &'a GuestState<R>,
    slot: Option<usize>,
    has_blank_metadata_key: bool,
    /// The extended file table.
    table: Zeroizing<Vec<u8>>,
}

impl<R: ReadAt> GuestState<R> {
    /// Opens the file keys of an encrypted store with a datastore key, which may be in either slot.
    ///
    /// # Errors
    /// When the store is not encrypted, the key is wrong, the extended file table is damaged, or the port fails.
    pub fn unlock(&self, key: &DatastoreKey) -> Result<Unlocked<'_, R>, UnlockError<R::Error>> {
        let store = self.store().filter(|store| store.is_encrypted()).ok_or(UnlockError::NotEncrypted)?;
        let mut opened = store.metadata_keys.iter().map(|slot| open_slot(slot, key));
        let (slot, metadata_key) = opened
            .by_ref()
            .enumerate()
            .find_map(|(slot, key)| Some((slot, key?)))
            .ok_or(UnlockError::WrongKey)?;
        self.unlock_with(Some(slot), &metadata_key)
    }

    /// Opens the file keys of an encrypted store whose metadata key is 32 zeros.
    ///
    /// A version of vmgstool wrote such stores; anyone can read them.
    ///
    /// # Errors
    /// [`UnlockError::WrongKey`] when the metadata key is a real one; else like [`GuestState::unlock`].
    pub fn unlock_without_key(&self) -> Result<Unlocked<'_, R>, UnlockError<R::Error>> {
        self.store().filter(|store| store.is_encrypted()).ok_or(UnlockError::NotEncrypted)?;
        self.unlock_with(None, &Zeroizing::new([0; KEY_BYTES])).map_err(|error| match error {
            UnlockError::ExtendedTable { .. } => UnlockError::WrongKey,
            other => other,
        })
    }

    fn unlock_with(
        &self,
        slot: Option<usize>,
        metadata_key: &Key,
    ) -> Result<Unlocked<'_, R>, UnlockError<R::Error>> {
        let lost = |what| UnlockError::ExtendedTable { what };
        let file = self.file(FileId::EXTENDED_FILE_TABLE).map_err(|_| lost("is missing"))?;
        let bytes = self.read_raw(file, TABLE_BYTES).map_err(|error| match error {
            ReadError::Read(error) => UnlockError::Read(error),
            _ => lost("has an impossible size"),
        })?;
        let mut table = Zeroizing::new(bytes);
        if !decrypt(metadata_key, &file.nonce, &file.tag, &mut table) {
            return Err(lost("does not match its tag"));
        }
        if table.len() != TABLE_BYTES {
            return Err(lost("has an impossible size"));
        }
        let has_blank_metadata_key = metadata_key.iter().all(|byte| *byte == 0);
        Ok(Unlocked { guest_state: self, slot, has_blank_metadata_key, table })
    }
}

impl<R: ReadAt> Unlocked<'_, R> {
    /// Returns which slot the key opened, 0 or 1; none when no key was needed.
    #[must_use]
    pub fn slot(&self) -> Option<usize> {
        self.slot
    }

    /// Tells whether the metadata key is 32 zeros, so that the encryption keeps nobody out.
    #[must_use]
    pub fn has_blank_metadata_key(&self) -> bool {
        self.has_blank_metadata_key
    }

    /// Returns the attributes of a file as the extended file table has them, which is the authenticated word on them.
    #[must_use]
    pub fn attributes(&self, id: FileId) -> FileAttributes {
        self.entry(id).map(|entry| FileAttributes(entry.attributes.get())).unwrap_or_default()
    }

    /// Reads a file of at most `limit_bytes`, decrypted if it is encrypted.
    ///
    /// # Errors
    /// When there is no such file, when it is larger or does not match its tag, or when the port fails.
    pub fn read(&self, id: FileId, limit_bytes: usize) -> Result<SecretBytes, ReadError<R::Error>> {
        let file = self.guest_state.file(id)?;
        let mut bytes = Zeroizing::new(self.guest_state.read_raw(file, limit_bytes)?);
        if id == FileId::EXTENDED_FILE_TABLE {
            bytes = self.table.clone();
        } else if let Some(entry) = self.entry(id)
            && FileAttributes(entry.attributes.get()).is_encrypted()
        {
            let key = Zeroizing::new(entry.key);
            if !decrypt(&key, &file.nonce, &file.tag, &mut bytes) {
                return Err(ReadError::NotAuthentic { id });
            }
        }
        Ok(SecretBytes::new(bytes))
    }

    fn entry(&self, id: FileId) -> Option<&RawExtendedEntry> {
        let start = (id.0 as usize).checked_mul(size_of::<RawExtendedEntry>())?;
        RawExtendedEntry::ref_from_prefix(self.table.get(start..)?).ok().map(|(entry, _)| entry)
    }
}

/// Opens a slot; one that is not used opens with no key.
fn open_slot(slot: &RawMetadataKey, key: &DatastoreKey) -> Option<Key> {
    let mut metadata_key = Zeroizing::new(slot.encrypted_key);
    if slot.encrypted_key == [0; KEY_BYTES] {
        return None;
    }
    decrypt(key.expose(), &slot.nonce, &slot.tag, &mut metadata_key[..]).then_some(metadata_key)
}

/// Decrypts in place; answers whether the tag matches, and changes nothing if it does not.
fn decrypt(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    tag: &[u8; TAG_BYTES],
    bytes: &mut [u8],
) -> bool {
    let cipher = Aes256Gcm::new(GenericArray::from_slice(key));
    let (nonce, tag) = (GenericArray::from_slice(nonce), GenericArray::from_slice(tag));
    cipher.decrypt_in_place_detached(nonce, &[], bytes, tag).is_ok()
}
