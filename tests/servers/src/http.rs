//! As much HTTP/1.1 as the suites need, without a library: requests and answers.
//!
//! Messages are whole in memory.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::process::address;

/// Longest head of a message.
const HEAD_BYTES: u64 = 64 << 10;

/// A request or an answer.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// `GET /path HTTP/1.1`, or `HTTP/1.1 200 OK`.
    pub first_line: String,
    /// Names in lower case, with values.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of chunks.
    pub body: Vec<u8>,
}

impl Message {
    /// Makes an answer.
    pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            first_line: format!("HTTP/1.1 {status} Told"),
            headers: headers.iter().map(own).collect(),
            body: body.to_vec(),
        }
    }

    /// Makes an answer that says why not, as S3 and Google do.
    pub fn refusal(status: u16, code: &str) -> Self {
        let body =
            format!("<Error><Code>{code}</Code><Message>as the test wants</Message></Error>");
        let headers = [
            ("content-type", "application/xml"),
            ("x-ms-error-code", code),
        ];
        Self::answer(status, &headers, body.as_bytes())
    }

    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the method of a request.
    pub fn method(&self) -> &str {
        self.first_line.split(' ').next().unwrap_or("")
    }

    /// Returns path and query of a request, as they were sent.
    pub fn target(&self) -> &str {
        self.first_line.split(' ').nth(1).unwrap_or("")
    }

    /// Adds to the query of a request.
    pub(crate) fn add_to_query(&mut self, pairs: &str) {
        let target = self.target().to_owned();
        let sign = if target.contains('?') { '&' } else { '?' };
        self.first_line = format!("{} {target}{sign}{pairs} HTTP/1.1", self.method());
    }

    /// Returns the status of an answer.
    pub fn status(&self) -> u16 {
        let code = self.first_line.split(' ').nth(1);
        code.and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Reads a request; `None` when the other side has none any more.
    pub fn read_request(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        Self::read(from, true, true)
    }

    /// Reads the answer to a request.
    pub fn read_answer(from: &mut impl BufRead, has_body: bool) -> io::Result<Self> {
        let answer = Self::read(from, has_body, false)?;
        answer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn read(from: &mut impl BufRead, has_body: bool, is_request: bool) -> io::Result<Option<Self>> {
        let Some(mut message) = Self::read_head(from)? else {
            return Ok(None);
        };
        if !has_body || (!is_request && matches!(message.status(), 204 | 304)) {
            return Ok(Some(message));
        }
        match message.length() {
            _ if message.is_chunked() => read_chunks(from, &mut message.body)?,
            Some(length) => {
                message.body = vec![0; length];
                from.read_exact(&mut message.body)?;
            }
            _ if is_request => {}
            _ => drop(from.read_to_end(&mut message.body)?),
        }
        Ok(Some(message))
    }

    /// Reads the head of a message only; `None` when there is none any more.
    pub(crate) fn read_head(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut message = Self::default();
        let mut head = from.by_ref().take(HEAD_BYTES);
        loop {
            let mut line = String::new();
            if head.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let line = line.trim_end();
            if message.first_line.is_empty() {
                line.clone_into(&mut message.first_line);
            } else if let Some((name, value)) = line.split_once(':') {
                let name = name.to_ascii_lowercase();
                message.headers.push((name, value.trim().to_owned()));
            } else if line.is_empty() {
                return Ok(Some(message));
            }
        }
    }

    /// Returns the length of the body, where the head tells it.
    pub(crate) fn length(&self) -> Option<usize> {
        self.header("content-length")?.parse().ok()
    }

    /// Tells whether the body comes in chunks.
    pub(crate) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }

    /// Returns the head as it goes over the wire.
    pub(crate) fn head(&self) -> String {
        let mut head = format!("{}\r\n", self.first_line);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// Writes it with the length of its body; `body_bytes` of the body only, if given.
    pub fn write(&self, to: &mut impl Write, body_bytes: Option<usize>) -> io::Result<()> {
        let mut head = format!("{}\r\n", self.first_line);
        let mut has_length = false;
        for (name, value) in &self.headers {
            if name == "transfer-encoding" {
                continue;
            }
            // The answer to a HEAD tells a length that its body does not have.
            has_length |= name == "content-length";
            head += &format!("{name}: {value}\r\n");
        }
        if !has_length && self.status() != 204 {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        to.write_all(format!("{head}\r\n").as_bytes())?;
        let bytes = body_bytes.unwrap_or(self.body.len()).min(self.body.len());
        to.write_all(&self.body[..bytes])
    }
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let digits = line.trim().split(';').next().unwrap_or("");
        let length = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + length, 0);
        from.read_exact(&mut body[start..])?;
        from.read_line(&mut String::new())?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// Returns the head of the answer to a HEAD.
pub fn head(port: u16, path: &str) -> io::Result<Message> {
    let mut stream = TcpStream::connect(address(port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut message = Message::answer(0, &[("host", "127.0.0.1")], b"");
    message.first_line = format!("HEAD {path} HTTP/1.1");
    message.write(&mut stream, None)?;
    Message::read_answer(&mut BufReader::new(stream), false)
}

/// Asks the server on `port` and returns status and body.
pub fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address(port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut message = Message::answer(0, headers, body);
    message.first_line = format!("{method} {path} HTTP/1.1");
    let host = ("host".to_owned(), format!("127.0.0.1:{port}"));
    message.headers.push(host);
    message.write(&mut stream, None)?;
    let answer = Message::read_answer(&mut BufReader::new(stream), method != "HEAD")?;
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    Ok((answer.status(), body))
}
