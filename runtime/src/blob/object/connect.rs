//! The keys that requests to a place are signed with, whatever kind of store it is.
//!
//! Who signs asks for them at each request, so they may be renewed in the middle of a run. No
//! memory cost.

use std::fmt;

use object_store::aws::AwsCredentialProvider;
use object_store::azure::AzureCredentialProvider;
use object_store::gcp::GcpCredentialProvider;

use crate::blob::BlobError;

/// The keys of a place. They refresh themselves; `Debug` shows none of them.
#[derive(Clone)]
pub enum Credentials {
    /// None: requests are not signed.
    Anonymous,
    /// Amazon's.
    Aws(AwsCredentialProvider),
    /// Google's.
    Google(GcpCredentialProvider),
    /// Microsoft's.
    Azure(AzureCredentialProvider),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Aws(_) => "Aws",
            Self::Google(_) => "Google",
            Self::Azure(_) => "Azure",
        })
    }
}

impl Credentials {
    /// Asks for keys now, and tells why there are none.
    pub async fn check(&self) -> Result<(), BlobError> {
        let asked = match self {
            Self::Anonymous => Ok(()),
            Self::Aws(provider) => provider.get_credential().await.map(drop),
            Self::Google(provider) => provider.get_credential().await.map(drop),
            Self::Azure(provider) => provider.get_credential().await.map(drop),
        };
        asked.map_err(|error| BlobError::Credentials {
            location: "the storage".into(),
            reason: reason_of(&error),
        })
    }

    /// Asks for keys now. Blocks.
    pub fn check_now(&self) -> Result<(), BlobError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| BlobError::io("open", "credentials", error))?;
        runtime.block_on(self.check())
    }
}

/// Returns the reason that an issuer gave, without what the clients put around it.
pub(super) fn reason_of(error: &object_store::Error) -> String {
    if let object_store::Error::Generic { source, .. } = error
        && let Some(error) = source.downcast_ref::<BlobError>()
    {
        return match error {
            BlobError::Credentials { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
    }
    error.to_string()
}
