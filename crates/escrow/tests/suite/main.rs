//! Every importer on files as the tools write them, whole, mis-encoded and damaged.

// The kinds of files, in several languages and every encoding.
mod kinds;
// Ten thousand damaged inputs, and any input at all.
mod mutation;
// The files themselves, written from what is documented of their shape.
mod samples;
