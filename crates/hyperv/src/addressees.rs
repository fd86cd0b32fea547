//! Whom a VM key protector is for: from its bytes to the record's `Addressees`.
//!
//! Nothing secret is needed for it, and nothing here is fatal: a VM key protector in an unknown form is captured all the same.

use std::cell::RefCell;

use lifeboat_guardian::{addressees, breaks_off, signature_state};
use lifeboat_key_protector::{AlgorithmRegistry, KeyProtector, VerificationMemo};
use lifeboat_schema::{Addressees, Digest, SignatureState};

thread_local! {
    /// What this thread knows of certificates and of the value that it read last. The VMs of a host name the same few
    /// guardians, and the last known good value often is the current one.
    static KNOWN: RefCell<Known> = RefCell::default();
}

#[derive(Default)]
struct Known {
    memo: VerificationMemo,
    last: Option<(Digest, Read)>,
}

/// What was read of a VM key protector.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    /// SHA-256 thumbprint of the signing certificate of its only owner.
    pub(crate) owner: Option<Digest>,
    /// For the record; absent when it is not understood.
    pub(crate) addressees: Option<Addressees>,
    /// What a person should know, beginning with what "its VM key protector" is or does.
    pub(crate) remark: Option<String>,
    /// Whether the value breaks off: it begins as a VM key protector and is shorter than it says.
    pub(crate) is_torn: bool,
}

/// Reads a VM key protector.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let digest = Digest::of(bytes);
    KNOWN.with_borrow_mut(|known| match &known.last {
        Some((last, read)) if *last == digest => read.clone(),
        _ => {
            let read = read_anew(bytes, &mut known.memo);
            known.last = Some((digest, read.clone()));
            read
        }
    })
}

fn read_anew(bytes: &[u8], memo: &mut VerificationMemo) -> Read {
    let protector = match KeyProtector::parse(bytes) {
        Ok(protector) => protector,
        Err(error) => {
            let is_torn = breaks_off(bytes, &error);
            let what = if is_torn { "is torn" } else { "is not understood" };
            return Read { owner: None, addressees: None, remark: Some(format!("{what}: {error}")), is_torn };
        }
    };
    let (owner, mut remark) = match protector.sole_owner() {
        Ok(owner) => (Some(Digest::from_bytes(owner.signing_certificate.sha256().0)), None),
        Err(error) => (None, Some(format!("names no single owner: {error}"))),
    };
    let verification = protector.verify_remembering(&AlgorithmRegistry::builtin(), memo);
    if signature_state(&verification) == SignatureState::Invalid {
        remark = Some("has a signature that does not verify: it was altered, or is damaged".to_owned());
    }
    let addressees = addressees(&protector, &verification);
    Read { owner, addressees, remark, is_torn: false }
}

#[cfg(test)]
mod tests;
