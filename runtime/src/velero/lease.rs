//! One maintainer of a repository in a cluster: a Lease of `coordination.k8s.io`.
//!
//! Besides Kopia's own schedule in the repository, which also holds between clusters, this keeps
//! two Jobs from starting on the same repository at the same moment. It is renewed while the run
//! lives; one that is not is free after its time ([`LEASE_TIME`] unless another is given), which is
//! long enough that clocks a minute apart do no harm. A write whose answer is lost is looked for
//! before it is made again. Memory: one object.
//!
//! Mirrors client-go's `leaderelection`, without an election: who comes second goes away.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff;

use super::cluster::Cluster;
use super::discovery::label_value;
use super::error::VeleroError;
use crate::clock::Timestamp;

/// How long a lease holds without a renewal.
pub const LEASE_TIME: Duration = Duration::from_secs(120);

/// How often a lease that changes under our hands is looked at again.
const TRIES_MAX: usize = 3;

/// A lease that we hold.
#[derive(Debug)]
pub struct HeldLease {
    name: String,
    holder: String,
    object: Lease,
}

/// Returns the name of the Lease of a repository.
pub fn lease_name(repository: &str) -> String {
    format!("careen-{}", label_value(repository))
}

impl HeldLease {
    /// Takes the lease of `repository`, as `holder`, a name that no other process has; without a
    /// renewal it holds for `time`.
    ///
    /// # Errors
    /// [`VeleroError::LeaseHeld`] where another holds it.
    pub fn take(
        cluster: &Cluster,
        repository: &str,
        holder: &str,
        (now, time): (Timestamp, Duration),
    ) -> Result<Self, VeleroError> {
        let name = lease_name(repository);
        let mut tries = 0;
        loop {
            tries += 1;
            match cluster.persist(|| try_to_take(cluster, &name, holder, (now, time))) {
                // Somebody was faster, and has a name.
                Err(VeleroError::Conflict { .. }) if tries < TRIES_MAX => {}
                Err(error) => return Err(error),
                Ok(object) => {
                    let holder = holder.to_owned();
                    return Ok(Self {
                        name,
                        holder,
                        object,
                    });
                }
            }
        }
    }

