//! Markup that cannot be unbalanced, and text that cannot be markup.
//!
//! Names of elements and attributes are literals of ours; everything else goes through one gate,
//! which escapes what HTML reads as markup, shows what would hide or reorder text, and bounds its
//! length.

use std::fmt::{self, Display, Write};

/// Longest text from outside that a page shows at one place, in characters.
pub(crate) const TEXT_CHARS_MAX: usize = 400;

/// A page, or a part of one.
#[derive(Debug, Default)]
pub(crate) struct Html(String);

/// The way of a line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Path(String);

impl Path {
    /// Goes on to a point; the first one begins it.
    pub(crate) fn to(&mut self, (x, y): (f64, f64)) {
        let word = if self.0.is_empty() { 'M' } else { 'L' };
        // Writing to a String does not fail.
        let _ = write!(self.0, "{word}{x:.1} {y:.1}");
    }
}

/// An element whose start tag is being written.
#[must_use]
pub(crate) struct Element<'h> {
    html: &'h mut Html,
    name: &'static str,
}

impl Html {
    /// Begins an element.
    pub(crate) fn element(&mut self, name: &'static str) -> Element<'_> {
        self.0.push('<');
        self.0.push_str(name);
        Element { html: self, name }
    }

    /// Writes text.
    pub(crate) fn text(&mut self, text: impl Display) {
        let mut gate = Gate { to: &mut self.0, left: TEXT_CHARS_MAX };
        // The gate refuses only what is too long, and has said so with an ellipsis.
        let _ = write!(gate, "{text}");
    }

    /// Draws a path of two classes, however long it is: our own numbers, not text.
    pub(crate) fn path(&mut self, class: &'static str, style: &'static str, path: &Path) {
        for part in ["<path class=\"", class, " ", style, "\" d=\"", &path.0, "\"/>"] {
            self.0.push_str(part);
        }
    }

    /// Writes markup of ours: a literal, so nothing from outside can be in it.
    pub(crate) fn literal(&mut self, markup: &'static str) {
        self.0.push_str(markup);
    }

    /// The page.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

impl Element<'_> {
    /// An attribute with its value.
    pub(crate) fn attr(self, name: &'static str, value: impl Display) -> Self {
        self.html.0.push(' ');
        self.html.0.push_str(name);
        self.html.0.push_str("=\"");
        self.html.text(value);
        self.html.0.push('"');
        self
    }

    /// Its class.
    pub(crate) fn class(self, class: &'static str) -> Self {
        self.attr("class", class)
    }

    /// What stands in it; then its end.
    pub(crate) fn with(self, inside: impl FnOnce(&mut Html)) {
        let Element { html, name } = self;
        html.0.push('>');
        inside(html);
        html.0.push_str("</");
        html.0.push_str(name);
        html.0.push_str(">\n");
    }

    /// Text alone stands in it.
    pub(crate) fn text(self, text: impl Display) {
        let Element { html, name } = self;
        html.0.push('>');
        html.text(text);
        html.0.push_str("</");
        html.0.push_str(name);
        html.0.push('>');
    }

    /// Nothing stands in it.
    pub(crate) fn empty(self) {
        self.html.0.push_str("/>");
    }
}

struct Gate<'t> {
    to: &'t mut String,
    left: usize,
}

impl Write for Gate<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.left == 0 {
                self.to.push('…');
                return Err(fmt::Error);
            }
            self.left -= 1;
            match character {
                '&' => self.to.push_str("&amp;"),
                '<' => self.to.push_str("&lt;"),
                '>' => self.to.push_str("&gt;"),
                '"' => self.to.push_str("&quot;"),
                '\'' => self.to.push_str("&#39;"),
                '\n' | '\t' => self.to.push(' '),
                hidden if hides(hidden) => self.to.push('\u{fffd}'),
                plain => self.to.push(plain),
            }
        }
        Ok(())
    }
}

/// Controls, and marks that reorder or hide what stands beside them.
fn hides(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let mut html = Html::default();
        html.text(text);
        html.finish()
    }

    #[test]
    fn text_never_becomes_markup() {
        assert_eq!(
            shown("<b a=\"x\" c='y'>&amp;"),
            "&lt;b a=&quot;x&quot; c=&#39;y&#39;&gt;&amp;amp;"
        );
        let mut html = Html::default();
        html.element("i").attr("title", "\"><script>").text("</i>");
        assert_eq!(html.finish(), "<i title=\"&quot;&gt;&lt;script&gt;\">&lt;/i&gt;</i>");
    }

    #[test]
    fn what_hides_or_reorders_text_is_shown() {
        assert_eq!(shown("a\u{202e}b\0c\u{1b}[1m\nd"), "a\u{fffd}b\u{fffd}c\u{fffd}[1m d");
    }

    #[test]
    fn a_long_text_is_cut_and_says_so() {
        let long = shown(&"é".repeat(TEXT_CHARS_MAX + 1));
        assert_eq!(long.chars().count(), TEXT_CHARS_MAX + 1);
        assert!(long.ends_with('…'));
        assert!(!shown(&"é".repeat(TEXT_CHARS_MAX)).ends_with('…'));
    }
}
