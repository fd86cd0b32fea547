//! Bringing sealed objects back: no byte leaves before its hash.
//!
//! Names, sizes and header lengths come from the signed record, places of members from its sealed bodies,
//! and never from the store. A whole object is compared with its name; a range is trusted no further than
//! the digest that the body states for each member in it.

use bytes::Bytes;
use lifeboat_schema::{
    BODY_VERSION, BodyHead, Content, Digest, ESCROW_BODY_VERSION, EscrowBody, NamesBody, ObjectEntry,
    PROOF_BODY_VERSION, PartEntry, ProofBody, Record, RevealBody, SnapshotBody, WriterId,
};
use serde::de::DeserializeOwned;

use crate::seal::{Identities, MemberRef, ObjectKey, Opener, PAYLOAD_NONCE_BYTES, Plaintext, SealError};
use crate::store::StoreError;
use crate::strict_json;
use crate::vault::{Vault, VaultError, object_path};

/// Largest JSON of a body. A body of 5,000 VMs has about 15 MiB.
pub const MAX_BODY_JSON_BYTES: u64 = 256 << 20;

/// Largest object that a reader takes into memory.
pub const MAX_OBJECT_IN_MEMORY_BYTES: u64 = 1 << 30;

/// Says where an object is, for messages.
fn place(writer: &WriterId, name: &Digest) -> String {
    object_path(writer, name).to_string()
}

fn damaged(writer: &WriterId, name: &Digest, what: impl Into<String>) -> VaultError {
    VaultError::Damaged { place: place(writer, name), what: what.into() }
}

/// Keeps "not sealed to you" apart from damage.
fn opening(writer: &WriterId, name: &Digest, error: SealError) -> VaultError {
    match error {
        SealError::Corrupt(corruption) => damaged(writer, name, corruption.to_string()),
        other => VaultError::Seal(other),
    }
}

impl Vault {
    /// Reads a whole object and compares it with its name.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] if it is missing or another, [`VaultError::Store`].
    pub async fn read_object(&self, writer: &WriterId, entry: &ObjectEntry) -> Result<Bytes, VaultError> {
        let bytes = self.read_unnamed(writer, entry).await?;
        compare_name(writer, entry, &bytes)?;
        Ok(bytes)
    }

    /// Reads a whole object and compares its size only: compare it with [`compare_name`] before use. For those who
    /// have a thread for that.
    ///
    /// # Errors
    /// As [`read_object`](Self::read_object).
    pub async fn read_unnamed(&self, writer: &WriterId, entry: &ObjectEntry) -> Result<Bytes, VaultError> {
        if entry.size > MAX_OBJECT_IN_MEMORY_BYTES {
            return Err(damaged(writer, &entry.name, format!("the record gives it {} bytes", entry.size)));
        }
        let bytes = match self.store.read(&object_path(writer, &entry.name), entry.size).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => {
                return Err(damaged(writer, &entry.name, "the object is missing"));
            }
            Err(error @ StoreError::TooLarge { .. }) => {
                return Err(damaged(writer, &entry.name, error.to_string()));
            }
            Err(error) => return Err(error.into()),
        };
        if bytes.len() as u64 != entry.size {
            let what = format!("it has {} bytes, and the record says {}", bytes.len(), entry.size);
            return Err(damaged(writer, &entry.name, what));
        }
        Ok(bytes)
    }

    /// Reads and opens a whole object.
    ///
    /// # Errors
    /// As [`read_object`](Self::read_object), and [`VaultError::Seal`] if the identities do not open it.
    pub async fn open_object(
        &self,
        writer: &WriterId,
        entry: &ObjectEntry,
        identities: &Identities,
    ) -> Result<Plaintext, VaultError> {
        let bytes = self.read_object(writer, entry).await?;
        open_bytes(writer, entry, bytes, identities)
    }

    /// Reads the JSON of a body, compares its head with `record`, and parses it.
    ///
    /// # Errors
    /// As [`open_object`](Self::open_object), and [`VaultError::Damaged`] if it was sealed for another place.
    pub async fn read_body<B: Body>(
        &self,
        record: &Record,
        entry: &ObjectEntry,
        identities: &Identities,
    ) -> Result<B, VaultError> {
        let plaintext = self.open_object(&record.writer, entry, identities).await?;
        parse_body(record, entry, &plaintext)
    }

    /// Fetches one member by range.
    ///
    /// # Errors
    /// As [`open_object`](Self::open_object); nothing is returned that does not have the stated digest.
    pub async fn read_member(
        &self,
        writer: &WriterId,
        entry: &ObjectEntry,
        part: &PartEntry,
        identities: &Identities,
    ) -> Result<Vec<u8>, VaultError> {
        let at = object_path(writer, &entry.name);
        let prefix = self
            .read_exact(&at, 0..u64::from(entry.header) + PAYLOAD_NONCE_BYTES as u64, entry, writer)
            .await?;
        let key = ObjectKey::open(&prefix, entry.header, entry.size, identities)
            .map_err(|error| opening(writer, &entry.name, error))?;
        let plain = part.offset..part.offset.saturating_add(part.length);
        let range =
            key.ciphertext_range(plain.clone()).map_err(|error| opening(writer, &entry.name, error))?;
        let mut ciphertext = self.read_exact(&at, range, entry, writer).await?.to_vec();
        let frame =
            key.open_range(plain, &mut ciphertext).map_err(|error| opening(writer, &entry.name, error))?;
        let mut opener = Opener::new()?;
        let content =
            opener.read_member(frame, &member(part)).map_err(|error| opening(writer, &entry.name, error))?;
        Ok(content.to_vec())
    }

    async fn read_exact(
        &self,
        at: &crate::store::StorePath,
        range: std::ops::Range<u64>,
        entry: &ObjectEntry,
        writer: &WriterId,
    ) -> Result<Bytes, VaultError> {
        match self.store.read_range(at, range).await {
            Ok(bytes) => Ok(bytes),
            Err(StoreError::NotFound { .. }) => Err(damaged(writer, &entry.name, "the object is missing")),
            Err(error @ StoreError::Short { .. }) => Err(damaged(writer, &entry.name, error.to_string())),
            Err(error) => Err(error.into()),
        }
    }
}

