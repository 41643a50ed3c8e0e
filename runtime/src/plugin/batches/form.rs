//! The form of a line, before anything is made of it: how many objects and values it has.
//!
//! Three bytes of JSON may become a hundred in memory, so a line that is not long may still want
//! all there is. What a question can have at most is little. No memory cost. Invariant: a line that
//! the host has written passes.

/// Objects of a line: a thousand rows, each with its tags and its owner, and what is around them.
const OBJECTS_MAX: usize = 4_096;

/// Values of a line: texts of 512 KiB can be as many pins of a byte; numbers and times of a
/// thousand rows, and of the changes of local time.
const VALUES_MAX: usize = (512 << 10) + 16_384;

/// Refuses a line with more objects or values than a question has. Texts are skipped; what is no
/// JSON at all is the parser's business.
pub(super) fn check(line: &[u8]) -> Result<(), String> {
    let (mut objects, mut commas) = (0_usize, 0_usize);
    let mut bytes = line.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' => objects += 1,
            b',' => commas += 1,
            b'"' => skip_text(&mut bytes),
            _ => {}
        }
    }
    if objects > OBJECTS_MAX {
        return Err(format!(
            "{objects} objects; a line has {OBJECTS_MAX} at most"
        ));
    }
    if commas >= VALUES_MAX {
        return Err(format!(
            "{commas} commas; a line has {VALUES_MAX} values at most"
        ));
    }
    Ok(())
}

/// Skips the rest of a text, its closing quote included.
fn skip_text<'a>(bytes: &mut impl Iterator<Item = &'a u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_and_values_are_counted_and_texts_are_not() {
        let text = format!(r#"["{}\"{}"]"#, "{".repeat(10_000), ",".repeat(1_000_000));
        assert_eq!(check(text.as_bytes()), Ok(()));
        let told = check("{}".repeat(4_097).as_bytes()).unwrap_err();
        assert_eq!(told, "4097 objects; a line has 4096 at most");
        assert_eq!(check("{}".repeat(4_096).as_bytes()), Ok(()));
        let told = check(&[b','; 600_000]).unwrap_err();
        assert!(told.starts_with("600000 commas"), "{told}");
        for open in [&b"\""[..], b"\"\\", b"\"\\\"", b""] {
            assert_eq!(check(open), Ok(()));
        }
    }
}
