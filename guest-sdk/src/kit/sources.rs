//! Sources with snapshots, for retention strategies: asked in batches as the host does, with its
//! rules about the decisions.

use crate::retention::{
    Decision, Moment, Policy, Question, Retention, SnapshotRow, Source as Who, Tag, ZoneChange,
};

use super::{BATCH_ROWS_MAX, NOW, Numbers, at, check_reason};

/// The pin of Velero's snapshots.
const VELERO_PIN: &str = "velero-pin";

/// Tags of Velero's snapshots.
const VELERO_TAGS: [&str; 2] = ["snapshot-requester", "snapshot-uploader"];

/// A source, and its snapshots.
#[derive(Clone, Debug)]
pub struct Source {
    /// What the host tells about it.
    pub question: Question,
    /// Its snapshots, the newest first.
    pub snapshots: Vec<SnapshotRow>,
}

/// A source of a server with two years of snapshots, newest first: one each hour of the last seven
/// days, one each day at 02:30 local time before. Some are incomplete, some pinned, one each month
/// is tagged `audit`, some days are missing. Local time is Berlin's; the policy is Kopia's default.
pub fn source() -> Source {
    let question = question("backup", "db-1", "/var/lib/postgresql", policy());
    let mut numbers = Numbers(5);
    let mut snapshots = Vec::new();
    for hour in 0..24 * 7 {
        let start = NOW - 1_800 - hour * 3_600;
        let mut row = row(snapshots.len(), start, 40 + numbers.below(200) as i64);
        if hour == 0 || hour % 37 == 36 {
            row.incomplete_reason = "checkpoint".into();
        }
        snapshots.push(row);
    }
    for day in 8..2 * 365 {
        let number = snapshots.len();
        let midnight = at(2026, 11, 24, 0, 0) - day * 86_400;
        let start = midnight + 2 * 3_600 + 1_800 - i64::from(question.offset_at(midnight));
        let mut row = row(number, start, 600 + numbers.below(3_000) as i64);
        match numbers.below(40) {
            0 => continue,
            1 => row.incomplete_reason = "canceled".into(),
            2 => row.pins.push("before the upgrade".into()),
            _ => {}
        }
        if day % 30 == 17 {
            row.tags.push(tag("tag:audit", "2026"));
        }
        snapshots.push(row);
    }
    Source {
        question,
        snapshots,
    }
}

/// A source of Velero's: two years of daily backups of a volume, each pinned and tagged as Velero
/// does. Whatever a strategy says, the host keeps all of them.
pub fn velero_source() -> Source {
    let most = Some(i32::MAX.into());
    let all = Policy {
        keep_latest: most,
        keep_hourly: most,
        keep_daily: most,
        keep_weekly: most,
        keep_monthly: most,
        keep_annual: most,
        ignore_identical_snapshots: None,
    };
    let question = question("default", "default", "/volumes/shop/data", all);
    let snapshot = |day: usize| {
        let mut row = row(day, NOW - 3_600 - day as i64 * 86_400, 300);
        row.pins.push(VELERO_PIN.into());
        row.tags = vec![
            tag("backup", &format!("daily-{day}")),
            tag("ns", "shop"),
            tag("snapshot-requester", "pod-volume-backup-restore"),
            tag("snapshot-uploader", "kopia"),
            tag("volume", "data"),
        ];
        row
    };
    Source {
        question,
        snapshots: (0..2 * 365).map(snapshot).collect(),
    }
}

/// Asks about all snapshots of a source, in batches as the host does, and checks the decisions.
///
/// # Errors
/// The strategy's own, or which rule of the host a decision breaks.
pub fn retain(strategy: &impl Retention, source: &Source) -> Result<Vec<Decision>, String> {
    let mut state = strategy.begin(&source.question)?;
    let mut all = Vec::with_capacity(source.snapshots.len());
    let mut complete_seen = false;
    for batch in source.snapshots.chunks(BATCH_ROWS_MAX) {
        let decisions = strategy.decide(&mut state, batch)?;
        if decisions.len() != batch.len() {
            let (decisions, rows) = (decisions.len(), batch.len());
            return Err(format!("{decisions} decisions about {rows} snapshots"));
        }
        for (row, decision) in batch.iter().zip(&decisions) {
            check_reason(&decision.reason)?;
            let newest = row.is_complete() && !complete_seen;
            complete_seen |= row.is_complete();
            if decision.expire {
                check_expired(row, newest)?;
            }
        }
        all.extend(decisions);
    }
    Ok(all)
}

