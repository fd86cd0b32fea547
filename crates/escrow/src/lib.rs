//! Recovery secrets from wherever they lie: files of any tool, language and encoding, directories, the cloud.
//!
//! Every source gives one value, an [`Import`]: secrets with the ids of their BitLocker protectors, where and when they
//! were found, and line by line what could not be read. An [`Importer`] seals what is new of it into a vault, and
//! [`Holdings`] says what is there. Above `formats/fve`, which knows what a recovery secret is, and the vault; below the
//! programs.
//!
//! Deliberately believes no word of a language: ids and the eight blocks of a recovery password are found by their
//! shape, and a password counts only when all its blocks check. It pairs an id with a password only where the text
//! leaves no doubt; a password whose id is in doubt is kept without one. It prints nothing and logs nothing.

mod csv;
mod decode;
mod detect;
mod directory;
mod entra;
mod error;
mod found;
pub mod fuzzing;
mod holdings;
mod json;
mod key_file;
mod ldap;
mod ldif;
mod operator;
mod reveal;
mod sealing;
mod secret;
mod shapes;
mod state;
mod text;
mod time;

pub use detect::{Input, MAX_INPUT_BYTES, import};
pub use entra::{EntraError, EntraTenant};
pub use error::{Problem, Trouble};
pub use found::{FoundSecret, Hints, Import, Place};
pub use holdings::{HeldEntry, HeldSecret, Holdings};
pub use ldap::{DirectoryAnswer, DirectoryError, LdapDirectory};
pub use operator::{MakeBody, PutInOrder, SealedRecord, Span, Spool, SpoolError};
pub use reveal::{RecordedReveal, Reveal, RevealError, record_reveal};
pub use sealing::{Importer, NamedImport, SealingError, SealingReport};
pub use secret::Secret;
pub use state::{State, StateError};
