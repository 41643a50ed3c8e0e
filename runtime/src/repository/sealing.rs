//! Seals a finished index blob, or a file of scratch, on its way to the store: nothing of it is
//! ever whole in memory.
//!
//! A thread reads the plaintext from scratch and encrypts it piece by piece while the store writes.
//! With ECC the sealed bytes go through scratch once more, since all parity comes first. The source
//! can be started again (a retried PUT) and then gives the same bytes: the nonce is chosen once.
//! Memory: [`PIECES`] pieces of [`PIECE_BYTES`].

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::blob::BlobSource;
use crate::blob::{PutOptions, Retention};
use crate::clock::{Stopwatch, Timestamp};
use crate::kopia::blob_id::{BlobId, uncompacted_epoch};
use crate::kopia::encryption::{Encryption, NONCE_BYTES, OVERHEAD_BYTES, Sealer};
use crate::kopia::sealed_blob::iv_of_name;
use crate::progress::{Part, Progress};
use crate::spill::{ScratchFile, SequentialReader, ShelfPlace};

use super::index_image::IndexImage;
use super::index_writer::FinishedIndex;
use super::pack_file::add_parity;
use super::working_time::WorkingTime;
use super::{Repository, RepositoryError, Workspace};

/// Bytes of a sealed piece.
const PIECE_BYTES: usize = 256 * 1024;

/// Pieces between the sealing thread and the store.
const PIECES: usize = 3;

/// Longest index blob that is kept while it is put, in bytes.
const KEPT_BYTES_MAX: u64 = 4 << 20;

/// Writes a finished index blob as `prefix`, hash and `suffix`. Returns its name and storage time.
pub fn put_index(
    repository: &Repository,
    workspace: &Workspace,
    index: FinishedIndex,
    prefix: &str,
    suffix: &str,
) -> Result<(BlobId, Timestamp), RepositoryError> {
    let name = BlobId::new(format!("{prefix}{}-{suffix}", index.digest.to_hex()));
    let stored = put_plain(repository, workspace, &name, Plain::Index(index.image))?;
    Ok((name, stored))
}

/// Writes a finished index blob as `prefix` and hash alone. Returns its name and storage time.
pub fn put_index_without_suffix(
    repository: &Repository,
    workspace: &Workspace,
    index: FinishedIndex,
    prefix: &str,
) -> Result<(BlobId, Timestamp), RepositoryError> {
    let name = BlobId::new(format!("{prefix}{}", index.digest.to_hex()));
    let stored = put_plain(repository, workspace, &name, Plain::Index(index.image))?;
    Ok((name, stored))
}

/// Writes the bytes of `file` as a sealed blob named `prefix` and hash. Returns its name and
/// storage time.
pub fn put_file(
    repository: &Repository,
    workspace: &Workspace,
    file: Arc<ScratchFile>,
    prefix: &str,
) -> Result<(BlobId, Timestamp), RepositoryError> {
    let plain = Plain::File(file);
    let mut hasher = repository.crypto.hash.hasher();
    plain.stream(&mut |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    let name = BlobId::new(format!("{prefix}{}", hasher.finish().to_hex()));
    let stored = put_plain(repository, workspace, &name, plain)?;
    Ok((name, stored))
}

fn put_plain(
    repository: &Repository,
    workspace: &Workspace,
    name: &BlobId,
    plain: Plain,
) -> Result<Timestamp, RepositoryError> {
    let iv = iv_of_name(name.as_str())?;
    let nonce = repository.random();
    let encryption = repository.crypto.encryption.clone();
    let time = WorkingTime::start(&*workspace.progress);
    let progress = Arc::clone(&workspace.progress);
    let mut sealed = SealedPlain::new(Arc::new(plain), encryption, iv, nonce, progress);
    let options = put_options(repository, name);
    let stored = match &repository.crypto.ecc {
        None => {
            let mut kept = KeptSource::new(repository, workspace, name, &mut sealed);
            let stored = repository.storage.put(name, &mut kept, &options)?;
            kept.finish();
            stored
        }
        Some(ecc) => {
            let file = spool(workspace, "sealed-blob", &mut sealed)?;
            time.lap_but(Part::Write, std::mem::take(&mut sealed.waited));
            let encoded = add_parity(workspace, ecc, &file)?;
            time.lap(Part::Encrypt);
            repository
                .storage
                .put(name, &mut FileSource::new(encoded), &options)?
        }
    };
    time.lap_but(Part::Write, sealed.waited);
    Ok(stored)
}

/// Keeps an index blob of a writer's while it is put into a store that has to be waited for: the
/// next task of the run reads it. Compacted sets are read from the store: they prove what is there.
struct KeptSource<'a> {
    source: &'a mut SealedPlain,
    place: Option<ShelfPlace<'a>>,
    at: u64,
}

