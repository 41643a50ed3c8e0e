//! key_derivation
