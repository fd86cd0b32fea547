//! The workspace's integration tests, in one binary.

// Every kind of store against one suite, against faults, and against odd surroundings.
mod store;
