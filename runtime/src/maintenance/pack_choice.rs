//! Which packs are rewritten together: the seam for strategies, and Kopia's own choice.
//!
//! Packs come one by one, each with the bytes that readers still need of it. The answer may name a
//! pack later than it came: a short pack alone is not worth a rewrite, so the first of a kind waits
//! for a second one. Memory: two numbers a kind of pack. Mirrors `findContentInShortPacks` of
//! Kopia's `repo/maintenance/content_rewrite.go`.

/// Packs with less than this share of the maximum in use are short, in percent.
pub const SHORT_PERCENT: u64 = 60;

/// What is known of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// Its number, to name it.
    pub number: u32,
    /// First character of its name: `p` or `q`.
    pub kind: u8,
    /// Bytes of the contents that lie in it, tombstones included.
    pub used_bytes: u64,
}

/// Chooses the packs whose contents are written anew.
pub trait ChoosePacks {
    /// Looks at the next pack; calls `chosen` with the number of every pack that is to go, once.
    fn look(&mut self, row: &PackRow, chosen: &mut dyn FnMut(u32));
}

/// Kopia's choice: all short packs of a kind, unless there is only one.
#[derive(Clone, Debug)]
pub struct ShortPacks {
    below_bytes: u64,
    /// By kind: the first short pack while it is the only one.
    kinds: Vec<Kind>,
}

#[derive(Clone, Debug)]
struct Kind {
    letter: u8,
    waiting: Option<u32>,
}

impl ShortPacks {
    /// Chooses for packs of at most `pack_bytes_max`.
    pub fn new(pack_bytes_max: u64) -> Self {
        Self {
            below_bytes: pack_bytes_max * SHORT_PERCENT / 100,
            kinds: Vec::new(),
        }
    }
}

impl ChoosePacks for ShortPacks {
    fn look(&mut self, row: &PackRow, chosen: &mut dyn FnMut(u32)) {
        if row.used_bytes >= self.below_bytes {
            return;
        }
        match self.kinds.iter_mut().find(|kind| kind.letter == row.kind) {
            Some(kind) => {
                kind.waiting.take().into_iter().for_each(&mut *chosen);
                chosen(row.number);
            }
            None => self.kinds.push(Kind {
                letter: row.kind, // a byte: at most 256 of them
                waiting: Some(row.number),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(rows: &[(u8, u64)]) -> Vec<u32> {
        let mut choice = ShortPacks::new(1_000_001);
        let mut chosen = Vec::new();
        for (number, (kind, used_bytes)) in rows.iter().enumerate() {
            let row = PackRow {
                number: number as u32,
                kind: *kind,
                used_bytes: *used_bytes,
            };
            choice.look(&row, &mut |number| chosen.push(number));
        }
        chosen
    }

    #[test]
    fn short_is_below_sixty_percent_rounded_down() {
        assert!(choose(&[(b'p', 600_000), (b'p', 0)]).is_empty());
        assert_eq!(choose(&[(b'p', 599_999), (b'p', 0)]), [0, 1]);
    }

    #[test]
    fn one_short_pack_of_a_kind_stays() {
        assert!(choose(&[(b'p', 1), (b'q', 1), (b'p', 900_000)]).is_empty());
        assert_eq!(
            choose(&[(b'p', 1), (b'q', 1), (b'p', 2), (b'p', 3)]),
            [0, 2, 3]
        );
    }
}
