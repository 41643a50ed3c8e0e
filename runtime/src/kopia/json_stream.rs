//! Reads `{"stream":TAG,"entries":[…],…}` piece by piece: the form of directories and of indirect
//! objects.
//!
//! Such documents may have millions of entries and come in pieces that cut them anywhere, so they
//! are pushed: what is complete is handed on at once, what is not waits for the next piece. This is
//! where a mark spends its time, so strings are skipped eight bytes at a time and nothing is
//! allocated for an entry. Field names match without regard to case and unknown fields are skipped,
//! as Go does it; what Go would take silently (a field twice, bytes behind the end) is an error.
//!
//! Memory: the part of one entry, or of one other field, that is not complete: at most
//! [`ITEM_BYTES_MAX`].

mod cursor;

use std::borrow::Cow;

use super::FormatError;

pub(super) use self::cursor::{Cursor, Stop, Text};

/// Longest entry or other field, in bytes. Names have 255 bytes, summaries ten errors with their
/// paths.
const ITEM_BYTES_MAX: usize = 1 << 20;

/// Bytes of a new piece that are at least looked at to complete what waits.
const JOINED_BYTES: usize = 4 << 10;

/// What the entries of a stream are.
pub(super) trait Entries {
    /// The stream's tag.
    const STREAM: &'static str;
    /// An entry, lent while it is handed on.
    type Entry<'a>;
    /// Reads one entry; [`Stop::More`] when it is not complete.
    fn entry<'a>(cursor: &mut Cursor<'a>) -> Result<Self::Entry<'a>, Stop>;
}

/// Where in the document the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    /// Before a field; true for the first, which has no comma before it.
    Field(bool),
    /// Before an entry; true for the first.
    Entry(bool),
    End,
}

/// A document that is being read.
#[derive(Debug)]
pub(super) struct JsonStream {
    place: Place,
    tagged: bool,
    listed: bool,
    /// What is not complete yet.
    waiting: Vec<u8>,
    taken_bytes: u64,
}

impl JsonStream {
    pub(super) fn new() -> Self {
        Self {
            place: Place::Start,
            tagged: false,
            listed: false,
            waiting: Vec::new(),
            taken_bytes: 0,
        }
    }

    /// Starts with a new document; keeps what is allocated.
    pub(super) fn restart(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.clear();
        *self = Self {
            waiting,
            ..Self::new()
        };
    }

    /// Takes in the next piece and hands every entry that is complete to `each`. `what` names the
    /// document in errors.
    pub(super) fn push<L: Entries, E: From<FormatError>>(
        &mut self,
        mut piece: &[u8],
        what: &dyn std::fmt::Display,
        each: &mut impl FnMut(L::Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while !self.waiting.is_empty() && !piece.is_empty() {
            let mut waiting = std::mem::take(&mut self.waiting);
            let before = waiting.len();
            // As much again as waits, so that a long entry is not read too often.
            let (joined, rest) = piece.split_at(piece.len().min(before.max(JOINED_BYTES)));
            waiting.extend_from_slice(joined);
            let taken = self.take::<L, E>(&waiting, what, each)?;
            if taken >= before {
                // What waited is complete; the new bytes behind it are read where they lie.
                piece = &piece[taken - before..];
                waiting.clear();
            } else {
                piece = rest;
                waiting.drain(..taken);
            }
            self.waiting = waiting;
            self.check_waiting(self.waiting.len(), what)?;
        }
        if piece.is_empty() {
            return Ok(());
        }
        let taken = self.take::<L, E>(piece, what, each)?;
        self.check_waiting(piece.len() - taken, what)?;
        self.waiting.extend_from_slice(&piece[taken..]);
        Ok(())
    }

    /// Ends the document: it must be complete, and of the right kind.
    pub(super) fn finish<L: Entries>(
        &mut self,
        what: &dyn std::fmt::Display,
    ) -> Result<(), FormatError> {
        if self.place != Place::End || !self.waiting.is_empty() {
            return Err(self.bad(what, "the JSON is cut short"));
        }
        if !self.tagged {
            let reason = format!("not a stream {:?}", L::STREAM);
            return Err(FormatError::malformed(what.to_string(), reason));
        }
        Ok(())
    }

    fn check_waiting(&self, bytes: usize, what: &dyn std::fmt::Display) -> Result<(), FormatError> {
        if bytes <= ITEM_BYTES_MAX {
            return Ok(());
        }
        Err(self.bad(what, "an entry has more than a mebibyte"))
    }

    /// Takes complete items from the front of `bytes`; returns where the incomplete one begins.
    fn take<L: Entries, E: From<FormatError>>(
        &mut self,
        bytes: &[u8],
        what: &dyn std::fmt::Display,
        each: &mut impl FnMut(L::Entry<'_>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut cursor = Cursor::new(bytes);
        let mut taken = 0;
        let stop = loop {
            let step = match self.place {
                Place::Entry(first) => self.entry::<L>(&mut cursor, first),
                _ => self.frame::<L>(&mut cursor).map(|()| None),
            };
            match step {
                Ok(entry) => {
                    taken = cursor.at();
                    if let Some(entry) = entry {
                        each(entry)?;
                    }
                }
                Err(stop) => break stop,
            }
        };
        self.taken_bytes += taken as u64;
        match stop {
            Stop::More if self.place == Place::End => Ok(bytes.len()), // white space
            Stop::More => Ok(taken),
            Stop::Bad(reason) => Err(self.bad(what, reason).into()),
        }
    }

    /// Reads one entry, or the end of the list.
    #[inline]
    fn entry<'a, L: Entries>(
        &mut self,
        cursor: &mut Cursor<'a>,
        first: bool,
    ) -> Result<Option<L::Entry<'a>>, Stop> {
        let next = cursor.peek()?;
        if next == b']' {
            cursor.step();
            self.place = Place::Field(false);
            return Ok(None);
        }
        if !first {
            cursor.expect(b',')?;
        }
        let entry = L::entry(cursor)?;
        self.place = Place::Entry(false);
        Ok(Some(entry))
    }

