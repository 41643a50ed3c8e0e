//! What may be done in the storage: list, get, and with `--write-probe` put and delete.
//!
//! Whether a repository is there is found out on the way; if not, what is there instead. Memory: a
//! page of a listing.

use std::collections::BTreeSet;

use super::{Ended, Walk};
use crate::blob::{BlobError, PutOptions, Storage};
use crate::cli::error::CliError;
use crate::kopia::blob_id::{BlobId, REPOSITORY};
use crate::maintenance::diagnosis::Finding;

/// Blobs that are looked at to say what is there instead of a repository.
const LOOKED_AT: usize = 100;

/// Looks, and returns the storage.
pub(super) fn look(walk: &mut Walk<'_>, write_probe: bool) -> Result<Storage, Ended> {
    let opened = walk.target.open_storage(&walk.console.surroundings);
    let storage = opened.map_err(|error| walk.failed("storage", &error))?;
    let page = storage.list("", None, LOOKED_AT);
    let page = page.map_err(|error| refused(walk, "list", error))?;
    walk.tell(&Finding::ok("list", "allowed"));
    let format = BlobId::new(REPOSITORY);
    match storage.get(&format, 0, &mut [0; 1]) {
        Ok(_) => walk.tell(&Finding::ok(
            "get",
            format!("allowed: {REPOSITORY} is there"),
        )),
        Err(error) if error.is_not_found() => {
            let names: BTreeSet<&str> = page.iter().map(|blob| blob.id.as_str()).collect();
            return Err(absent(walk, &names));
        }
        Err(error) => return Err(refused(walk, "get", error)),
    }
    if write_probe {
        probe(walk, &storage)?;
    } else {
        let what = "put and delete are not tried; --write-probe does";
        walk.tell(&Finding::skipped("write", what));
    }
    Ok(storage)
}

/// What a store's own words, or ours for what it said, mean for a person: part of the message,
/// code, what to do next. The first that is found counts.
const ANSWERS: [(&str, &str, &str); 10] = [
    (
        "is in region",
        "wrong-region",
        "give --region the one that the message names",
    ),
    (
        "RequestTimeTooSkewed",
        "clock-skew",
        "set this machine's clock (NTP): the store believes no signature of another time",
    ),
    (
        "InvalidAccessKeyId",
        "key-unknown",
        "the store does not know this access key: look whether it is the one of this store, still \
         there, and without quotes; keys of a role or a session need their session token too",
    ),
    (
        "SignatureDoesNotMatch",
        "secret-wrong",
        "the store knows the access key, but the secret belongs to another: give the pair anew, \
         without spaces or quotes around it",
    ),
    (
        "the keys have ended",
        "keys-ended",
        "get new keys: a session token in the environment stays as it is, keys of a file, a role \
         or a profile are renewed",
    ),
    (
        "NoSuchBucket",
        "no-bucket",
        "check the bucket's name and --endpoint: another server may have it",
    ),
    (
        "ContainerNotFound",
        "no-bucket",
        "check the container's name and the storage account",
    ),
    (
        "ResourceNotFound",
        "no-account",
        "behind a server's own address the path names the account: --endpoint HOST:PORT/ACCOUNT",
    ),
    (
        "answered with a web page",
        "no-object-store",
        "check the port of --endpoint: this one is for browsers (MinIO's console has a port of \
         its own), or a proxy is in between",
    ),
    (
        "AuthorizationFailure",
        "keys-refused",
        "the account's key or signature is not the right one, or the account's firewall does not \
         let this machine in",
    ),
];

/// Tells a refusal of the store, with what to do about it.
fn refused(walk: &mut Walk<'_>, check: &'static str, error: BlobError) -> Ended {
    let what = error.to_string();
    let code = error.code();
    if code == "storage-permission" {
        return walk.end(&Finding::error(check, code, what, rights(check)));
    }
    let is_answer = matches!(
        code,
        "storage-credentials" | "storage-refused" | "keys-ended"
    );
    let known = ANSWERS.iter().find(|(part, ..)| what.contains(part));
    let (code, next) = match (known, code) {
        (Some((_, code, next)), _) if is_answer => (*code, *next),
        (None, "storage-credentials") => (
            "keys-refused",
            "the store does not know the keys, or does not believe them: compare them with the \
             store's",
        ),
        (None, "storage-refused") => (
            "storage-refused",
            "the message says why the store does not: look at the bucket's state, its policy, and \
             the key that it is encrypted with",
        ),
        _ => return walk.failed(check, &error.into()),
    };
    walk.end(&Finding::error(check, code, what, next))
}

