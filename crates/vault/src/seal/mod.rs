//! Sealed objects: age v1 files whose plaintext is zstd frames over tar members (bundles) or over JSON (bodies).
//!
//! The lowest layer of the vault: artefact > member > bundle > object, and document > body > object. Bytes in
//! memory become an object ([`Sealer`], [`BundleWriter`]), and an object becomes bytes again ([`ObjectKey`],
//! [`Opener`]); `docs/vault-format.md` section 1 is the format. `age -d | zstd -d | tar x` does the same.
//!
//! It does no IO, keeps no index, and does not decide whom to seal to or what to believe: a name, a digest or a
//! size that it is given comes from the signed chain, and it says whether the bytes fit.

mod age_payload;
mod body;
mod bundle;
mod compressor;
mod error;
mod frame;
mod header;
mod identity;
mod member;
mod object;
mod opener;
mod padme;
mod recipients;
mod sealer;
#[cfg(test)]
mod tests;

pub use age_payload::{CHUNK_BYTES, PAYLOAD_NONCE_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES};
pub use bundle::{BundleWriter, PackedMember};
pub use compressor::COMPRESSION_LEVELS;
pub use error::{Corruption, FrameDefect, SealError};
pub use frame::{FRAME_MAGIC, MAX_WINDOW_BYTES, PADDING_HEADER_BYTES, PADDING_MAGIC};
pub use header::{Header, MAX_HEADER_BYTES, MAX_STANZAS};
pub use identity::{
    Callbacks, Identities, IdentityText, MAX_IDENTITY_FILE_BYTES, MAX_SCRYPT_WORK_FACTOR, NewIdentity,
    NoCallbacks, Passphrase, SCRYPT_WORK_FACTOR,
};
pub use member::{MAX_MEMBER_BYTES, MemberRef, TAR_BLOCK_BYTES, TAR_END_BYTES};
pub use object::{ObjectKey, Plaintext};
pub use opener::Opener;
pub use padme::padme;
pub use recipients::{MAX_RECIPIENTS, Recipients};
pub use sealer::{MAX_OBJECT_BYTES, SealOptions, SealedObject, Sealer, StagedMember};
