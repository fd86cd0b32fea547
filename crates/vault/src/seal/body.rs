//! Bodies: objects that hold one JSON document.
//!
//! A body's plaintext is one frame and the padding frame. What the document says, and that it is JSON at all,
//! is the caller's to check.

use zeroize::Zeroizing;

use super::error::{Corruption, SealError};
use super::frame::{Frame, check_padding};
use super::opener::Opener;
use super::recipients::Recipients;
use super::sealer::{SealedObject, Sealer};

impl Sealer {
    /// Seals a JSON document to `recipients`, under a new file key.
    ///
    /// # Errors
    /// A document that makes the object larger than [`MAX_OBJECT_BYTES`](super::MAX_OBJECT_BYTES), a plugin that is
    /// missing or fails, or recipients that cannot be used together.
    pub fn seal_body(&mut self, recipients: &Recipients, json: &[u8]) -> Result<SealedObject, SealError> {
        let mut object = self.begin(recipients)?;
        let frame = self.compress(json)?;
        object.check_room(frame.len())?;
        object.payload.write(frame);
        Ok(object.finish())
    }
}

impl Opener {
    /// Reads the JSON document from the whole plaintext of a body.
    ///
    /// # Errors
    /// [`SealError::Corrupt`] if the plaintext is not exactly one frame of up to `max_json_bytes` of content and
    /// its padding.
    pub fn read_body(
        &mut self,
        plaintext: &[u8],
        max_json_bytes: u64,
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let bad_frame = |defect| Corruption::Frame { offset: 0, defect };
        let frame = Frame::parse(plaintext, max_json_bytes).map_err(bad_frame)?;
        // The padding first: it costs nothing, and tells a bundle from a body.
        check_padding(plaintext, frame.bytes.len())?;
        let mut json = Zeroizing::new(Vec::new());
        frame.decompress(&mut self.decompressor, &mut json).map_err(bad_frame)?;
        Ok(json)
    }
}
