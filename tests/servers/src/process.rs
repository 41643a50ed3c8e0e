//! A server's process, its folder and its ports.
//!
//! A shell stands in between: it waits for the end of its standard input, which comes when the
//! process that started it is gone, by whatever way; then it ends the server and removes the
//! folder.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to listen, on a busy machine.
const START: Duration = Duration::from_secs(120);

/// How long it may take from then until it works.
const READY: Duration = Duration::from_secs(60);

const SCRIPT: &str = "folder=$1; shift; \"$@\" >\"$folder/log\" 2>&1 </dev/null & server=$!; \
                      read _; kill $server; wait $server; rm -rf \"$folder\"";

/// A server that runs until this is dropped or the process ends.
#[derive(Debug)]
pub struct Server {
    shell: Child,
    folder: PathBuf,
}

impl Server {
    /// Makes an empty folder for the server `name`.
    pub fn folder(name: &str) -> io::Result<PathBuf> {
        static NUMBER: AtomicU16 = AtomicU16::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = format!("careen-{name}-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Starts `command` and waits until `port` is listened to.
    pub fn start(folder: PathBuf, command: &Command, port: u16) -> io::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(&folder)
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::piped())
            .spawn()?;
        let mut server = Self { shell, folder };
        let start = Instant::now();
        while TcpStream::connect(address(port)).is_err() {
            let ended = server.shell.try_wait()?.is_some();
            if ended || start.elapsed() > START {
                let log = std::fs::read_to_string(server.folder.join("log"));
                let log = log.unwrap_or_default();
                return Err(io::Error::other(format!("it does not listen: {log}")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Tries until a server does what it is for: it listens some time before.
pub(crate) fn until_ready(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(_) if start.elapsed() < READY => std::thread::sleep(Duration::from_millis(100)),
            outcome => return outcome,
        }
    }
}

/// Returns the loopback address of a port.
pub fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Returns a port that nobody listens to, and below the ones that the system hands out.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let start = (std::process::id() as u16).wrapping_mul(37);
        let port = 10_000 + start.wrapping_add(number) % 20_000;
        if TcpListener::bind(address(port)).is_ok() {
            return port;
        }
    }
}
