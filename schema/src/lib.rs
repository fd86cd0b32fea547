//! Documents that leave a Lifeboat process: what the vault's records and bodies say, what reports say.
//!
//! The base of every other crate of the workspace: plain values with their text forms, and the rules that
//! make a value well-formed. It does no IO, seals nothing, verifies no signature.

mod id;

pub use id::{BadId, Class, Digest, Kind, OwnerId, RecipientSetId, Role, SubjectId, VaultId, WriterId};