    /// Reads what is around the entries: a brace, or a field up to its value's end.
    #[cold]
    fn frame<L: Entries>(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        match self.place {
            Place::Start => {
                cursor.expect(b'{')?;
                self.place = Place::Field(true);
            }
            Place::Field(first) => {
                if cursor.peek()? == b'}' {
                    cursor.step();
                    self.place = Place::End;
                    return Ok(());
                }
                if !first {
                    cursor.expect(b',')?;
                }
                self.field::<L>(cursor)?;
            }
            Place::Entry(_) => {}
            Place::End => {
                cursor.peek()?;
                return Err(Stop::Bad("bytes follow the JSON"));
            }
        }
        Ok(())
    }

    fn field<L: Entries>(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        let name = cursor.text()?;
        cursor.expect(b':')?;
        if name.is(b"stream") {
            let tag = cursor.text()?;
            if self.tagged {
                return Err(Stop::Bad("the field stream is there twice"));
            }
            if tag.unescaped()? != L::STREAM.as_bytes() {
                return Err(Stop::Bad("another stream than it must be"));
            }
            self.tagged = true;
        } else if name.is(b"entries") {
            if self.listed {
                return Err(Stop::Bad("the field entries is there twice"));
            }
            if cursor.peek()? == b'n' {
                cursor.skip_value()?; // Go writes null for a list that it never made
            } else {
                cursor.expect(b'[')?;
                self.place = Place::Entry(true);
                self.listed = true;
                return Ok(());
            }
            self.listed = true;
        } else {
            cursor.skip_value()?;
            cursor.peek()?; // a number may go on in the next piece
        }
        self.place = Place::Field(false);
        Ok(())
    }

    #[cold]
    fn bad(&self, what: &dyn std::fmt::Display, reason: &str) -> FormatError {
        let at = self.taken_bytes;
        FormatError::malformed(what.to_string(), format!("{reason} (behind byte {at})"))
    }
}

/// Reads the fields of an object, one call of `value` for each; `value` takes the value or says
/// false, then it is skipped.
pub(super) fn read_fields<'a>(
    cursor: &mut Cursor<'a>,
    mut value: impl FnMut(&Text<'a>, &mut Cursor<'a>) -> Result<bool, Stop>,
) -> Result<(), Stop> {
    cursor.expect(b'{')?;
    if cursor.peek()? == b'}' {
        cursor.step();
        return Ok(());
    }
    loop {
        let name = cursor.text()?;
        cursor.expect(b':')?;
        if !value(&name, cursor)? {
            cursor.skip_value()?;
        }
        match cursor.peek()? {
            b',' => cursor.step(),
            b'}' => {
                cursor.step();
                return Ok(());
            }
            _ => return Err(Stop::Bad("no comma between fields")),
        }
    }
}

/// Returns a text for a message, shortened.
pub(super) fn shown(text: &Text<'_>) -> String {
    const SHOWN_CHARS_MAX: usize = 64;
    let bytes = text.unescaped().unwrap_or(Cow::Borrowed(text.raw()));
    let text = String::from_utf8_lossy(&bytes);
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests;
