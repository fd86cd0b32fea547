use alloc::vec::Vec;

use super::*;

const METHODS: [(EncryptionMethod, usize); 6] = [
    (EncryptionMethod::AES_CBC_128_ELEPHANT, 64),
    (EncryptionMethod::AES_CBC_256_ELEPHANT, 64),
    (EncryptionMethod::AES_CBC_128, 16),
    (EncryptionMethod::AES_CBC_256, 32),
    (EncryptionMethod::AES_XTS_128, 32),
    (EncryptionMethod::AES_XTS_256, 64),
];

fn cipher(method: EncryptionMethod, length: usize, sector_size: u32) -> SectorCipher {
    let key = VolumeKey::new(method, (0..length as u8).map(|byte| byte.wrapping_mul(37)).collect());
    SectorCipher::new(&key, sector_size).unwrap()
}

fn sample(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * index / 7 + index) as u8).collect()
}

#[test]
fn decrypts_what_it_encrypts_however_it_is_cut() {
    for (method, length) in METHODS {
        for sector_size in [512u32, 4096] {
            let cipher = cipher(method, length, sector_size);
            let size = sector_size as usize;
            // 19 sectors: two whole groups and a ragged one; the place is not a multiple of a group.
            let plain = sample(19 * size);
            let offset = 7 * u64::from(sector_size) + (1 << 40);
            let mut whole = plain.clone();
            cipher.encrypt(offset, &mut whole).unwrap();
            assert_ne!(whole, plain);
            let mut single = plain.clone();
            for (index, sector) in single.chunks_mut(size).enumerate() {
                cipher.encrypt(offset + (index * size) as u64, sector).unwrap();
            }
            assert_eq!(whole, single, "{method}");
            for (index, sector) in single.chunks_mut(3 * size).enumerate() {
                cipher.decrypt(offset + (index * 3 * size) as u64, sector).unwrap();
            }
            assert_eq!(single, plain, "{method}");
            cipher.decrypt(offset, &mut whole).unwrap();
            assert_eq!(whole, plain, "{method}");
        }
    }
}

#[test]
fn the_place_matters() {
    for (method, length) in METHODS {
        let cipher = cipher(method, length, 512);
        let (mut here, mut there) = ([0u8; 512], [0u8; 512]);
        cipher.decrypt(0, &mut here).unwrap();
        cipher.decrypt(512, &mut there).unwrap();
        assert_ne!(here, there);
    }
}

/// IEEE 1619-2007, vector 4: the first block of data unit 0.
#[test]
fn xts_vectors_of_the_standard() {
    let key = [
        0x27, 0x18, 0x28, 0x18, 0x28, 0x45, 0x90, 0x45, 0x23, 0x53, 0x60, 0x28, 0x74, 0x71, 0x35, 0x26, 0x31,
        0x41, 0x59, 0x26, 0x53, 0x58, 0x97, 0x93, 0x23, 0x84, 0x62, 0x64, 0x33, 0x83, 0x27, 0x95,
    ];
    let cipher =
        SectorCipher::new(&VolumeKey::new(EncryptionMethod::AES_XTS_128, key.to_vec()), 512).unwrap();
    let mut data: Vec<u8> = (0..512).map(|index| index as u8).collect();
    cipher.encrypt(0, &mut data).unwrap();
    assert_eq!(
        data[..16],
        [0x27, 0xa7, 0x47, 0x9b, 0xef, 0xa1, 0xd4, 0x76, 0x48, 0x9f, 0x30, 0x8c, 0xd4, 0xcf, 0xa6, 0xe2]
    );
}

/// The text of FORMAT.md 6.2 for one sector, without lanes.
fn elephant_by_definition(key: &[u8], offset: u64, sector: &mut [u8]) {
    let aes = Aes128::with_key(&key[..16]).unwrap();
    let tweak = Aes128::with_key(&key[32..48]).unwrap();
    let ciphertext = sector.to_vec();
    let mut previous = encrypt_block(&aes, u128::from(offset).to_le_bytes());
    for (block, ciphertext) in sector.chunks_mut(16).zip(ciphertext.chunks(16)) {
        let mut plain = aes::Block::clone_from_slice(block);
        aes.decrypt_block(&mut plain);
        block.copy_from_slice(&plain);
        xor(block, &previous);
        previous.copy_from_slice(ciphertext);
    }
    let mut w: Vec<u32> =
        sector.chunks(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let n = w.len();
    for _ in 0..3 {
        for i in 0..n {
            w[i] = w[i].wrapping_add(w[(i + 2) % n] ^ w[(i + 5) % n].rotate_left([0, 10, 0, 25][i % 4]));
        }
    }
    for _ in 0..5 {
        for i in 0..n {
            w[i] =
                w[i].wrapping_add(w[(i + n - 2) % n] ^ w[(i + n - 5) % n].rotate_left([9, 0, 13, 0][i % 4]));
        }
    }
    let low = u128::from(offset).to_le_bytes();
    let mut high = low;
    high[15] = 0x80;
    let sector_key = [encrypt_block(&tweak, low), encrypt_block(&tweak, high)].concat();
    for (bytes, word) in sector.chunks_mut(4).zip(w) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    for part in sector.chunks_mut(32) {
        xor(part, &sector_key);
    }
}

#[test]
fn elephant_equals_its_definition() {
    for sector_size in [512u32, 4096] {
        let cipher = cipher(EncryptionMethod::AES_CBC_128_ELEPHANT, 64, sector_size);
        let key: Vec<u8> = (0..64u8).map(|byte| byte.wrapping_mul(37)).collect();
        let mut sectors = sample(11 * sector_size as usize);
        let mut expected = sectors.clone();
        let offset = 5 * u64::from(sector_size);
        cipher.decrypt(offset, &mut sectors).unwrap();
        for (index, sector) in expected.chunks_mut(sector_size as usize).enumerate() {
            elephant_by_definition(&key, offset + index as u64 * u64::from(sector_size), sector);
        }
        assert_eq!(sectors, expected);
    }
}

#[test]
fn refuses_what_it_cannot_do() {
    let key = |method, length| VolumeKey::new(method, alloc::vec![0; length]);
    for (method, length) in METHODS {
        for wrong in [0, 8, 24, length + 1] {
            let error = SectorCipher::new(&key(method, wrong), 512).err().expect("wrong length");
            assert!(matches!(error, Error::VolumeKeyLength { have, .. } if have == wrong), "{error}");
        }
    }
    for method in [0, 1, 0x7fff, 0x8006, 0xffff].map(EncryptionMethod) {
        let error = SectorCipher::new(&key(method, 32), 512).err().expect("unknown");
        assert!(matches!(error, Error::UnsupportedMethod { .. }), "{error}");
    }
    for sector_size in [0, 1, 256, 513, 8192] {
        assert!(SectorCipher::new(&key(EncryptionMethod::AES_XTS_128, 32), sector_size).is_err());
    }
    let cipher = cipher(EncryptionMethod::AES_XTS_128, 32, 512);
    assert!(cipher.decrypt(1, &mut [0; 512]).is_err());
    assert!(cipher.decrypt(512, &mut [0; 511]).is_err());
    assert!(
        cipher.decrypt(u64::MAX - 511, &mut [0; 1024]).is_ok(),
        "the last sector there can be, and one more"
    );
    assert!(cipher.decrypt(0, &mut []).is_ok());
}
