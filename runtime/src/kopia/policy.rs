//! Policies: what the user asks for, for one source, a user, a host, or everything. Only the
//! retention part is read; the rest is ignored.
//!
//! A source has the fields of its own policy; what that leaves open comes from the policies of the
//! paths above it, then of its user, its host, the whole repository, and at last from Kopia's
//! defaults. A policy that says so takes nothing from others, not even the defaults. Policies that
//! say nothing of retention are not kept. Memory: some 300 bytes for each other one, at most
//! [`POLICY_BYTES_MAX`] together. Mirrors Kopia's `snapshot/policy/policy_manager.go` and
//! `policy_merge.go`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FormatError;
use super::manifest::ManifestEntry;
use super::snapshot_manifest::SnapshotSource;
use crate::clock::Timestamp;

/// The `type` label of the manifests.
pub const MANIFEST_TYPE: &str = "policy";

/// Most bytes of all policies with a retention part: more than ten thousand of them.
pub const POLICY_BYTES_MAX: usize = 4 << 20;

/// What a policy takes besides its texts, in bytes.
const POLICY_BYTES: usize = 256;

/// How many snapshots are kept, for each kind of period. What is `None` is open; in a merged
/// policy it keeps nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// The newest ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_latest: Option<i64>,
    /// One for each hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_hourly: Option<i64>,
    /// One for each day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_daily: Option<i64>,
    /// One for each week.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_weekly: Option<i64>,
    /// One for each month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_monthly: Option<i64>,
    /// One for each year.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_annual: Option<i64>,
    /// Whether a client does not save a snapshot that is like the last. Means nothing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore_identical_snapshots: Option<bool>,
}

impl RetentionPolicy {
    /// Kopia's defaults.
    pub const DEFAULT: Self = Self {
        keep_latest: Some(10),
        keep_hourly: Some(48),
        keep_daily: Some(7),
        keep_weekly: Some(4),
        keep_monthly: Some(24),
        keep_annual: Some(3),
        ignore_identical_snapshots: Some(false),
    };

    /// Takes what is open here from `other`.
    fn merge(&mut self, other: &Self) {
        for (ours, theirs) in [
            (&mut self.keep_latest, other.keep_latest),
            (&mut self.keep_hourly, other.keep_hourly),
            (&mut self.keep_daily, other.keep_daily),
            (&mut self.keep_weekly, other.keep_weekly),
            (&mut self.keep_monthly, other.keep_monthly),
            (&mut self.keep_annual, other.keep_annual),
        ] {
            *ours = ours.or(theirs);
        }
        let ignore = &mut self.ignore_identical_snapshots;
        *ignore = ignore.or(other.ignore_identical_snapshots);
    }
}

/// What a policy is for, the most special first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Path(SnapshotSource),
    User { user: String, host: String },
    Host(String),
    Global,
}

impl Target {
    /// Reads the target from the labels; `None` where labels are missing: Kopia does not find it
    /// either.
    fn of(labels: &BTreeMap<String, String>) -> Option<Self> {
        let label = |name: &str| labels.get(name).cloned();
        Some(match labels.get("policyType")?.as_str() {
            "path" => Self::Path(SnapshotSource {
                host: label("hostname")?,
                user: label("username")?,
                path: label("path")?,
            }),
            "user" => Self::User {
                user: label("username")?,
                host: label("hostname")?,
            },
            "host" => Self::Host(label("hostname")?),
            "global" => Self::Global,
            _ => return None,
        })
    }

    /// The policy of `source` without a path: of its user, else its host, else of everything.
    fn of_user(source: &SnapshotSource) -> Self {
        match (source.user.is_empty(), source.host.is_empty()) {
            (false, _) => Self::User {
                user: source.user.clone(),
                host: source.host.clone(),
            },
            (true, false) => Self::Host(source.host.clone()),
            (true, true) => Self::Global,
        }
    }
}

/// One policy.
#[derive(Clone, Debug)]
struct Policy {
    modified: Timestamp,
    id: String,
    retention: RetentionPolicy,
    no_parent: bool,
}

/// The payload. `null` is as good as nothing, as in Go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    retention: Option<RetentionPolicy>,
    no_parent: Option<bool>,
}

/// All policies of a repository.
#[derive(Clone, Debug, Default)]
pub struct PolicyTree {
    /// By target; of two with the same one the earlier is the stronger, as in Kopia.
    policies: BTreeMap<Target, Vec<Policy>>,
    bytes: usize,
    /// Length of the longest path that has a policy.
    path_bytes_max: usize,
}

