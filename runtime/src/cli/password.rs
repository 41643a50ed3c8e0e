//! The repository's password: from a file, from the environment, or from where Kopia keeps it.
//!
//! Never from an argument, which every process of the machine could read, and never printed. In
//! Kopia's order a given password comes before the one that Kopia stored. Mirrors Kopia's
//! `cli/password.go` and `internal/passwordpersist`. Memory: the file, at most
//! [`PASSWORD_BYTES_MAX`].

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;

use super::error::CliError;
use super::kopia_config::read_bounded;

/// Longest password, and a bound for a wrong file.
pub(super) const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// Where a password may come from; the first that is there is taken.
#[derive(Clone, Debug, Default)]
pub(super) struct PasswordSources {
    /// `--password-file`.
    pub(super) file: Option<PathBuf>,
    /// `KOPIA_PASSWORD`.
    pub(super) environment: Option<OsString>,
    /// `--config`, for Kopia's password file beside it.
    pub(super) config: Option<PathBuf>,
}

impl PasswordSources {
    /// Returns the password.
    pub(super) fn password(&self) -> Result<Vec<u8>, CliError> {
        if let Some(file) = &self.file {
            let bytes = read_bounded(file, PASSWORD_BYTES_MAX).map_err(|e| wrong(file, e))?;
            let password = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let password = password.strip_suffix(b"\r").unwrap_or(password);
            if password.is_empty() {
                return Err(wrong(file, "is empty"));
            }
            return Ok(password.to_vec());
        }
        if let Some(text) = &self.environment {
            let trimmed = text.as_bytes().trim_ascii();
            if !trimmed.is_empty() {
                return Ok(trimmed.to_vec());
            }
        }
        match &self.config {
            Some(config) => persisted(config),
            None => Err(CliError::NoPassword),
        }
    }
}

/// Reads the password that Kopia stored beside its config file, in base64.
fn persisted(config: &Path) -> Result<Vec<u8>, CliError> {
    let mut name = config.as_os_str().to_owned();
    name.push(".kopia-password");
    let file = PathBuf::from(name);
    let bytes = match read_bounded(&file, PASSWORD_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(CliError::NoPassword);
        }
        Err(error) => return Err(wrong(&file, error)),
    };
    // Go's decoder skips line ends, so an edited file works in Kopia too.
    let text: Vec<u8> = bytes.into_iter().filter(|b| !b"\r\n".contains(b)).collect();
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .map_err(|_| wrong(&file, "is not base64"))
}

fn wrong(file: &Path, reason: impl ToString) -> CliError {
    CliError::PasswordFile {
        path: file.into(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (directory, path)
    }

    #[test]
    fn a_file_loses_its_last_newline_only() {
        for (bytes, password) in [
            (&b"secret\n"[..], &b"secret"[..]),
            (b"secret\r\n", b"secret"),
            (b" secret ", b" secret "),
            (b"two\n\n", b"two\n"),
        ] {
            let (_directory, file) = written("password", bytes);
            let sources = PasswordSources {
                file: Some(file),
                ..Default::default()
            };
            assert_eq!(sources.password().unwrap(), password);
        }
    }

    #[test]
    fn the_file_wins_over_the_environment_and_that_over_kopias_file() {
        let (_directory, stored) = written("r.config.kopia-password", b"c3RvcmVk\n");
        let config = Some(stored.with_file_name("r.config"));
        let mut sources = PasswordSources {
            config,
            ..Default::default()
        };
        assert_eq!(sources.password().unwrap(), b"stored");
        sources.environment = Some("  \n".into());
        assert_eq!(sources.password().unwrap(), b"stored");
        sources.environment = Some(" from-environment\n".into());
        assert_eq!(sources.password().unwrap(), b"from-environment");
        let (_directory, file) = written("password", b"from-file");
        sources.file = Some(file);
        assert_eq!(sources.password().unwrap(), b"from-file");
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let none = PasswordSources::default().password().unwrap_err();
        assert_eq!(none.code(), "no-password");
        let config = Some(PathBuf::from("/nonexistent/r.config"));
        let sources = PasswordSources {
            config,
            ..Default::default()
        };
        assert_eq!(sources.password().unwrap_err().code(), "no-password");
        for bytes in [&b""[..], b"\n"] {
            let (_directory, file) = written("password", bytes);
            let sources = PasswordSources {
                file: Some(file),
                ..Default::default()
            };
            assert_eq!(sources.password().unwrap_err().code(), "password-file");
        }
        let (_directory, stored) = written("r.config.kopia-password", b"not base64!");
        let config = Some(stored.with_file_name("r.config"));
        let sources = PasswordSources {
            config,
            ..Default::default()
        };
        assert_eq!(sources.password().unwrap_err().code(), "password-file");
    }
}
