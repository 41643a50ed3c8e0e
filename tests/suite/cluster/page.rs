//! The page for new users says what works: its commands are typed as they stand.
//!
//! `runtime/deploy/README.md`, against the API server, in the namespace that it names. Commands are
//! given to kubectl and jq, which are said to be missing where they are. The program's answers come
//! from the pods that the controllers made of the page's Jobs.

use std::fs;

/// Returns the page.
fn page() -> String {
    fs::read_to_string(kit::workspace_root().join("runtime/deploy/README.md")).unwrap()
}

/// Returns the overlay that the page has a user write.
pub(super) fn kustomization() -> String {
    let page = page();
    let (_, rest) = page.split_once("```yaml\n").unwrap();
    let (text, _) = rest.split_once("```\n").unwrap();
    assert!(text.contains("kind: Kustomization"), "{text}");
    text.to_owned()
}
