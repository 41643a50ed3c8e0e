//! blob_id
