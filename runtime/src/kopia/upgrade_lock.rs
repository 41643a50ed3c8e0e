//! upgrade_lock
