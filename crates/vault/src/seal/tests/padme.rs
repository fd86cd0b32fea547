//! Sizes: known values, and the rules that make Padmé what it is.

use proptest::prelude::*;

use super::padme;

#[test]
fn known_sizes() {
    let pairs = [(0, 0), (1, 1), (2, 2), (8, 8), (9, 10), (15, 16), (17, 18), (100, 104), (1000, 1024)];
    for (size, padded) in pairs {
        assert_eq!(padme(size), Some(padded), "padme({size})");
    }
    // 8 MiB and a byte: six of the 24 bits are kept.
    assert_eq!(padme((8 << 20) + 1), Some((8 << 20) + (1 << 18)));
    assert_eq!(padme(u64::MAX), None);
}

proptest! {
    #[test]
    fn padded_sizes_are_few_close_and_in_order(size in 0u64..1 << 62, more in 0u64..1 << 40) {
        let padded = padme(size).unwrap();
        prop_assert!(padded >= size);
        prop_assert_eq!(padme(padded), Some(padded), "a padded size stands for itself");
        prop_assert!(padme(size + more).unwrap() >= padded);
        // Never more than 12 % above.
        prop_assert!(u128::from(padded - size) * 100 <= u128::from(size) * 12);
        if size >= 2 {
            let exponent = size.ilog2();
            let zero_bits = exponent.saturating_sub(exponent.ilog2() + 1);
            prop_assert_eq!(padded % (1 << zero_bits), 0);
        }
    }
}
