//! Tests of the folder: what is on the disk, what is foreign, what is refused.
//! The contract that all stores keep is tested in `contract.rs`.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::blob::{BytesSource, LIST_PAGE_MAX, Storage};
use crate::clock::Stopwatch;

const PACK: &str = "p0123456789abcdef0123456789abcdef-s0123456789abcdef123";

fn fast() -> LocalOptions {
    LocalOptions {
        durable: false,
        ..LocalOptions::default()
    }
}

fn open(root: &Path) -> Storage {
    Storage::new(Arc::new(LocalStore::open(root, fast()).unwrap()))
}

fn folder(shards: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(".shards"), shards).unwrap();
    folder
}

fn write(root: &Path, file: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, file).unwrap();
}

fn scan(storage: &Storage, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    let visit = |blob: ScannedBlob<'_>| {
        names.push(blob.id.to_owned());
        ControlFlow::Continue(())
    };
    storage.scan(prefix, visit).unwrap();
    names.sort();
    names
}

fn pages(storage: &Storage, prefix: &str, limit: usize) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let after = names.last().map(BlobId::new);
        let page = storage.list(prefix, after.as_ref(), limit).unwrap();
        names.extend(page.iter().map(|blob| blob.id.to_string()));
        if page.len() < limit {
            return names;
        }
    }
}

/// Checks that every way of listing shows exactly `names`.
fn assert_blobs(storage: &Storage, names: &[&str]) {
    assert_eq!(scan(storage, ""), names);
    for limit in [1, 2, LIST_PAGE_MAX] {
        assert_eq!(pages(storage, "", limit), names);
    }
}

#[test]
fn what_is_wrong_with_the_folder_has_a_name() {
    let code = |root: &Path| LocalStore::open(root, fast()).unwrap_err().code();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    assert_eq!(code(&root.join("missing")), "no-folder");
    fs::write(root.join("file"), "").unwrap();
    assert_eq!(code(&root.join("file")), "not-a-folder");
    assert_eq!(code(&root.join("file/below")), "not-a-folder");
    assert_eq!(
        LocalStore::create(&root.join("file"), fast())
            .unwrap_err()
            .code(),
        "not-a-folder"
    );
    fs::write(root.join(".shards"), "{").unwrap();
    assert_eq!(code(root), "corrupt-shards");
    fs::write(root.join(".shards"), "x".repeat(70_000)).unwrap();
    assert_eq!(code(root), "corrupt-shards");

    let closed = root.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
    if fs::read_dir(&closed).is_err() {
        // The superuser may read it.
        assert_eq!(code(&closed), "storage-permission");
    }
}

#[test]
fn a_missing_layout_is_not_guessed_but_described() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (file, has_format_blob, observed) in [
        ("lost+found/x", false, &[][..]),
        ("kopia.repository.f", true, &[]),
        ("p01/234/56789abcdef.f", true, &[3, 3]),
        ("q/abc/56789abcdef.f", true, &[1, 3]),
    ] {
        write(root, file);
        let error = LocalStore::open(root, fast()).unwrap_err();
        let (code, shown) = match has_format_blob {
            true => ("missing-shards", format!("{observed:?}")),
            false => ("no-repository", "no repository".into()),
        };
        assert_eq!(error.code(), code);
        assert!(observed.is_empty() && has_format_blob || error.to_string().contains(&shown));
        let BlobError::MissingShards {
            has_format_blob: found,
            observed_shards,
            ..
        } = error
        else {
            panic!("the code says so");
        };
        assert_eq!(
            (found, observed_shards.as_slice()),
            (has_format_blob, observed)
        );
        assert!(!root.join(".shards").exists());
    }
    // Nor is a new layout put over an old repository.
    let error = LocalStore::create(root, fast()).unwrap_err();
    assert_eq!(error.code(), "missing-shards");
}

#[test]
fn a_new_folder_is_as_kopia_makes_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("new/repository");
    let store = LocalStore::create(&root, LocalOptions::default()).unwrap();
    let storage = Storage::new(Arc::new(store));
    let id = BlobId::new(PACK);
    let timestamp = storage
        .put_bytes(&id, b"bytes", &PutOptions::default())
        .unwrap();

    let shards = fs::read_to_string(root.join(".shards")).unwrap();
    assert_eq!(shards, "{\"default\":[1,3],\"maxNonShardedLength\":20}\n");
    let file = root.join(format!("p/012/{}.f", &PACK[4..]));
    let found = fs::metadata(&file).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(Timestamp::from(found.modified().unwrap()), timestamp);
    for made in [root.join("p"), root.join("p/012"), root.clone()] {
        let mode = fs::metadata(made).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    let mut localities = Vec::new();
    let scan = storage.scan("", |blob| {
        localities.push(blob.locality);
        ControlFlow::Continue(())
    });
    scan.unwrap();
    assert_eq!(localities, [found.ino()]);
    assert_eq!(storage.location(), root.display().to_string());

    // Creating it again keeps the layout and the blobs.
    fs::write(root.join(".shards"), "{\"default\":[2]}").unwrap();
    LocalStore::create(&root, fast()).unwrap();
    assert_eq!(
        fs::read_to_string(root.join(".shards")).unwrap(),
        "{\"default\":[2]}"
    );
}

