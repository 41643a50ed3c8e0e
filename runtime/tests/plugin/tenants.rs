//! The optional interface `tenants`: who has it is told whose packs are, who has not is asked as
//! before; an honest guest, hostile ones, and another form of it.

use careen::kopia::snapshot_manifest::SnapshotSource;
use careen::maintenance::strategy::{
    Owner, PackRow, RepackQuestion, Splitting, TaggedSource, check_tenants,
};
use careen::plugin::{PluginError, PluginSource, SplittingPlugin, load};
use guests::answers::{repacks, repacks_as};
use guests::tenants::{gives, tenants, tenants_of};

use super::component::{Guest, SPLIT, answer};
use super::{load_wasm, options};

const COUNT: &str = "(local.get 1)";

fn load_guest(component: &str, fuel: u64) -> Result<SplittingPlugin, PluginError> {
    let core = format!("{SPLIT} {})", answer(100_000, (0, 0), (0, 0)));
    let plain = repacks(16 << 20, (1024, 2));
    let guest = Guest {
        component,
        repack: &plain,
        ..Guest::new(&core)
    };
    load_wasm(&guest.wasm(), |options| options.limits.fuel = fuel)
}

fn snapshots(count: usize) -> Vec<TaggedSource> {
    let row = |number: usize| TaggedSource {
        source: SnapshotSource {
            host: format!("host-{number}"),
            user: "user".into(),
            path: "/größe".into(),
        },
        tags: [("tag:ns".into(), "a".into()), ("b".into(), String::new())].into(),
    };
    (0..count).map(row).collect()
}

fn packs(owner: Option<Owner>) -> RepackQuestion {
    let row = PackRow {
        metadata: false,
        used_bytes: 7,
        owner,
    };
    RepackQuestion {
        pack_bytes_max: 20 << 20,
        packs: vec![row; 2],
    }
}

/// Goal: packs with owners go to the interface, packs without to `repack`, and rows arrive whole.
#[test]
fn who_has_the_interface_is_told_owners() {
    // The size of new packs tells what came: the number in the second pack's owner.
    let owner = "(i64.extend_i32_u (i32.load16_u offset=40 (local.get 1)))";
    let by_owner = repacks_as(owner, ("(i32.const 2048)", "(local.get 2)"), (0, 0));
    let component = tenants(&gives("(i32.const 2048)", COUNT), &by_owner);
    let mut plugin = load_guest(&component, 20_000_000).unwrap();
    assert!(plugin.gives_tenants());
    assert_eq!(plugin.tenants(&snapshots(4)).unwrap(), [1, 2, 3, 4]);
    plugin.end_tenants();
    for (owner, told) in [
        (Owner::Nobody, 0),
        (Owner::One(250), 250 << 8 | 1),
        (Owner::Shared, 2),
        (Owner::Mixed, 3),
    ] {
        let plan = plugin.repack(&packs(Some(owner))).unwrap();
        assert_eq!(plan.groups, [1, 2]);
        let kind = plan.pack_bytes & 0xff;
        let tenant = if kind == 1 { plan.pack_bytes } else { kind };
        assert_eq!(tenant, told, "{owner:?}");
    }
    plugin.end_repack();
    assert_eq!(plugin.repack(&packs(None)).unwrap().pack_bytes, 16 << 20);
    let mut without = load_guest("", 20_000_000).unwrap();
    assert!(!without.gives_tenants());
    let plan = without.repack(&packs(Some(Owner::Shared))).unwrap();
    assert_eq!(plan.pack_bytes, 16 << 20, "it is asked as before");
    assert!(
        !load(options(PluginSource::Builtin))
            .unwrap()
            .gives_tenants()
    );
}

