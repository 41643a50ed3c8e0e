//! Sealed bytes that are too large for memory, in pieces: a whole blob, or a content inside a pack.
//!
//! They come from the store as they are, or with ECC decoded block by block, and are opened into
//! scratch. Nothing of that may be used before the last byte was authenticated, so the file is
//! handed out only then.
//!
//! Memory: one piece, the plan's blob buffer unless the caller has one; with ECC as much again is
//! decoded, and one block more. Scratch: the size of the plaintext; with ECC, whose parity lies
//! before all data, that of the stored bytes too where each read is a request.

use std::ops::Range;
use std::sync::Arc;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::content_id::ContentId;
use crate::kopia::ecc::BlockDecoder;
use crate::kopia::encryption::{NONCE_BYTES, OVERHEAD_BYTES, Opener, TAG_BYTES};
use crate::kopia::sealed_blob::{iv_of_name, renamed};
use crate::progress::Part;
use crate::spill::{ScratchFile, ShelfPlace};

use super::pack_reader::missing;
use super::working_time::WorkingTime;
use super::{Repository, RepositoryError, Workspace};

/// Opens the blob, of which the first bytes are known, into a file of scratch and verifies its tag.
/// Returns also its bytes as stored.
pub(super) fn open_into_scratch(
    repository: &Repository,
    workspace: &Workspace,
    blob: &BlobId,
    start: &[u8],
) -> Result<(Arc<ScratchFile>, u64), RepositoryError> {
    let stored_bytes = match workspace.scratch.kept_bytes(blob.as_str()) {
        Some(bytes) => bytes,
        None => repository.storage.metadata(blob)?.length,
    };
    let item = SealedItem {
        name: blob.as_str(),
        blob,
        content: None,
        range: 0..stored_bytes,
        start,
        kept: true,
    };
    let iv = iv_of_name(blob.as_str())?;
    let plain = open_item(repository, workspace, &item, &iv)?;
    Ok((plain, stored_bytes))
}

/// Opens a content of any size into a file of scratch, still compressed, and verifies its tag.
///
/// # Errors
/// A pack that is gone or too short, a tag that does not fit; both name content and pack.
pub fn open_content_into_scratch(
    repository: &Repository,
    workspace: &Workspace,
    content: &ContentId,
    pack: &BlobId,
    range: Range<u64>,
) -> Result<Arc<ScratchFile>, RepositoryError> {
    let name = content_name(content, pack);
    let item = SealedItem {
        name: &name,
        blob: pack,
        content: Some(content),
        range,
        start: &[],
        kept: false,
    };
    let opened = open_item(repository, workspace, &item, content.iv());
    opened.map_err(|error| named(error, content, pack))
}

/// Copies the sealed bytes of a content of any size, ECC decoded, into a file of scratch and
/// verifies its tag, in pieces of the size of `buffer`. Returns also whether ECC found damage.
///
/// # Errors
/// As [`open_content_into_scratch`].
pub(super) fn copy_sealed_into_scratch(
    repository: &Repository,
    workspace: &Workspace,
    (content, pack): (&ContentId, &BlobId),
    range: Range<u64>,
    buffer: &mut [u8],
) -> Result<(Arc<ScratchFile>, bool), RepositoryError> {
    let name = content_name(content, pack);
    let item = SealedItem {
        name: &name,
        blob: pack,
        content: Some(content),
        range,
        start: &[],
        kept: false,
    };
    let copy = Arc::new(workspace.scratch.create_file("large-content")?);
    let iv = content.iv();
    let form = Form::Sealed;
    let copied = each_piece(
        repository,
        workspace,
        &item,
        iv,
        form,
        buffer,
        &mut |piece| {
            copy.append(piece)?;
            Ok(())
        },
    );
    let damaged = copied.map_err(|error| named(error, content, pack))?;
    Ok((copy, damaged))
}

/// Names a content for messages.
pub(super) fn content_name(content: &ContentId, pack: &BlobId) -> String {
    format!("content {content} in pack {pack}")
}

fn named(error: RepositoryError, content: &ContentId, pack: &BlobId) -> RepositoryError {
    match error {
        RepositoryError::Blob(error) if error.is_not_found() => missing(pack, content.key(), None),
        other => other,
    }
}