/// Returns the right that a check needs.
fn rights(check: &str) -> &'static str {
    match check {
        "list" => {
            "let these credentials list: s3:ListBucket, storage.objects.list, or Storage Blob Data \
             Contributor; in a folder, this user"
        }
        "get" => {
            "let these credentials read: s3:GetObject, storage.objects.get, or Storage Blob Data \
             Contributor; in a folder, this user"
        }
        "put" => {
            "let these credentials write: s3:PutObject, storage.objects.create, or Storage Blob \
             Data Contributor; in a folder, this user"
        }
        _ => {
            "let these credentials delete: s3:DeleteObject, storage.objects.delete, or Storage \
             Blob Data Contributor; in a folder, this user"
        }
    }
}

/// Says what is there instead of a repository.
fn absent(walk: &mut Walk<'_>, names: &BTreeSet<&str>) -> Ended {
    let check = "repository";
    let location = walk.target.location();
    if let Some(other) = walk.target.other_slash(&walk.console.surroundings) {
        return walk.failed(check, &CliError::OtherPrefix { location, other });
    }
    let velero = walk.target.namespaces_below(&walk.console.surroundings);
    if !velero.is_empty() {
        let what = format!(
            "no repository at {location}, but below it: {}",
            velero.join(", ")
        );
        let next = "give one of these: Velero has one repository for each namespace";
        return walk.end(&Finding::error(check, "velero-prefix", what, next));
    }
    let parts = names.iter().any(|name| name.starts_with(['p', 'q', 'x']));
    let below = if names.is_empty() {
        walk.target.folders_below(&walk.console.surroundings)
    } else {
        Vec::new()
    };
    let what_is_below;
    let (code, what, next) = if parts {
        let text = "blobs of a repository are there, but kopia.repository is not: it was lost, or \
                    a prefix is in the way";
        (
            "format-lost",
            text,
            "restore kopia.repository from a copy of the storage",
        )
    } else if !below.is_empty() {
        let text = "nothing lies here itself, only in folders";
        let next = "the repository may be in one of the folders that the message names: \
                    `kopia repository status` shows its prefix";
        what_is_below = format!("{text}: {}", below.join(", "));
        ("no-repository", what_is_below.as_str(), next)
    } else if names.is_empty() {
        let next = "check bucket and prefix: `kopia repository status` shows them";
        (
            "no-repository",
            "there is nothing at all with this prefix",
            next,
        )
    } else {
        let next = "check the prefix: `kopia repository status` shows it";
        (
            "no-repository",
            "there are other things, but no repository",
            next,
        )
    };
    walk.end(&Finding::error(
        check,
        code,
        format!("{location}: {what}"),
        next,
    ))
}

/// Puts a blob, puts it again, reads it, deletes it.
fn probe(walk: &mut Walk<'_>, storage: &Storage) -> Result<(), Ended> {
    let mut random = [0; 8];
    walk.console.surroundings.randomness.fill(&mut random);
    let id = BlobId::new(format!("_careen_probe_{}", hex::encode(random)));
    let options = PutOptions {
        create_only: true,
        ..PutOptions::default()
    };
    let put = storage.put_bytes(&id, &random, &options);
    put.map_err(|error| refused(walk, "put", error))?;
    walk.tell(&Finding::ok("put", "allowed"));
    let again = storage.put_bytes(&id, &random, &options);
    let read = storage.get_all(&id, random.len());
    let deleted = storage.delete(&id);
    walk.tell(&match again {
        Err(BlobError::AlreadyExists { .. }) => Finding::ok(
            "race",
            "the store refuses to put a blob that is there, if asked to",
        ),
        _ => Finding::warning(
            "race",
            "no-conditional-put",
            "the store overwrites a blob though it is asked not to",
            "never let two maintainers run at the same time: the store does not tell them apart",
        ),
    });
    if !read.is_ok_and(|bytes| bytes == random) {
        let what = "a blob that was just put is not read back";
        let next = "the store does not show what was written: Kopia cannot be used with it";
        walk.tell(&Finding::error("get", "stale-reads", what, next));
    }
    if let Err(error) = deleted {
        return Err(refused(walk, "delete", error));
    }
    walk.tell(&Finding::ok("delete", "allowed"));
    if storage.metadata(&id).is_ok() {
        let what = "a blob that was just deleted is still there";
        let next = "the store keeps it (object lock, legal hold) or shows old states";
        walk.tell(&Finding::warning("delete", "delete-held", what, next));
    }
    Ok(())
}
