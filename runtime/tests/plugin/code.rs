//! Compiled code on disk: found again, checked before it is loaded, refused where others could
//! write it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use careen::maintenance::strategy::Splitting;
use careen::plugin::{PluginSource, load, parse_pinned_file, parse_plugin_argument};

use super::component::{answer, splitting};
use super::{load_wasm, options, question};

/// Loads a guest that answers `entries`; without a compiler when `compiler` is false.
fn entries(cache: &Path, entries: u32, compiler: bool) -> Result<u64, &'static str> {
    let wasm = splitting(&answer(entries, (0, 0), (0, 0)));
    let mut plugin = load_wasm(&wasm, |options| {
        options.cache_directory = Some(cache.into());
        if !compiler {
            options.compile.program = Some("/does/not/exist".into());
        }
    })
    .map_err(|error| error.code())?;
    Ok(plugin.split(&question(1)).unwrap().shard_entries)
}

fn files(cache: &Path, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(cache).unwrap();
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().unwrap() == extension);
    files.sort();
    files
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn code_is_compiled_once_and_kept_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("a/b");
    assert_eq!(entries(&cache, 100_000, false), Err("plugin-io"));
    assert_eq!(entries(&cache, 100_000, true), Ok(100_000));
    assert_eq!(entries(&cache, 100_000, false), Ok(100_000));
    assert_eq!(mode(&cache), 0o700);
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
    for file in fs::read_dir(&cache).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
}

#[test]
fn a_failed_compilation_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let error = load_wasm(b"no component", |options| {
        options.cache_directory = Some(directory.path().into());
    });
    assert!(error.is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn flipped_bytes_are_found_before_the_code_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path();
    assert_eq!(entries(cache, 100_000, true), Ok(100_000));
    let [code] = files(cache, "cwasm").try_into().unwrap();
    let [seal] = files(cache, "blake3").try_into().unwrap();
    let good = fs::read(&code).unwrap();
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&code, &bad).unwrap();
        assert_eq!(
            entries(cache, 100_000, false),
            Err("plugin-io"),
            "byte {at}"
        );
    }
    fs::write(&code, &good[..good.len() - 1]).unwrap();
    assert_eq!(entries(cache, 100_000, false), Err("plugin-io"));
    fs::write(&code, &good).unwrap();
    assert_eq!(entries(cache, 100_000, false), Ok(100_000));
    for bad in [&[0; 32][..], b""] {
        fs::write(&seal, bad).unwrap();
        assert_eq!(entries(cache, 100_000, false), Err("plugin-io"));
    }
    // With its compiler it mends itself.
    assert_eq!(entries(cache, 100_000, true), Ok(100_000));
    assert_eq!(entries(cache, 100_000, false), Ok(100_000));
}

#[test]
fn an_entry_under_anothers_name_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path();
    assert_eq!(entries(cache, 100_000, true), Ok(100_000));
    let first = (
        files(cache, "cwasm").remove(0),
        files(cache, "blake3").remove(0),
    );
    assert_eq!(entries(cache, 200_000, true), Ok(200_000));
    let other = |extension, first: &PathBuf| {
        let mut files = files(cache, extension);
        files.retain(|file| file != first);
        files.remove(0)
    };
    fs::copy(&first.0, other("cwasm", &first.0)).unwrap();
    fs::copy(&first.1, other("blake3", &first.1)).unwrap();
    assert_eq!(entries(cache, 200_000, false), Err("plugin-io"));
    assert_eq!(entries(cache, 100_000, false), Ok(100_000));
}

#[test]
fn what_others_may_write_is_not_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path();
    assert_eq!(entries(cache, 100_000, true), Ok(100_000));
    for open in [0o770, 0o707, 0o777] {
        fs::set_permissions(cache, Permissions::from_mode(open)).unwrap();
        assert_eq!(entries(cache, 100_000, false), Err("plugin-io"));
        assert_eq!(entries(cache, 100_000, true), Ok(100_000));
    }
    fs::set_permissions(cache, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(entries(cache, 100_000, false), Ok(100_000));
    let [code] = files(cache, "cwasm").try_into().unwrap();
    fs::set_permissions(&code, Permissions::from_mode(0o620)).unwrap();
    assert_eq!(entries(cache, 100_000, false), Err("plugin-io"));
    // A link out of the directory is not followed.
    let outside = tempfile::tempdir().unwrap();
    let elsewhere = outside.path().join("code");
    fs::rename(&code, &elsewhere).unwrap();
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o600)).unwrap();
    symlink(&elsewhere, &code).unwrap();
    assert_eq!(entries(cache, 100_000, false), Err("plugin-io"));
}

