//! sealed_blob
