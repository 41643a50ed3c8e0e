//! Programs on fresh copies of a repository in SeaweedFS.
//!
//! Each run has a prefix of its own. Kopia always goes through a proxy: it does not tell what it
//! asks. Memory: a blob for each carrier.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use careen::blob::Storage;
use careen::blob::object::WireLimits;
use careen::blob::object::location::Location;
use kit::data_dir::DataDir;
use kit::kopia::{IDENTITY, Kopia};
use kit::object_stores::{Place, carry_there, s3};
use kit::programs::{PASSWORD, run_in_group};
use servers::counting_proxy::{Asked, CountingProxy};
use servers::seaweedfs;

use crate::LIMIT_MIB;
use crate::table::Row;

/// Gives every blob of a folder the present time, as it has where it is carried to.
pub(crate) fn touch(folder: &Path) {
    let folder = DataDir::open(folder).expect("a repository was made");
    for blob in folder.list().expect("it can be listed") {
        let moved = folder.set_time(&blob.id, SystemTime::now().into());
        moved.expect("its files are ours");
    }
}

/// Where the copies are, and who works on them.
pub(crate) struct There<'a> {
    careen: &'a Path,
    source: &'a Path,
    scratch: PathBuf,
}

impl<'a> There<'a> {
    /// Copies `source`; scratch lies in `work`.
    pub(crate) fn new(careen: &'a Path, source: &'a Path, work: &Path) -> Self {
        Self {
            careen,
            source,
            scratch: work.join("scratch"),
        }
    }

    /// Makes a copy.
    fn carry(&self) -> Place {
        let place = s3().expect("it was there before");
        let source = DataDir::open(self.source).expect("a repository was made");
        carry_there(&source, &Storage::new(place.store(&WireLimits::default())));
        place
    }

    /// Runs careen; with a delay it goes through a proxy that counts.
    pub(crate) fn careen(&self, name: &str, words: &[&str], delay: Option<Duration>) -> Row {
        let place = self.carry();
        let proxy = delay.map(|delay| {
            let proxy = CountingProxy::before(place.port);
            proxy.delay(delay);
            proxy
        });
        let place = match &proxy {
            Some(proxy) => place.through(proxy.port()),
            None => place,
        };
        let Location::S3(s3) = &place.location else {
            unreachable!("it is a place in SeaweedFS");
        };
        let mut command = Command::new(self.careen);
        command
            .args(words)
            .args(["--json", "--insecure-plain-http", "--memory"])
            .arg(format!("{LIMIT_MIB}MiB"))
            .arg("--scratch")
            .arg(&self.scratch)
            .arg("--endpoint")
            .arg(s3.endpoint.as_deref().unwrap_or_default())
            .arg(format!("s3://{}/{}", s3.bucket, s3.prefix))
            .env("KOPIA_PASSWORD", PASSWORD)
            .env("AWS_ACCESS_KEY_ID", seaweedfs::ACCESS_KEY)
            .env("AWS_SECRET_ACCESS_KEY", seaweedfs::SECRET_KEY);
        let run = run_in_group(&command, Some(LIMIT_MIB));
        Row::new(name, run, proxy.map(|proxy| proxy.take()))
    }

    /// Lets `curl` ask the server for what careen asked it for, its GETs and PUTs and nothing else:
    /// what the server takes by itself. Without `curl` the row says so.
    pub(crate) fn nobody(&self, name: &str, asked: &Asked) -> Row {
        let place = self.carry();
        let Location::S3(s3) = &place.location else {
            unreachable!("it is a place in SeaweedFS");
        };
        let endpoint = s3.endpoint.as_deref().unwrap_or_default();
        let mut requests = String::new();
        let zeros = self.scratch.with_extension("zeros");
        let mut request = |key: &str, rest: &str| {
            let url = format!("{endpoint}/{}/{}{key}", s3.bucket, s3.prefix);
            let next = if requests.is_empty() { "" } else { "next\n" };
            requests += &format!("{next}url = \"{url}\"\noutput = \"/dev/null\"\nfail\n{rest}");
        };
        let mut puts = 0;
        for (id, blob) in asked.blobs_of(&[""]) {
            // What careen has written itself is not there to be read.
            let is_there = blob.puts == 0 && blob.missing == 0;
            for (first, end) in blob.reads.iter().filter(|_| is_there) {
                match first {
                    0 => request(id, ""),
                    _ => request(id, &format!("range = \"{first}-{end}\"\n")),
                }
            }
            for _ in 0..blob.puts {
                puts += 1;
                let path = format!("{}-{puts}", zeros.display());
                let body = std::fs::File::create(&path).expect("room");
                body.set_len(blob.put_bytes / blob.puts).expect("room");
                let file = format!("upload-file = \"{path}\"\n");
                request(&format!("nobody-{puts}"), &file);
            }
        }
        let list = self.scratch.with_extension("curl");
        std::fs::write(&list, requests).expect("room");
        let mut command = Command::new("curl");
        command
            .args(["-s", "-Z", "--parallel-max", "32", "-K"])
            .arg(list);
        Row::new(name, run_in_group(&command, None), None)
    }

    /// Runs Kopia through a proxy that counts.
    pub(crate) fn kopia(&self, name: &str, kopia: &Kopia, words: &[&str], delay: Duration) -> Row {
        let place = self.carry();
        let proxy = CountingProxy::before(place.port);
        let place = place.through(proxy.port());
        let remote = place.for_kopia().expect("it is a place in SeaweedFS");
        let client = kopia.connect_at(&remote, PASSWORD, IDENTITY);
        let client = client.unwrap_or_else(|error| panic!("{error}"));
        client.forget().expect("its cache is ours");
        proxy.take();
        proxy.delay(delay);
        let run = run_in_group(&client.command(words), None);
        Row::new(name, run, Some(proxy.take()))
    }
}
