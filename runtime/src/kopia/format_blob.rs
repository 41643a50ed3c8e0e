//! format_blob
