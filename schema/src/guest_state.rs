//! What is known of a guest state (VMGS) from its copy: a part of `VmRecord`, which holds no content.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A captured guest state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuestStateEntry {
    /// Captured file, as its artefact's path.
    pub file: String,
    /// What the copy is.
    pub verdict: GuestStateVerdict,
    /// Its format, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<GuestStateFormat>,
    /// Whether it holds vTPM state.
    pub vtpm: bool,
    /// What it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contents: Vec<GuestStateItem>,
}

/// What a copy of a guest state is; one that is torn is not captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestStateVerdict {
    /// Whole, and readable without a key.
    Whole,
    /// Encrypted, and whole as far as can be told without its key.
    Encrypted,
    /// Nothing was ever written to it.
    Empty,
    /// Damaged as it lies on the host's disk, and kept as it is.
    Damaged,
    /// Not understood, and kept as it is.
    NotUnderstood,
}

/// Format of a guest state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestStateFormat {
    /// Version 1: a JSON document in a partition.
    Document,
    /// Version 3: a store of numbered files.
    Store,
}

/// File of a store, or device of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuestStateItem {
    /// Name of the file, such as `TPM_NVRAM`, or its number; id of the device.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
    /// Whether it is encrypted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
}
