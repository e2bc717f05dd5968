//! The last lines of an output as it comes in, as text that can be shown anywhere.

use std::collections::VecDeque;

/// The longest line that is kept, in bytes of UTF-8; what is cut off is marked with `…`.
pub const LINE_BYTES_MAX: usize = 2 << 10;

/// All kept lines together, in bytes.
pub const BYTES_MAX: usize = 64 << 10;

/// The most lines that can be asked for.
pub const LINES_MAX: usize = 1_000;

/// Of a line before it is cleaned: with escape sequences it may be longer than what is kept.
const RAW_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;

/// Where a piece of output comes from. Lines of the two may be interleaved, but not mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
}

/// Collects output and keeps the end of it: so many lines, [`BYTES_MAX`] in all, each of at most
/// [`LINE_BYTES_MAX`]. What is not UTF-8 becomes U+FFFD; control characters other than the tab and
/// the escape sequences that colour a terminal are left out.
#[derive(Debug)]
pub struct Tail {
    lines_max: usize,
    lines: VecDeque<String>,
    bytes: usize,
    /// What has come of a line that has not ended, by its source.
    open: [Option<Vec<u8>>; 2],
}

impl Tail {
    /// Keeps at most `lines` lines, and never more than [`LINES_MAX`].
    pub fn new(lines: usize) -> Self {
        Self {
            lines_max: lines.min(LINES_MAX),
            lines: VecDeque::new(),
            bytes: 0,
            open: [None, None],
        }
    }

    /// Takes the next bytes of a source, which may end anywhere in a line.
    pub fn push(&mut self, source: Source, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let open = self.open[source as usize].get_or_insert_default();
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            let room = RAW_BYTES_MAX - open.len();
            open.extend_from_slice(&piece[..piece.len().min(room)]);
            let Some(end) = end else { return };
            self.close(source);
            bytes = &bytes[end + 1..];
        }
    }

    /// The kept lines, oldest first. A line that has not ended counts as one.
    pub fn into_lines(mut self) -> Vec<String> {
        self.close(Source::Stdout);
        self.close(Source::Stderr);
        self.lines.into()
    }

    fn close(&mut self, source: Source) {
        let Some(raw) = self.open[source as usize].take() else {
            return;
        };
        let line = shown(&String::from_utf8_lossy(&raw));
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > self.lines_max || self.bytes > BYTES_MAX {
            let oldest = self.lines.pop_front().unwrap_or_default();
            self.bytes -= oldest.len();
        }
    }
}

/// A line without what would play tricks on a terminal or a page, and not too long.
fn shown(line: &str) -> String {
    const CUT: char = '…';
    let mut text = String::new();
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' && chars.as_str().starts_with('[') {
            // A control sequence ends with a character of these (ECMA-48 §5.4).
            chars.by_ref().skip(1).find(|c| matches!(c, '@'..='~'));
            continue;
        }
        if char.is_control() && char != '\t' {
            continue;
        }
        if text.len() + char.len_utf8() > LINE_BYTES_MAX {
            while text.len() + CUT.len_utf8() > LINE_BYTES_MAX {
                text.pop();
            }
            text.push(CUT);
            break;
        }
        text.push(char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(max: usize, pieces: &[(Source, &[u8])]) -> Vec<String> {
        let mut tail = Tail::new(max);
        for (source, bytes) in pieces {
            tail.push(*source, bytes);
        }
        tail.into_lines()
    }

    use Source::{Stderr, Stdout};

    #[test]
    fn the_last_lines_are_kept_in_order() {
        let all = b"1\n2\n\n4\n5";
        assert_eq!(lines(10, &[(Stdout, all)]), ["1", "2", "", "4", "5"]);
        assert_eq!(lines(2, &[(Stdout, all)]), ["4", "5"]);
        assert_eq!(lines(0, &[(Stdout, all)]), [""; 0]);
        assert_eq!(lines(2, &[]), [""; 0]);
        assert_eq!(lines(2, &[(Stdout, b"")]), [""; 0]);
    }

    #[test]
    fn a_line_in_pieces_is_one_and_the_two_sources_are_not_mixed() {
        let pieces: [(Source, &[u8]); 6] = [
            (Stdout, b"one "),
            (Stderr, b"err"),
            (Stdout, b"line\nnext"),
            (Stderr, b"or\n"),
            (Stderr, b"x"),
            (Stdout, b""),
        ];
        assert_eq!(lines(9, &pieces), ["one line", "error", "next", "x"]);
    }

    #[test]
    fn what_is_no_text_cannot_do_harm() {
        let table: [(&[u8], &str); 7] = [
            (b"a\tb\r", "a\tb"),
            (b"\x00\x01\x02bell\x07\x7f", "bell"),
            (b"\xff\xfe", "\u{fffd}\u{fffd}"),
            (b"\x1b[1;31mred\x1b[0m", "red"),
            (b"\x1b[31", ""),
            (b"\x1b]0;title\x07x", "]0;titlex"),
            ("C1\u{85}\u{9b}31m ä".as_bytes(), "C131m ä"),
        ];
        for (raw, text) in table {
            assert_eq!(lines(1, &[(Stdout, raw)]), [text], "{raw:?}");
        }
    }

    #[test]
    fn a_long_line_is_cut_between_two_characters() {
        let fits = "x".repeat(LINE_BYTES_MAX);
        assert_eq!(lines(1, &[(Stdout, fits.as_bytes())]), [fits.as_str()]);
        for raw in ["x".repeat(100_000), "ä".repeat(50_000), "€".repeat(50_000)] {
            let cut = lines(1, &[(Stdout, raw.as_bytes())]).remove(0);
            assert!(cut.len() <= LINE_BYTES_MAX && cut.len() > LINE_BYTES_MAX - 6);
            let kept = cut.strip_suffix('…').unwrap();
            assert!(raw.starts_with(kept));
        }
        // It ends where the line ends, not where it was cut.
        let two = format!("{}\nnext\n", "x".repeat(100_000));
        assert_eq!(lines(1, &[(Stdout, two.as_bytes())]), ["next"]);
    }

    #[test]
    fn all_lines_together_are_limited_and_the_end_counts() {
        let mut tail = Tail::new(usize::MAX);
        for number in 0..3_000 {
            tail.push(Stdout, format!("{number}\n").as_bytes());
        }
        let kept = tail.into_lines();
        assert_eq!(kept.len(), LINES_MAX);
        assert_eq!(kept.last().unwrap(), "2999");

        let mut tail = Tail::new(usize::MAX);
        for number in 0..100 {
            tail.push(
                Stderr,
                format!("{number} {}\n", "x".repeat(5_000)).as_bytes(),
            );
        }
        let kept = tail.into_lines();
        let bytes: usize = kept.iter().map(String::len).sum();
        assert!(bytes <= BYTES_MAX && bytes > BYTES_MAX - LINE_BYTES_MAX);
        assert!(kept.last().unwrap().starts_with("99 "));
    }
}
