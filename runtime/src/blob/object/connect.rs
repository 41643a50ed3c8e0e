//! The keys that requests to a place are signed with, whatever kind of store it is.
//!
//! Who signs asks for them at each request, so they may be renewed in the middle of a run. No
//! memory cost.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::aws::AwsCredential;
use object_store::azure::AzureCredential;
use object_store::gcp::GcpCredential;
use object_store::{CredentialProvider, StaticCredentialProvider};

use crate::blob::BlobError;

/// Somebody who gives keys, and others when they are refused.
#[async_trait]
pub trait Keys<C>: CredentialProvider<Credential = C> {
    /// Looks for other keys than those that were refused; tells whether there are any.
    async fn renew(&self) -> bool;
}

/// Keys that are as they are.
#[async_trait]
impl<C: fmt::Debug + Send + Sync> Keys<C> for StaticCredentialProvider<C> {
    async fn renew(&self) -> bool {
        false
    }
}

/// The keys of a place. They refresh themselves; `Debug` shows none of them.
#[derive(Clone)]
pub enum Credentials {
    /// None: requests are not signed.
    Anonymous,
    /// Amazon's.
    Aws(Arc<dyn Keys<AwsCredential>>),
    /// Google's.
    Google(Arc<dyn Keys<GcpCredential>>),
    /// Microsoft's.
    Azure(Arc<dyn Keys<AzureCredential>>),
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

    /// Looks for other keys than those that the store refused; tells whether there are any.
    pub(super) async fn renew(&self) -> bool {
        match self {
            Self::Anonymous => false,
            Self::Aws(keys) => keys.renew().await,
            Self::Google(keys) => keys.renew().await,
            Self::Azure(keys) => keys.renew().await,
        }
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
