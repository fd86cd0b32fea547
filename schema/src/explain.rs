//! What `lifeboat explain` answers with `--json`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ArtefactTopic, Finding, Grade, Recreatable, SnapshotSummary, Statement, Time, VaultId};

/// `lifeboat explain --json`: every artefact that one VM depends on.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainReport {
    /// The vault.
    pub vault: VaultId,
    /// The newest captured state of the VM.
    pub newest: SnapshotSummary,
    /// One entry for each row of the artefact table, in its order.
    pub artefacts: Vec<ExplainedArtefact>,
    /// With `--lose`: what then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what_if: Option<WhatIf>,
    /// What is wrong with the vault.
    pub findings: Vec<Finding>,
}

/// One row of the artefact table, for one VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainedArtefact {
    /// Which row; the word that `--lose` takes.
    pub topic: ArtefactTopic,
    /// What it is called.
    pub name: String,
    /// Whether the vault holds it for this VM.
    pub holding: Holding,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// What of it is held, or why it is not.
    pub what: String,
    /// Whether it could be had again.
    pub recreatable: Recreatable,
    /// How, or why not.
    pub how: String,
    /// What its loss means.
    pub if_lost: String,
    /// What its theft means.
    pub if_stolen: String,
    /// What to do today; empty where there is nothing to do.
    pub today: String,
}

/// Whether the vault holds an artefact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Holding {
    /// All of it.
    Held,
    /// Some of it.
    Partly,
    /// Nothing of it.
    NotHeld,
    /// The VM does not depend on it.
    NotNeeded,
    /// Cannot be told from what is here.
    UnknownHere,
}

/// What becomes of the VM if artefacts are lost where they lie now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIf {
    /// What is lost.
    pub lost: Vec<ArtefactTopic>,
    /// How far it comes back.
    pub outcome: Outcome,
    /// How sure that is.
    pub grade: Grade,
    /// Why, and the way back, step by step.
    pub steps: Vec<Statement>,
}

/// How far a VM comes back, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It goes on as it is.
    Unharmed,
    /// It starts again with its vTPM, from what the vault holds.
    Starts,
    /// It starts again after its owner granted access to another guardian.
    StartsAfterGrant,
    /// Its disks open with a recovery secret; its vTPM is gone.
    DataByRecoverySecret,
    /// Nothing that is known here brings it back.
    NoKnownWay,
}