#[test]
fn foreign_files_are_not_blobs() {
    let folder = folder(r#"{"default":[1,3],"maxNonShardedLength":20}"#);
    let root = folder.path();
    for file in [
        "kopia.repository.f",
        "p/012/3456789abcdef0123456789abcdef.f",
        // Not blobs:
        "xe7.f.tmp.0123456789abcdef",
        "p/012/3456.f.tmp.0123456789abcdef",
        "xe7",
        ".f",
        "notes.txt",
        "kopia.repository.f.bak",
        "lost+found/p12.f",
    ] {
        write(root, file);
    }
    fs::create_dir(root.join("xe9.f")).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"p\xff.f")), "").unwrap();
    symlink("nowhere", root.join("xe10.f")).unwrap();
    symlink(".", root.join("xe11.f")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("xe12.f")).unwrap();
    let storage = open(root);
    let expected = ["kopia.repository", "p0123456789abcdef0123456789abcdef"];
    assert_blobs(&storage, &expected);

    // A link to a file counts, as in Kopia.
    symlink(root.join("notes.txt"), root.join("xe7.f")).unwrap();
    assert_blobs(&storage, &[expected[0], expected[1], "xe7"]);
    assert_eq!(storage.metadata(&BlobId::new("xe7")).unwrap().length, 9);
}

