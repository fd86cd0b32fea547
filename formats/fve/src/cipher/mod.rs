//! Sector decryption: all ciphers BitLocker uses in software.
//!
//! Takes physical sectors and their place on the volume; which ranges are encrypted at all says `map.rs`.
//!
//! Deliberately holds no state between calls: any number of threads may decrypt with one [`SectorCipher`].

mod cbc;
mod elephant;
#[cfg(test)]
mod tests;
mod xts;

use aes::cipher::inout::InOutBuf;
use aes::cipher::{BlockDecrypt, BlockEncrypt, BlockSizeUser, KeyInit, consts::U16};
use aes::{Aes128, Aes256};
use alloc::boxed::Box;

use self::cbc::Cbc;
use self::elephant::Elephant;
use self::xts::Xts;
use crate::error::Error;
use crate::layout::MAX_SECTOR_SIZE;
use crate::metadata::EncryptionMethod;
use crate::unlock::VolumeKey;

/// Bytes of an AES block.
const BLOCK: usize = 16;
/// Sectors whose tweaks and vectors are computed together: fills the AES pipeline.
const GROUP: usize = 8;

/// AES with any key size.
trait Aes: BlockEncrypt + BlockDecrypt + BlockSizeUser<BlockSize = U16> + KeyInit {
    /// Makes the cipher from a key of its size.
    fn with_key(key: &[u8]) -> Option<Self> {
        Self::new_from_slice(key).ok()
    }

    /// Encrypts whole blocks in place.
    fn encrypt_in_place(&self, bytes: &mut [u8]) {
        let (blocks, _) = InOutBuf::from(bytes).into_chunks::<U16>();
        self.encrypt_blocks_inout(blocks);
    }

    /// Decrypts whole blocks in place.
    fn decrypt_in_place(&self, bytes: &mut [u8]) {
        let (blocks, _) = InOutBuf::from(bytes).into_chunks::<U16>();
        self.decrypt_blocks_inout(blocks);
    }
}

impl<T: BlockEncrypt + BlockDecrypt + BlockSizeUser<BlockSize = U16> + KeyInit> Aes for T {}

/// Encrypts a single block.
#[cfg(any(test, feature = "fixtures"))]
fn encrypt_block(aes: &impl Aes, block: [u8; BLOCK]) -> [u8; BLOCK] {
    let mut block = aes::Block::from(block);
    aes.encrypt_block(&mut block);
    block.into()
}

