//! One maintainer of a repository in a cluster: a Lease of `coordination.k8s.io`.
//!
//! Besides Kopia's own schedule in the repository, which also holds between clusters, this keeps
//! two Jobs from starting on the same repository at the same moment. It is renewed while the run
//! lives; one that is not is free after [`LEASE_TIME`], which is long enough that clocks a minute
//! apart do no harm. Memory: one object.
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

/// How often it is renewed: several tries fit into its time.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(20);

/// A lease that we hold.
#[derive(Debug)]
pub struct HeldLease {
    name: String,
    holder: String,
    object: Lease,
    renewed: Timestamp,
}

/// Returns the name of the Lease of a repository.
pub fn lease_name(repository: &str) -> String {
    format!("careen-{}", label_value(repository))
}

impl HeldLease {
    /// Takes the lease of `repository`, as `holder`, a name that no other process has.
    ///
    /// # Errors
    /// [`VeleroError::LeaseHeld`] where another holds it.
    pub fn take(
        cluster: &Cluster,
        repository: &str,
        holder: &str,
        now: Timestamp,
    ) -> Result<Self, VeleroError> {
        let name = lease_name(repository);
        let found = cluster.get::<Lease>(&name)?;
        if let Some((other, until)) = found.as_ref().and_then(|lease| holder_of(lease, now))
            && other != holder
        {
            return Err(VeleroError::LeaseHeld {
                lease: name,
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
            lease_duration_seconds: Some(LEASE_TIME.as_secs() as i32),
            acquire_time: Some(micro_time(now)),
            renew_time: Some(micro_time(now)),
            lease_transitions: Some(transitions.map_or(0, |count| count.saturating_add(1))),
            ..LeaseSpec::default()
        };
        let object = match found {
            Some(lease) => cluster.replace(
                &name,
                &Lease {
                    metadata: lease.metadata,
                    spec: Some(spec),
                },
            ),
            None => cluster.create(
                &name,
                &Lease {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec),
                },
            ),
        };
        let object = object.map_err(|error| match error {
            // Somebody was faster.
            VeleroError::Conflict { .. } => VeleroError::LeaseHeld {
                lease: name.clone(),
                holder: "a run that began at the same moment".to_owned(),
                until: now.plus(LEASE_TIME),
            },
            other => other,
        })?;
        Ok(Self {
            name,
            holder: holder.to_owned(),
            object,
            renewed: now,
        })
    }

    /// Renews it.
    ///
    /// # Errors
    /// [`VeleroError::LeaseHeld`] where somebody else has it by now; the API's, then it still holds
    /// until [`Self::ends`].
    pub fn renew(&mut self, cluster: &Cluster, now: Timestamp) -> Result<(), VeleroError> {
        let mut object = self.object.clone();
        if let Some(spec) = &mut object.spec {
            spec.renew_time = Some(micro_time(now));
        }
        match cluster.replace(&self.name, &object) {
            Ok(object) => {
                self.object = object;
                self.renewed = now;
                Ok(())
            }
            Err(VeleroError::Conflict { .. }) => self.look_again(cluster, now),
            Err(error) => Err(error),
        }
    }

    /// Somebody changed the object: that is fine while we are named in it.
    fn look_again(&mut self, cluster: &Cluster, now: Timestamp) -> Result<(), VeleroError> {
        let lost = |holder: String, until| VeleroError::LeaseHeld {
            lease: self.name.clone(),
            holder,
            until,
        };
        match cluster.get::<Lease>(&self.name)? {
            None => Err(lost("nobody: it was deleted".to_owned(), now)),
            Some(lease) => match holder_of(&lease, now) {
                Some((holder, until)) if holder != self.holder => Err(lost(holder, until)),
                _ => {
                    self.object = lease;
                    Ok(())
                }
            },
        }
    }

    /// Returns until when it holds without another renewal.
    pub fn ends(&self) -> Timestamp {
        self.renewed.plus(LEASE_TIME)
    }

    /// Gives it back, so that the next run need not wait. What goes wrong is left to time.
    pub fn release(mut self, cluster: &Cluster) {
        if let Some(spec) = &mut self.object.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        if let Err(error) = cluster.replace(&self.name, &self.object) {
            tracing::warn!(lease = self.name, %error, "not released; it ends by itself");
        }
    }
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