/// Goal: the questions about snapshots meet one instance, the next rewrite and packs others;
/// method: a guest that counts its calls.
#[test]
fn snapshots_and_packs_meet_different_instances() {
    let count = "(i32.store8 (i32.const 2048) (i32.load8_u (i32.const 3000)))";
    let next = "(i32.store8 (i32.const 3000) (i32.add (i32.load8_u (i32.const 3000)) \
                (i32.const 1)))";
    let assign = format!("{next} {count} {}", gives("(i32.const 2048)", COUNT));
    let plan = repacks_as(
        "(i64.load8_u (i32.const 2048))",
        ("(i32.const 0)", "(i32.const 0)"),
        (0, 0),
    );
    let component = tenants(&assign, &format!("{next} {count} {plan}"));
    let mut plugin = load_guest(&component, 20_000_000).unwrap();
    let mut ask = |times| {
        let answers = (0..times).map(|_| plugin.tenants(&snapshots(1)).unwrap()[0]);
        let answers: Vec<u8> = answers.collect();
        plugin.end_tenants();
        answers
    };
    assert_eq!((ask(3), ask(1)), (vec![1, 2, 3], vec![1]));
    let owned = packs(Some(Owner::One(1)));
    let sizes = [(); 2].map(|()| plugin.repack(&owned).unwrap().pack_bytes);
    assert_eq!(sizes, [1, 2]);
}

#[test]
fn hostile_answers_are_ended_or_refused() {
    for (assign, code) in [
        ("(loop (br 0)) (i32.const 0)".to_owned(), "plugin-fuel"),
        ("unreachable".to_owned(), "plugin-trap"),
        (gives("(i32.const 2048)", "(i32.const -1)"), "plugin-data"),
        (gives("(i32.const -4)", COUNT), "plugin-data"),
        ("(i32.const -8)".to_owned(), "plugin-data"),
        (
            format!(
                "(drop {}) (i32.store8 (i32.const 16) (i32.const 1)) (i32.const 16)",
                gives("(i32.const 2048)", "(i32.const 3)")
            ),
            "plugin-error",
        ),
    ] {
        let mut plugin = load_guest(&tenants(&assign, "unreachable"), 20_000_000).unwrap();
        for _ in 0..2 {
            let error = plugin.tenants(&snapshots(2)).unwrap_err();
            assert_eq!(error.code(), code, "{assign}: {error}");
        }
        assert_eq!(
            plugin
                .repack(&packs(Some(Owner::Nobody)))
                .unwrap_err()
                .code(),
            "plugin-trap"
        );
    }
    for (at, count, words) in [
        (2048, 60_000, "60000 tenants of 4 snapshots"),
        (2048, 0, "0 tenants of 4 snapshots"),
        (2049, 4, "tenant 0"),
        (2053, 4, "tenant 251"),
    ] {
        let (at, count) = (format!("(i32.const {at})"), format!("(i32.const {count})"));
        let component = tenants(&gives(&at, &count), "unreachable");
        let mut plugin = load_guest(&component, 20_000_000).unwrap();
        let asked = snapshots(4);
        let given = plugin.tenants(&asked).unwrap();
        let refused = check_tenants(&asked, &given).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
}

/// Goal: a later minor version is asked; an interface of this name with another form is refused.
#[test]
fn versions_and_forms_are_checked_at_load() {
    let gives = gives("(i32.const 2048)", COUNT);
    let later = tenants_of("1.9.0", &gives, "unreachable");
    assert!(load_guest(&later, 20_000_000).unwrap().gives_tenants());
    let other = r#"
        (core module $m (func (export "f") unreachable))
        (core instance $i (instantiate $m))
        (func $f (canon lift (core func $i "f")))
        (instance $other (export "assign" (func $f)))
        (export "careen:strategy/tenants@1.2.0" (instance $other))
    "#;
    let error = load_guest(other, 20_000_000).err().unwrap();
    assert_eq!(error.code(), "plugin-world", "{error}");
    let error = load_guest(&tenants_of("2.0.0", &gives, "unreachable"), 20_000_000);
    assert_eq!(error.err().unwrap().code(), "plugin-world");
}
