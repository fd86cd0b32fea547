//! Every importer on files as the tools write them, whole, mis-encoded and damaged.

// Microsoft Graph, by a double that pages, throttles and lets tokens expire.
mod entra;
// The kinds of files, in several languages and every encoding.
mod kinds;
// A real directory: slapd of OpenLDAP, where it is installed.
mod ldap;
// Ten thousand damaged inputs, and any input at all.
mod mutation;
// The files themselves, written from what is documented of their shape.
mod samples;