impl<'a> KeptSource<'a> {
    fn new(
        repository: &Repository,
        workspace: &'a Workspace,
        name: &BlobId,
        source: &'a mut SealedPlain,
    ) -> Self {
        let name = name.as_str();
        let keeps = repository.storage.waits() && uncompacted_epoch(name).is_some();
        let begin = |length| workspace.scratch.begin_keeping(name, length);
        let length = Some(source.len()).filter(|length| keeps && *length <= KEPT_BYTES_MAX);
        let place = length.and_then(begin);
        Self {
            source,
            place,
            at: 0,
        }
    }

    /// The blob is stored.
    fn finish(self) {
        if let Some(place) = self.place {
            place.finish();
        }
    }
}

impl BlobSource for KeptSource<'_> {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.at = 0;
        self.source.rewind()
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(into)?;
        if let Some(place) = &self.place {
            place.write(self.at, into.get(..count).unwrap_or_default());
        }
        self.at += count as u64;
        Ok(count)
    }
}

/// Returns how a blob is to be put: with the repository's retention, where its name is under it.
pub fn put_options(repository: &Repository, name: &BlobId) -> PutOptions {
    let config = &repository.blob_config;
    let on = config.retention_on() && Retention::applies_to(name);
    let retention = on.then(|| Retention {
        mode: config.retention_mode.clone().unwrap_or_default(),
        until: repository.clock.now().plus(config.retention_period),
    });
    PutOptions {
        create_only: false,
        retention,
    }
}

/// Writes a source into scratch.
fn spool(
    workspace: &Workspace,
    purpose: &str,
    source: &mut dyn BlobSource,
) -> Result<Arc<ScratchFile>, RepositoryError> {
    let file = workspace.scratch.create_file(purpose)?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = source
            .read(&mut piece)
            .map_err(|source| crate::spill::SpillError::Io {
                operation: "read".to_owned(),
                source,
            })?;
        if read == 0 {
            return Ok(Arc::new(file));
        }
        file.append(piece.get(..read).unwrap_or_default())?;
    }
}

/// A file of scratch as the body of a PUT.
pub struct FileSource {
    file: Arc<ScratchFile>,
    at: u64,
}

impl FileSource {
    /// Puts all of `file`.
    pub fn new(file: Arc<ScratchFile>) -> Self {
        Self { file, at: 0 }
    }
}

impl BlobSource for FileSource {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.at = 0;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = (self.file.len() - self.at).min(into.len() as u64) as usize;
        let into = into.get_mut(..bytes).unwrap_or_default();
        self.file
            .read_exact_at(into, self.at)
            .map_err(io::Error::other)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}

/// What is sealed; read as often as needed.
enum Plain {
    Index(IndexImage),
    File(Arc<ScratchFile>),
}

impl Plain {
    fn bytes(&self) -> u64 {
        match self {
            Self::Index(image) => image.plain_bytes(),
            Self::File(file) => file.len(),
        }
    }

