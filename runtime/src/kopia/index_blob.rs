//! index_blob
