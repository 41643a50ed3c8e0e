//! Object locks: retention on S3, immutability on Azure.
//!
//! S3 takes the lock with the put; Azure's is set just behind it, because a put whose lock headers
//! are not understood would pretend. A store that cannot lock is `Unsupported`, so that maintenance
//! stops instead of writing what ransomware could delete. A locked blob is deleted so that its
//! locked version stays: S3 does that by itself, Azure has to be told. Mirrors Kopia's `PutBlob`,
//! `DeleteBlob` and `ExtendBlobRetention` of `repo/blob/s3` and `azure`.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimePrinter;
use md5::{Digest, Md5};
use reqwest::Method;

use super::answer::{Call, Refusal};
use super::bucket::{Ask, Condition, Provider};
use super::listing::text_of;
use super::upload::base64_of;
use super::wire::{Answer, Kind};
use super::{ObjectStore, moment};
use crate::blob::{BlobError, Retention};
use crate::clock::{Clock, SystemClock, Timestamp};

/// How long the version that covers a locked one could not be deleted, if we ended before that.
const COVER_TIME: Duration = Duration::from_secs(60);

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

    /// Deletes a blob in Azure whose current version is locked, by Kopia's steps: an empty version
    /// is put over it, unlocked again and deleted; that leaves the locked version, which nobody
    /// sees, and whose lock stays.
    pub(super) async fn delete_immutable(&self, call: Call<'_>) -> Result<(), BlobError> {
        let key = || Some(self.asker.bucket.key(call.id));
        let until = SystemClock.now().plus(COVER_TIME);
        let cover = self.asker.bucket.ask_put(call.id, 0, Condition::None, None);
        let cover = azure_policy(cover, "Unlocked", until);
        let cover = self.step(Kind::Put, call, cover).await?;
        let version = cover.header("x-ms-version-id").map(str::to_owned);
        drop(cover);
        let unlock = Ask::new(Method::DELETE, key()).query("comp", "immutabilityPolicies");
        drop(self.step(Kind::Lock, call, unlock).await?);
        let delete = Ask::new(Method::DELETE, key());
        drop(self.step(Kind::Delete, call, delete).await?);
        let Some(version) = version else {
            return Ok(());
        };
        let cover = Ask::new(Method::DELETE, key()).query("versionid", version);
        if let Err(error) = self.step(Kind::Delete, call, cover).await {
            // An empty version that nobody sees.
            tracing::debug!(%error, "the cover stays");
        }
        Ok(())
    }

    async fn step<'a>(
        &'a self,
        kind: Kind,
        call: Call<'a>,
        ask: Ask,
    ) -> Result<Answer<'a>, BlobError> {
        let answer = self.asker.ask(kind, call, ask).await?;
        answer.map_err(|refusal| refusal.into_error(call))
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
    // S3's mode that may be ended early is Azure's that may be.
    let may_end = to.mode.eq_ignore_ascii_case("GOVERNANCE");
    let mode = if may_end { "Unlocked" } else { "Locked" };
    let ask = ask.query("comp", "immutabilityPolicies");
    azure_policy(ask.header("content-length", "0"), mode, to.until)
}

fn azure_policy(ask: Ask, mode: &str, until: Timestamp) -> Ask {
    let until = jiff::Timestamp::from_second(until.seconds()).unwrap_or_default();
    let until = DateTimePrinter::new().timestamp_to_rfc9110_string(&until);
    ask.header("x-ms-immutability-policy-mode", mode).header(
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
