//! Sealed objects and signed ledgers on an object store.
//!
//! `seal` turns artefacts and bodies into age files and back; `store` keeps them; records, ledgers and
//! policies say which of them count. The vault knows nothing of virtual machines, and it prints nothing.

pub mod check;
pub mod fetch;
#[doc(hidden)]
pub mod fuzzing;
pub mod key;
pub mod ledger;
pub mod outbox;
pub mod policy;
pub mod record;
pub mod seal;
pub mod store;
pub mod strict_json;
pub mod vault;
pub mod writer;