/// Opens an item into a file of scratch and verifies its tag.
pub(super) fn open_item(
    repository: &Repository,
    workspace: &Workspace,
    item: &SealedItem<'_>,
    iv: &[u8],
) -> Result<Arc<ScratchFile>, RepositoryError> {
    let plain = Arc::new(workspace.scratch.create_file("large-item")?);
    let shared = if repository.crypto.ecc.is_some() {
        2
    } else {
        1
    };
    let buffer = &mut vec![0; workspace.memory.blob_bytes / shared];
    let form = Form::Open;
    each_piece(
        repository,
        workspace,
        item,
        iv,
        form,
        buffer,
        &mut |piece| {
            plain.append(piece)?;
            Ok(())
        },
    )?;
    Ok(plain)
}

/// What is sealed, and where it lies.
pub(super) struct SealedItem<'a> {
    /// For messages.
    pub(super) name: &'a str,
    /// The blob.
    pub(super) blob: &'a BlobId,
    /// Which content of a pack it is, if it is one.
    pub(super) content: Option<&'a ContentId>,
    /// Its place in the blob, in bytes.
    pub(super) range: Range<u64>,
    /// Its first bytes, where somebody has read them already.
    pub(super) start: &'a [u8],
    /// Whether it is kept in scratch for the next who reads it ([`Scratch::keep`]): a whole blob
    /// that never changes.
    ///
    /// [`Scratch::keep`]: crate::spill::Scratch::keep
    pub(super) kept: bool,
}

/// What is wanted of an item.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Its plaintext.
    Open,
    /// Its sealed bytes.
    Sealed,
}

/// Calls `take` with what is wanted, piece after piece in `buffer`; it counts only when this
/// returns without an error, since only then the tag was verified. Returns whether ECC found
/// damage.
fn each_piece(
    repository: &Repository,
    workspace: &Workspace,
    item: &SealedItem<'_>,
    iv: &[u8],
    form: Form,
    buffer: &mut [u8],
    take: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
) -> Result<bool, RepositoryError> {
    let time = WorkingTime::start(&*workspace.progress);
    let mut pieces = SealedPieces::new(repository, workspace, item, buffer)?;
    let sealed_bytes = pieces.sealed_bytes;
    if sealed_bytes < OVERHEAD_BYTES as u64 {
        return Err(FormatError::malformed(item.name, "too short to be decrypted").into());
    }
    let text_bytes = sealed_bytes - OVERHEAD_BYTES as u64;
    let mut nonce = [0; NONCE_BYTES];
    pieces.take(&mut nonce)?;
    if form == Form::Sealed {
        take(&nonce)?;
    }
    let mut opener: Opener = repository.crypto.encryption.opener(iv, &nonce);
    let mut taken = 0;
    while taken < text_bytes {
        let bytes = (text_bytes - taken).min(buffer.len() as u64) as usize;
        let piece = &mut buffer[..bytes];
        pieces.take(piece)?;
        time.lap(Part::Read);
        match form {
            Form::Open => opener.decrypt(piece),
            Form::Sealed => opener.authenticate(piece),
        }
        time.lap(Part::Decrypt);
        take(piece)?;
        time.lap(Part::Write);
        taken += bytes as u64;
    }
    let mut tag = [0; TAG_BYTES];
    pieces.take(&mut tag)?;
    if form == Form::Sealed {
        take(&tag)?;
    }
    opener.finish(&tag).map_err(|_| FormatError::Tag {
        what: item.name.to_owned(),
    })?;
    if let Some(place) = pieces.place {
        place.finish();
    }
    Ok(pieces.damaged)
}

/// The sealed bytes of an item in order: from the store as they are, or with ECC decoded block by
/// block.
struct SealedPieces<'a> {
    repository: &'a Repository,
    workspace: &'a Workspace,
    item: &'a SealedItem<'a>,
    decoder: Option<BlockDecoder>,
    sealed_bytes: u64,
    at: u64,
    block: u64,
    left_over: Vec<u8>,
    /// Whether any block so far had a damaged shard.
    damaged: bool,
    /// Where it is kept, if it comes from the store.
    place: Option<ShelfPlace<'a>>,
    /// Its stored bytes, if ECC wants them here and there and they come from afar.
    copy: Option<ScratchFile>,
}

