//! A root as the image's, with the program of this build instead of the released one.
//!
//! `cargo test` has no release build, and a debug build is linked dynamically: so the libraries
//! that it asks for are in this root too. Code of the built-in plugins is compiled ahead, as in the
//! image. It is made once for each build of the program and kept below `target/`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use super::{MOUNT_POINTS, open_to_all};
use crate::program;

/// Built-in plugins, in `plugins/built`.
const PLUGINS: [&str; 3] = [
    "scheduling-kopia",
    "splitting-short-packs",
    "retention-kopia",
];

/// Returns the root; `None` where there is no program, which the kit has said then.
pub(super) fn root() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        let program = program::careen()?;
        Some(find_or_make(program).expect("a root can be made"))
    };
    MADE.get_or_init(make).as_deref()
}

fn find_or_make(program: &Path) -> io::Result<PathBuf> {
    let disk = crate::disk();
    let built = fs::metadata(program)?;
    let time = built.modified()?.duration_since(UNIX_EPOCH);
    let time = time.unwrap_or_default().as_nanos();
    let root = disk.join(format!("image-{}-{time}", built.len()));
    if root.exists() {
        return Ok(root);
    }
    let new = tempfile::Builder::new()
        .prefix("new-image-")
        .tempdir_in(&disk)?;
    fill(program, new.path())?;
    open_to_all(new.path(), 0o755)?;
    for entry in fs::read_dir(&disk)? {
        let entry = entry?;
        // Of an earlier build.
        if entry.file_name().to_string_lossy().starts_with("image-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    // Whoever was faster has made the same.
    match fs::rename(new.path(), &root) {
        Err(error) if !root.exists() => Err(error),
        _ => Ok(root),
    }
}

fn fill(program: &Path, root: &Path) -> io::Result<()> {
    for folder in ["plugins", "scratch"].iter().chain(&MOUNT_POINTS) {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(program, root.join("careen"))?;
    for library in libraries(program)? {
        let inside = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(inside.parent().unwrap_or(root))?;
        fs::copy(&library, inside)?;
    }
    let mut compile = Command::new(program);
    compile.args(["plugin", "compile", "--plugin-cache"]);
    compile.arg(root.join("plugins"));
    for name in PLUGINS {
        let file = format!("plugins/built/{name}.wasm");
        compile.arg(crate::workspace_root().join(file));
    }
    let compiled = compile.output()?;
    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(
        compiled.status.success(),
        "plugins are not compiled: {said}"
    );
    open_to_all(&root.join("plugins"), 0o755)?;
    for entry in fs::read_dir(root.join("plugins"))? {
        open_to_all(&entry?.path(), 0o644)?;
    }
    Ok(())
}

/// Returns the libraries that a program is linked with, and its loader; none where it is static.
fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = Command::new("ldd").arg(program).output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let paths = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}
