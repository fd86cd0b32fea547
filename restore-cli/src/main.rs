//! placeholder until the program lands.
fn main() {}
