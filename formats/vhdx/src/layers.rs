//! The walk over a chain of disks, of whatever format: what one disk does not hold, the next is asked for.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use crate::extent::{Extent, Joined, LocalSource, Source};

/// Pieces of one disk of a chain.
type Pieces<'a, E> = Box<dyn Iterator<Item = Result<Extent<LocalSource>, E>> + 'a>;

/// One disk of a chain.
pub(crate) trait Layer {
    /// Error of the walk.
    type Error;

    /// Returns the size of the virtual disk, in bytes.
    fn layer_bytes(&self) -> u64;

    /// Lists the pieces of a range that lies inside the virtual disk.
    fn layer_pieces(
        &self,
        range: Range<u64>,
    ) -> impl Iterator<Item = Result<Extent<LocalSource>, Self::Error>>;
}

/// Answers where each part of a range lies. The range lies inside the first disk; what lies beyond the end of a
/// parent is zero.
pub(crate) fn resolve_layers<'a, L: Layer + 'a>(
    layers: &'a [L],
    range: Range<u64>,
) -> impl Iterator<Item = Result<Extent<Source>, L::Error>> + use<'a, L> {
    let mut walk = Walk { layers, frames: Vec::new() };
    walk.ask(0, range);
    Joined::new(walk)
}

/// Part of the walk that is still to do.
enum Frame<'a, E> {
    /// The rest of a range in one disk.
    Disk { index: usize, pieces: Pieces<'a, E> },
    /// A range beyond the end of a parent.
    Beyond(Range<u64>),
}

/// Walk over a chain, depth first. The stack holds at most two frames for each disk.
struct Walk<'a, L: Layer> {
    layers: &'a [L],
    frames: Vec<Frame<'a, L::Error>>,
}

impl<'a, L: Layer> Walk<'a, L> {
    /// Continues with a range in disk `index`. Where there is no such disk, nothing stands behind the one before.
    fn ask(&mut self, index: usize, range: Range<u64>) {
        let layer = self.layers.get(index);
        let layer_end = layer.map_or(0, L::layer_bytes);
        if range.end > layer_end {
            self.frames.push(Frame::Beyond(range.start.max(layer_end)..range.end));
        }
        if let Some(layer) = layer.filter(|_| range.start < layer_end) {
            let pieces = Box::new(layer.layer_pieces(range.start..range.end.min(layer_end)));
            self.frames.push(Frame::Disk { index, pieces });
        }
    }
}

impl<L: Layer> Iterator for Walk<'_, L> {
    type Item = Result<Extent<Source>, L::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.frames.last_mut()? {
                Frame::Beyond(range) => {
                    let (offset, length) = (range.start, range.end - range.start);
                    self.frames.pop();
                    return Some(Ok(Extent { offset, length, source: Source::Zero }));
                }
                Frame::Disk { index, pieces } => {
                    let index = *index;
                    match pieces.next() {
                        None => {
                            self.frames.pop();
                        }
                        Some(Err(error)) => {
                            self.frames = vec![];
                            return Some(Err(error));
                        }
                        Some(Ok(Extent { offset, length, source })) => match source.in_chain(index) {
                            Some(source) => return Some(Ok(Extent { offset, length, source })),
                            None => self.ask(index + 1, offset..offset + length),
                        },
                    }
                }
            }
        }
    }
}
