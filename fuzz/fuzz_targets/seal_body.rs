#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat_vault::seal::Opener;

fuzz_target!(|data: &[u8]| {
    let mut opener = Opener::new().expect("zstd can be set up");
    let _ = opener.read_body(data, 1 << 20);
});
