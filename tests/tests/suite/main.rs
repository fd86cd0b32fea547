//! The workspace's integration tests, in one binary.

// Every kind of store against one suite, against faults, and against odd surroundings.
mod store;

// Every change of a vault behind its back is named, and no restore gives wrong bytes.
mod tamper;
