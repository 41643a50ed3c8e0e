//! Which tenant a snapshot belongs to, by what people have configured.
//!
//! Memory: the configuration, and names of at most [`TENANTS_MAX`] tenants.

use std::borrow::Cow;
use std::collections::BTreeMap;

use careen_guest_sdk::tenants::{SnapshotRow, TENANTS_MAX};
use serde::Deserialize;

/// The configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Rules {
    tenants: Vec<Named>,
    others: Others,
    others_by_tag: Option<String>,
    pub(crate) short_percent: u64,
    pub(crate) mixed_percent: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            tenants: Vec::new(),
            others: Others::ByUserAndHost,
            others_by_tag: None,
            short_percent: 60,
            mixed_percent: 60,
        }
    }
}

/// A tenant that people name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    #[serde(default)]
    sources: Vec<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// Whose all other snapshots are.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Others {
    OneTenant,
    ByHost,
    ByUserAndHost,
    BySource,
}

/// What makes a tenant: snapshots of which this is equal are of the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tenant<'a> {
    /// By the name that people gave it.
    Named(&'a str),
    /// By the value of a tag.
    Tag(&'a str),
    /// By its source, or by a part of it.
    Source(Cow<'a, str>),
    /// What is left.
    Others,
}

impl Rules {
    /// Returns the tenant of a snapshot.
    pub(crate) fn tenant<'a>(&'a self, row: &'a SnapshotRow) -> Tenant<'a> {
        let source = format!("{}@{}:{}", row.user, row.host, row.path);
        if let Some(named) = self.tenants.iter().find(|named| named.has(row, &source)) {
            return Tenant::Named(&named.name);
        }
        let by_tag = self.others_by_tag.as_deref();
        if let Some(value) = by_tag.and_then(|key| row.tag(key)) {
            return Tenant::Tag(value);
        }
        match self.others {
            Others::OneTenant => Tenant::Others,
            Others::ByHost => Tenant::Source(Cow::Borrowed(&row.host)),
            Others::ByUserAndHost => Tenant::Source(format!("{}@{}", row.user, row.host).into()),
            Others::BySource => Tenant::Source(source.into()),
        }
    }
}

impl Named {
    fn has(&self, row: &SnapshotRow, source: &str) -> bool {
        let mut sources = self.sources.iter();
        let mut tags = self.tags.iter();
        let is_of_source = self.sources.is_empty() || sources.any(|one| fits(one, source));
        is_of_source
            && tags.all(|(key, pattern)| row.tag(key).is_some_and(|value| fits(pattern, value)))
    }
}

/// Tells whether a pattern fits the whole text; `*` stands for anything, also for nothing. Takes at
/// most as many steps as the product of both lengths.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // Behind the last star, and up to where it reaches.
    let mut star = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, seen));
            }
            Some(byte) if *byte == text[seen] => (at, seen) = (at + 1, seen + 1),
            _ => match star {
                Some((behind, reach)) => {
                    (at, seen) = (behind, reach + 1);
                    star = Some((behind, reach + 1));
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// Numbers of tenants, in the order in which they come: they count for one rewrite only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers(BTreeMap<String, u8>);

impl Numbers {
    /// Returns the number of a tenant. Those that come after the [`TENANTS_MAX`]th share its.
    pub(crate) fn of(&mut self, tenant: &Tenant<'_>) -> u8 {
        let (kind, name): (char, &str) = match tenant {
            Tenant::Named(name) => ('n', name),
            Tenant::Tag(value) => ('t', value),
            Tenant::Source(source) => ('s', source),
            Tenant::Others => ('o', ""),
        };
        let name = format!("{kind}{name}");
        if let Some(number) = self.0.get(&name) {
            return *number;
        }
        if self.0.len() >= usize::from(TENANTS_MAX) {
            return TENANTS_MAX;
        }
        let number = self.0.len() as u8 + 1; // at most TENANTS_MAX
        self.0.insert(name, number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("root@db-*:*", "root@db-1.example.org:/var/lib", true),
            ("root@db-*:*", "root@web-1:/db-:", false),
            ("*@*:/home/*", "a@b:/home/c/d", true),
            ("*/data", "a@b:/data/data", true),
            ("*/data", "a@b:/data/x", false),
            ("a*b*c", "abbbcbc", true),
            ("a*b*c", "abbbcb", false),
            ("", "x", false),
            ("größe*", "größer", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn later_tenants_share_the_last_number() {
        let mut numbers = Numbers::default();
        let mut of = |n: u32| numbers.of(&Tenant::Tag(&n.to_string()));
        let given: Vec<u8> = (0..300).map(&mut of).collect();
        assert!(given[..250].iter().copied().eq(1..=250));
        assert!(given[250..].iter().all(|number| *number == 250));
        assert_eq!(of(7), 8);
    }
}