impl PolicyTree {
    /// Adds a manifest of type `policy`.
    ///
    /// # Errors
    /// JSON of another form: Kopia stops there as well.
    pub fn add(&mut self, entry: &ManifestEntry) -> Result<(), FormatError> {
        let fields: Option<Fields> = serde_json::from_str(entry.data.get()).map_err(|error| {
            let what = format!("policy manifest {}", entry.id);
            FormatError::malformed(what, error.to_string())
        })?;
        let (Some(fields), Some(target)) = (fields, Target::of(&entry.labels)) else {
            return Ok(());
        };
        let policy = Policy {
            modified: entry.modified,
            id: entry.id.clone(),
            retention: fields.retention.unwrap_or_default(),
            no_parent: fields.no_parent.unwrap_or(false),
        };
        if policy.retention == RetentionPolicy::default() && !policy.no_parent {
            return Ok(());
        }
        let texts = entry.labels.values().map(String::len).sum::<usize>();
        self.bytes += POLICY_BYTES + entry.id.len() + texts;
        if let Target::Path(source) = &target {
            self.path_bytes_max = self.path_bytes_max.max(source.path.len());
        }
        let same = self.policies.entry(target).or_default();
        let earlier = |other: &Policy| (other.modified, &other.id) < (policy.modified, &policy.id);
        let at = same.partition_point(earlier);
        same.insert(at, policy);
        Ok(())
    }

    /// Returns what the policies take, for whoever keeps [`POLICY_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the policy of `source`: all that apply to it, merged.
    pub fn effective(&self, source: &SnapshotSource) -> RetentionPolicy {
        let mut merged = RetentionPolicy::default();
        if self.merge_all(source, &mut merged) {
            merged.merge(&RetentionPolicy::DEFAULT);
        }
        merged
    }

    /// Merges all policies that apply; returns whether the defaults do as well.
    fn merge_all(&self, source: &SnapshotSource, merged: &mut RetentionPolicy) -> bool {
        let mut path = source.path.as_str();
        while !path.is_empty() {
            // A longer one has no policy: there may be many levels, and each look copies the path.
            if path.len() <= self.path_bytes_max {
                let target = Target::Path(SnapshotSource {
                    path: path.to_owned(),
                    user: source.user.clone(),
                    host: source.host.clone(),
                });
                if !self.merge_one(&target, merged) {
                    return false;
                }
            }
            let above = parent_path(path);
            if above.len() == path.len() {
                break;
            }
            path = above;
        }
        let host = match source.host.is_empty() {
            false => Target::Host(source.host.clone()),
            true => Target::Global,
        };
        let others = [Target::of_user(source), host, Target::Global];
        others.iter().all(|target| self.merge_one(target, merged))
    }

    /// Merges the policies of a target; returns whether those of others apply as well.
    fn merge_one(&self, target: &Target, merged: &mut RetentionPolicy) -> bool {
        for policy in self.policies.get(target).into_iter().flatten() {
            merged.merge(&policy.retention);
            if policy.no_parent {
                return false;
            }
        }
        true
    }
}

