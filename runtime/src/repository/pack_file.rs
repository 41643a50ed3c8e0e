//! One pack while it is filled: where the store will keep it, or in scratch, whatever its size.
//!
//! ```text
//! [format replica] 32 random bytes | contents … | 1..4096 random bytes | local index | postamble
//! ```
//!
//! Contents are appended as they come; their entries go through a sort of their own and become the
//! local index when the pack is closed, and at the same time a sorted run of the flush's index. The
//! IV of a local index is its hash, so it is written to scratch first, then sealed behind the
//! padding.
//!
//! Memory: a write buffer ([`super::pack_bytes`]), entries as the plan has it (more go to scratch),
//! one piece while it is closed. Mirrors `preparePackDataContent` and
//! `appendPackFileIndexRecoveryData` of Kopia's `repo/content`.

use std::sync::Arc;

use crate::kopia::FormatError;
use crate::kopia::blob_id::BlobId;
use crate::kopia::encryption::NONCE_BYTES;
use crate::kopia::hashing::Digest;
use crate::kopia::index_blob::{ContentFormat, ENTRY_V1_BYTES};
use crate::kopia::index_builder::{
    EntryFields, IndexShape, RANDOM_TAIL_BYTES, encode_entry, encode_entry_v1, encode_format,
    encode_pack_slot,
};
use crate::kopia::pack::{PREAMBLE_BYTES, PackLayout};
use crate::spill::{
    Merge, RunWriter, ScratchFile, SequentialReader, SequentialWriter, SortBuffer, SortMemory,
    Sorter,
};

use super::pack_bytes::PackBytes;
use super::record::{RECORD_BYTES_MAX, RecordFields, RecordLayout};
use super::{Repository, RepositoryError, Workspace};

/// Runs of entries that are merged at once when a pack is closed: 512 KiB.
const ENTRY_RUNS_MAX: usize = 16;

/// Read buffer of a run of entries, and piece in which a local index is sealed, in bytes.
const PIECE_BYTES: usize = 32 * 1024;

/// The bytes of a sealed content.
#[derive(Clone, Copy, Debug)]
pub enum Sealed<'a> {
    /// In memory.
    Bytes(&'a [u8]),
    /// All of a file, for a content that does not fit there.
    File(&'a Arc<ScratchFile>),
}

impl Sealed<'_> {
    /// Returns their number.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File(file) => file.len(),
        }
    }

    /// Tells whether there are none, which no sealed content has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A pack that takes contents.
pub(super) struct OpenPack {
    /// Its name.
    pub(super) name: BlobId,
    /// Its number in the flush, for the entries.
    pub(super) number: u32,
    layout: PackLayout,
    bytes: PackBytes,
    sorter: Sorter,
    entries: SortBuffer,
    records: RecordLayout,
    longest: u32,
    formats: Formats,
}

/// The formats of the contents of one pack.
struct Formats {
    /// By their number in this pack.
    list: Vec<ContentFormat>,
    /// Their number in this pack, by their number in the flush.
    numbers: [Option<u8>; 256],
}

impl OpenPack {
    /// Begins a pack with the replica (empty unless the repository is a legacy one) and random
    /// bytes.
    pub(super) fn begin(
        repository: &Repository,
        workspace: &Workspace,
        name: BlobId,
        number: u32,
        replica: &[u8],
    ) -> Result<Self, RepositoryError> {
        let mut bytes = PackBytes::begin(repository, workspace, &name)?;
        bytes.write(replica)?;
        bytes.write(&repository.random::<PREAMBLE_BYTES>())?;
        let records = RecordLayout {
            key_bytes: repository.key_bytes(),
        };
        let memory = SortMemory {
            buffer_bytes: workspace.memory.copy_buffer_bytes / 2,
            buffers: 1,
            run_read_bytes: PIECE_BYTES,
            runs_max: ENTRY_RUNS_MAX,
        };
        let sorter = Sorter::new(workspace.scratch.clone(), records.shape(), memory);
        Ok(Self {
            name,
            number,
            layout: PackLayout::new(replica.len()),
            bytes,
            entries: sorter.buffer(),
            sorter,
            records,
            longest: 0,
            formats: Formats {
                list: Vec::new(),
                numbers: [None; 256],
            },
        })
    }

    /// Returns whether the pack is to be closed.
    pub(super) fn is_full(&self, pack_bytes_max: u64) -> bool {
        self.layout.is_full(pack_bytes_max)
    }

    /// Returns the offset that the next content will have.
    pub(super) fn next_offset(&self) -> u32 {
        u32::try_from(self.layout.bytes()).unwrap_or(u32::MAX)
    }

