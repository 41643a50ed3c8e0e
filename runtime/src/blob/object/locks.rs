//! Object locks: retention on S3, immutability on Azure.
//!
//! S3 takes the lock with the put; Azure's is set just behind it, because a put whose lock headers
//! are not understood would pretend. A store that cannot lock is `Unsupported`, so that maintenance
//! stops instead of writing what ransomware could delete. Mirrors Kopia's `PutBlob` and
//! `ExtendBlobRetention` of `repo/blob/s3` and `azure`.

use jiff::fmt::rfc2822::DateTimePrinter;
use md5::{Digest, Md5};
use reqwest::Method;

use super::answer::{Call, Refusal};
use super::bucket::{Ask, Provider};
use super::listing::text_of;
use super::upload::base64_of;
use super::wire::Kind;
use super::{ObjectStore, moment};
use crate::blob::{BlobError, Retention};
use crate::clock::Timestamp;

/// Longest answer about a lock.
const LOCK_BYTES: usize = 64 << 10;

impl ObjectStore {
    /// Adds the lock to a put, where the store takes it so.
    pub(super) fn lock_with_put(
        &self,
        call: Call<'_>,
        ask: Ask,
        retention: &Retention,
    ) -> Result<Ask, BlobError> {
        match self.asker.bucket.provider {
            Provider::S3 { .. } => Ok(ask
                .header("x-amz-object-lock-mode", retention.mode.clone())
                .header(
                    "x-amz-object-lock-retain-until-date",
                    whole_seconds(retention.until).to_string(),
                )),
            Provider::Azure { .. } => Ok(ask),
            Provider::Google { .. } => Err(unsupported(call)),
        }
    }

    /// Locks what was just put, where the put could not.
    pub(super) async fn lock_after_put(
        &self,
        call: Call<'_>,
        retention: &Retention,
    ) -> Result<(), BlobError> {
        match self.asker.bucket.provider {
            Provider::Azure { .. } => self.lock(call, retention).await,
            _ => Ok(()),
        }
    }

    /// Locks a blob that is there, if its lock ends earlier.
    pub(super) async fn lock(&self, call: Call<'_>, to: &Retention) -> Result<(), BlobError> {
        let key = Some(self.asker.bucket.key(call.id));
        let ask = match self.asker.bucket.provider {
            Provider::S3 { .. } => s3_lock(Ask::new(Method::PUT, key), to),
            Provider::Azure { .. } => azure_lock(Ask::new(Method::PUT, key), to),
            Provider::Google { .. } => return Err(unsupported(call)),
        };
        match self.asker.ask(Kind::Lock, call, ask).await? {
            Ok(_) => Ok(()),
            // A lock is never shortened, which the store says in this way.
            Err(refusal) if refusal.status == 403 && self.is_locked(call, to).await? => Ok(()),
            Err(refusal) => Err(self.lock_refusal(call, refusal, true)),
        }
    }

    /// Tells whether the blob is locked at least as long.
    async fn is_locked(&self, call: Call<'_>, to: &Retention) -> Result<bool, BlobError> {
        if !matches!(self.asker.bucket.provider, Provider::S3 { .. }) {
            return Ok(false);
        }
        let key = Some(self.asker.bucket.key(call.id));
        let ask = Ask::new(Method::GET, key).query("retention", "");
        let Ok(answer) = self.asker.ask(Kind::Lock, call, ask).await? else {
            return Ok(false);
        };
        let text = answer.text(LOCK_BYTES).await?;
        let until = text_of(&text, "RetainUntilDate");
        let until = until.as_deref().and_then(moment);
        Ok(until.is_some_and(|until| until >= whole_seconds(to.until)))
    }

    /// Returns what a refusal means where a lock was asked for.
    pub(super) fn lock_refusal(
        &self,
        call: Call<'_>,
        refusal: Refusal,
        has_lock: bool,
    ) -> BlobError {
        if has_lock && refusal.is_unknown_lock() {
            return unsupported(call);
        }
        refusal.into_error(call)
    }
}

fn s3_lock(ask: Ask, to: &Retention) -> Ask {
    let until = whole_seconds(to.until);
    let body = format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{}</Mode>\
         <RetainUntilDate>{until}</RetainUntilDate></Retention>",
        to.mode
    );
    let md5 = base64_of(&Md5::digest(&body));
    let mut ask = ask.query("retention", "").header("content-md5", md5);
    ask.body = Some(body);
    ask
}

fn azure_lock(ask: Ask, to: &Retention) -> Ask {
    let until = jiff::Timestamp::from_second(to.until.seconds()).unwrap_or_default();
    let until = DateTimePrinter::new().timestamp_to_rfc9110_string(&until);
    let is_locked = to.mode.eq_ignore_ascii_case("Locked");
    let mode = if is_locked { "Locked" } else { "Unlocked" };
    ask.query("comp", "immutabilityPolicies")
        .header("content-length", "0")
        .header("x-ms-immutability-policy-mode", mode)
        .header(
            "x-ms-immutability-policy-until-date",
            until.unwrap_or_default(),
        )
}

/// Stores know whole seconds; a lock never ends earlier than it was asked for.
fn whole_seconds(until: Timestamp) -> Timestamp {
    let down = Timestamp::from_seconds(until.seconds());
    if down == until {
        down
    } else {
        Timestamp::from_seconds(until.seconds().saturating_add(1))
    }
}

fn unsupported(call: Call<'_>) -> BlobError {
    BlobError::Unsupported {
        operation: call.operation,
        id: call.id.to_owned(),
        what: "object locks",
    }
}
