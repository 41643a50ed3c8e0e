//! What was asked for more than once, and in which columns careen asks for more than Kopia.
//!
//! From what the proxy has counted at no latency; nothing is asserted. No memory cost.

use servers::counting_proxy::Asked;
use servers::fault_proxy::Kind;

use crate::table::{Row, tasks};

/// Blobs of the index, with epochs and without.
const INDEX: [&str; 2] = ["x", "n"];

/// Packs of metadata.
const METADATA: [&str; 1] = ["q"];

/// What blobs are, by how their names begin.
const KINDS: [(&str, &[&str]); 6] = [
    ("index", &INDEX),
    ("data packs", &["p"]),
    ("metadata packs", &METADATA),
    ("sessions", &["s"]),
    ("schedule", &["kopia.maintenance"]),
    ("other", &["kopia.r", "kopia.b", "_", "l", "m"]),
];

/// Things that are named at most.
const NAMED_MAX: usize = 12;

/// Prints both.
pub(crate) fn print(ours: &Row, theirs: Option<&Row>) {
    let tasks = tasks(ours);
    if !tasks.is_empty() {
        println!("  careen, by task:\n    {}", tasks.join("\n    "));
    }
    let Some(ours) = &ours.asked else { return };
    print_kinds("careen", ours);
    print_limits("careen", ours);
    let Some(theirs) = theirs.and_then(|row| row.asked.as_ref()) else {
        return println!("  no Kopia here, nothing is compared");
    };
    print_kinds("Kopia", theirs);
    print_limits("Kopia", theirs);
    let columns = [
        ("GET", count(ours, Kind::Get), count(theirs, Kind::Get)),
        ("LIST", count(ours, Kind::List), count(theirs, Kind::List)),
        ("PUT", count(ours, Kind::Put), count(theirs, Kind::Put)),
        (
            "DELETE",
            count(ours, Kind::Delete),
            count(theirs, Kind::Delete),
        ),
        ("HEAD", count(ours, Kind::Head), count(theirs, Kind::Head)),
        (
            "bytes down",
            ours.downloaded_bytes + ours.downloaded_head_bytes,
            theirs.downloaded_bytes + theirs.downloaded_head_bytes,
        ),
        (
            "bytes up",
            ours.uploaded_bytes + ours.uploaded_head_bytes,
            theirs.uploaded_bytes + theirs.uploaded_head_bytes,
        ),
    ];
    let more = columns.iter().filter(|(_, ours, theirs)| ours > theirs);
    let more: Vec<String> = more
        .map(|(name, ours, theirs)| format!("{name} ({ours} against {theirs})"))
        .collect();
    println!(
        "  heads of HTTP in these: careen {} bytes down and {} up, Kopia {} and {}",
        ours.downloaded_head_bytes,
        ours.uploaded_head_bytes,
        theirs.downloaded_head_bytes,
        theirs.uploaded_head_bytes
    );
    match more.is_empty() {
        true => println!("  careen asks for no more than Kopia in any column"),
        false => println!("  MORE THAN KOPIA: {}", more.join(", ")),
    }
}

fn count(asked: &Asked, kind: Kind) -> u64 {
    asked.count(kind)
}

/// Prints requests and bytes by what the blobs are.
fn print_kinds(who: &str, asked: &Asked) {
    println!("  {who}, by what the blobs are:");
    for (kind, starts) in KINDS {
        let (mut gets, mut puts, mut deletes, mut read, mut put) = (0, 0, 0, 0, 0);
        for (_, blob) in asked.blobs_of(starts) {
            gets += blob.reads.len();
            puts += blob.puts;
            deletes += blob.deletes;
            read += blob.read_bytes;
            put += blob.put_bytes;
        }
        println!(
            "    {kind:<16} {gets:>6} GETs of {read:>11} bytes, {puts:>3} PUTs of {put:>11}, \
             {deletes:>4} DELETEs"
        );
    }
}

fn print_limits(who: &str, asked: &Asked) {
    let again = asked.pages_again();
    let index = asked.reads_of(&INDEX);
    let reads: u64 = index.values().sum();
    let overlaps = asked.reads_again(&METADATA);
    let regions: u64 = asked.reads_of(&METADATA).values().sum();
    println!(
        "  {who}: {} of {} LISTs ask for a page again; {reads} GETs of {} index blobs; {} of \
         {regions} GETs of metadata packs overlap an earlier one",
        again.iter().map(|(_, count)| count - 1).sum::<u64>(),
        asked.count(Kind::List),
        index.len(),
        overlaps.len()
    );
    for (page, count) in again.iter().take(NAMED_MAX) {
        println!("    {count} x {page}");
    }
    for read in overlaps.iter().take(NAMED_MAX) {
        println!("    {read}");
    }
}