impl<'a> SealedPieces<'a> {
    fn new(
        repository: &'a Repository,
        workspace: &'a Workspace,
        item: &'a SealedItem<'a>,
        buffer: &mut [u8],
    ) -> Result<Self, RepositoryError> {
        let stored_bytes = item.range.end - item.range.start;
        let decoder = match &repository.crypto.ecc {
            None => None,
            Some(ecc) => {
                let decoder = ecc.decoder(stored_bytes);
                Some(decoder.map_err(|error| renamed(error, item.name))?)
            }
        };
        let place = match item.kept {
            true => workspace.scratch.begin_keeping(item.name, stored_bytes),
            false => None,
        };
        let mut pieces = Self {
            repository,
            workspace,
            item,
            decoder,
            sealed_bytes: stored_bytes,
            at: 0,
            block: 0,
            left_over: Vec::new(),
            damaged: false,
            place,
            copy: None,
        };
        pieces.announce(buffer)?;
        if pieces.decoder.is_some() {
            pieces.decode_block()?;
            let left = pieces
                .decoder
                .as_ref()
                .map_or(0, |decoder| decoder.plain_bytes_left());
            pieces.sealed_bytes = pieces.left_over.len() as u64 + left;
        }
        Ok(pieces)
    }

    /// Makes one request of all that follows, if there is one to make.
    fn announce(&mut self, buffer: &mut [u8]) -> Result<(), RepositoryError> {
        let (item, storage) = (self.item, &self.repository.storage);
        let scratch = &self.workspace.scratch;
        if item.kept && scratch.kept_bytes(item.name).is_some() {
            return Ok(());
        }
        let from = item.range.start + item.start.len() as u64;
        storage.will_read(item.blob, from..item.range.end);
        if self.decoder.is_some() && storage.waits() {
            let copy = scratch.create_file("stored-item")?;
            while copy.len() < self.sealed_bytes {
                let bytes = (self.sealed_bytes - copy.len()).min(buffer.len() as u64);
                let piece = &mut buffer[..bytes as usize];
                self.read_stored(copy.len(), piece)?;
                copy.append(piece)?;
            }
            self.copy = Some(copy);
        }
        Ok(())
    }

    /// Fills `out` with the next bytes.
    fn take(&mut self, out: &mut [u8]) -> Result<(), RepositoryError> {
        let bytes = out.len();
        if self.decoder.is_none() {
            self.read(self.at, out)?;
            self.at += bytes as u64;
            return Ok(());
        }
        while self.left_over.len() < bytes {
            self.decode_block()?;
        }
        out.copy_from_slice(&self.left_over[..bytes]);
        self.left_over.drain(..bytes);
        Ok(())
    }

    /// Decodes the next block behind what is left over.
    fn decode_block(&mut self) -> Result<(), RepositoryError> {
        let mut decoder = self.decoder.take().ok_or(RepositoryError::Interrupted)?;
        if self.block == decoder.blocks() {
            return Err(FormatError::malformed(self.item.name, "cut short").into());
        }
        let ranges = decoder.ranges(self.block);
        let mut parity = vec![0; (ranges.parity.end - ranges.parity.start) as usize];
        let mut data = vec![0; (ranges.data.end - ranges.data.start) as usize];
        self.read(ranges.parity.start, &mut parity)?;
        self.read(ranges.data.start, &mut data)?;
        self.damaged |= decoder
            .decode_block(self.block, &parity, &data, &mut self.left_over)
            .map_err(|error| renamed(error, self.item.name))?;
        self.block += 1;
        self.decoder = Some(decoder);
        Ok(())
    }

    /// Fills `into` from `offset` of the item.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), RepositoryError> {
        match &self.copy {
            Some(copy) => Ok(copy.read_exact_at(into, offset)?),
            None => self.read_stored(offset, into),
        }
    }

    /// Fills `into` from what is known of the item, from where it is kept, or from the store.
    fn read_stored(&self, offset: u64, into: &mut [u8]) -> Result<(), RepositoryError> {
        let (scratch, all) = (&self.workspace.scratch, into.len());
        if self.item.kept && scratch.read_kept(self.item.name, offset, into) == Some(all) {
            return Ok(());
        }
        let known = usize::try_from(offset).ok();
        let known = known.and_then(|at| self.item.start.get(at..));
        let known = known.unwrap_or_default();
        let mut got = known.len().min(all);
        into[..got].copy_from_slice(&known[..got]);
        let offset = self.item.range.start + offset;
        if got < all {
            let (pack, from) = (self.item.blob, offset + got as u64);
            got += self.repository.storage.get(pack, from, &mut into[got..])?;
        }
        if got == all {
            if let Some(place) = &self.place {
                place.write(offset, into);
            }
            return Ok(());
        }
        Err(match self.item.content {
            Some(content) => missing(self.item.blob, content.key(), Some(offset + got as u64)),
            None => FormatError::malformed(self.item.name, "shorter than its listing says").into(),
        })
    }
}
