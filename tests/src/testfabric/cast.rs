//! Owners and guardians: real RSA keys and self-signed certificates out of a seed.
//!
//! Two tenants own the VMs of the guarded fabric, the primary fabric may start them, the recovery fabric most of them; local
//! mode has its own guardian. Making ten keys takes seconds, so a process makes each cast once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use lifeboat_key_protector::{
    AlgorithmRegistry, AlgorithmSuite, EncodeOptions, GuardianKeys, KeyProtectorTemplate, TransportKey,
    Validity,
};
use serde::{Deserialize, Serialize};

use super::error::FabricError;
use super::stream::Stream;

/// Who appears in VM key protectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Player {
    /// The owner guardian of the first tenant.
    OwnerA,
    /// The owner guardian of the second tenant.
    OwnerB,
    /// The guardian of the fabric that the VMs run on.
    PrimaryFabric,
    /// The guardian of the fabric for disasters.
    RecoveryFabric,
    /// The guardian that a local-mode host makes for itself; it owns the VMs of that host.
    LocalMode,
}

impl Player {
    /// Everyone.
    pub const ALL: [Player; 5] =
        [Player::OwnerA, Player::OwnerB, Player::PrimaryFabric, Player::RecoveryFabric, Player::LocalMode];

    /// Answers the guardian's name and host, as in the names of the certificates.
    pub fn guardian_name(self) -> (&'static str, &'static str) {
        match self {
            Player::OwnerA => ("Contoso Owner", "ADMIN1"),
            Player::OwnerB => ("Fabrikam Owner", "ADMIN2"),
            Player::PrimaryFabric => ("Primary Fabric", "HGS1"),
            Player::RecoveryFabric => ("DR Fabric", "HGS2"),
            Player::LocalMode => ("UntrustedGuardian", "HOST1"),
        }
    }
}

/// Whom a VM key protector is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wrapped {
    /// The owner.
    pub owner: Player,
    /// Whether the primary fabric may start the VM.
    pub primary: bool,
    /// Whether the recovery fabric may start the VM.
    pub recovery: bool,
}

impl Wrapped {
    /// Answers the guardians in the order of their wrappings.
    pub fn guardians(self) -> Vec<Player> {
        let granted = [(self.primary, Player::PrimaryFabric), (self.recovery, Player::RecoveryFabric)];
        granted.into_iter().filter_map(|(is_granted, player)| is_granted.then_some(player)).collect()
    }
}

const EVERY_WRAPPED: [Wrapped; 5] = [
    Wrapped { owner: Player::OwnerA, primary: true, recovery: true },
    Wrapped { owner: Player::OwnerA, primary: true, recovery: false },
    Wrapped { owner: Player::OwnerB, primary: true, recovery: true },
    Wrapped { owner: Player::OwnerB, primary: true, recovery: false },
    Wrapped { owner: Player::LocalMode, primary: false, recovery: false },
];

/// Keys and certificates of all players.
pub struct Cast {
    keys: BTreeMap<Player, GuardianKeys>,
    templates: BTreeMap<Wrapped, KeyProtectorTemplate>,
}

impl Cast {
    /// Answers the cast of a seed, made at the first call of the process.
    ///
    /// # Errors
    /// When a key or a certificate cannot be made.
    pub fn of(guardian_seed: u64) -> Result<Arc<Self>, FabricError> {
        type Slot = Arc<OnceLock<Arc<Cast>>>;
        static CASTS: Mutex<BTreeMap<u64, Slot>> = Mutex::new(BTreeMap::new());
        let slot = Arc::clone(
            CASTS.lock().unwrap_or_else(PoisonError::into_inner).entry(guardian_seed).or_default(),
        );
        if let Some(cast) = slot.get() {
            return Ok(Arc::clone(cast));
        }
        let made = Arc::new(Self::make(guardian_seed)?);
        // Should two threads have made it, both made the same.
        Ok(Arc::clone(slot.get_or_init(|| made)))
    }

    fn make(seed: u64) -> Result<Self, FabricError> {
        // From 2025-01-01 for twenty years.
        let validity =
            Validity { not_before_unix_seconds: 1_735_689_600, not_after_unix_seconds: 2_366_841_600 };
        let keys = std::thread::scope(|scope| {
            let making = Player::ALL.map(|player| {
                let make = move || {
                    let (guardian, host) = player.guardian_name();
                    let mut generator = Stream::new(seed, "guardian", &[player as u64]).generator();
                    GuardianKeys::generate(guardian, host, validity, &mut generator)
                };
                (player, scope.spawn(make))
            });
            making
                .into_iter()
                .map(|(player, thread)| match thread.join() {
                    Ok(made) => Ok((player, made?)),
                    Err(panic) => std::panic::resume_unwind(panic),
                })
                .collect::<Result<BTreeMap<_, _>, FabricError>>()
        })?;
        let (suite, registry) = (AlgorithmSuite::synthetic(), AlgorithmRegistry::builtin());
        let mut templates = BTreeMap::new();
        for (wrapped, number) in EVERY_WRAPPED.into_iter().zip(0..) {
            let guardians: Vec<&GuardianKeys> = wrapped.guardians().iter().map(|one| &keys[one]).collect();
            let mut generator = Stream::new(seed, "template", &[number]).generator();
            let owner = &keys[&wrapped.owner];
            let template = KeyProtectorTemplate::new(owner, &guardians, &suite, &registry, &mut generator)?;
            templates.insert(wrapped, template);
        }
        Ok(Self { keys, templates })
    }

    /// Answers the keys and certificates of a player.
    pub fn keys(&self, player: Player) -> &GuardianKeys {
        &self.keys[&player]
    }

    /// Makes the public metadata of a player, as an HGS publishes its guardian's.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn metadata(&self, player: Player) -> Result<Vec<u8>, FabricError> {
        let (suite, registry) = (AlgorithmSuite::synthetic(), AlgorithmRegistry::builtin());
        let mut generator = Stream::new(0, "metadata", &[player as u64]).generator();
        Ok(self.keys(player).encode_metadata(&suite, &registry, &mut generator)?)
    }

    /// Makes a VM key protector in the form that Hyper-V hands out, signed by the owner or, after its service rolled the
    /// transport key, by the primary fabric.
    pub(crate) fn key_protector(
        &self,
        wrapped: Wrapped,
        transport_key: &TransportKey,
        is_rolled: bool,
        stream: &mut Stream,
    ) -> Result<Vec<u8>, FabricError> {
        let signer = if is_rolled && wrapped.primary { Player::PrimaryFabric } else { wrapped.owner };
        let options = EncodeOptions::default();
        let template = &self.templates[&wrapped];
        Ok(template.encode(transport_key, self.keys(signer), &options, &mut stream.generator())?)
    }
}
