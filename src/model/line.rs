//! Texts from outside, made fit for a line of a log, a page or an Event.

/// `text` in one line of at most `most` letters and an ellipsis; what is no letter for people, such
/// as an end of line or an escape of a terminal, is a space.
#[must_use]
pub fn one_line(text: &str, most: usize) -> String {
    let mut line: String =
        text.chars().take(most).map(|c| if is_control(c) { ' ' } else { c }).collect();
    if text.chars().nth(most).is_some() {
        line.push('…');
    }
    line
}

/// Whether `c` ends or moves the line. Unicode counts its separators of lines and paragraphs, and
/// the marks that turn the direction of what follows, among other kinds than controls.
pub(super) fn is_control(c: char) -> bool {
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_a_bounded_length() {
        assert_eq!(one_line("all is well", 11), "all is well");
        assert_eq!(one_line("all is well", 3), "all…");
        assert_eq!(one_line("ä\r\nb\u{1b}[31m\u{2028}\u{202e}c", 100), "ä  b [31m  c");
        assert_eq!(one_line("", 0), "");
    }
}
