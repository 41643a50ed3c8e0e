//! Who this user is, as Kopia names users: `user@host`.
//!
//! Mirrors Kopia's `repo/userhost.go`: the name of the user ID, and the host's name in lower case
//! up to its first dot. Memory: `/etc/passwd`, at most [`PASSWD_BYTES_MAX`].

use std::path::Path;

use super::kopia_config::read_bounded;

/// Largest user list that is searched.
pub(super) const PASSWD_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Returns this user's name; `nobody` where there is none, as in Kopia.
pub(super) fn user() -> String {
    let id = rustix::process::getuid().as_raw();
    let listed = read_bounded(Path::new("/etc/passwd"), PASSWD_BYTES_MAX)
        .ok()
        .and_then(|bytes| user_in(&String::from_utf8_lossy(&bytes), id));
    let named = listed.or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()));
    named.unwrap_or_else(|| "nobody".into())
}

/// Returns this host's name as Kopia shortens it.
pub(super) fn host() -> String {
    shortened(&rustix::system::uname().nodename().to_string_lossy())
}

fn user_in(passwd: &str, id: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let number = fields.nth(1)?;
        (number.parse() == Ok(id) && !name.is_empty()).then(|| name.to_owned())
    })
}

fn shortened(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kopias() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\n# x\nvelero:x:65532:65532::/:/bin/false\n";
        assert_eq!(user_in(passwd, 65532).as_deref(), Some("velero"));
        assert_eq!(user_in(passwd, 1), None);
        assert_eq!(shortened("Node-1.Example.org"), "node-1");
        assert!(!user().is_empty() && !host().is_empty());
    }
}
