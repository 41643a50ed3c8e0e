//! content_id
