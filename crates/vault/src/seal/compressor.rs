//! Frames as we write them: one level for what can be compressed, a fast one for what cannot.
//!
//! Much of what a vault holds is ciphertext. zstd finds that out by itself, but at the cost of a third of the
//! sealing time: the text of the tar header makes it try. So a sample of the data decides first.

use std::ops::RangeInclusive;

use zstd::bulk::Compressor;
use zstd::zstd_safe::{self, CParameter};

use super::error::SealError;

/// Compression levels that keep every window within [`MAX_WINDOW_BYTES`](super::MAX_WINDOW_BYTES).
pub const COMPRESSION_LEVELS: RangeInclusive<i32> = -50..=19;

/// Level for what looks random: repetitions are still found, single bytes are not coded.
const RANDOM_LEVEL: i32 = -5;
/// Pieces of a sample, evenly spread, and bytes of each.
const SAMPLE_PIECES: usize = 16;
const SAMPLE_PIECE_BYTES: usize = 256;
/// Bytes of a sample that must not be repetitions for its spread to say something.
const MIN_TELLING_BYTES: u32 = 4 * SAMPLE_PIECE_BYTES as u32;
/// Below this size trying costs less than it could save.
const MIN_SAMPLED_BYTES: usize = 4 * SAMPLE_PIECES * SAMPLE_PIECE_BYTES;

/// A zstd compressor with the parameters of the format.
pub(super) struct FrameCompressor {
    compressor: Compressor<'static>,
    level: i32,
    current_level: i32,
}

impl FrameCompressor {
    pub(super) fn new(level: i32) -> Result<Self, SealError> {
        let mut compressor = Compressor::new(level).map_err(SealError::from_zstd)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(SealError::from_zstd)?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true)).map_err(SealError::from_zstd)?;
        Ok(Self { compressor, level, current_level: level })
    }

    /// Compresses `data` to one frame in `frame`, whose old content is lost. `content` is the part of `data` that
    /// decides on the level.
    pub(super) fn compress<'f>(
        &mut self,
        data: &[u8],
        content: &[u8],
        frame: &'f mut Vec<u8>,
    ) -> Result<&'f [u8], SealError> {
        let level = if looks_random(content) { self.level.min(RANDOM_LEVEL) } else { self.level };
        if level != self.current_level {
            let parameter = CParameter::CompressionLevel(level);
            self.compressor.set_parameter(parameter).map_err(SealError::from_zstd)?;
            self.current_level = level;
        }
        frame.clear();
        frame.reserve(zstd_safe::compress_bound(data.len()));
        self.compressor.compress_to_buffer(data, frame).map_err(SealError::from_zstd)?;
        Ok(frame)
    }
}

/// Whether most of a sample is spread as random data is, apart from bytes that repeat the one before.
///
/// Repetitions say nothing, as any level finds them. Compares, piece by piece, the sum of the squares of the byte
/// counts, which is least for an even spread: for 256 random bytes about 511, for base64 over 1,200, for text more.
fn looks_random(data: &[u8]) -> bool {
    if data.len() < MIN_SAMPLED_BYTES {
        return false;
    }
    let stride = (data.len() - SAMPLE_PIECE_BYTES) / (SAMPLE_PIECES - 1);
    let (mut random, mut telling) = (0, 0);
    for piece in (0..SAMPLE_PIECES).map(|number| &data[number * stride..][..SAMPLE_PIECE_BYTES]) {
        let mut counts = [0u32; 256];
        let mut new: u32 = 0;
        for pair in piece.windows(2).filter(|pair| pair[0] != pair[1]) {
            counts[usize::from(pair[1])] += 1;
            new += 1;
        }
        let squares: u32 = counts.iter().map(|count| count * count).sum();
        // Of n random bytes the sum is n * n / 256 + n, give or take.
        let even = new * new / 256 + new;
        telling += new;
        random += if squares * 5 < even * 8 { new } else { 0 };
    }
    telling >= MIN_TELLING_BYTES && random * 4 >= telling * 3
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngCore, SeedableRng};

    use super::*;

    #[test]
    fn random_data_is_told_from_the_rest() {
        let mut random = vec![0u8; 100_000];
        StdRng::seed_from_u64(1).fill_bytes(&mut random);
        assert!(looks_random(&random));
        let mut member =
            super::super::member::tar_header(&lifeboat_schema::Digest::of(&random), 100_000).to_vec();
        member.extend_from_slice(&random);
        assert!(looks_random(&member), "a tar header in front changes nothing");
        let base64: Vec<u8> = random.iter().map(|byte| b' ' + byte % 64).collect();
        let mut third = random.clone();
        third[30_000..].fill(0);
        assert!(looks_random(&third), "what the rest is repeats itself");
        let mut little = random.clone();
        little[10_000..].fill(0);
        let mut mixed = base64.clone();
        mixed[..50_000].copy_from_slice(&random[..50_000]);
        let data =
            [("base64", &base64), ("zeros", &vec![0; 50_000]), ("little", &little), ("half base64", &mixed)];
        for (what, data) in data {
            assert!(!looks_random(data), "{what}");
        }
        assert!(!looks_random(&random[..MIN_SAMPLED_BYTES - 1]), "small data is simply tried");
    }

    #[test]
    fn repeated_random_data_is_still_made_small() {
        let mut data = vec![0u8; 20_000];
        StdRng::seed_from_u64(2).fill_bytes(&mut data);
        let data = data.repeat(10);
        assert!(looks_random(&data));
        let mut frame = Vec::new();
        let size = FrameCompressor::new(1).unwrap().compress(&data, &data, &mut frame).unwrap().len();
        assert!(size < 25_000, "{size}");
    }
}
