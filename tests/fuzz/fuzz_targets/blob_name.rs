//! Names of blobs, sets, sessions and contents: a listing may hold anything.
//!
//! What a name says must be what its prefix says again; a set's members are names of the listing.

#![no_main]

use careen::kopia::blob_id::{self, BlobId};
use careen::kopia::complete_set::group_sets;
use careen::kopia::content_id::ContentId;
use careen::kopia::sealed_blob::iv_of_name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for name in text.lines() {
        one(name);
    }
    let names: Vec<BlobId> = text.lines().map(BlobId::from).collect();
    let sets = group_sets(&names);
    let members: usize = sets.iter().map(|set| set.members.len()).sum();
    assert!(
        members <= names.len(),
        "{members} members of {} names",
        names.len()
    );
});

fn one(name: &str) {
    if let Some(epoch) = blob_id::uncompacted_epoch(name) {
        assert_eq!(
            blob_id::uncompacted_epoch(&blob_id::xn_prefix(epoch)),
            Some(epoch)
        );
    }
    if let Some(epoch) = blob_id::compacted_epoch(name) {
        assert_eq!(
            blob_id::compacted_epoch(&blob_id::xs_prefix(epoch)),
            Some(epoch)
        );
    }
    if let Some((first, last)) = blob_id::range_epochs(name) {
        let prefix = blob_id::xr_prefix(first, last);
        assert_eq!(blob_id::range_epochs(&prefix), Some((first, last)));
    }
    let _ = (
        blob_id::epoch_marker(name),
        blob_id::watermark_seconds(name),
    );
    if let Some(member) = blob_id::set_member(name) {
        assert!(member.set.starts_with('s') && name.contains(member.set));
    }
    if let Some(session) = blob_id::session_of(name) {
        assert!(session.starts_with('s') && name.contains(session));
    }
    let _ = iv_of_name(name);
    if let Ok(id) = ContentId::parse(name) {
        let again = ContentId::parse(&id.to_string()).expect("what we write");
        assert!(again.key() == id.key() && id.to_string().eq_ignore_ascii_case(name));
    }
}
