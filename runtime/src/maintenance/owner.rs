//! Who maintains the repository, and whether that is us.
//!
//! Kopia has no distributed lock: the owner recorded in the `maintenance` manifest is what keeps
//! two maintainers apart. We act as somebody only when told to, or when the recorded owner is
//! Velero's `default@default` or the user and host that run us. Mirrors `RunExclusive` of Kopia's
//! `repo/maintenance/maintenance_run.go`.

use super::MaintenanceError;

/// Velero's identity, the same in all clusters.
const VELERO_OWNER: &str = "default@default";

/// Who we act as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The user said so: `--owner USER@HOST`, or Kopia's own configuration file.
    Explicit(String),
    /// Nobody said: the user and host that run us.
    Default {
        /// Name of the user.
        user: String,
        /// Name of the host.
        host: String,
    },
}

impl Identity {
    /// Checks that `recorded`, the owner in the repository, is who we act as. Returns the name.
    pub fn check(&self, recorded: &str) -> Result<String, MaintenanceError> {
        if recorded.is_empty() {
            return Err(MaintenanceError::EmptyOwner);
        }
        let (ours, is_owner) = match self {
            Self::Explicit(name) => (name.clone(), name == recorded),
            Self::Default { user, host } => {
                let name = format!("{user}@{host}");
                let is_owner = recorded == VELERO_OWNER || recorded == name;
                (name, is_owner)
            }
        };
        if is_owner {
            Ok(recorded.to_owned())
        } else {
            Err(MaintenanceError::NotOwner {
                recorded: recorded.to_owned(),
                ours,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_act_as_who_we_are_told_or_as_velero() {
        let default = Identity::Default {
            user: "root".into(),
            host: "node-1".into(),
        };
        assert_eq!(default.check("default@default").unwrap(), "default@default");
        assert_eq!(default.check("root@node-1").unwrap(), "root@node-1");
        assert_eq!(
            default.check("root@node-2").unwrap_err().code(),
            "not-owner"
        );
        assert_eq!(default.check("").unwrap_err().code(), "empty-owner");
        let told = Identity::Explicit("admin@laptop".into());
        assert_eq!(told.check("admin@laptop").unwrap(), "admin@laptop");
        assert_eq!(
            told.check("default@default").unwrap_err().code(),
            "not-owner"
        );
        assert_eq!(told.check("").unwrap_err().code(), "empty-owner");
    }
}
