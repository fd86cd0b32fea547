//! Disk images of all containers, found and read as a whole.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

// Containers, parents, partition tables.
mod containers;
// What reading the head of a large disk costs.
mod cost;
// Sizes and offsets that lie.
mod hostile;
// Real images, where the test data is there.
mod real;
