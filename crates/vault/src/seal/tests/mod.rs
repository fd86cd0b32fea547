//! Tests of sealed objects.

mod basics;

use super::*;

/// An identity for tests with its recipient.
fn identity() -> (Identities, Recipients) {
    let identity = NewIdentity::generate();
    let parsed = Identities::parse(identity.file(&[]).expose().as_bytes(), None, NoCallbacks).unwrap();
    (parsed, Recipients::parse(&[identity.recipient()]).unwrap())
}

fn sealer() -> Sealer {
    Sealer::new(&SealOptions::default()).unwrap()
}

fn open(object: &SealedObject, identities: &Identities) -> Result<Plaintext, SealError> {
    let bytes = &object.bytes;
    ObjectKey::open(bytes, object.header_bytes, bytes.len() as u64, identities)?.open_all(bytes.clone(), 2)
}
