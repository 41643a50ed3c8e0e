//! kopia
