//! Compiled code that somebody has touched is never loaded: the plugin is compiled again, and the
//! run goes on.
//!
//! Machine code with one flipped bit can do anything in the host's process, so it must not get
//! there at all. Every region of both files of an entry is flipped; entries of others, links,
//! rights and owners are tried too. Memory: the code.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use guests::answers::splits;
use guests::splitting::splitting;

use super::ship::{Ship, Strategy};

/// Places of the code that are flipped, one run each.
const REGIONS: usize = 8;

/// Returns the files of the cache with this extension.
fn files(cache: &Path, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(cache).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    files.sort();
    files
}

/// An entry of the cache, and the guest whose it is.
struct Entry<'a> {
    ship: &'a Ship,
    guest: PathBuf,
    code: PathBuf,
    seal: PathBuf,
    good: (Vec<u8>, Vec<u8>),
}

impl<'a> Entry<'a> {
    /// Lets the program make one.
    fn new(ship: &'a Ship) -> Self {
        let guest = ship.path("honest.wasm");
        // Answers, and is refused by the check: the repository stays as it is.
        fs::write(&guest, splitting(&splits(1, (0, 0), (0, 0)))).unwrap();
        let cache = ship.path("cache/careen");
        let mut entry = Self {
            ship,
            guest,
            code: PathBuf::new(),
            seal: PathBuf::new(),
            good: (Vec::new(), Vec::new()),
        };
        entry.runs("a new entry", false);
        [entry.code] = files(&cache, "cwasm").try_into().unwrap();
        [entry.seal] = files(&cache, "blake3").try_into().unwrap();
        entry.good = (
            fs::read(&entry.code).unwrap(),
            fs::read(&entry.seal).unwrap(),
        );
        entry.runs("an entry", false);
        entry
    }

    /// Runs the guest, which must answer as ever; `warned` says whether the program had to compile
    /// it again.
    fn runs(&self, moment: &str, warned: bool) {
        let ended = self
            .ship
            .careen_with(Strategy::Split, self.guest.to_str().unwrap());
        let message = self
            .ship
            .ended_by(&ended, "plugin-answer-refused", moment, true);
        assert!(
            message.contains("shards of 1 entries"),
            "{moment}: {message}"
        );
        let says = ended.stdout.contains("cached code is not used")
            || ended.stdout.contains("plugin cache is not used");
        assert_eq!(says, warned, "{moment}: {ended:?}");
    }

    /// Runs the guest after something was done to its entry; the entry must be good again, and
    /// there for the next run.
    fn mends(&self, moment: &str) {
        self.runs(moment, true);
        assert_eq!(
            fs::read(&self.code).unwrap().len(),
            self.good.0.len(),
            "{moment}"
        );
        self.runs(moment, false);
    }

    fn flip(&self, path: &Path, at: usize) {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 0x10;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn flipped_bits_are_found() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let entry = Entry::new(&ship);
    let length = entry.good.0.len();
    for region in 0..REGIONS {
        let at = region * length / REGIONS + length / REGIONS / 2;
        entry.flip(&entry.code, at);
        entry.mends(&format!("byte {at} of the code"));
    }
    for at in [0, 31] {
        entry.flip(&entry.seal, at);
        entry.mends(&format!("byte {at} of the seal"));
    }
    let code = File::options().write(true).open(&entry.code).unwrap();
    code.set_len(length as u64 / 2).unwrap();
    entry.mends("half of the code");
    fs::write(&entry.seal, b"").unwrap();
    entry.mends("an empty seal");
}

#[test]
fn entries_of_others_are_not_loaded() {
    let Some(ship) = Ship::launch() else {
        return;
    };
    let entry = Entry::new(&ship);
    // Another plugin's good entry under this one's name.
    let other = ship.path("other.wasm");
    fs::write(&other, splitting(&splits(2, (0, 0), (0, 0)))).unwrap();
    let ended = ship.careen_with(Strategy::Split, other.to_str().unwrap());
    assert!(ended.stdout.contains("shards of 2 entries"), "{ended:?}");
    for (extension, mine) in [("cwasm", &entry.code), ("blake3", &entry.seal)] {
        let mut found = files(&ship.path("cache/careen"), extension);
        found.retain(|file| file != mine);
        fs::copy(&found[0], mine).unwrap();
    }
    entry.mends("another's entry");
    // A link to good code elsewhere.
    let elsewhere = ship.path("elsewhere");
    fs::rename(&entry.code, &elsewhere).unwrap();
    symlink(&elsewhere, &entry.code).unwrap();
    entry.mends("a link");
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&entry.code, Permissions::from_mode(mode)).unwrap();
        entry.mends(&format!("mode {mode:o}"));
    }
    if rustix::process::geteuid().is_root() {
        chown(&entry.code, Some(12_345), None).unwrap();
        entry.mends("code of somebody else");
        chown(&entry.seal, Some(12_345), None).unwrap();
        entry.mends("a seal of somebody else");
    }
    let cache = ship.path("cache/careen");
    fs::set_permissions(&cache, Permissions::from_mode(0o777)).unwrap();
    entry.runs("a cache that all may write", true);
    fs::set_permissions(&cache, Permissions::from_mode(0o700)).unwrap();
    entry.runs("a cache of our own again", false);
    ship.sails_on();
}
