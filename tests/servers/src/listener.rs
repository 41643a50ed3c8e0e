//! A server inside the test's own process: a thread for each connection.
//!
//! Connections end when the other side ends them, or nothing comes for a minute.

use std::io::{self, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::process::address;

/// Connections that nothing comes from end after this time.
const IDLE: Duration = Duration::from_secs(60);

/// What a connection is served by.
pub(crate) type Serve =
    Arc<dyn Fn(TcpStream, BufReader<TcpStream>) -> io::Result<()> + Send + Sync>;

/// A listening server; it takes no more connections when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Its port.
    pub(crate) port: u16,
    ends: Arc<AtomicBool>,
}

impl Listener {
    /// Listens on a free port.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub(crate) fn start(serve: Serve) -> Self {
        let listener = TcpListener::bind(address(0)).expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let ends = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ends);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || {
                    // A connection that breaks is what the tests are about.
                    let _ = connection(stream, &serve);
                });
            }
        });
        Self { port, ends }
    }
}

fn connection(stream: TcpStream, serve: &Serve) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_nodelay(true)?;
    let reader = BufReader::with_capacity(64 << 10, stream.try_clone()?);
    serve(stream, reader)
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        // Wakes it, so that it sees that it ends.
        let _ = TcpStream::connect(address(self.port));
    }
}
