//! The body of a put: the source, piece by piece.
//!
//! One request whatever the length, so that nothing is left over when it breaks off. The caller
//! reads pieces of the source while the connection sends those before; a source that ends early or
//! late breaks the request off before its last piece, so that the store never has a wrong blob.
//! Memory: [`PIECES_AHEAD`] pieces between the two, one on each side.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use md5::{Digest, Md5};
use sha2::Sha256;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::answer::Call;
use crate::blob::source::copy_source;
use crate::blob::{BlobError, BlobSource, PIECE_BYTES};

/// Pieces that wait for the connection.
const PIECES_AHEAD: usize = 1;

/// The end that the connection reads.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: Receiver<Bytes>,
    left: u64,
}

/// The end that is fed.
#[derive(Debug)]
pub(super) struct Feed {
    pieces: Sender<Bytes>,
    length: u64,
}

/// Makes a body of `length` bytes.
pub(super) fn body(length: u64) -> (Feed, Pieces) {
    let (sender, receiver) = channel(PIECES_AHEAD);
    let feed = Feed {
        pieces: sender,
        length,
    };
    let pieces = Pieces {
        pieces: receiver,
        left: length,
    };
    (feed, pieces)
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(piece) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Some(Ok(Frame::data(piece)))
            }
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Feed {
    /// Hands the whole source over; ends early, without an error, when the connection wants no
    /// more.
    ///
    /// Errors: the source's; `Transient` when the connection takes nothing for `stall`.
    pub(super) async fn run(
        self,
        source: &mut dyn BlobSource,
        call: Call<'_>,
        stall: Duration,
    ) -> Result<(), BlobError> {
        let failed = |error| BlobError::io(call.operation, call.id, error);
        source.rewind().map_err(failed)?;
        let mut left = self.length;
        while left > 0 {
            let room = PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES));
            let mut piece = vec![0; room];
            fill(source, &mut piece).map_err(failed)?;
            left -= room as u64;
            if left == 0 && read(source, &mut [0; 1]).map_err(failed)? != 0 {
                let kind = io::ErrorKind::InvalidData;
                return Err(failed(io::Error::new(
                    kind,
                    "the source is longer than it said",
                )));
            }
            match tokio::time::timeout(stall, self.pieces.send(piece.into())).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Ok(()),
                Err(_) => return Err(stalled(call, stall)),
            }
        }
        Ok(())
    }
}

/// Makes the error of a request that hangs.
pub(super) fn stalled(call: Call<'_>, stall: Duration) -> BlobError {
    BlobError::Transient {
        operation: call.operation,
        id: call.id.to_owned(),
        reason: format!("nothing came or went for {} s", stall.as_secs_f32()),
    }
}

fn fill(source: &mut dyn BlobSource, into: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < into.len() {
        match read(source, &mut into[filled..])? {
            0 => {
                let kind = io::ErrorKind::UnexpectedEof;
                return Err(io::Error::new(kind, "the source is shorter than it said"));
            }
            count => filled += count,
        }
    }
    Ok(())
}

fn read(source: &mut dyn BlobSource, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match source.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Digests of a whole source, as headers want them.
pub(super) struct Digests {
    pub(super) sha256: [u8; 32],
    pub(super) md5: String,
}

impl Digests {
    pub(super) fn of(source: &mut dyn BlobSource) -> io::Result<Self> {
        let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
        copy_source(source, |piece| {
            sha256.update(piece);
            md5.update(piece);
            Ok(())
        })?;
        Ok(Self {
            sha256: sha256.finalize().into(),
            md5: base64_of(&md5.finalize()),
        })
    }
}

/// Returns base64, as headers have it.
pub(super) fn base64_of(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}