    /// Renews it.
    ///
    /// # Errors
    /// [`VeleroError::LeaseHeld`] where it is not ours any more; the API's, then it still holds for
    /// what is left of its time.
    pub fn renew(&mut self, cluster: &Cluster, now: Timestamp) -> Result<(), VeleroError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut object = self.object.clone();
            if let Some(spec) = &mut object.spec {
                spec.renew_time = Some(micro_time(now));
            }
            match cluster.replace(&self.name, &object) {
                Ok(object) => {
                    self.object = object;
                    return Ok(());
                }
                Err(VeleroError::Conflict { .. } | VeleroError::NotFound { .. })
                    if tries < TRIES_MAX =>
                {
                    self.look_again(cluster, now)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Somebody changed the object, or our own last answer was lost: that is fine while we are
    /// named in it.
    fn look_again(&mut self, cluster: &Cluster, now: Timestamp) -> Result<(), VeleroError> {
        let lost = |holder: &str, until| VeleroError::LeaseHeld {
            lease: self.name.clone(),
            holder: holder.to_owned(),
            until,
        };
        let Some(lease) = cluster.get::<Lease>(&self.name)? else {
            return Err(lost("nobody: it was deleted", now));
        };
        let spec = lease.spec.as_ref();
        match spec.and_then(|spec| spec.holder_identity.as_deref()) {
            Some(holder) if holder == self.holder => {
                self.object = lease;
                Ok(())
            }
            None | Some("") => Err(lost("nobody: somebody gave it back", now)),
            Some(other) => {
                let until = holder_of(&lease, now).map_or(now, |(_, until)| until);
                Err(lost(other, until))
            }
        }
    }

    /// Gives it back, so that the next run need not wait. What goes wrong is left to time.
    pub fn release(mut self, cluster: &Cluster, now: Timestamp) {
        let released = cluster.persist(|| {
            let mut object = self.object.clone();
            if let Some(spec) = &mut object.spec {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
            }
            match cluster.replace(&self.name, &object) {
                Ok(_) => Ok(()),
                Err(error @ VeleroError::Conflict { .. }) => {
                    self.look_again(cluster, now)?;
                    // Once more, as soon as patience allows.
                    Err(error.passing())
                }
                Err(error) => Err(error),
            }
        });
        match released {
            Ok(()) | Err(VeleroError::LeaseHeld { .. } | VeleroError::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(lease = self.name, %error, "not released; it ends by itself");
            }
        }
    }
}

fn try_to_take(
    cluster: &Cluster,
    name: &str,
    holder: &str,
    (now, time): (Timestamp, Duration),
) -> Result<Lease, VeleroError> {
    let found = cluster.get::<Lease>(name)?;
    if let Some((other, until)) = found.as_ref().and_then(|lease| holder_of(lease, now))
        && other != holder
    {
        return Err(VeleroError::LeaseHeld {
            lease: name.to_owned(),
            holder: other,
            until,
        });
    }
    let transitions = match &found {
        Some(lease) => lease.spec.as_ref().and_then(|spec| spec.lease_transitions),
        None => None,
    };
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(time.as_secs() as i32),
        acquire_time: Some(micro_time(now)),
        renew_time: Some(micro_time(now)),
        lease_transitions: Some(transitions.map_or(0, |count| count.saturating_add(1))),
        ..LeaseSpec::default()
    };
    match found {
        Some(lease) => {
            let metadata = lease.metadata;
            let spec = Some(spec);
            cluster.replace(name, &Lease { metadata, spec })
        }
        None => {
            let metadata = ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            };
            let spec = Some(spec);
            cluster.create(name, &Lease { metadata, spec })
        }
    }
}

/// Returns who maintains `repository` at `now`, by its lease, and until when at least.
pub fn maintainer(
    cluster: &Cluster,
    repository: &str,
    now: Timestamp,
) -> Result<Option<(String, Timestamp)>, VeleroError> {
    let lease = cluster.get::<Lease>(&lease_name(repository))?;
    Ok(lease.and_then(|lease| holder_of(&lease, now)))
}

/// Returns who holds a lease at `now`, and until when.
fn holder_of(lease: &Lease, now: Timestamp) -> Option<(String, Timestamp)> {
    let spec = lease.spec.as_ref()?;
    let holder = spec
        .holder_identity
        .clone()
        .filter(|name| !name.is_empty())?;
    let seconds = u64::try_from(spec.lease_duration_seconds?).ok()?;
    let renewed = spec.renew_time.as_ref()?.0.as_microsecond();
    let renewed = Timestamp::from_nanos(renewed.saturating_mul(1000));
    let until = renewed.plus(Duration::from_secs(seconds));
    (until > now).then_some((holder, until))
}

fn micro_time(time: Timestamp) -> MicroTime {
    let micros = time.nanos().div_euclid(1000);
    MicroTime(jiff::Timestamp::from_microsecond(micros).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_for_its_time() {
        let at = |seconds: i64| Timestamp::from_seconds(1_800_000_000 + seconds);
        let lease = |holder: &str| Lease {
            metadata: ObjectMeta::default(),
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(120),
                renew_time: Some(micro_time(at(0))),
                ..LeaseSpec::default()
            }),
        };
        assert_eq!(
            holder_of(&lease("pod-1"), at(119)),
            Some(("pod-1".to_owned(), at(120)))
        );
        assert_eq!(holder_of(&lease("pod-1"), at(120)), None);
        assert_eq!(holder_of(&lease(""), at(0)), None);
        assert_eq!(holder_of(&Lease::default(), at(0)), None);
    }

    #[test]
    fn names_fit() {
        assert_eq!(
            lease_name("shop-default-kopia-x"),
            "careen-shop-default-kopia-x"
        );
        assert!(lease_name(&"a".repeat(253)).len() < 70);
    }
}
