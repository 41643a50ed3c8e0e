//! A bucket of SeaweedFS behind a proxy, laid out as Velero does it, so that a test can hold a run
//! in its middle. Without the server its one line is said and the test passes.

use careen::blob::Storage;
use careen::blob::object::WireLimits;
use careen::blob::object::location::Location;
use kit::golden::Golden;
use kit::object_stores::{self, Place, carry_there};
use serde_json::json;
use servers::fault_proxy::{Fault, FaultProxy, Kind, Seen};
use servers::gate::Gate;

use super::installation::Installation;

/// The repository that Kopia 0.17.0 made in Velero's way.
const GOLDEN: &str = "velero-0.17.0";

/// The location's name.
pub(crate) const LOCATION: &str = "bucket";

/// The bucket.
pub(crate) struct Bucket {
    pub(crate) proxy: FaultProxy,
    place: Place,
    prefix: String,
}

impl Bucket {
    /// Makes a location of a fresh prefix.
    pub(crate) fn fresh(velero: &Installation<'_>) -> Option<Self> {
        let place = object_stores::s3()?;
        let Location::S3(s3) = &place.location else {
            panic!("another store");
        };
        let made = Self {
            proxy: FaultProxy::before(place.port),
            prefix: s3
                .prefix
                .replace("/kopia/", "-")
                .trim_end_matches('/')
                .to_owned(),
            place,
        };
        made.serve(velero);
        Some(made)
    }

    /// Makes it a location of another installation too.
    pub(crate) fn serve(&self, velero: &Installation<'_>) {
        let Location::S3(s3) = &self.place.location else {
            panic!("another store");
        };
        let keys = "[default]\naws_access_key_id=test\naws_secret_access_key=testtest\n";
        velero.secret("cloud-credentials", "cloud", keys);
        let spec = json!({
            "provider": "aws",
            "config": {
                "s3Url": format!("http://127.0.0.1:{}", self.proxy.port()),
                "region": "us-east-1", "s3ForcePathStyle": "true",
            },
            "objectStorage": { "bucket": s3.bucket, "prefix": self.prefix },
        });
        velero.location(LOCATION, &spec);
    }

    /// Returns the place of a namespace's repository, past the proxy.
    pub(crate) fn place(&self, namespace: &str) -> Place {
        let mut place = self.place.clone();
        if let Location::S3(s3) = &mut place.location {
            s3.prefix = format!("{}/kopia/{namespace}/", self.prefix);
        }
        place
    }

    /// Makes a repository in it and records it; returns its name.
    pub(crate) fn repository(&self, velero: &Installation<'_>, namespace: &str) -> String {
        let storage = Storage::new(self.place(namespace).store(&WireLimits::default()));
        carry_there(&Golden::open(GOLDEN).data(), &storage);
        velero.record(namespace, LOCATION)
    }

    /// Holds runs in their middle: after the schedule is written, before anything else is. Returns
    /// a gate for each namespace.
    pub(crate) fn hold<const N: usize>(&self, namespaces: [&str; N]) -> [Gate; N] {
        let gates = namespaces.map(|name| (format!("/kopia/{name}/"), Gate::default()));
        let own = gates.clone();
        self.proxy.rule(move |seen| {
            let gate = own.iter().find(|(path, _)| seen.target.contains(path));
            match gate {
                Some((_, gate)) if is_work(seen) => Fault::Wait(gate.clone()),
                _ => Fault::Pass,
            }
        });
        gates.map(|(_, gate)| gate)
    }
}

fn is_work(seen: Seen<'_>) -> bool {
    matches!(seen.kind, Kind::Put | Kind::Delete) && !seen.target.contains("kopia.maintenance")
}
