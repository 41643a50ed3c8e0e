//! compaction_log
