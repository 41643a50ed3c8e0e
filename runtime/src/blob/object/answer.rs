//! What an answer of the store means.
//!
//! Stores say the same thing in different words: a status, a code in a header or in XML. Here they
//! become errors of the floor, so that one rule decides what is tried again. Only the code and the
//! message of an answer are told on, never what it says of keys or signatures. Memory: the first
//! [`EXCERPT_BYTES`] of an answer that is no success.

use super::listing::text_of;
use crate::blob::BlobError;
use crate::kopia::blob_id::BlobId;

/// What is read of an answer that is no success: more than code and message ever take.
pub(super) const EXCERPT_BYTES: usize = 8 << 10;

/// Longest message that is told on, in characters.
const MESSAGE_CHARS: usize = 300;

/// What is asked for, in errors and counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    /// Get, put, list, ...
    pub(super) operation: &'static str,
    /// The blob or prefix.
    pub(super) id: &'a str,
    /// Whether `id` names a blob.
    pub(super) is_blob: bool,
}

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// Where the store says that the bucket is.
    pub(super) region: Option<String>,
    /// Whether there are other keys by now than those that were refused.
    pub(super) has_new_keys: bool,
    code: String,
    message: String,
}

impl Refusal {
    /// Reads a refusal from what the store sent.
    pub(super) fn new(status: u16, header_code: Option<&str>, body: &str) -> Self {
        let code = header_code.map(str::to_owned);
        let message = text_of(body, "Message").unwrap_or_default();
        // Azure adds lines with the number and the time of the request.
        let message = message.trim().lines().next().unwrap_or_default();
        Self {
            status,
            region: text_of(body, "Region"),
            has_new_keys: false,
            code: code.or_else(|| text_of(body, "Code")).unwrap_or_default(),
            message: message.chars().take(MESSAGE_CHARS).collect(),
        }
    }

    /// Tells whether the store asks for fewer requests.
    pub(super) fn is_throttling(&self) -> bool {
        const CODES: [&str; 5] = [
            "SlowDown",
            "ServerBusy",
            "RequestLimitExceeded",
            "Throttling",
            "TooManyRequests",
        ];
        matches!(self.status, 429 | 503) || CODES.contains(&self.code.as_str())
    }

    /// Tells whether the store does not know the keys, or does not believe them any more.
    pub(super) fn is_about_keys(&self) -> bool {
        const CODES: [&str; 15] = [
            "ExpiredToken",
            "TokenRefreshRequired",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "InvalidSecurity",
            "NotSignedUp",
            "RequestTimeTooSkewed",
            "UnauthorizedAccess",
            "CredentialsNotSupported",
            "AuthorizationHeaderMalformed",
            "AuthorizationQueryParametersError",
            // Azure's, and what Azurite says for it.
            "AuthenticationFailed",
            "InvalidAuthenticationInfo",
            "AuthorizationFailure",
        ];
        self.status == 401 || (self.status < 500 && CODES.contains(&self.code.as_str()))
    }

    /// Tells whether the store, or this bucket, has no object locks at all.
    pub(super) fn is_unknown_lock(&self) -> bool {
        const CODES: [&str; 5] = [
            "NotImplemented",
            // What S3 says of a put with a lock into a bucket without.
            "InvalidRequest",
            "InvalidBucketState",
            "ObjectLockConfigurationNotFoundError",
            "FeatureNotYetSupportedForHierarchicalNamespaceAccounts",
        ];
        let message = self.message.to_lowercase().replace(' ', "");
        let of_locks = message.contains("objectlock") || message.contains("immutab");
        matches!(self.status, 405 | 501)
            || CODES.contains(&self.code.as_str())
            || (self.status == 400 && of_locks)
    }

    /// Tells whether a blob cannot go because it is locked, as Azure says it.
    pub(super) fn is_immutable(&self) -> bool {
        self.code == "BlobImmutableDueToPolicy"
    }

