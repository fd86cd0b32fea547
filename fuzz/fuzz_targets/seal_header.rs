#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat_vault::seal::Header;

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = Header::parse(data) {
        let length = header.header_bytes as usize;
        assert_eq!(Header::parse(&data[..length]), Ok(header));
    }
});