    /// Calls `take` with the plaintext, piece after piece.
    fn stream(
        &self,
        take: &mut dyn FnMut(&[u8]) -> Result<(), RepositoryError>,
    ) -> Result<(), RepositoryError> {
        let file = match self {
            Self::Index(image) => return image.stream(take),
            Self::File(file) => file,
        };
        let mut bytes = SequentialReader::new(Arc::clone(file), 0..file.len(), PIECE_BYTES);
        while bytes.remaining() > 0 {
            let next = bytes.remaining().min(PIECE_BYTES as u64) as usize;
            take(bytes.next(next)?.unwrap_or_default())?;
        }
        Ok(())
    }
}

/// A plaintext, sealed while it is read.
struct SealedPlain {
    plain: Arc<Plain>,
    encryption: Encryption,
    iv: [u8; 16],
    nonce: [u8; NONCE_BYTES],
    progress: Arc<dyn Progress>,
    /// How long the reader has waited for the sealing thread.
    waited: Duration,
    pieces: Option<Receiver<io::Result<Vec<u8>>>>,
    piece: Vec<u8>,
    at: usize,
}

impl SealedPlain {
    fn new(
        plain: Arc<Plain>,
        encryption: Encryption,
        iv: [u8; 16],
        nonce: [u8; NONCE_BYTES],
        progress: Arc<dyn Progress>,
    ) -> Self {
        Self {
            plain,
            encryption,
            iv,
            nonce,
            progress,
            waited: Duration::ZERO,
            pieces: None,
            piece: Vec::new(),
            at: 0,
        }
    }

    /// Starts a thread that seals from the beginning. It ends by itself when nobody takes its
    /// pieces.
    fn start(&self) -> Receiver<io::Result<Vec<u8>>> {
        let (out, incoming) = sync_channel(PIECES);
        let plain = Arc::clone(&self.plain);
        let (encryption, iv, nonce) = (self.encryption.clone(), self.iv, self.nonce);
        let progress = Arc::clone(&self.progress);
        std::thread::spawn(move || {
            let time = WorkingTime::start(&*progress);
            if let Err(error) = seal(&plain, encryption.sealer(&iv, &nonce), &nonce, &out, &time) {
                let _ = out.send(Err(io::Error::other(error)));
            }
        });
        incoming
    }
}

fn seal(
    plain: &Plain,
    mut sealer: Sealer,
    nonce: &[u8; NONCE_BYTES],
    out: &SyncSender<io::Result<Vec<u8>>>,
    time: &WorkingTime<'_>,
) -> Result<(), RepositoryError> {
    let gone = |_| RepositoryError::Interrupted;
    out.send(Ok(nonce.to_vec())).map_err(gone)?;
    let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
    plain.stream(&mut |bytes| {
        piece.extend_from_slice(bytes);
        if piece.len() >= PIECE_BYTES {
            let next = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
            let mut full = std::mem::replace(&mut piece, next);
            time.lap(Part::Reread);
            sealer.encrypt(&mut full);
            time.lap(Part::Encrypt);
            out.send(Ok(full)).map_err(gone)?;
            time.skip();
        }
        Ok(())
    })?;
    time.lap(Part::Reread);
    sealer.encrypt(&mut piece);
    time.lap(Part::Encrypt);
    out.send(Ok(piece)).map_err(gone)?;
    out.send(Ok(sealer.finish().to_vec())).map_err(gone)
}

impl BlobSource for SealedPlain {
    fn len(&self) -> u64 {
        self.plain.bytes() + OVERHEAD_BYTES as u64
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.pieces = None;
        self.piece.clear();
        self.at = 0;
        Ok(())
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.pieces.is_none() {
            self.pieces = Some(self.start());
        }
        while self.at == self.piece.len() {
            let wait = Stopwatch::start();
            let next = self.pieces.as_ref().map(Receiver::recv);
            self.waited += wait.elapsed();
            match next {
                Some(Ok(piece)) => (self.piece, self.at) = (piece?, 0),
                _ => return Ok(0),
            }
        }
        let bytes = into.len().min(self.piece.len() - self.at);
        into[..bytes].copy_from_slice(&self.piece[self.at..self.at + bytes]);
        self.at += bytes;
        Ok(bytes)
    }
}
