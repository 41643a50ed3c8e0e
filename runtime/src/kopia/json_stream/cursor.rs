//! Steps through JSON that may end anywhere: every step either succeeds, lacks bytes, or is wrong.
//!
//! Nothing is copied; strings are lent raw and unescaped only where somebody asks. Nesting is
//! counted, not recursed into. Memory: none.

use std::borrow::Cow;

/// Deepest nesting of a value that is skipped: as serde_json's.
const DEPTH_MAX: usize = 128;

/// Why a step did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kopia) enum Stop {
    /// The bytes end before the step does.
    More,
    /// It is not JSON, or not what is expected here.
    Bad(&'static str),
}

/// A JSON string as it stands between its quotes.
#[derive(Clone, Copy, Debug)]
pub(in crate::kopia) struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Text<'a> {
    /// Returns the bytes between the quotes.
    pub(in crate::kopia) fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Returns the text without escapes.
    pub(in crate::kopia) fn unescaped(&self) -> Result<Cow<'a, [u8]>, Stop> {
        if !self.escaped {
            return Ok(Cow::Borrowed(self.raw));
        }
        let mut quoted = Vec::with_capacity(self.raw.len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(self.raw);
        quoted.push(b'"');
        match serde_json::from_slice::<String>(&quoted) {
            Ok(text) => Ok(Cow::Owned(text.into_bytes())),
            Err(_) => Err(Stop::Bad("a string with a wrong escape")),
        }
    }

    /// Returns whether this is the field `name`, in whatever case.
    #[inline]
    pub(in crate::kopia) fn is(&self, name: &[u8]) -> bool {
        if !self.escaped {
            return self.raw.eq_ignore_ascii_case(name);
        }
        let text = self.unescaped();
        text.is_ok_and(|text| text.eq_ignore_ascii_case(name))
    }
}

