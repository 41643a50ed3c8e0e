//! reed_solomon
