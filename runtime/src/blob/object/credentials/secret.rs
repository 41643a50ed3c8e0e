//! A text that nobody is to see.
//!
//! `Debug` shows whether there is one, nothing else; there is no `Display`. Its bytes are wiped
//! when it goes. Memory: the text.

use std::fmt;

use zeroize::Zeroizing;

/// A key, a token or a password; empty for none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Keeps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// Returns the text, for the one request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Tells whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() {
            "(none)"
        } else {
            "(secret)"
        })
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::from("hunter2");
        assert_eq!(
            format!("{secret:?} {:?}", Secret::default()),
            "(secret) (none)"
        );
        assert_eq!(secret.reveal(), "hunter2");
    }
}
