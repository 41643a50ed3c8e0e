//! Reads single contents: for the few that maintenance itself must understand, such as manifests.
//!
//! Memory: the content, at most [`CONTENT_BYTES_MAX`]. Invariant: bytes are used only after their
//! tag was verified with the key of their content ID. Mirrors `decryptContentAndVerify` of Kopia's
//! `repo/content/committed_read_manager.go`.

use std::io::Read;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::compression::decompress;
use crate::kopia::content_id::ContentId;
use crate::kopia::index_blob::ContentFormat;

use super::record::RecordFields;
use super::{Repository, RepositoryError};

/// Largest content read whole, in bytes as stored.
pub const CONTENT_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Reads a content and returns its bytes as a reader that decompresses.
pub fn read_content(
    repository: &Repository,
    id: &ContentId,
    pack: &str,
    fields: &RecordFields,
    format: ContentFormat,
) -> Result<Box<dyn Read + Send>, RepositoryError> {
    let what = format!("content {id} in pack {pack}");
    if fields.packed_length > CONTENT_BYTES_MAX {
        let reason = format!(
            "{} bytes; at most {CONTENT_BYTES_MAX}",
            fields.packed_length
        );
        return Err(FormatError::malformed(what, reason).into());
    }
    if format.encryption_key_id != 0 {
        return Err(FormatError::malformed(what, "an unknown encryption key").into());
    }
    let mut bytes = vec![0; fields.packed_length as usize];
    let offset = u64::from(fields.pack_offset);
    let got = repository
        .storage
        .get(&BlobId::new(pack), offset, &mut bytes)?;
    if got != bytes.len() {
        return Err(FormatError::malformed(what, "the pack is shorter than the index says").into());
    }
    if let Some(ecc) = &repository.crypto.ecc {
        let mut decoded = Vec::new();
        ecc.decode(&bytes, &mut decoded)?;
        bytes = decoded;
    }
    let plain = repository
        .crypto
        .encryption
        .open(id.iv(), &mut bytes)
        .map_err(|_| FormatError::Tag { what: what.clone() })?
        .to_vec();
    Ok(decompress(
        format.compression_header_id,
        std::io::Cursor::new(plain),
        &what,
    )?)
}
