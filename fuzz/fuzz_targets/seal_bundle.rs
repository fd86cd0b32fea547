#![no_main]

use libfuzzer_sys::fuzz_target;
use lifeboat_vault::seal::{Opener, SealError};

fuzz_target!(|data: &[u8]| {
    let mut opener = Opener::new().expect("zstd can be set up");
    let _ = opener.walk_bundle(data, 64 << 20, |_, _| Ok::<(), SealError>(()));
});
