//! Durations as Go writes them: `1h`, `168h0m0s`, `1.5h`.
//!
//! Velero's `spec.maintenanceFrequency` is one. No memory cost.

/// Parses a duration; returns nanoseconds, `None` where Go would refuse it.
pub(super) fn parse(text: &str) -> Option<i128> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut nanos = 0.0_f64;
    let mut whole: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let unit: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        match number.split_once('.') {
            None => {
                whole = whole.checked_add(number.parse::<i64>().ok()? as i128 * unit as i128)?
            }
            Some(_) => nanos += number.parse::<f64>().ok()? * unit as f64,
        }
        rest = after;
    }
    let total = whole.checked_add(nanos as i128)?;
    Some(if negative { -total } else { total })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_gos() {
        const HOUR: i128 = 3_600_000_000_000;
        for (text, nanos) in [
            ("1h", HOUR),
            ("1h0m0s", HOUR),
            ("87600h0m0s", 87_600 * HOUR),
            ("1.5h", HOUR + HOUR / 2),
            ("90m", HOUR + HOUR / 2),
            ("0", 0),
            ("0s", 0),
            ("-1ns", -1),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
        for text in ["", "1", "h", "1d", "1h2", "-", ".h", "1..5h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