    /// Appends a content. `fields` has its place in this pack, `format` is what their number means.
    pub(super) fn append(
        &mut self,
        key: &[u8],
        fields: &RecordFields,
        format: ContentFormat,
        sealed: Sealed<'_>,
    ) -> Result<(), RepositoryError> {
        let offset = self.layout.append(fields.packed_length)?;
        assert_eq!(offset, fields.pack_offset, "the entry has the place");
        match sealed {
            Sealed::Bytes(bytes) => self.bytes.write(bytes)?,
            Sealed::File(file) => copy(file, &mut self.bytes)?,
        }
        self.formats.note(fields.format, format);
        self.longest = self.longest.max(fields.packed_length);
        self.longest = self.longest.max(fields.original_length);
        let records = self.records;
        self.entries
            .push_with(|out| records.encode(out, 0, 0, key, fields))?;
        Ok(())
    }

    /// Closes the pack: padding, local index, postamble. Its entries go into `run` too, in the
    /// order of their keys. Returns its name and all its bytes, which nobody sees yet.
    pub(super) fn close(
        self,
        repository: &Repository,
        workspace: &Workspace,
        run: RunWriter,
    ) -> Result<(BlobId, PackBytes), RepositoryError> {
        let Self {
            name,
            layout,
            mut bytes,
            sorter,
            entries,
            records,
            longest,
            formats,
            ..
        } = self;
        entries.finish()?;
        let entry_count = u32::try_from(layout.contents()).unwrap_or(u32::MAX);
        let index = LocalIndex::new(repository, &name, entry_count, &formats, longest);
        index.shape.check(name.as_str().len() as u64)?;
        let plain = Arc::new(workspace.scratch.create_file("local-index")?);
        let entries = sorter.finish()?.into_merge(false)?;
        let digest = index.write(repository, entries, run, records, &plain)?;
        let padding: [u8; 4096] = repository.random();
        bytes.write(padding.get(..layout.padding_bytes()).unwrap_or_default())?;
        let index_at = bytes.len();
        seal(repository, workspace, &plain, &digest, &mut bytes)?;
        let sealed_bytes = (bytes.len() - index_at) as usize;
        let postamble = layout.postamble(&digest, sealed_bytes)?;
        bytes.write(&postamble.encode()?)?;
        Ok((name, bytes))
    }
}

impl Formats {
    fn note(&mut self, number: u8, format: ContentFormat) {
        let own = &mut self.numbers[usize::from(number)];
        if own.is_none() {
            *own = Some(self.list.len() as u8);
            self.list.push(format);
        }
    }

    fn number(&self, number: u8) -> u8 {
        self.numbers[usize::from(number)].unwrap_or(u8::MAX)
    }

    fn format(&self, number: u8) -> ContentFormat {
        let own = usize::from(self.number(number));
        self.list.get(own).copied().unwrap_or_default()
    }
}

/// The local index of a pack on its way to scratch.
struct LocalIndex<'a> {
    shape: IndexShape,
    pack: &'a [u8],
    formats: &'a Formats,
}

impl<'a> LocalIndex<'a> {
    fn new(
        repository: &Repository,
        name: &'a BlobId,
        entry_count: u32,
        formats: &'a Formats,
        longest: u32,
    ) -> Self {
        let format_count = formats.list.len() as u16;
        let version = repository.format.index_version;
        let (pack_count, format_count, entry_bytes) = match version {
            1 => (0, 0, ENTRY_V1_BYTES),
            _ => {
                let bytes = IndexShape::entry_bytes_needed(format_count, 1, longest);
                (1, format_count, bytes)
            }
        };
        Self {
            shape: IndexShape {
                version,
                key_bytes: repository.key_bytes(),
                entry_count,
                pack_count,
                format_count,
                entry_bytes,
            },
            pack: name.as_str().as_bytes(),
            formats,
        }
    }

    /// Writes the plaintext, and the entries into `run`; returns the plaintext's hash.
    fn write(
        &self,
        repository: &Repository,
        mut entries: Merge,
        mut run: RunWriter,
        records: RecordLayout,
        plain: &Arc<ScratchFile>,
    ) -> Result<Digest, RepositoryError> {
        let mut out = Hashed {
            writer: SequentialWriter::new(Arc::clone(plain), PIECE_BYTES),
            hasher: repository.crypto.hash.hasher(),
        };
        out.write(&self.shape.header())?;
        let mut row = [0; RECORD_BYTES_MAX];
        let row = &mut row[..self.shape.row_bytes()];
        while let Some(record) = entries.next()? {
            let (key, entry) = row.split_at_mut(self.shape.key_bytes);
            key.copy_from_slice(records.key(record));
            self.encode(&records.fields(record), entry)?;
            out.write(row)?;
            run.push(record)?;
        }
        run.finish()?;
        let names_at = self.shape.names_at() as u32;
        if self.shape.version != 1 {
            out.write(&encode_pack_slot(names_at, self.pack.len() as u8))?;
            for format in &self.formats.list {
                out.write(&encode_format(*format))?;
            }
        }
        out.write(self.pack)?;
        out.write(&repository.random::<RANDOM_TAIL_BYTES>())?;
        out.writer.finish()?;
        Ok(out.hasher.finish())
    }