#[test]
fn misplaced_blobs_are_shown_unless_there_is_one_in_place() {
    // Goal: nothing that Kopia lists is left out (an index that silently loses entries loses data),
    // and no blob is shown twice.
    let folder = folder(r#"{"default":[1,3],"maxNonShardedLength":20}"#);
    let root = folder.path();
    let placed = format!("p/012/{}.f", &PACK[4..]);
    write(root, &format!("p01/234/{}.f", &PACK[6..]));
    write(root, "p01/2.f");
    let storage = open(root);
    assert_blobs(&storage, &["p012", PACK]);
    assert!(
        storage
            .metadata(&BlobId::new(PACK))
            .unwrap_err()
            .is_not_found()
    );
    write(root, &placed);
    assert_blobs(&storage, &["p012", PACK]);
    let page = storage.list(PACK, None, 2).unwrap();
    assert_eq!(page[0].length, placed.len() as u64);
}

#[test]
fn a_failed_put_leaves_no_file_and_the_root_is_never_made_anew() {
    let folder = folder(r#"{"default":[1,3],"maxNonShardedLength":20}"#);
    let root = folder.path();
    let storage = open(root);
    let id = BlobId::new(PACK);
    // Its place is taken by a folder, so that the last step fails.
    fs::create_dir_all(root.join(format!("p/012/{}.f/x", &PACK[4..]))).unwrap();
    let error = storage
        .put_bytes(&id, b"x", &PutOptions::default())
        .unwrap_err();
    assert_eq!(error.code(), "storage-io");
    assert_eq!(fs::read_dir(root.join("p/012")).unwrap().count(), 1);

    let retention = crate::blob::Retention {
        mode: "COMPLIANCE".to_owned(),
        until: Timestamp::default(),
    };
    let options = PutOptions {
        retention: Some(retention),
        ..PutOptions::default()
    };
    let error = storage.put_bytes(&id, b"x", &options).unwrap_err();
    assert_eq!(error.code(), "storage-unsupported");

    fs::remove_dir_all(root).unwrap();
    for error in [
        storage
            .put_bytes(&id, b"x", &PutOptions::default())
            .unwrap_err(),
        storage.list("p", None, 1).unwrap_err(),
        storage
            .scan("p", |_| ControlFlow::Continue(()))
            .unwrap_err(),
    ] {
        assert_eq!(error.code(), "no-folder");
    }
    assert!(!root.exists());
}

#[test]
fn a_name_cannot_leave_the_folder() {
    let folder = folder(r#"{"default":[2,2],"maxNonShardedLength":0}"#);
    let storage = open(folder.path());
    for name in ["..etc", "ab..cd"] {
        let put = storage.put_bytes(&BlobId::new(name), b"", &PutOptions::default());
        assert_eq!(put.unwrap_err().code(), "invalid-blob-name");
    }
    for name in ["..", "a.b.c", "~"] {
        storage
            .put_bytes(&BlobId::new(name), b"", &PutOptions::default())
            .unwrap();
    }
    assert_blobs(&storage, &["..", "a.b.c", "~"]);
}

#[test]
fn folders_that_kopia_made_are_read_as_they_are() {
    // Goal: files of repositories that Kopia 0.23.1 wrote, in both layouts, map to their IDs and
    // back.
    let files_1_3 = [
        "_/log/_20260901080000_0c33_1788249600_1788249600_1_0800aedde35e8d46675c442dd66232a9.f",
        "kopia.blobcfg.f",
        "kopia.maintenance.f",
        "kopia.repository.f",
        "p/13e/42f61218950560272c84e55182afb-s33abe13434e4af1c144.f",
        "p/f87/2a8b888470ae6baa38e1e80e53c8b-sba5569d4f1b9b45d144.f",
        "q/018/50a5f817c8496b0839f51835f27a1-sba5569d4f1b9b45d144.f",
        "x/n0_/2c1b93e3eddec176f6fd14ed8ec13c56-s62741a99473b3afa144-c1.f",
        "x/n0_/eee104cc18a5ea59b21f429b3f51b2f5-s401115ebbb9fa483144-c1.f",
    ];
    let files_3_3 = [
        "kopia.blobcfg.f",
        "kopia.maintenance.f",
        "kopia.repository.f",
        "l24/db7/e21d9a276ebcf5e96b2403e6c8f.f",
        "m83/1c2/d02abf17b0a0088d9eced59d5a2.f",
        "n07/9c7/38e17cb3f8105d2bac6db907045-s1fdf7c63c830f471143.f",
        "n3a/092/a8e9b52376ba0ca26fe2d46b19b-sb6a8de626c2f10d8143.f",
    ];
    for (sizes, files) in [("[1,3]", &files_1_3[..]), ("[3,3]", &files_3_3)] {
        let shards = format!(r#"{{"default":{sizes},"maxNonShardedLength":20}}"#);
        let folder = folder(&shards);
        let root = folder.path();
        let mut names: Vec<String> = Vec::new();
        for file in files {
            write(root, file);
            names.push(file.replace('/', "").trim_end_matches(".f").to_owned());
        }
        names.sort();
        let storage = open(root);
        assert_blobs(
            &storage,
            &names.iter().map(String::as_str).collect::<Vec<_>>(),
        );
        for name in names {
            // Each file holds its own path.
            let bytes = storage.get_all(&BlobId::new(&name), 1000).unwrap();
            assert!(files.iter().any(|file| file.as_bytes() == bytes));
        }
    }
}

/// Names over a small alphabet, so that prefixes, folders and files collide often.
fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set("[pqx0_]{1,9}", 0..40).prop_map(|names| names.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Pages of any size are the sorted scan, in any layout, even one that was changed in between.
    #[test]
    fn pages_are_the_sorted_scan(
        names in names(),
        sizes in prop::collection::vec(0_usize..4, 0..4),
        other in prop::collection::vec(0_usize..4, 0..3),
        unsharded in 0..6,
        prefix in "[pqx0]{0,3}",
        limit in 1_usize..7,
    ) {
        let text = |default: &[usize]| format!(
            r#"{{"default":{default:?},"maxNonShardedLength":{unsharded},
                "overrides":[{{"prefix":"q","shards":{other:?}}}]}}"#
        );
        let folder = folder(&text(&sizes));
        for (half, layout) in names.chunks(names.len() / 2 + 1).zip([&sizes, &other]) {
            fs::write(folder.path().join(".shards"), text(layout)).unwrap();
            let storage = open(folder.path());
            for name in half {
                let mut source = BytesSource::new(name);
                storage.put(&BlobId::new(name), &mut source, &PutOptions::default()).unwrap();
            }
        }
        let storage = open(folder.path());
        let mut expected = names.clone();
        expected.retain(|name| name.starts_with(&prefix));
        prop_assert_eq!(&scan(&storage, &prefix), &expected);
        prop_assert_eq!(&pages(&storage, &prefix, limit), &expected);
    }
}

#[test]
#[ignore = "a measurement; CAREEN_FILES and CAREEN_SHARDS choose the folder"]
fn measure_many_files() {
    let files: u64 = std::env::var("CAREEN_FILES").map_or(200_000, |text| text.parse().unwrap());
    let sizes = std::env::var("CAREEN_SHARDS").unwrap_or("[1,3]".to_owned());
    let folder = folder(&format!(
        r#"{{"default":{sizes},"maxNonShardedLength":20}}"#
    ));
    let storage = open(folder.path());
    let watch = Stopwatch::start();
    for number in 0..files {
        let hash = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let id = BlobId::new(format!("p{hash:016x}{hash:016x}-s0123456789abcdef123"));
        storage
            .put_bytes(&id, b"x", &PutOptions::default())
            .unwrap();
    }
    println!("{sizes}, {files} files: put {:?}", watch.elapsed());
    let peak = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status
            .lines()
            .find(|line| line.starts_with("VmHWM"))
            .unwrap()
            .to_owned()
    };
    println!("before: {}", peak());
    for round in ["first", "second"] {
        let watch = Stopwatch::start();
        let mut scanned = 0;
        let visit = |_: ScannedBlob<'_>| {
            scanned += 1;
            ControlFlow::Continue(())
        };
        storage.scan("p", visit).unwrap();
        assert_eq!(scanned, files);
        println!("{round} scan {:?}, {}", watch.elapsed(), peak());
        let watch = Stopwatch::start();
        let mut listed = 0;
        let all: Result<(), BlobError> = storage.for_each("p", |_| {
            listed += 1;
            Ok(())
        });
        all.unwrap();
        assert_eq!(listed, files);
        println!("{round} pages {:?}, {}", watch.elapsed(), peak());
    }
}
