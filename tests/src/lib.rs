//! What the end-to-end tests of the workspace are made of.
//!
//! Not shipped. `testfabric` is a synthetic host, `stage` a vault with everything around it, `statements`
//! records of one's own choosing, `fleet_vault` a vault of many VMs without files, `fault_store` breaks a
//! store on purpose, `store_conformance` is what every kind of store must pass; the suites that use them are the
//! modules of `tests/suite`.

pub mod fault_store;
pub mod fleet_vault;
pub mod schemas;
pub mod stage;
pub mod statements;
pub mod store_conformance;
pub mod testfabric;