fn check_expired(row: &SnapshotRow, newest: bool) -> Result<(), String> {
    let is_veleros = |tag: &Tag| {
        let key = tag.key.strip_prefix("tag:").unwrap_or(&tag.key);
        VELERO_TAGS.contains(&key)
    };
    let why = if !row.pins.is_empty() {
        format!("is pinned ({})", row.pins.join(", "))
    } else if row.tags.iter().any(is_veleros) {
        "is Velero's, which deletes its snapshots itself".to_owned()
    } else if newest {
        "is the newest complete one of its source".to_owned()
    } else {
        return Ok(());
    };
    Err(format!("it expires snapshot {}, which {why}", row.id))
}

fn question(user: &str, host: &str, path: &str, policy: Policy) -> Question {
    let change = |year, month, day, hour, offset_seconds| ZoneChange {
        at_seconds: at(year, month, day, hour, 0),
        offset_seconds,
    };
    Question {
        source: Who {
            host: host.into(),
            user: user.into(),
            path: path.into(),
        },
        policy,
        now: moment(NOW),
        offset_seconds: 3_600,
        zone: vec![
            change(2024, 3, 31, 1, 7_200),
            change(2024, 10, 27, 1, 3_600),
            change(2025, 3, 30, 1, 7_200),
            change(2025, 10, 26, 1, 3_600),
            change(2026, 3, 29, 1, 7_200),
            change(2026, 10, 25, 1, 3_600),
        ],
    }
}

/// Kopia's default.
fn policy() -> Policy {
    Policy {
        keep_latest: Some(10),
        keep_hourly: Some(48),
        keep_daily: Some(7),
        keep_weekly: Some(4),
        keep_monthly: Some(24),
        keep_annual: Some(3),
        ignore_identical_snapshots: Some(false),
    }
}

fn row(number: usize, start: i64, lasted: i64) -> SnapshotRow {
    SnapshotRow {
        id: format!("{number:032x}"),
        start: moment(start),
        end: moment(start + lasted),
        incomplete_reason: String::new(),
        pins: Vec::new(),
        tags: Vec::new(),
        size: Some(300_000_000_000 - number as u64 * 100_000_000),
    }
}

fn moment(seconds: i64) -> Moment {
    Moment { seconds, nanos: 0 }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.into(),
        value: value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Told(fn(usize, &SnapshotRow) -> bool);

    impl Retention for Told {
        type Source = usize;

        fn begin(&self, _: &Question) -> Result<usize, String> {
            Ok(0)
        }

        fn decide(&self, seen: &mut usize, rows: &[SnapshotRow]) -> Result<Vec<Decision>, String> {
            let decide = |row: &SnapshotRow| {
                *seen += 1;
                match self.0(*seen - 1, row) {
                    true => Decision::expire("x"),
                    false => Decision::keep("x"),
                }
            };
            Ok(rows.iter().map(decide).collect())
        }
    }

    #[test]
    fn the_source_has_something_of_everything_newest_first() {
        let rows = source().snapshots;
        assert!((800..1_000).contains(&rows.len()), "{}", rows.len());
        assert!(rows.is_sorted_by(|one, next| one.start.seconds > next.start.seconds));
        let count = |is: fn(&SnapshotRow) -> bool| rows.iter().filter(|row| is(row)).count();
        assert!(count(|row| !row.is_complete()) > 10);
        assert!(count(|row| !row.pins.is_empty()) > 5);
        assert!(count(|row| row.tag("audit").is_some()) > 20);
        let oldest = rows.last().unwrap().start.seconds;
        assert!(NOW - oldest > 700 * 86_400);
    }

    #[test]
    fn what_the_host_refuses_is_refused() {
        let source = source();
        let free = |row: &SnapshotRow| row.pins.is_empty() && row.tags.is_empty();
        assert!(retain(&Told(|_, _| false), &source).is_ok());
        let newest = source.snapshots.iter().position(SnapshotRow::is_complete);
        assert_eq!(newest, Some(1));
        assert!(retain(&Told(|at, row| at > 1 && row.pins.is_empty()), &source).is_ok());
        let refused = retain(&Told(|at, _| at == 1), &source).unwrap_err();
        assert!(refused.contains("newest complete"), "{refused}");
        let refused = retain(&Told(|_, row| !row.pins.is_empty()), &source).unwrap_err();
        assert!(
            refused.contains("is pinned (before the upgrade)"),
            "{refused}"
        );
        let mut veleros = velero_source();
        assert!(!veleros.snapshots.iter().any(free));
        veleros
            .snapshots
            .iter_mut()
            .for_each(|row| row.pins.clear());
        let refused = retain(&Told(|at, _| at == 9), &veleros).unwrap_err();
        assert!(refused.contains("Velero"), "{refused}");
    }
}
