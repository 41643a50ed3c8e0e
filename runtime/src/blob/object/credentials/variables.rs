//! The environment variables that keys and places may come from: the one list of them.
//!
//! The command line reads them once; here they are values, so that suites can give others. `Debug`
//! shows the names only, since some of the values are secrets. Memory: the values.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::Secret;

/// Every variable that is read.
pub const VARIABLES: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_CA_BUNDLE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_DOMAIN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_CREDENTIALS_FILE",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_CLOUD_NAME",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GCE_METADATA_HOST",
    "STORAGE_EMULATOR_HOST",
    "CLOUDSDK_CONFIG",
    "HOME",
];

/// Values of variables; one that is empty counts as not there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, Secret>);

impl Variables {
    /// Asks `value` for every variable of [`VARIABLES`].
    pub fn read(value: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &&str| Some(((*name).to_owned(), Secret::new(value(name)?)));
        Self(VARIABLES.iter().filter_map(read).collect())
    }

    /// Makes them of pairs.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs = pairs.into_iter();
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect(),
        )
    }

    /// Returns the value of `name`, `None` where it is empty or not there.
    pub fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(
            VARIABLES.contains(&name) || cfg!(test),
            "{name} is in the list"
        );
        let value = self.0.get(name)?.reveal();
        (!value.is_empty()).then_some(value)
    }

    /// Returns the value of `name` as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// Returns the first of `names` that is there.
    pub fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_not_shown_and_empty_ones_are_none() {
        let variables = Variables::of([("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_PROFILE", "")]);
        assert_eq!(variables.get("AWS_SECRET_ACCESS_KEY"), Some("hunter2"));
        assert_eq!(variables.get("AWS_PROFILE"), None);
        assert_eq!(variables.get("AWS_REGION"), None);
        assert!(!format!("{variables:?}").contains("hunter2"));
        let read = Variables::read(|name| (name == "HOME").then(|| "/root".into()));
        assert_eq!(read.path("HOME"), Some("/root".into()));
    }
}
