//! The table of a benchmark: wall and CPU time, peaks as the kernel counts them, and the ratio to
//! Kopia.
//!
//! Ratios are of the same run on the same machine; absolute times say little elsewhere.

use kit::cgroup::Run;

use crate::Measured;

const MIB: u64 = 1 << 20;

/// Prints the table; Kopia, where it is there, is the first row.
pub(crate) fn print(rows: &[Measured]) {
    println!(
        "{:<24} {:>9} {:>9} {:>10} {:>10} {:>8} {:>9}",
        "", "wall s", "CPU s", "cgroup MiB", "anon MiB", "kernel", "faster"
    );
    let kopia = rows.first().filter(|row| row.name.starts_with("Kopia"));
    let base = kopia
        .and_then(|row| row.run.as_ref())
        .filter(|run| run.status.success());
    for row in rows {
        match &row.run {
            None => println!(
                "{:<24} cannot run it here, or it cannot open the repository",
                row.name
            ),
            Some(run) => println!("{:<24} {}", row.name, line(run, base)),
        }
    }
}

fn line(run: &Run, base: Option<&Run>) -> String {
    if !run.status.success() {
        let kills = run.oom_kills;
        return format!("failed ({}, {kills} killed for memory)", run.status);
    }
    let faster = base.map_or(String::new(), |base| {
        format!("{:.1}x", base.wall.as_secs_f64() / run.wall.as_secs_f64())
    });
    format!(
        "{:>9.2} {:>9.2} {:>10} {:>10} {:>8} {faster:>9}{}",
        run.wall.as_secs_f64(),
        (run.user + run.system).as_secs_f64(),
        run.usage_max_bytes / MIB,
        run.anon_max_bytes / MIB,
        run.kernel_max_bytes / MIB,
        phases(run),
    )
}

/// Returns the steps that the program told of, with their seconds.
fn phases(run: &Run) -> String {
    let stdout = run.stdout_text();
    let steps = stdout.lines().filter_map(|line| {
        let event: serde_json::Value = serde_json::from_str(line).ok()?;
        let ended = event.get("state")?.as_str()? == "ended";
        let (step, seconds) = (
            event.get("step")?.as_str()?,
            event.get("seconds")?.as_f64()?,
        );
        ended.then(|| format!("{step} {seconds:.2}"))
    });
    let steps: Vec<String> = steps.collect();
    if steps.is_empty() {
        String::new()
    } else {
        format!("   [{}]", steps.join(", "))
    }
}