/// Returns the directory above, of a path with slashes or backslashes; the root is above itself.
fn parent_path(path: &str) -> &str {
    let bytes = path.as_bytes();
    let is_slash = |byte: u8| byte == b'/' || byte == b'\\';
    let volume = match bytes {
        [_, b':', slash, ..] if is_slash(*slash) => 2,
        _ => 0,
    };
    let below = |end: usize| bytes.get(volume..end).unwrap_or_default();
    let last = |end: usize| below(end).iter().rposition(|byte| is_slash(*byte));
    let mut end = bytes.len();
    let mut slash = last(end);
    // A slash at the end is not a level of its own, unless it is the root's.
    if let Some(at) = slash
        && at > 0
        && volume + at + 1 == end
    {
        end -= 1;
        slash = last(end);
    }
    match slash {
        None => path,
        Some(at) => path.get(..volume + at.max(1)).unwrap_or(path),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn tree(policies: &[(&str, &str)]) -> PolicyTree {
        let mut tree = PolicyTree::default();
        for (number, (target, json)) in policies.iter().enumerate() {
            let (user, host, path) = parts(target);
            let kind = match (path, user, host) {
                ("", "", "") => "global",
                ("", "", _) => "host",
                ("", ..) => "user",
                _ => "path",
            };
            let labels = [
                ("type", "policy"),
                ("policyType", kind),
                ("username", user),
                ("hostname", host),
                ("path", path),
            ];
            let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
            let data = RawValue::from_string((*json).to_owned()).unwrap();
            let modified = Timestamp::from_seconds(number as i64);
            let entry = ManifestEntry::new(number.to_string(), labels.into(), modified, data);
            tree.add(&entry).unwrap();
        }
        tree
    }

    fn parts(text: &str) -> (&str, &str, &str) {
        let (user, rest) = text.split_once('@').unwrap();
        let (host, path) = rest.split_once(':').unwrap();
        (user, host, path)
    }

    fn latest(tree: &PolicyTree, source: &str) -> Option<i64> {
        let (user, host, path) = parts(source);
        let source = SnapshotSource {
            host: host.into(),
            user: user.into(),
            path: path.into(),
        };
        tree.effective(&source).keep_latest
    }

    fn keep(latest: i64) -> String {
        format!(r#"{{"retention":{{"keepLatest":{latest}}},"files":{{"ignore":["x"]}}}}"#)
    }

    #[test]
    fn the_most_special_policy_wins() {
        let all = [
            ("u@h:/a/b", 1),
            ("u@h:/a", 2),
            ("u@h:/", 3),
            ("u@h:", 4),
            ("@h:", 5),
            ("@:", 6),
        ];
        let texts: Vec<_> = all
            .iter()
            .map(|(at, latest)| (*at, keep(*latest)))
            .collect();
        for first in 0..=all.len() {
            let rest: Vec<_> = texts[first..]
                .iter()
                .map(|(at, text)| (*at, &**text))
                .collect();
            let wanted = all.get(first).map_or(10, |(_, latest)| *latest);
            assert_eq!(latest(&tree(&rest), "u@h:/a/b"), Some(wanted), "{first}");
        }
        let texts: Vec<_> = texts.iter().map(|(at, text)| (*at, &**text)).collect();
        let tree = tree(&texts);
        assert_eq!(latest(&tree, "u@h:/a/c/d"), Some(2));
        assert_eq!(latest(&tree, "u@h:/ab"), Some(3));
        assert_eq!(latest(&tree, "u@h:relative"), Some(4));
        assert_eq!(latest(&tree, "v@h:/a/b"), Some(5));
        assert_eq!(latest(&tree, "u@other:/a/b"), Some(6));
    }

    #[test]
    fn fields_are_merged_one_by_one_and_defaults_come_last() {
        let tree = tree(&[
            (
                "u@h:/a",
                r#"{"retention":{"keepLatest":0,"keepDaily":null}}"#,
            ),
            ("@:", r#"{"retention":{"keepDaily":5,"keepLatest":9}}"#),
            ("@h:", r#"{"retention":null,"noParent":null}"#),
        ]);
        let merged = tree.effective(&SnapshotSource {
            host: "h".into(),
            user: "u".into(),
            path: "/a".into(),
        });
        let expected = RetentionPolicy {
            keep_latest: Some(0),
            keep_daily: Some(5),
            ..RetentionPolicy::DEFAULT
        };
        assert_eq!(merged, expected);
    }

    #[test]
    fn a_policy_without_parents_takes_no_defaults() {
        let json = r#"{"retention":{"keepDaily":5},"noParent":true}"#;
        let tree = tree(&[("u@h:/a", json), ("@:", &keep(9))]);
        assert_eq!(latest(&tree, "u@h:/a"), None);
        assert_eq!(latest(&tree, "u@h:/b"), Some(9));
    }

    #[test]
    fn of_two_for_one_target_the_earlier_wins() {
        let (one, two) = (keep(1), keep(2));
        let tree = tree(&[("u@h:/a", &one), ("u@h:/a", &two)]);
        assert_eq!(latest(&tree, "u@h:/a"), Some(1));
        assert!(tree.bytes() > 2 * POLICY_BYTES);
    }

    /// Goal: a path of very many levels takes no time and no memory; method: one of a million.
    #[test]
    fn very_deep_paths_are_cheap() {
        let tree = tree(&[("u@h:/a", &keep(2))]);
        let deep = format!("u@h:/a{}", "/b".repeat(1_000_000));
        assert_eq!(latest(&tree, &deep), Some(2));
    }

    #[test]
    fn parents_of_paths() {
        for (path, parent) in [
            ("/a/b", "/a"),
            ("/a/b/", "/a"),
            ("/a", "/"),
            ("/", "/"),
            ("a/b", "a"),
            ("a", "a"),
            (r"C:\a\b", r"C:\a"),
            (r"C:\a", r"C:\"),
            (r"C:\", r"C:\"),
            ("C:", "C:"),
            (r"\\host\share", r"\\host"),
            ("é/ü", "é"),
        ] {
            assert_eq!(parent_path(path), parent, "{path}");
        }
    }

    #[test]
    fn what_is_no_policy_is_an_error() {
        let data = RawValue::from_string(r#"{"retention":5}"#.to_owned()).unwrap();
        let entry = ManifestEntry::new("id1", BTreeMap::new(), Timestamp::default(), data);
        let error = PolicyTree::default().add(&entry).unwrap_err().to_string();
        assert!(error.starts_with("policy manifest id1"), "{error}");
    }
}
