//! How Go writes bytes and durations into JSON: base64 text, and integer nanoseconds.
//!
//! For serde's `with`. Memory: the text. Invariant: negative durations are errors, no duration in a
//! repository can be one. Mirrors Go's `encoding/json`.

use std::time::Duration;

/// Returns whether Go's `omitempty` leaves the duration out.
pub(crate) fn is_zero(duration: &Duration) -> bool {
    duration.is_zero()
}

/// A duration as nanoseconds; Go's reach to 292 years.
pub(crate) mod nanos {
    use super::Duration;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(super::as_nanos(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let nanos = i64::deserialize(deserializer)?;
        let nanos = u64::try_from(nanos).map_err(|_| D::Error::custom("negative duration"))?;
        Ok(Duration::from_nanos(nanos))
    }
}

/// Returns the duration in Go's unit; longer ones than Go has saturate.
pub(crate) fn as_nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Bytes as base64 text.
pub(crate) mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use zeroize::Zeroizing;

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        // The error must not show the text: it may be a key.
        STANDARD
            .decode(text.as_bytes())
            .map_err(|_| D::Error::custom("not base64"))
    }
}
