//! The workspace's integration tests, in one binary.

// The audit against the answer sheet of the fabric.
mod audit;
// The real programs, as a person types them.
mod cli;
// An agent that is stopped anywhere, and catalogs and stores that do not agree.
mod crash;
// Heads of virtual disks: what is told of them, who may read which part, and their generations.
mod disk_heads;
// What `lifeboat-agent doctor` finds out about a host and its store.
mod doctor;
// A vault's life on each kind of store, and many hosts that write at once.
mod fleet;
// A writer that passes for another, or states what it may not.
mod impostor;
// What suites about runs share.
mod life;
// Recovery with stock tools only.
mod recipe;
// When only the disk survives: the real command on real and made disks.
mod recover;
// Who can open and write what.
mod roles;
// A real S3 service, when the environment names one.
mod s3;
// Bucket policies and locks in force on a real S3 service.
mod s3_policies;
// The agent as a service: schedules and outages.
mod service;
// Every kind of store against one suite, against faults, and against odd surroundings.
mod store;
// Every change of a vault behind its back is named, and no restore gives wrong bytes.
mod tamper;
// What those who watch an agent are told.
mod watched;
// Runs over weeks: cost, compaction, and what becomes of VMs.
mod upkeep;

/// Says on the test's output what was measured or how often something was tried.
#[allow(clippy::print_stdout, reason = "numbers that a person reads")]
fn told(what: &str) {
    println!("{what}");
}
