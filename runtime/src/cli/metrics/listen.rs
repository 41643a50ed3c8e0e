//! Metrics of a run that is at work, for whoever asks: `GET /metrics`, one connection at a time.
//!
//! For long runs; a Job that ends within seconds is gone before anybody asks. No TLS, no names, no
//! secrets; everything but `/metrics` is a 404. The thread ends with the process. Memory: a thread
//! and the text.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::{Moment, exposition};
use crate::cli::ending::Ending;
use crate::cli::output::{Output, peak_memory_bytes};
use crate::clock::SharedClock;

/// Longest wait for somebody who has connected.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// What is told.
pub(in crate::cli) struct Told {
    /// What the command has learned.
    pub(in crate::cli) ending: Arc<Ending>,
    /// How long it runs.
    pub(in crate::cli) output: Arc<Output>,
    /// The time.
    pub(in crate::cli) clock: SharedClock,
}

/// Listens at `address` from now on; returns where, for a port that was 0.
///
/// # Errors
/// An address that cannot be had.
pub(in crate::cli) fn listen(address: SocketAddr, told: Told) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let own = listener.local_addr()?;
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever went away wanted nothing.
                let _gone = answer(stream, &told);
            }
        })?;
    Ok(own)
}

fn answer(mut stream: TcpStream, told: &Told) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let head = head(&mut stream)?;
    let (status, body) = match head.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] {
        [b"GET", b"/metrics", ..] => ("200 OK", text(told)),
        _ => ("404 Not Found", "the metrics are at /metrics\n".to_owned()),
    };
    let length = body.len();
    let start = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(start.as_bytes())?;
    stream.write_all(body.as_bytes())
}

/// Reads up to the empty line, or as much as a head may have.
fn head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while head.len() < HEAD_BYTES_MAX && !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            break;
        }
        head.extend_from_slice(&piece[..count]);
    }
    Ok(head)
}

fn text(told: &Told) -> String {
    let moment = Moment {
        exit: None,
        time: told.clock.now(),
        elapsed: told.output.elapsed(),
        peak_memory_bytes: peak_memory_bytes("self"),
    };
    exposition(&told.ending.known(), &moment, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Form;
    use crate::clock::SystemClock;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Goal: what is known by now is told, and a run is not said to have ended; method: a request,
    /// and what is none.
    #[test]
    fn what_is_known_is_told() {
        let ending = Arc::new(Ending::default());
        ending.note(|facts| facts.repository = "/backup".into());
        let clock: SharedClock = Arc::new(SystemClock);
        let told = Told {
            ending: Arc::clone(&ending),
            output: Arc::new(Output::new(Form::Text, Arc::clone(&clock))),
            clock,
        };
        let address = listen("127.0.0.1:0".parse().unwrap(), told).unwrap();
        ending.note(|facts| facts.memory_bytes = Some(64 << 20));
        let said = ask(address, "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        let line = "careen_budget_bytes{repository=\"/backup\"} 67108864\n";
        assert!(said.contains(line), "{said}");
        assert!(
            !said.contains("exit_code") && !said.contains("last_run"),
            "{said}"
        );
        for other in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST /metrics HTTP/1.1\r\n\r\n",
            "\r\n\r\n",
        ] {
            assert!(ask(address, other).starts_with("HTTP/1.1 404 "), "{other}");
        }
    }
}
