//! Options of the storage: what a URL does not say.
//!
//! Secrets are no options: arguments are visible to every process of the machine. No memory cost.

use std::path::PathBuf;

use clap::Args;

use super::parse_size;

/// How an object store is reached, and with whose keys.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Options of object stores")]
pub(in crate::cli) struct StorageOptions {
    /// Server of the store: HOST, HOST:PORT or URL, for stores of your own [env for S3:
    /// AWS_ENDPOINT_URL_S3]
    #[arg(long, global = true, value_name = "HOST")]
    pub(in crate::cli) endpoint: Option<String>,
    /// Region of an S3 bucket [env: AWS_REGION; default: the profile's, else Amazon is asked]
    #[arg(long, global = true, value_name = "REGION")]
    pub(in crate::cli) region: Option<String>,
    /// S3: the bucket is in the path of requests, not in the host's name
    ///
    /// The default is Kopia's: in the host's name at Amazon, in the path everywhere else.
    #[arg(long, global = true, overrides_with = "no_path_style")]
    pub(in crate::cli) path_style: bool,
    /// S3: the bucket is in the host's name
    #[arg(long, global = true, overrides_with = "path_style")]
    pub(in crate::cli) no_path_style: bool,
    /// Azure: the storage account [env: AZURE_STORAGE_ACCOUNT]
    #[arg(long, global = true, value_name = "NAME")]
    pub(in crate::cli) storage_account: Option<String>,
    /// Storage class of what is written (Azure: access tier) [default: the bucket's]
    #[arg(long, global = true, value_name = "CLASS")]
    pub(in crate::cli) storage_class: Option<String>,
    /// File with the store's keys: Amazon's INI, Google's JSON or Velero's file for Azure
    ///
    /// Velero's secret `cloud-credentials` is such a file for each of the three.
    #[arg(long, global = true, value_name = "FILE")]
    pub(in crate::cli) credentials_file: Option<PathBuf>,
    /// S3: profile in Amazon's files, or in --credentials-file [env: AWS_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub(in crate::cli) profile: Option<String>,
    /// File with certificates (PEM) that are trusted besides the system's [env for S3:
    /// AWS_CA_BUNDLE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(in crate::cli) ca_file: Option<PathBuf>,
    /// Requests in a second, at most, every try counted; Kopia's config file may
    /// have limits of its own, which are kept too
    #[arg(long, global = true, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(in crate::cli) max_requests_per_second: Option<u32>,
    /// Bytes to read in this run, at most: 10GiB; when they are used up the run ends with exit code
    /// 20, and nothing is lost
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size)]
    pub(in crate::cli) max_download: Option<usize>,
    /// Bytes to write in this run, at most, in the same way; the schedule, some KiB, is beyond it
    #[arg(long, global = true, value_name = "SIZE", value_parser = parse_size)]
    pub(in crate::cli) max_upload: Option<usize>,
    /// Speak HTTP without TLS: everybody on the way can read and change what is sent
    #[arg(long, global = true)]
    pub(in crate::cli) insecure_plain_http: bool,
    /// Trust any certificate: whoever is on the way can pretend to be the store
    #[arg(long, global = true)]
    pub(in crate::cli) insecure_skip_tls_verify: bool,
    /// Whether somebody waits for what the store says; no option.
    #[cfg(feature = "object-stores")]
    #[arg(skip)]
    pub(in crate::cli) for_a_look: bool,
}

impl StorageOptions {
    /// Returns the path style that was asked for.
    #[cfg(feature = "object-stores")]
    pub(in crate::cli) fn path_style(&self) -> Option<bool> {
        (self.path_style || self.no_path_style).then_some(self.path_style)
    }

    /// Returns the options that are given and that a store of `kind` (`file`, `s3`, `gs`, `az`)
    /// does not have.
    pub(in crate::cli) fn foreign_to(&self, kind: &str) -> Vec<&'static str> {
        let all = ["s3", "gs", "az"].as_slice();
        let options: [(&'static str, bool, &[&str]); 14] = [
            ("--endpoint", self.endpoint.is_some(), all),
            ("--region", self.region.is_some(), &["s3"]),
            ("--path-style", self.path_style, &["s3"]),
            ("--no-path-style", self.no_path_style, &["s3"]),
            ("--storage-account", self.storage_account.is_some(), &["az"]),
            ("--storage-class", self.storage_class.is_some(), all),
            ("--credentials-file", self.credentials_file.is_some(), all),
            ("--profile", self.profile.is_some(), &["s3"]),
            ("--ca-file", self.ca_file.is_some(), all),
            (
                "--max-requests-per-second",
                self.max_requests_per_second.is_some(),
                all,
            ),
            ("--max-download", self.max_download.is_some(), all),
            ("--max-upload", self.max_upload.is_some(), all),
            ("--insecure-plain-http", self.insecure_plain_http, all),
            (
                "--insecure-skip-tls-verify",
                self.insecure_skip_tls_verify,
                all,
            ),
        ];
        let foreign = options
            .into_iter()
            .filter(|(_, given, kinds)| *given && !kinds.contains(&kind));
        foreign.map(|(name, ..)| name).collect()
    }
}
