//! Handing over what is in memory already.

use lifeboat_engine::source::{CaptureSink, SinkError};
use lifeboat_schema::{ArtefactKind, Class, PART_BYTES};

/// Hands over one whole file.
pub(crate) fn write(
    sink: &mut dyn CaptureSink,
    path: &str,
    kind: ArtefactKind,
    class: Class,
    bytes: &[u8],
) -> Result<(), SinkError> {
    sink.begin_file(path, kind, class)?;
    for part in bytes.chunks(PART_BYTES as usize) {
        sink.part(part)?;
    }
    sink.end_file()?;
    Ok(())
}
