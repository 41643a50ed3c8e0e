//! Which sources of snapshots are meant, in the forms that Kopia's commands take.
//!
//! Memory: its texts. Mirrors `ParseSourceInfo` of Kopia's `snapshot/source.go`.

use super::snapshot_manifest::SnapshotSource;

/// Which sources are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceFilter {
    /// This user's.
    pub user: Option<String>,
    /// This host's.
    pub host: Option<String>,
    /// This directory.
    pub path: Option<String>,
}

impl SourceFilter {
    /// Parses `user@host:/path`, `user@host`, `@host` or a path.
    pub fn parse(text: &str) -> Self {
        let part = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let who = text
            .split_once('@')
            .filter(|(user, _)| !user.contains(['/', '\\', ':']));
        let Some((user, rest)) = who else {
            return Self {
                path: part(text),
                ..Self::default()
            };
        };
        let (host, path) = rest.split_once(':').unwrap_or((rest, ""));
        Self {
            user: part(user),
            host: part(host),
            path: part(path),
        }
    }

    /// Returns whether snapshots of this source are meant.
    pub fn takes(&self, source: &SnapshotSource) -> bool {
        let fits = |wanted: &Option<String>, is: &String| wanted.as_ref().is_none_or(|w| w == is);
        fits(&self.user, &source.user)
            && fits(&self.host, &source.host)
            && fits(&self.path, &source.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_named_as_in_kopia() {
        let filter = |user: &str, host: &str, path: &str| {
            let part = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            SourceFilter {
                user: part(user),
                host: part(host),
                path: part(path),
            }
        };
        assert_eq!(
            SourceFilter::parse("u@h:/a@b:c"),
            filter("u", "h", "/a@b:c")
        );
        assert_eq!(SourceFilter::parse("u@h"), filter("u", "h", ""));
        assert_eq!(SourceFilter::parse("@h"), filter("", "h", ""));
        assert_eq!(SourceFilter::parse("/a@b"), filter("", "", "/a@b"));
        assert_eq!(SourceFilter::parse(r"C:\a@b"), filter("", "", r"C:\a@b"));
        let source = SnapshotSource {
            host: "h".into(),
            user: "u".into(),
            path: "/a".into(),
        };
        assert!(SourceFilter::parse("@h").takes(&source));
        assert!(SourceFilter::default().takes(&source));
        assert!(!SourceFilter::parse("/a/").takes(&source));
    }
}