    fn encode(&self, fields: &RecordFields, out: &mut [u8]) -> Result<(), FormatError> {
        let entry = EntryFields {
            timestamp_seconds: fields.timestamp_seconds,
            deleted: fields.deleted,
            pack_offset: fields.pack_offset,
            packed_length: fields.packed_length,
            original_length: fields.original_length,
        };
        if self.shape.version != 1 {
            let format = self.formats.number(fields.format);
            return encode_entry(&self.shape, &entry, 0, format, out);
        }
        let version = self.formats.format(fields.format).format_version;
        let names_at = self.shape.names_at() as u32;
        encode_entry_v1(&entry, version, names_at, self.pack.len() as u8, out)
    }
}

struct Hashed {
    writer: SequentialWriter,
    hasher: crate::kopia::hashing::Hasher,
}

impl Hashed {
    fn write(&mut self, bytes: &[u8]) -> Result<(), RepositoryError> {
        self.hasher.update(bytes);
        Ok(self.writer.write(bytes)?)
    }
}

/// Seals `plain` under the IV `digest` behind what `out` holds; with ECC through scratch once more,
/// since all parity comes first.
fn seal(
    repository: &Repository,
    workspace: &Workspace,
    plain: &Arc<ScratchFile>,
    digest: &Digest,
    out: &mut PackBytes,
) -> Result<(), RepositoryError> {
    let Some(ecc) = &repository.crypto.ecc else {
        return encrypt(repository, plain, digest, |piece| out.write(piece));
    };
    let sealed = Arc::new(workspace.scratch.create_file("sealed-local-index")?);
    let mut writer = SequentialWriter::new(Arc::clone(&sealed), PIECE_BYTES);
    encrypt(repository, plain, digest, |piece| Ok(writer.write(piece)?))?;
    writer.finish()?;
    let encoded = add_parity(workspace, ecc, &sealed)?;
    copy(&encoded, out)
}

fn encrypt(
    repository: &Repository,
    plain: &Arc<ScratchFile>,
    digest: &Digest,
    mut write: impl FnMut(&[u8]) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let nonce: [u8; NONCE_BYTES] = repository.random();
    let mut sealer = repository.crypto.encryption.sealer(digest, &nonce);
    write(&nonce)?;
    let mut pieces = SequentialReader::new(Arc::clone(plain), 0..plain.len(), PIECE_BYTES);
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    while pieces.remaining() > 0 {
        let bytes = pieces.remaining().min(PIECE_BYTES as u64) as usize;
        piece.clear();
        piece.extend_from_slice(pieces.next(bytes)?.unwrap_or_default());
        sealer.encrypt(&mut piece);
        write(&piece)?;
    }
    write(&sealer.finish())
}

/// Writes the error-corrected form of `sealed` into a file of scratch.
pub(super) fn add_parity(
    workspace: &Workspace,
    ecc: &crate::kopia::ecc::Ecc,
    sealed: &ScratchFile,
) -> Result<Arc<ScratchFile>, RepositoryError> {
    let mut encoder = ecc.encoder(sealed.len())?;
    let encoded = workspace.scratch.create_file("with-parity")?;
    let mut plain = Vec::new();
    for block in 0..encoder.blocks() {
        let range = encoder.plain_range(block);
        plain.resize((range.end - range.start) as usize, 0);
        sealed.read_exact_at(&mut plain, range.start)?;
        let pieces = encoder.encode_block(block, &plain);
        encoded.write_all_at(pieces.parity, pieces.parity_offset)?;
        encoded.write_all_at(pieces.data, pieces.data_offset)?;
    }
    Ok(Arc::new(encoded))
}

fn copy(file: &Arc<ScratchFile>, out: &mut PackBytes) -> Result<(), RepositoryError> {
    let mut pieces = SequentialReader::new(Arc::clone(file), 0..file.len(), PIECE_BYTES);
    while pieces.remaining() > 0 {
        let bytes = pieces.remaining().min(PIECE_BYTES as u64) as usize;
        out.write(pieces.next(bytes)?.unwrap_or_default())?;
    }
    Ok(())
}
