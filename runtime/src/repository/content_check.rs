//! Checks that a sealed content is whole before its bytes are copied as they are.
//!
//! The ciphertext of a content does not depend on the pack that it lies in, so moving it needs no
//! decryption; but a copy of damage would outlive the original. So its tag is verified with the key
//! of its content ID. With ECC it is decoded, repaired where it must be, and encoded again.
//!
//! Memory: with ECC two buffers of the content's size. Kopia decrypts and decompresses, compresses
//! and encrypts again (`rewriteContent` in `repo/content/content_manager.go`).

use std::ops::Range;
use std::sync::Arc;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;
use crate::kopia::sealed_blob::{BlobCrypto, renamed};
use crate::spill::ScratchFile;

use super::pack_file::add_parity;
use super::sealed_pieces::{content_name, copy_sealed_into_scratch};
use super::{Repository, RepositoryError, Workspace};

/// Checks contents that lie in memory, one after the other.
#[derive(Debug)]
pub struct ContentCheck<'a> {
    crypto: &'a BlobCrypto,
    decoded: Vec<u8>,
    encoded: Vec<u8>,
}

impl<'a> ContentCheck<'a> {
    /// Makes a check for one thread.
    pub fn new(crypto: &'a BlobCrypto) -> Self {
        Self {
            crypto,
            decoded: Vec::new(),
            encoded: Vec::new(),
        }
    }

    /// Verifies the tag of the content with `key` that is stored as `stored`, and repairs it in
    /// place if it is damaged and ECC can. Returns whether it was repaired.
    ///
    /// # Errors
    /// A tag that does not fit, more damage than ECC can repair; both name content and pack.
    pub fn check(
        &mut self,
        key: &[u8],
        pack: &BlobId,
        stored: &mut [u8],
    ) -> Result<bool, RepositoryError> {
        let id = ContentId::from_key(key)?;
        let fails = |error| renamed(error, &content_name(&id, pack));
        let Some(ecc) = &self.crypto.ecc else {
            let verified = self.crypto.encryption.verify(id.iv(), stored);
            return Ok(verified.map(|()| false).map_err(fails)?);
        };
        self.decoded.clear();
        let damaged = ecc.decode(stored, &mut self.decoded).map_err(fails)?;
        let verified = self.crypto.encryption.verify(id.iv(), &self.decoded);
        verified.map_err(fails)?;
        if damaged {
            self.encoded.clear();
            ecc.encode(&self.decoded, &mut self.encoded);
            if self.encoded.len() != stored.len() {
                let reason = "its length is not that of its error correction";
                return Err(FormatError::malformed(content_name(&id, pack), reason).into());
            }
            stored.copy_from_slice(&self.encoded);
        }
        Ok(damaged)
    }
}

/// Does the same for a content that does not fit into memory: returns its stored bytes, verified
/// and repaired, in a file of scratch, and whether they were repaired. `buffer` is working memory.
///
/// # Errors
/// As [`ContentCheck::check`], and a pack that is gone or too short.
pub fn check_large(
    repository: &Repository,
    workspace: &Workspace,
    (key, pack): (&[u8], &BlobId),
    range: Range<u64>,
    buffer: &mut [u8],
) -> Result<(Arc<ScratchFile>, bool), RepositoryError> {
    let id = ContentId::from_key(key)?;
    let stored_bytes = range.end - range.start;
    let copied = copy_sealed_into_scratch(repository, workspace, (&id, pack), range, buffer);
    let (sealed, damaged) = copied?;
    let Some(ecc) = &repository.crypto.ecc else {
        return Ok((sealed, false));
    };
    let encoded = add_parity(workspace, ecc, &sealed)?;
    if encoded.len() != stored_bytes {
        let reason = "its length is not that of its error correction";
        return Err(FormatError::malformed(content_name(&id, pack), reason).into());
    }
    Ok((encoded, damaged))
}
