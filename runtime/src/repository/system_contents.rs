//! Finds the maintenance parameters, and with them the owner, in the manifests.
//!
//! Manifests lie in contents with prefix `m`; each content holds many. Their index entries were put
//! aside while the index was loaded. Two passes over the contents: the first collects manifests of
//! type `maintenance`, the second the deletions and later versions of exactly those. Memory: one
//! content of at most 16 MiB (a larger one is an error) and [`MANIFESTS_MAX`] manifests of this
//! type. Mirrors Kopia's `maintenance_params.go` and `committed_manifest_manager.go`.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::kopia::content_id::ContentId;
use crate::kopia::maintenance_params::{MANIFEST_TYPE, MaintenanceParams};
use crate::kopia::manifest::{ManifestEntry, read_gzip_entries};

use super::content_reader::read_content;
use super::index_load::Loaded;
use super::winners::Winners;
use super::{Repository, RepositoryError};

/// Manifests of type `maintenance`: one, or two when two clients made them at once.
const MANIFESTS_MAX: usize = 1_000;

/// Reads the parameters; `None` if nobody has set any.
pub fn maintenance_params(
    repository: &Repository,
    loaded: &Loaded,
) -> Result<Option<MaintenanceParams>, RepositoryError> {
    let mut found: BTreeMap<String, (Timestamp, Option<Vec<u8>>)> = BTreeMap::new();
    each_manifest(repository, loaded, &mut |entry| {
        if entry.kind() == Some(MANIFEST_TYPE) {
            if found.len() == MANIFESTS_MAX {
                let what = "maintenance manifests";
                return Err(RepositoryError::TooMany {
                    what,
                    maximum: MANIFESTS_MAX,
                });
            }
            found
                .entry(entry.id)
                .or_insert((Timestamp::from_nanos(i64::MIN), None));
        }
        Ok(())
    })?;
    if found.is_empty() {
        return Ok(None);
    }
    each_manifest(repository, loaded, &mut |entry| {
        if let Some(latest) = found.get_mut(&entry.id)
            && entry.modified > latest.0
        {
            let data = (!entry.deleted).then(|| entry.data.get().as_bytes().to_vec());
            *latest = (entry.modified, data);
        }
        Ok(())
    })?;
    let live = found
        .into_values()
        .filter_map(|(modified, data)| Some((modified, data?)));
    match live.max_by_key(|(modified, _)| *modified) {
        Some((_, data)) => Ok(Some(MaintenanceParams::parse(&data)?)),
        None => Ok(None),
    }
}

/// Calls `each` for every entry of every manifest content, in the order of content IDs.
pub fn each_manifest(
    repository: &Repository,
    loaded: &Loaded,
    each: &mut dyn FnMut(ManifestEntry) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let mut winners = Winners::new(loaded.system.merge()?, loaded.layout);
    while let Some(record) = winners.next(&loaded.packs)? {
        let fields = loaded.layout.fields(record);
        if fields.deleted {
            continue; // above the watermark or not, a deleted content says nothing any more
        }
        let id = ContentId::from_key(loaded.layout.key(record))?;
        let pack = String::from_utf8_lossy(&loaded.packs.name(fields.pack)?).into_owned();
        let format = loaded
            .formats
            .get(usize::from(fields.format))
            .copied()
            .unwrap_or_default();
        let what = format!("content {id}");
        let content = read_content(repository, &id, &pack, &fields, format)?;
        read_gzip_entries(content, &what, &mut *each)?;
    }
    Ok(())
}
