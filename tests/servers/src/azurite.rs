//! Azurite: Azure's blob storage, by the vendor.
//!
//! One server for the process; every suite takes a container, or a prefix in one, of its own.

use std::io;
use std::process::Command;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::http::request;
use crate::process::{Server, free_port, until_ready};

/// The account that every emulator has.
pub const ACCOUNT: &str = "devstoreaccount1";
/// Its key, which is public.
pub const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Any moment: the emulator does not look at it.
const DATE: &str = "Thu, 26 Nov 2026 00:00:00 GMT";
const VERSION: &str = "2023-11-03";

/// The running server.
#[derive(Debug)]
pub struct Azurite {
    /// The port of its blob interface.
    pub port: u16,
    _server: Server,
}

/// Returns the server of this process, started by the first who asks; `None` if there is none.
///
/// # Panics
///
/// When it is there and does not start.
pub fn shared() -> Option<&'static Azurite> {
    static SHARED: OnceLock<Option<Azurite>> = OnceLock::new();
    SHARED.get_or_init(start).as_ref()
}

fn start() -> Option<Azurite> {
    let program = "javascript/node_modules/.bin/azurite-blob";
    let azurite = crate::find("CAREEN_AZURITE", program, "azurite-blob")?;
    let start = || -> io::Result<Azurite> {
        let folder = Server::folder("azurite")?;
        let port = free_port();
        let mut command = Command::new(&azurite);
        command
            .args(["--blobHost", "127.0.0.1", "--silent"])
            .args(["--skipApiVersionCheck", "--disableTelemetry"])
            .arg("--blobPort")
            .arg(port.to_string())
            .arg("-l")
            .arg(&folder);
        let server = Server::start(folder, &command, port)?;
        let server = Azurite {
            port,
            _server: server,
        };
        until_ready(|| server.try_container("careen-first"))?;
        Ok(server)
    };
    Some(start().expect("Azurite starts"))
}

/// Returns a shared access signature that allows everything for ever, as a query.
pub(crate) fn shared_signature() -> String {
    let text = format!("{ACCOUNT}\nrwdlac\nb\nsco\n\n2100-01-01\n\n\n2020-12-06\n\n");
    let signature = signed(&text);
    let signature = signature
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    format!("sv=2020-12-06&ss=b&srt=sco&sp=rwdlac&se=2100-01-01&sig={signature}")
}

/// Signs a text with the account's key.
fn signed(text: &str) -> String {
    let key = STANDARD.decode(KEY).expect("the key is base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length will do");
    mac.update(text.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

impl Azurite {
    /// Makes a container; one that is there is fine.
    ///
    /// # Panics
    ///
    /// When the server does not.
    pub fn container(&self, name: &str) {
        self.try_container(name).expect("a container is made");
    }

    fn try_container(&self, name: &str) -> io::Result<()> {
        let path = format!("/{ACCOUNT}/{name}?restype=container");
        // The emulator has the account in the path, and once more before it in what is signed.
        let text = format!(
            "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{DATE}\nx-ms-version:{VERSION}\n\
             /{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        );
        let authorization = format!("SharedKey {ACCOUNT}:{}", signed(&text));
        let headers = [
            ("x-ms-date", DATE),
            ("x-ms-version", VERSION),
            ("authorization", &authorization),
        ];
        let (status, body) = request(self.port, "PUT", &path, &headers, b"")?;
        match status {
            201 | 409 => Ok(()),
            _ => Err(io::Error::other(format!("{status}: {body}"))),
        }
    }
}
