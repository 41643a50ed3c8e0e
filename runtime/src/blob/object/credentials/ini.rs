//! The two forms of files with keys: sections of `key = value` (Amazon's), and plain `KEY=VALUE`
//! (Velero's for Azure).
//!
//! Comments begin with `#` or `;` at the start of a line; Amazon's nested values (indented lines)
//! are passed over. Memory: the file's values, at most that of the file.

use std::collections::BTreeMap;

use super::Secret;

/// Values of one section.
pub(super) type Section = BTreeMap<String, Secret>;

/// Parses sections; a name that is there twice adds to the first one.
pub(super) fn sections(text: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        let indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.split(']').next())
        {
            current = Some(name.trim().to_owned());
            sections.entry(name.trim().to_owned()).or_default();
        } else if let (Some(name), Some((key, value))) = (&current, line.split_once('='))
            && !indented
        {
            let section = sections.entry(name.clone()).or_default();
            section.insert(key.trim().to_ascii_lowercase(), value_of(value));
        }
    }
    sections
}

/// Parses plain pairs; `export ` before a name and quotes around a value are passed over.
pub(super) fn pairs(text: &str) -> Section {
    let mut pairs = Section::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        if let Some((key, value)) = line.split_once('=') {
            pairs.insert(key.trim().to_owned(), Secret::new(unquoted(value.trim())));
        }
    }
    pairs
}

fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    value
}

fn value_of(value: &str) -> Secret {
    // A comment behind a value begins with white space and a sign.
    let end = [" #", " ;", "\t#", "\t;"]
        .iter()
        .filter_map(|sign| value.find(sign))
        .min();
    Secret::new(value[..end.unwrap_or(value.len())].trim())
}

/// Returns a value that is there and not empty.
pub(super) fn value<'a>(section: &'a Section, key: &str) -> Option<&'a str> {
    let value = section.get(key)?.reveal();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazons_files_are_read_as_people_write_them() {
        let text = "# mine\n[default]\naws_access_key_id=AK\nAWS_SECRET_ACCESS_KEY = s=e/c+r \r\n\
                    s3 =\n  max_queue_size = 1\n\n[ profile x ]\nregion = eu-west-1 # here\n\
                    ; end\n[empty]\nnothing\n";
        let sections = sections(text);
        assert_eq!(sections.len(), 3);
        let default = &sections["default"];
        assert_eq!(value(default, "aws_access_key_id"), Some("AK"));
        assert_eq!(value(default, "aws_secret_access_key"), Some("s=e/c+r"));
        assert_eq!(value(default, "max_queue_size"), None);
        assert_eq!(value(&sections["profile x"], "region"), Some("eu-west-1"));
    }

    #[test]
    fn veleros_pairs_are_read() {
        let pairs =
            pairs("# Azure\nAZURE_TENANT_ID=t\nexport AZURE_CLIENT_SECRET=\"a=b\"\n\nX= y \n");
        assert_eq!(value(&pairs, "AZURE_TENANT_ID"), Some("t"));
        assert_eq!(value(&pairs, "AZURE_CLIENT_SECRET"), Some("a=b"));
        assert_eq!(value(&pairs, "X"), Some("y"));
    }
}
