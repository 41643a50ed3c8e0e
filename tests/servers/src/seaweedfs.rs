//! SeaweedFS: S3 with conditional puts, versions and object locks.
//!
//! One server for the process; every suite takes a bucket, or a prefix in one, of its own.

use std::io;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::http::request;
use crate::process::{Server, free_port, until_ready};

/// The access key that it knows.
pub const ACCESS_KEY: &str = "test";
/// Its secret.
pub const SECRET_KEY: &str = "testtest";

/// Who may do what: one with a key, and for setting up everybody.
const IDENTITIES: &str = r#"{"identities":[
{"name":"t","credentials":[{"accessKey":"test","secretKey":"testtest"}],
 "actions":["Admin","Read","Write","List","Tagging"]},
{"name":"anonymous","actions":["Admin"]}]}"#;

/// The running server.
#[derive(Debug)]
pub struct SeaweedFs {
    /// The port of its S3 interface.
    pub port: u16,
    /// Held while a bucket is made: of two that make the same one, it may lose it for good.
    making: Mutex<()>,
    _server: Server,
}

/// Returns the server of this process, started by the first who asks; `None` if there is none.
///
/// # Panics
///
/// When it is there and does not start.
pub fn shared() -> Option<&'static SeaweedFs> {
    static SHARED: OnceLock<Option<SeaweedFs>> = OnceLock::new();
    SHARED.get_or_init(start).as_ref()
}

/// Starts another server; `None` if there is none here.
///
/// # Panics
///
/// When it is there and does not start.
pub fn start() -> Option<SeaweedFs> {
    let weed = crate::find("CAREEN_WEED", "python/bin/weed", "weed")?;
    let start = || -> io::Result<SeaweedFs> {
        let folder = Server::folder("seaweedfs")?;
        let identities = folder.join("s3.json");
        std::fs::write(&identities, IDENTITIES)?;
        let port = free_port();
        let mut command = Command::new(&weed);
        command
            .args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer"])
            .args(["-s3", "-master.volumeSizeLimitMB=256", "-volume.max=50"])
            .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
            .arg("-master.telemetry=false")
            .arg(format!("-dir={}", folder.display()))
            .arg(format!("-s3.config={}", identities.display()))
            .arg(format!("-s3.port={port}"))
            .arg(format!("-s3.port.grpc={}", free_port()));
        for part in ["master", "volume", "filer"] {
            command
                .arg(format!("-{part}.port={}", free_port()))
                .arg(format!("-{part}.port.grpc={}", free_port()));
        }
        let server = Server::start(folder, &command, port)?;
        let server = SeaweedFs {
            port,
            making: Mutex::default(),
            _server: server,
        };
        until_ready(|| server.try_bucket("careen-first", false))?;
        Ok(server)
    };
    Some(start().expect("SeaweedFS starts"))
}

impl SeaweedFs {
    /// Makes a bucket, with object locks if asked for; one that is there is fine.
    ///
    /// # Panics
    ///
    /// When the server does not.
    pub fn bucket(&self, name: &str, locks: bool) {
        self.try_bucket(name, locks).expect("a bucket is made");
    }

    fn try_bucket(&self, name: &str, locks: bool) -> io::Result<()> {
        let locked = ("x-amz-bucket-object-lock-enabled", "true");
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let headers = if locks { &[locked][..] } else { &[] };
        let (status, body) = request(self.port, "PUT", &format!("/{name}"), headers, b"")?;
        if matches!(status, 200 | 409) {
            return Ok(());
        }
        Err(io::Error::other(format!("{status}: {body}")))
    }
}
