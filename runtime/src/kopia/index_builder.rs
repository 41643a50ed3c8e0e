//! index_builder