/// Compares the bytes of a whole object with its name.
///
/// # Errors
/// [`VaultError::Damaged`] if they are others.
pub fn compare_name(writer: &WriterId, entry: &ObjectEntry, bytes: &[u8]) -> Result<(), VaultError> {
    if Digest::of(bytes) != entry.name {
        return Err(damaged(writer, &entry.name, "its bytes do not have the digest that is its name"));
    }
    Ok(())
}

/// Opens an object, whose bytes were compared with its name.
///
/// # Errors
/// [`VaultError::Damaged`] or [`VaultError::Seal`].
pub fn open_bytes(
    writer: &WriterId,
    entry: &ObjectEntry,
    bytes: Bytes,
    identities: &Identities,
) -> Result<Plaintext, VaultError> {
    let key = ObjectKey::open(&bytes, entry.header, entry.size, identities)
        .map_err(|error| opening(writer, &entry.name, error))?;
    let bytes = bytes.try_into_mut().map(Vec::from).unwrap_or_else(|shared| shared.to_vec());
    key.open_all(bytes, 1).map_err(|error| opening(writer, &entry.name, error))
}

/// A document that a body may hold.
pub trait Body: DeserializeOwned {
    /// The newest version that this program reads.
    const VERSION: u32 = BODY_VERSION;

    /// The part that every body begins with.
    fn head(&self) -> &BodyHead;
}

impl Body for SnapshotBody {
    fn head(&self) -> &BodyHead {
        &self.head
    }
}

impl Body for EscrowBody {
    const VERSION: u32 = ESCROW_BODY_VERSION;

    fn head(&self) -> &BodyHead {
        &self.head
    }
}

impl Body for ProofBody {
    const VERSION: u32 = PROOF_BODY_VERSION;

    fn head(&self) -> &BodyHead {
        &self.head
    }
}

impl Body for RevealBody {
    const VERSION: u32 = ESCROW_BODY_VERSION;

    fn head(&self) -> &BodyHead {
        &self.head
    }
}

impl Body for NamesBody {
    fn head(&self) -> &BodyHead {
        &self.head
    }
}

/// Parses the plaintext of a body and compares its head with the record that names it.
///
/// # Errors
/// [`VaultError::Damaged`].
pub fn parse_body<B: Body>(record: &Record, entry: &ObjectEntry, plaintext: &[u8]) -> Result<B, VaultError> {
    let bad = |what: String| damaged(&record.writer, &entry.name, what);
    if entry.content != Content::Body {
        return Err(bad("the record does not call it a body".to_owned()));
    }
    let mut opener = Opener::new()?;
    let json = opener
        .read_body(plaintext, MAX_BODY_JSON_BYTES)
        .map_err(|error| opening(&record.writer, &entry.name, error))?;
    let body: B = strict_json::parse(&json).map_err(|error| match version(&json) {
        Some(v) if !(1..=B::VERSION).contains(&v) => bad(unreadable_version(v, B::VERSION)),
        _ => bad(format!("its document is refused: {error}")),
    })?;
    let head = body.head();
    if !(1..=B::VERSION).contains(&head.v) {
        return Err(bad(unreadable_version(head.v, B::VERSION)));
    }
    let expected = (&record.vault, &record.writer, record.kind, entry.class, &entry.owner);
    if (&head.vault, &head.writer, head.kind, head.class, &head.owner) != expected {
        return Err(bad("it was sealed for another vault, writer, kind, class or owner".to_owned()));
    }
    if head.seq > record.seq {
        return Err(bad(format!("it was sealed for record {}, after the one that names it", head.seq)));
    }
    Ok(body)
}

/// The version that a body states, whatever else is in it.
fn version(json: &[u8]) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Body {
        head: Head,
    }
    #[derive(serde::Deserialize)]
    struct Head {
        v: u32,
    }
    serde_json::from_slice::<Body>(json).ok().map(|body| body.head.v)
}

fn unreadable_version(v: u32, newest: u32) -> String {
    match v {
        0 => "its document has version 0, which no program writes".to_owned(),
        _ => format!("its document has version {v}, and this program reads 1 to {newest}; use a newer one"),
    }
}

/// A part as the bundle's reader knows it.
pub fn member(part: &PartEntry) -> MemberRef {
    MemberRef { digest: part.digest, size: part.size, offset: part.offset, length: part.length }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_newer_document_asks_for_a_newer_program() {
        assert!(unreadable_version(BODY_VERSION + 1, BODY_VERSION).contains("use a newer one"));
        let zero = unreadable_version(0, BODY_VERSION);
        assert!(!zero.contains("newer") && zero.contains("no program writes"), "{zero}");
    }
}