/// A place in bytes of JSON.
#[derive(Clone, Debug)]
pub(in crate::kopia) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(in crate::kopia) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns how many bytes were taken.
    #[inline]
    pub(in crate::kopia) fn at(&self) -> usize {
        self.at
    }

    /// Goes over one byte that was peeked at.
    #[inline]
    pub(in crate::kopia) fn step(&mut self) {
        self.at += 1;
    }

    /// Returns the next byte that is not white space, without taking it.
    #[inline]
    pub(in crate::kopia) fn peek(&mut self) -> Result<u8, Stop> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Stop::More),
            }
        }
    }

    /// Takes `byte`, and white space before it.
    #[inline]
    pub(in crate::kopia) fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(Stop::Bad(match byte {
                b':' => "no colon behind a field's name",
                b',' => "no comma where one must be",
                b'{' => "no object where one must be",
                b'[' => "no list where one must be",
                _ => "no string where one must be",
            }));
        }
        self.at += 1;
        Ok(())
    }

    /// Takes a string.
    #[inline]
    pub(in crate::kopia) fn text(&mut self) -> Result<Text<'a>, Stop> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += plain_bytes(self.bytes.get(self.at..).unwrap_or_default());
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let raw = &self.bytes[start..self.at];
                    self.at += 1;
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return Err(Stop::Bad("a control character in a string")),
                None => return Err(Stop::More),
            }
        }
    }

    /// Takes an escape; what `\u` gives is looked at only when the text is unescaped.
    fn escape(&mut self) -> Result<(), Stop> {
        let digits = match self.bytes.get(self.at + 1) {
            None => return Err(Stop::More),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 0,
            Some(b'u') => 4,
            Some(_) => return Err(Stop::Bad("an unknown escape in a string")),
        };
        self.at += 2;
        for _ in 0..digits {
            match self.bytes.get(self.at) {
                None => return Err(Stop::More),
                Some(digit) if digit.is_ascii_hexdigit() => self.at += 1,
                Some(_) => return Err(Stop::Bad("an unknown escape in a string")),
            }
        }
        Ok(())
    }

    /// Takes a value of any kind. A number at the very end of the bytes may go on behind them.
    pub(in crate::kopia) fn skip_value(&mut self) -> Result<(), Stop> {
        if !matches!(self.peek()?, b'{' | b'[') {
            return self.skip_scalar();
        }
        self.skip_nested()
    }

    /// Takes a number of bytes: whole and not negative.
    pub(in crate::kopia) fn unsigned(&mut self) -> Result<u64, Stop> {
        const BAD: Stop = Stop::Bad("no length where one must be");
        self.peek()?;
        let start = self.at;
        self.digits();
        let digits = self.bytes.get(start..self.at).unwrap_or_default();
        let value = match self.bytes.get(self.at) {
            None => return Err(Stop::More),
            Some(b'.' | b'e' | b'E') => return Err(BAD),
            Some(_) => std::str::from_utf8(digits).ok(),
        };
        value.and_then(|text| text.parse().ok()).ok_or(BAD)
    }

    /// Takes an object or a list. One bit a level says which of the two is open.
    #[cold]
    fn skip_nested(&mut self) -> Result<(), Stop> {
        let (mut depth, mut objects) = (0usize, 0u128);
        loop {
            let opened = match self.peek()? {
                open @ (b'{' | b'[') => {
                    if depth == DEPTH_MAX {
                        return Err(Stop::Bad("nested too deeply"));
                    }
                    self.at += 1;
                    depth += 1;
                    objects = (objects << 1) | u128::from(open == b'{');
                    true
                }
                _ => {
                    self.skip_scalar()?;
                    false
                }
            };
            if opened {
                let close = if objects & 1 == 1 { b'}' } else { b']' };
                if self.peek()? != close {
                    self.skip_name(objects & 1 == 1)?;
                    continue;
                }
            }
            // A value has ended: go out as far as brackets close, then to the next one.
            loop {
                let object = objects & 1 == 1;
                match self.peek()? {
                    b'}' if object => {}
                    b']' if !object => {}
                    b',' => {
                        self.at += 1;
                        self.skip_name(object)?;
                        break;
                    }
                    _ => return Err(Stop::Bad("no comma where one must be")),
                }
                self.at += 1;
                depth -= 1;
                objects >>= 1;
                if depth == 0 {
                    return Ok(());
                }
            }
        }
    }

    fn skip_name(&mut self, object: bool) -> Result<(), Stop> {
        if object {
            self.text()?;
            self.expect(b':')?;
        }
        Ok(())
    }

    fn skip_scalar(&mut self) -> Result<(), Stop> {
        match self.peek()? {
            b'"' => self.text().map(|_| ()),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    fn word(&mut self, word: &'static [u8]) -> Result<(), Stop> {
        for byte in word {
            match self.bytes.get(self.at) {
                None => return Err(Stop::More),
                Some(found) if found == byte => self.at += 1,
                Some(_) => return Err(Stop::Bad("an unknown word")),
            }
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Stop> {
        const BAD: Stop = Stop::Bad("a value of no known kind");
        if self.bytes.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            Some(_) => return Err(BAD),
            None => return Err(Stop::More),
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits(BAD)?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits(BAD)?;
        }
        Ok(())
    }

    fn some_digits(&mut self, bad: Stop) -> Result<(), Stop> {
        match self.bytes.get(self.at) {
            Some(b'0'..=b'9') => {
                self.digits();
                Ok(())
            }
            Some(_) => Err(bad),
            None => Err(Stop::More),
        }
    }

    fn digits(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }
}

/// Returns how many bytes at the front need no look: no quote, no backslash, no control character.
#[inline]
fn plain_bytes(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let found = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let found = found & HIGH;
        if found != 0 {
            // Only a byte behind one that is really found can be marked wrongly.
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let plain = rest
        .iter()
        .take_while(|byte| **byte >= 0x20 && **byte != b'"' && **byte != b'\\');
    at + plain.count()
}
