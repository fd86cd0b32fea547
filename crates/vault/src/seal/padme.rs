//! Padmé: the sizes that objects may have.
//!
//! A padded size keeps only the top bits of its binary form, as many as its exponent has digits. An observer
//! of the store learns O(log log size) bits of a size, and the padding costs at most 12 %, 3 % at 8 MiB
//! (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", 2019).

/// Rounds `size` up to the next size that Padmé allows; 0 and 1 stand for themselves.
///
/// Returns `None` when the result does not fit 64 bits.
pub const fn padme(size: u64) -> Option<u64> {
    if size < 2 {
        return Some(size);
    }
    let exponent = size.ilog2();
    let kept_bits = exponent.ilog2() + 1;
    let zero_bits = exponent.saturating_sub(kept_bits);
    let mask = (1u64 << zero_bits) - 1;
    match size.checked_add(mask) {
        Some(sum) => Some(sum & !mask),
        None => None,
    }
}
