//! Object stores: S3 and what speaks its language, Google Cloud Storage, Azure.
//!
//! Where a repository is ([`location`]), with which keys and over which TLS it is reached
//! ([`connect`], [`tls`]). Key names are the prefix and the blob ID joined as raw strings, as in
//! Kopia: a prefix without a slash at its end is no folder. Only with the feature `object-stores`.

pub mod connect;
pub mod credentials;
pub mod location;
pub mod tls;
