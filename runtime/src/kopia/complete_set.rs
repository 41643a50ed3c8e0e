//! complete_set
