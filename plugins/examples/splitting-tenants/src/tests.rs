//! Whose snapshots are, and which packs are rewritten, by configuration: the strategy natively,
//! asked as the host does.

use std::collections::BTreeSet;

use careen_guest_sdk::kit;
use careen_guest_sdk::tenants::{Owner, SnapshotRow, Tag};

use super::*;

fn row(source: (&str, &str, &str), tags: &[(&str, &str)]) -> SnapshotRow {
    let (user, host, path) = source;
    let tag = |(key, value): &(&str, &str)| Tag {
        key: (*key).into(),
        value: (*value).into(),
    };
    SnapshotRow {
        host: host.into(),
        user: user.into(),
        path: path.into(),
        tags: tags.iter().map(tag).collect(),
    }
}

fn configured(json: &str) -> ByTenant {
    ByTenant::configure(json).unwrap()
}

#[test]
fn named_tenants_come_first_then_tags_then_sources() {
    let mut strategy = configured(
        r#"{
            "tenants": [
                { "name": "red", "sources": ["*@db-*.red.example.org:*", "ruth@*"] },
                { "name": "audit", "sources": ["*"], "tags": { "audit": "y*" } },
                { "name": "red", "sources": ["*@*:/srv/red/*"] }
            ],
            "others-by-tag": "ns"
        }"#,
    );
    let rows = [
        row(
            ("root", "db-1.red.example.org", "/"),
            &[("tag:audit", "yes")],
        ),
        row(("ruth", "laptop", "/home"), &[]),
        row(("x", "y", "/srv/red/a"), &[]),
        row(("root", "db-1.blue.example.org", "/"), &[("audit", "yes")]),
        row(("default", "default", "/a"), &[("tag:ns", "shop")]),
        row(("default", "default", "/b"), &[("tag:ns", "shop")]),
        row(("default", "default", "/c"), &[("tag:ns", "mail")]),
        row(("default", "default", "/d"), &[]),
        row(("default", "default", "/e"), &[]),
        row(("default", "other", "/e"), &[("audit", "no")]),
    ];
    let given = kit::assign(&mut strategy, &rows).unwrap();
    assert_eq!(given, [1, 1, 1, 2, 3, 3, 4, 5, 5, 6]);
}

#[test]
fn other_snapshots_are_counted_as_configured() {
    let rows = kit::snapshots_of_tenants();
    let tenants = |json: &str| {
        let given = kit::assign(&mut configured(json), &rows).unwrap();
        given.into_iter().collect::<BTreeSet<u8>>().len()
    };
    assert_eq!(tenants(r#"{ "others": "one-tenant" }"#), 1);
    let by_host = tenants(r#"{ "others": "by-host" }"#);
    assert_eq!(tenants("{}"), by_host);
    assert!(tenants(r#"{ "others": "by-source" }"#) > by_host);
    assert_eq!(tenants(r#"{ "others-by-tag": "ns" }"#), by_host - 1 + 7);
}

#[test]
fn short_packs_go_and_mixed_ones_as_configured() {
    let packs = kit::owned_packs();
    let most = packs.pack_bytes_max;
    let chosen = |json: &str| kit::repack_by_owner(&mut configured(json), &packs).unwrap();
    let usual = chosen("{}");
    let all = chosen(r#"{ "mixed-percent": 95 }"#);
    for (row, (usual, all)) in packs.packs.iter().zip(usual.iter().zip(&all)) {
        let is_mixed = row.owner == Owner::Mixed;
        let percent = row.used_bytes * 100 / most;
        assert!(*usual == 0 || percent < 60);
        assert!(*all == *usual || (is_mixed && (60..95).contains(&percent)));
    }
    let count = |groups: &[u8]| groups.iter().filter(|group| **group > 0).count();
    assert!(count(&usual) > 300 && count(&all) > count(&usual));
    let none = chosen(r#"{ "short-percent": 0, "mixed-percent": 0 }"#);
    assert_eq!(count(&none), 0);
}

#[test]
fn without_owners_nothing_is_rewritten() {
    let chosen = kit::repack(&mut configured("{}"), &kit::packs()).unwrap();
    assert!(chosen.iter().all(|group| *group == 0));
}