    /// Returns what it means to the caller.
    pub(super) fn into_error(self, call: Call<'_>) -> BlobError {
        let (operation, id) = (call.operation, call.id.to_owned());
        let code = self.code.as_str();
        let reason = self.reason();
        match (self.status, code) {
            (_, "ExpiredToken" | "TokenRefreshRequired") => BlobError::KeysEnded {
                operation,
                id,
                reason,
                has_new_keys: self.has_new_keys,
            },
            (_, "RequestTimeout")
            | (408 | 425 | 429 | 500 | 502 | 503 | 504, _)
            | (409, "ConditionalRequestConflict" | "OperationAborted") => BlobError::Transient {
                operation,
                id,
                reason,
            },
            _ if self.is_throttling() => BlobError::Transient {
                operation,
                id,
                reason,
            },
            (412 | 304, _) | (409, "BlobAlreadyExists") if call.is_blob => {
                BlobError::AlreadyExists {
                    id: BlobId::new(id),
                }
            }
            (404, "NoSuchBucket" | "ContainerNotFound") => BlobError::Refused {
                operation,
                id,
                reason,
            },
            (404, _) if call.is_blob => BlobError::NotFound {
                id: BlobId::new(id),
            },
            // The answer to a HEAD has no code.
            (403, "" | "AccessDenied" | "AuthorizationPermissionMismatch") => {
                BlobError::Permission { operation, id }
            }
            _ if self.is_about_keys() && self.has_new_keys => BlobError::KeysEnded {
                operation,
                id,
                reason,
                has_new_keys: self.has_new_keys,
            },
            _ if self.is_about_keys() => BlobError::Unauthenticated {
                operation,
                id,
                reason,
            },
            _ => BlobError::Refused {
                operation,
                id,
                reason,
            },
        }
    }

    fn reason(&self) -> String {
        let mut reason = format!("HTTP {}", self.status);
        for part in [&self.code, &self.message] {
            if !part.is_empty() {
                reason += ", ";
                reason += part;
            }
        }
        if let Some(region) = &self.region {
            reason += &format!("; the bucket is in region {region}");
        }
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_become_errors_of_the_floor() {
        let call = Call {
            operation: "get",
            id: "p1",
            is_blob: true,
        };
        for (status, code, expected) in [
            (404, "NoSuchKey", "blob-not-found"),
            (404, "", "blob-not-found"),
            (404, "BlobNotFound", "blob-not-found"),
            (404, "NoSuchBucket", "storage-refused"),
            (404, "ContainerNotFound", "storage-refused"),
            (412, "PreconditionFailed", "blob-already-exists"),
            (409, "BlobAlreadyExists", "blob-already-exists"),
            (409, "ConditionalRequestConflict", "storage-transient"),
            (403, "AccessDenied", "storage-permission"),
            (403, "", "storage-permission"),
            (403, "SignatureDoesNotMatch", "storage-credentials"),
            (403, "InvalidAccessKeyId", "storage-credentials"),
            (401, "", "storage-credentials"),
            (400, "ExpiredToken", "keys-ended"),
            (403, "ExpiredToken", "keys-ended"),
            (400, "AuthorizationHeaderMalformed", "storage-credentials"),
            (403, "KMS.DisabledException", "storage-refused"),
            (403, "AllAccessDisabled", "storage-refused"),
            (400, "InvalidArgument", "storage-refused"),
            (429, "", "storage-transient"),
            (500, "InternalError", "storage-transient"),
            (503, "SlowDown", "storage-transient"),
            (301, "PermanentRedirect", "storage-refused"),
        ] {
            let body = format!("<Error><Code>{code}</Code><Message>m</Message></Error>");
            let error = Refusal::new(status, None, &body).into_error(call);
            assert_eq!(error.code(), expected, "{status} {code}");
        }
    }

    #[test]
    fn refused_keys_are_tried_again_only_where_there_are_others() {
        let call = Call {
            operation: "get",
            id: "p1",
            is_blob: true,
        };
        for (status, code, expected) in [
            (401, "InvalidAuthenticationInfo", "keys-ended"),
            (401, "", "keys-ended"),
            (403, "InvalidAccessKeyId", "keys-ended"),
            (403, "AccessDenied", "storage-permission"),
            (403, "AllAccessDisabled", "storage-refused"),
        ] {
            let mut refusal = Refusal::new(status, Some(code), "");
            refusal.has_new_keys = true;
            let error = refusal.into_error(call);
            assert_eq!(error.code(), expected, "{status} {code}");
            assert_eq!(error.is_transient(), expected == "keys-ended");
        }
    }

    #[test]
    fn nothing_but_code_message_and_region_is_told_on() {
        let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong region</Message>\
                    <AWSAccessKeyId>AKIASECRET</AWSAccessKeyId><Region>eu-west-1</Region>\
                    <StringToSign>secret</StringToSign></Error>";
        let call = Call {
            operation: "list",
            id: "p*",
            is_blob: false,
        };
        let told = Refusal::new(400, None, body).into_error(call).to_string();
        assert!(told.contains("wrong region") && told.contains("eu-west-1"));
        assert!(!told.to_lowercase().contains("secret"), "{told}");
        let body = "<Error><Code>C</Code><Message>first\nRequestId:1\nTime:2</Message></Error>";
        let told = Refusal::new(403, None, body).into_error(call).to_string();
        assert!(told.ends_with("HTTP 403, C, first"), "{told}");
        assert!(Refusal::new(503, None, "").is_throttling());
        assert!(Refusal::new(400, Some("ServerBusy"), "").is_throttling());
        assert!(!Refusal::new(500, None, "").is_throttling());
    }
}