/// XORs `mask` into `bytes` of the same length.
fn xor(bytes: &mut [u8], mask: &[u8]) {
    for (byte, mask) in bytes.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

enum Mode {
    Xts128(Xts<Aes128>),
    Xts256(Xts<Aes256>),
    Cbc128(Cbc<Aes128>),
    Cbc256(Cbc<Aes256>),
    Elephant128(Elephant<Aes128>),
    Elephant256(Elephant<Aes256>),
}

/// The cipher of a volume with its key, ready for any sector.
pub struct SectorCipher {
    mode: Box<Mode>,
    sector_size: u32,
}

/// Bytes of both keys of the Elephant methods; 128-bit AES uses the first half of each.
const ELEPHANT_KEY_BYTES: usize = 64;

impl SectorCipher {
    /// Prepares the cipher of a volume key for sectors of 512 or 4096 bytes.
    ///
    /// # Errors
    /// [`Error::UnsupportedMethod`] names a cipher this crate does not know, [`Error::VolumeKeyLength`] a key of the
    /// wrong size, [`Error::Unaligned`] an impossible sector size.
    pub fn new(key: &VolumeKey, sector_size: u32) -> Result<Self, Error> {
        if sector_size > MAX_SECTOR_SIZE || !sector_size.is_power_of_two() || sector_size < 512 {
            return Err(Error::Corrupt(crate::Corruption::SectorSize { value: sector_size }));
        }
        let method = key.method;
        let bytes = key.expose();
        let halves = |need: usize| {
            if bytes.len() == need {
                Ok(bytes.split_at(need / 2))
            } else {
                Err(Error::VolumeKeyLength { method, need, have: bytes.len() })
            }
        };
        let wrong = |need| Error::VolumeKeyLength { method, need, have: bytes.len() };
        let mode = match method {
            EncryptionMethod::AES_XTS_128 => {
                let (data, tweak) = halves(32)?;
                Mode::Xts128(Xts::new(data, tweak).ok_or(wrong(32))?)
            }
            EncryptionMethod::AES_XTS_256 => {
                let (data, tweak) = halves(64)?;
                Mode::Xts256(Xts::new(data, tweak).ok_or(wrong(64))?)
            }
            EncryptionMethod::AES_CBC_128 => Mode::Cbc128(Cbc::new(bytes).ok_or(wrong(16))?),
            EncryptionMethod::AES_CBC_256 => Mode::Cbc256(Cbc::new(bytes).ok_or(wrong(32))?),
            EncryptionMethod::AES_CBC_128_ELEPHANT => {
                let (fvek, tweak) = halves(ELEPHANT_KEY_BYTES)?;
                Mode::Elephant128(Elephant::new(&fvek[..16], &tweak[..16]).ok_or(wrong(ELEPHANT_KEY_BYTES))?)
            }
            EncryptionMethod::AES_CBC_256_ELEPHANT => {
                let (fvek, tweak) = halves(ELEPHANT_KEY_BYTES)?;
                Mode::Elephant256(Elephant::new(fvek, tweak).ok_or(wrong(ELEPHANT_KEY_BYTES))?)
            }
            _ => return Err(Error::UnsupportedMethod { method }),
        };
        Ok(Self { mode: Box::new(mode), sector_size })
    }

    /// Returns the sector size in bytes.
    #[must_use]
    pub fn sector_size(&self) -> u32 {
        self.sector_size
    }

    /// Decrypts whole sectors in place; `physical_offset` is where the first byte lies on the volume.
    ///
    /// # Errors
    /// [`Error::Unaligned`] when offset or length is not a multiple of the sector size.
    pub fn decrypt(&self, physical_offset: u64, sectors: &mut [u8]) -> Result<(), Error> {
        let size = self.check(physical_offset, sectors.len())?;
        match &*self.mode {
            Mode::Xts128(cipher) => cipher.decrypt(physical_offset, sectors, size),
            Mode::Xts256(cipher) => cipher.decrypt(physical_offset, sectors, size),
            Mode::Cbc128(cipher) => cipher.decrypt(physical_offset, sectors, size),
            Mode::Cbc256(cipher) => cipher.decrypt(physical_offset, sectors, size),
            Mode::Elephant128(cipher) => cipher.decrypt(physical_offset, sectors, size),
            Mode::Elephant256(cipher) => cipher.decrypt(physical_offset, sectors, size),
        }
        Ok(())
    }

    /// Encrypts whole sectors in place, for fixtures.
    ///
    /// # Errors
    /// As [`SectorCipher::decrypt`].
    #[cfg(any(test, feature = "fixtures"))]
    pub fn encrypt(&self, physical_offset: u64, sectors: &mut [u8]) -> Result<(), Error> {
        let size = self.check(physical_offset, sectors.len())?;
        match &*self.mode {
            Mode::Xts128(cipher) => cipher.encrypt(physical_offset, sectors, size),
            Mode::Xts256(cipher) => cipher.encrypt(physical_offset, sectors, size),
            Mode::Cbc128(cipher) => cipher.encrypt(physical_offset, sectors, size),
            Mode::Cbc256(cipher) => cipher.encrypt(physical_offset, sectors, size),
            Mode::Elephant128(cipher) => cipher.encrypt(physical_offset, sectors, size),
            Mode::Elephant256(cipher) => cipher.encrypt(physical_offset, sectors, size),
        }
        Ok(())
    }

    fn check(&self, offset: u64, length: usize) -> Result<usize, Error> {
        let size = u64::from(self.sector_size);
        if offset.is_multiple_of(size) && (length as u64).is_multiple_of(size) {
            Ok(self.sector_size as usize)
        } else {
            Err(Error::Unaligned { offset, length: length as u64, sector_size: self.sector_size })
        }
    }
}