#[test]
fn without_a_cache_each_start_compiles_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    assert_eq!(entries(&file, 100_000, true), Ok(100_000));
    assert_eq!(entries(&file, 100_000, false), Err("plugin-io"));
    let wasm = splitting(&answer(100_000, (0, 0), (0, 0)));
    let mut plugin = load_wasm(&wasm, |options| options.cache_directory = None).unwrap();
    assert_eq!(plugin.split(&question(1)).unwrap().shard_entries, 100_000);
}

#[test]
fn old_entries_make_room() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path();
    for number in 0..20 {
        let name = format!("{number:064}");
        fs::write(cache.join(format!("{name}.cwasm")), b"old").unwrap();
        fs::write(cache.join(format!("{name}.blake3")), b"old").unwrap();
    }
    assert_eq!(entries(cache, 100_000, true), Ok(100_000));
    assert_eq!(files(cache, "cwasm").len(), 16);
    assert_eq!(files(cache, "blake3").len(), 16);
    assert_eq!(entries(cache, 100_000, false), Ok(100_000));
}

#[test]
fn compiled_code_from_an_author_is_not_a_plugin() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(entries(directory.path(), 100_000, true), Ok(100_000));
    let code = fs::read(files(directory.path(), "cwasm").remove(0)).unwrap();
    let error = load_wasm(&code, |_| ()).err().unwrap();
    assert_eq!(error.code(), "plugin-compile", "{error}");
}

#[test]
fn two_starts_at_once_share_a_cache() {
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path();
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| entries(cache, 100_000, true)))
            .collect();
        for load in loads {
            assert_eq!(load.join().unwrap(), Ok(100_000));
        }
    });
    assert_eq!(fs::read_dir(cache).unwrap().count(), 2);
}

#[test]
fn a_pin_is_checked_before_anything_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mine.wasm");
    let wasm = splitting(&answer(100_000, (0, 0), (0, 0)));
    fs::write(&path, &wasm).unwrap();
    let argument = |digest: &str| format!("splitting={}@blake3:{digest}", path.display());
    let good = argument(&blake3::hash(&wasm).to_hex());
    let mut plugin = load(options(parse_plugin_argument(&good).unwrap())).unwrap();
    assert_eq!(plugin.split(&question(1)).unwrap().shard_entries, 100_000);
    let bad = parse_plugin_argument(&argument(&"0".repeat(64))).unwrap();
    let error = load(options(bad)).err().unwrap();
    assert_eq!(error.code(), "plugin-digest-mismatch");
    assert!(
        error
            .to_string()
            .starts_with("plugin mine: pinned to blake3 000"),
        "{error}"
    );
}

#[test]
fn arguments_are_read_strictly() {
    let file = |path: &str, blake3| PluginSource::File {
        path: path.into(),
        blake3,
    };
    let pin = "ab".repeat(32);
    let good = |argument: &str| parse_plugin_argument(argument).unwrap();
    assert_eq!(good("splitting=x.wasm"), file("x.wasm", None));
    assert_eq!(good("splitting=a@b/x.wasm"), file("a@b/x.wasm", None));
    assert_eq!(good("splitting=a@b.wasm"), file("a@b.wasm", None));
    let pinned = file("a@b.wasm", Some([0xab; 32]));
    assert_eq!(good(&format!("splitting=a@b.wasm@blake3:{pin}")), pinned);
    let bare = format!("a@b.wasm@blake3:{pin}");
    assert_eq!(parse_pinned_file(bare.as_ref()).unwrap(), pinned);
    assert_eq!(
        parse_pinned_file("a@b/x.wasm".as_ref()).unwrap(),
        file("a@b/x.wasm", None)
    );
    let error = parse_pinned_file("x.wasm@blake3:ab".as_ref()).unwrap_err();
    assert_eq!(error.code(), "plugin-argument");
    for bad in [
        "x.wasm".to_owned(),
        "splitting=".into(),
        "retention=x.wasm".into(),
        format!("splitting=@blake3:{pin}"),
        "splitting=x.wasm@blake3:".into(),
        format!("splitting=x.wasm@blake3:{pin}00"),
        format!("splitting=x.wasm@sha256:{pin}"),
        format!("splitting=x.wasm@blake3:{}zz", &pin[..62]),
    ] {
        let error = parse_plugin_argument(&bad).unwrap_err();
        assert_eq!(error.code(), "plugin-argument", "{bad}");
    }
}
