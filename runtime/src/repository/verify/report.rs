//! What a verification has found, for people and programs.
//!
//! Memory: at most [`FINDINGS_MAX`] findings and notes; the rest is counted.

use std::fmt;

use bytesize::ByteSize;
use serde::Serialize;

use crate::kopia::content_id::ContentId;
use crate::repository::RepositoryError;

/// Findings that are kept; more tell nothing new, all are counted.
pub const FINDINGS_MAX: usize = 100;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of what is wrong.
    pub code: &'static str,
    /// The index blob or pack blob.
    pub blob: Option<String>,
    /// The content.
    pub content: Option<ContentId>,
    /// What is wrong, for people.
    pub explanation: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.code)?;
        if let Some(blob) = &self.blob {
            write!(f, " {blob}:")?;
        }
        if let Some(content) = &self.content {
            write!(f, " content {content}:")?;
        }
        write!(f, " {}", self.explanation)
    }
}

/// What is wrong: all of it is counted, the first is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// What is wrong, the first [`FINDINGS_MAX`].
    pub findings: Vec<Finding>,
    /// How many findings there are.
    pub findings_total: u64,
}

impl Findings {
    /// Returns whether nothing is wrong.
    pub fn none(&self) -> bool {
        self.findings_total == 0
    }

    /// Takes in a finding.
    pub(in crate::repository) fn add(
        &mut self,
        code: &'static str,
        blob: Option<String>,
        content: Option<ContentId>,
        explanation: String,
    ) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                code,
                blob,
                content,
                explanation,
            });
        }
    }

    /// Takes in that the index has gaps: readers go on with fewer entries and say nothing.
    pub(super) fn add_gaps(
        &mut self,
        gaps: Option<RepositoryError>,
    ) -> Result<(), RepositoryError> {
        match gaps {
            None => {}
            Some(
                error @ (RepositoryError::IncompleteIndex { .. }
                | RepositoryError::LostCompaction { .. }),
            ) => self.add(error.code(), None, None, error.to_string()),
            Some(other) => return Err(other),
        }
        Ok(())
    }

    /// Takes in what somebody else has found.
    pub(in crate::repository) fn append(&mut self, mut others: Self) {
        self.findings_total += others.findings_total;
        self.findings.append(&mut others.findings);
        self.findings.truncate(FINDINGS_MAX);
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let shown = self.findings.len() as u64;
        if self.findings_total > shown {
            writeln!(f, "and {} more", self.findings_total - shown)?;
        }
        match self.findings_total {
            0 => write!(f, "nothing is wrong"),
            1 => write!(f, "1 thing is wrong"),
            count => write!(f, "{count} things are wrong"),
        }
    }
}

/// What was looked at and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// `epochs` or `V0`.
    pub index_manager: &'static str,
    /// Index blobs that readers use.
    pub index_blobs: u64,
    /// Their bytes as stored.
    pub index_bytes: u64,
    /// Entries in them.
    pub entries: u64,
    /// Contents that are not deleted.
    pub live_contents: u64,
    /// Deleted contents above the watermark.
    pub deleted_contents: u64,
    /// Epochs and ranges whose several sets, or superseded blobs, were compared.
    pub epochs_compared: u64,
    /// Packs that contents lie in and that were looked for; none when packs were left out.
    pub packs: Option<u64>,
    /// What is wrong.
    #[serde(flatten)]
    pub found: Findings,
    /// What a person should know and is not wrong.
    pub notes: Vec<String>,
}

impl VerifyReport {
    /// Returns whether nothing is wrong.
    pub fn ok(&self) -> bool {
        self.found.none()
    }

    pub(super) fn add(
        &mut self,
        code: &'static str,
        blob: Option<String>,
        content: Option<ContentId>,
        explanation: String,
    ) {
        self.found.add(code, blob, content, explanation);
    }

    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < FINDINGS_MAX {
            self.notes.push(note);
        }
    }
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "index:    {} index blobs, {}, {} entries ({})",
            self.index_blobs,
            ByteSize(self.index_bytes),
            self.entries,
            self.index_manager
        )?;
        writeln!(
            f,
            "contents: {} live, {} deleted",
            self.live_contents, self.deleted_contents
        )?;
        if self.epochs_compared > 0 {
            let count = self.epochs_compared;
            writeln!(
                f,
                "sets:     {count} epochs or ranges compared with what they replace"
            )?;
        }
        match self.packs {
            Some(packs) => writeln!(f, "packs:    {packs} looked for")?,
            None => writeln!(f, "packs:    not looked for")?,
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        self.found.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_findings_are_counted_and_the_first_are_kept() {
        let mut report = VerifyReport::default();
        assert!(report.ok());
        assert!(report.to_string().ends_with("nothing is wrong"));
        for number in 0..FINDINGS_MAX + 3 {
            report.add(
                "missing-pack",
                Some(format!("p{number}")),
                None,
                "it is gone".into(),
            );
        }
        assert!(!report.ok());
        assert_eq!(report.found.findings.len(), FINDINGS_MAX);
        let text = report.to_string();
        assert!(
            text.contains("\nmissing-pack: p99: it is gone\nand 3 more\n"),
            "{text}"
        );
        assert!(text.ends_with("103 things are wrong"), "{text}");
    }
}
