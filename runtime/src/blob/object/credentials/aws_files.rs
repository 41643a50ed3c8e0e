//! Amazon's shared files: profiles with keys, roles, token files and programs that give keys.
//!
//! A profile is the `[NAME]` of the credentials file and the `[profile NAME]` of the config file
//! together, the former first. Velero's `cloud` file is such a file, read as both. Memory: the
//! files, at most 1 MiB each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ini::{self, Section};
use super::{Sources, read_text};

/// Where profiles are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// Files to read, and whether one that is not there is an error.
    paths: Vec<(PathBuf, bool)>,
}

impl Files {
    /// Finds the files: the one that was given, else Amazon's two.
    pub(super) fn of(sources: &Sources) -> Self {
        let variables = &sources.variables;
        if let Some(file) = &sources.file {
            return Self {
                paths: vec![(file.clone(), true)],
            };
        }
        let home = variables.path("HOME");
        let mut paths = Vec::new();
        for (variable, name) in [
            ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
            ("AWS_CONFIG_FILE", ".aws/config"),
        ] {
            match (variables.path(variable), &home) {
                (Some(path), _) => paths.push((path, true)),
                (None, Some(home)) => paths.push((home.join(name), false)),
                (None, None) => {}
            }
        }
        Self { paths }
    }

    /// Returns the files' names, for messages.
    pub(super) fn shown(&self) -> String {
        let names: Vec<_> = self
            .paths
            .iter()
            .map(|(path, _)| path.display().to_string())
            .collect();
        if names.is_empty() {
            "no file".into()
        } else {
            names.join(", ")
        }
    }

    /// Reads all profiles.
    pub(super) fn read(&self) -> Result<Profiles, String> {
        let mut profiles = Profiles::default();
        for (path, needed) in &self.paths {
            if !needed && !path.exists() {
                continue;
            }
            profiles.add(&read_text(path)?);
        }
        Ok(profiles)
    }
}

/// What files say, by the names of profiles.
#[derive(Debug, Default)]
pub(super) struct Profiles(BTreeMap<String, Section>);

impl Profiles {
    /// Adds a file; what is there already stays.
    fn add(&mut self, text: &str) {
        for (name, section) in ini::sections(text) {
            let name = name
                .strip_prefix("profile ")
                .map(str::trim)
                .unwrap_or(&name);
            let known = self.0.entry(name.to_owned()).or_default();
            for (key, value) in section {
                known.entry(key).or_insert(value);
            }
        }
    }

    /// Returns a profile.
    pub(super) fn get(&self, name: &str) -> Option<&Section> {
        self.0.get(name)
    }

    /// Returns the names, for messages.
    pub(super) fn names(&self) -> String {
        let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
        names.join(", ")
    }
}

/// What a profile says about its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// They are in the file.
    Keys,
    /// A role is assumed with the keys of another profile.
    RoleOf(String),
    /// A role is assumed with the keys that something else has: `Environment`, ...
    RoleFrom(String),
    /// A role is assumed with a token that a file has.
    Token(PathBuf),
    /// A program gives them.
    Program(String),
    /// Nothing that gives keys.
    None,
}

/// Finds out how a profile gets its keys, in the order of Amazon's programs.
pub(super) fn way(profile: &Section) -> Result<Way, String> {
    let value = |key| ini::value(profile, key);
    if value("role_arn").is_some() {
        if let Some(file) = value("web_identity_token_file") {
            return Ok(Way::Token(Path::new(file).to_owned()));
        }
        if let Some(source) = value("source_profile") {
            return Ok(Way::RoleOf(source.to_owned()));
        }
        if let Some(source) = value("credential_source") {
            return Ok(Way::RoleFrom(source.to_owned()));
        }
        let missing = "role_arn needs source_profile, credential_source or web_identity_token_file";
        return Err(missing.into());
    }
    match (value("aws_access_key_id"), value("aws_secret_access_key")) {
        (Some(_), Some(_)) => return Ok(Way::Keys),
        (Some(_), None) => return Err("aws_access_key_id without aws_secret_access_key".into()),
        (None, Some(_)) => return Err("aws_secret_access_key without aws_access_key_id".into()),
        (None, None) => {}
    }
    if let Some(program) = value("credential_process") {
        return Ok(Way::Program(program.to_owned()));
    }
    if value("sso_session").is_some() || value("sso_start_url").is_some() {
        let text = "sign-in by SSO needs a browser and is not supported; use credential_process \
                    with `aws configure export-credentials --format process`";
        return Err(text.into());
    }
    Ok(Way::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::object::credentials::ini::value;

    fn profiles(texts: &[&str]) -> Profiles {
        let mut profiles = Profiles::default();
        texts.iter().for_each(|text| profiles.add(text));
        profiles
    }

    #[test]
    fn both_files_make_one_profile_and_the_credentials_file_wins() {
        let known = profiles(&[
            "[p]\naws_access_key_id = A\naws_secret_access_key = S\n",
            "[profile p]\nregion = eu\naws_access_key_id = B\n[default]\nregion = us\n",
        ]);
        let profile = known.get("p").unwrap();
        assert_eq!(value(profile, "aws_access_key_id"), Some("A"));
        assert_eq!(value(profile, "region"), Some("eu"));
        assert_eq!(known.names(), "default, p");
    }

    #[test]
    fn the_way_to_keys_is_found_or_what_is_missing() {
        let of = |text: &str| {
            let known = profiles(&[&format!("[p]\n{text}")]);
            way(known.get("p").unwrap())
        };
        let keys = "aws_access_key_id=A\naws_secret_access_key=S\n";
        assert_eq!(of(keys), Ok(Way::Keys));
        let role = format!("{keys}role_arn=R\n");
        assert!(of(&role).unwrap_err().contains("source_profile"));
        let source = format!("{role}source_profile=q\n");
        assert_eq!(of(&source), Ok(Way::RoleOf("q".into())));
        let token = format!("{source}web_identity_token_file=/t\n");
        assert_eq!(of(&token), Ok(Way::Token("/t".into())));
        assert_eq!(of("credential_process=x y"), Ok(Way::Program("x y".into())));
        assert!(of("sso_session=s").unwrap_err().contains("not supported"));
        assert!(of("aws_access_key_id=A").is_err());
        assert_eq!(of("region=eu"), Ok(Way::None));
    }
}
