//! The audit: which VMs and volumes could not be brought back today, why, and what to do about each.
//!
//! ```text
//! bodies of the vault -> read (with the catalog) -> facts -> judge -> AuditReport -> CSV, HTML
//! ```
//! `volume`, `truth`, `vm`, `circle` and `compromised` are pure: facts in, verdicts out, no clock, no IO. `read` alone
//! reads a vault, and `catalog` keeps what it read. Deliberately needs nothing but metadata: the audit identity suffices,
//! and nothing here can hold a secret. It prints nothing; the table on a terminal is the program's.

mod catalog;
mod circle;
mod compromised;
mod csv;
mod error;
mod facts;
mod html;
mod judge;
mod policy;
mod proofs;
mod read;
mod truth;
mod vm;
mod volume;

pub use catalog::{CATALOG_VERSION, Catalog};
pub use csv::{vms_csv, volumes_csv};
pub use error::{AuditError, PolicyError};
pub use facts::{
    AddressedFacts, Carried, CompanionFacts, DiskFacts, Facts, Generation, GuardianId, HostFacts, ProofFacts,
    SecretFacts, StateFacts, VmFacts, VolumeFacts,
};
pub use html::html;
pub use judge::{Fabric, Only, audit};
pub use policy::{AuditPolicy, Exception, MaximumAge, Need};
pub use read::read;
