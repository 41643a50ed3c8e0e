//! The way of a proxy to the server behind it: one connection, made with the first request.
//!
//! What all proxies here have in common. Messages that go by [`Way::ask`] are whole in memory.

use std::io::{self, BufReader};
use std::net::TcpStream;

use crate::http::Message;
use crate::process::address;

/// Bytes that are read together.
pub(crate) const PIECE_BYTES: usize = 64 << 10;

/// The way to a server.
#[derive(Debug)]
pub(crate) struct Way {
    port: u16,
    sides: Option<(TcpStream, BufReader<TcpStream>)>,
}

impl Way {
    /// Makes the way to the server on `port`; nothing is connected yet.
    pub(crate) fn to(port: u16) -> Self {
        Self { port, sides: None }
    }

    /// Returns where to write to the server and where to read from it.
    pub(crate) fn sides(&mut self) -> io::Result<&mut (TcpStream, BufReader<TcpStream>)> {
        if self.sides.is_none() {
            let to = TcpStream::connect(address(self.port))?;
            to.set_nodelay(true)?;
            let from = BufReader::with_capacity(PIECE_BYTES, to.try_clone()?);
            self.sides = Some((to, from));
        }
        self.sides
            .as_mut()
            .ok_or(io::ErrorKind::NotConnected.into())
    }

    /// Sends a request and returns its answer.
    pub(crate) fn ask(&mut self, request: &Message) -> io::Result<Message> {
        let (to, from) = self.sides()?;
        request.write(to, None)?;
        Message::read_answer(from, request.method() != "HEAD")
    }
}
