//! A section of figures, as people and monitors read it: a heading, and lines `name:value`.
//!
//! Whoever has figures writes them into a section that it is handed, next to what they are figures of: it names a field and gives its value.
//! Which sections there are, in which order, and who is shown them, only that one knows who shows them. So a section is added where its
//! subject is, and a subject says nothing of its surroundings.
//!
//! ```text
//! # Title CR LF
//! name:value CR LF
//! ...
//! ```

use std::fmt::{Display, Write as _};

/// See above.
pub struct Section {
    text: String,
}

impl Section {
    /// The heading, and nothing below it.
    pub fn new(title: &str) -> Section {
        Section {
            text: format!("# {title}\r\n"),
        }
    }

    /// Appends a line.
    pub fn field(&mut self, name: impl Display, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{name}:{value}\r\n");
    }

    /// The heading and the lines.
    pub fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_below_the_heading_in_order() {
        let mut section = Section::new("Weather");
        section.field("rain", 3);
        section.field(format_args!("wind{}", 7), format_args!("from={},force={:.2}", "N", 1.5));
        assert_eq!(
            section.into_text(),
            "# Weather\r\nrain:3\r\nwind7:from=N,force=1.50\r\n"
        );
    }
}
